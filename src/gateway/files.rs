//! Downloads: from the head of a GET or HEAD to the last byte of its answer.

use pingora::proxy::Session;

use super::Route;
use super::answer::{self, Answer};
use super::desk::Desk;
use super::reply;
use super::rescue::Trouble;
use super::visit::Visit;
use crate::download::{Failure, Response, Verb};
use crate::session::Principal;
use crate::store::{Key, KeyRefused};

impl Desk {
    /// Answers with a file, or says why not.
    pub(super) async fn serve(
        &self,
        session: &mut Session,
        visit: &mut Visit,
        route: &Route,
        below: &str,
        verb: Verb,
    ) -> Result<(), Trouble> {
        visit.is_download = true;
        if !route.is_open() {
            return Err(Trouble::NotReady);
        }
        if let Some(id) = reply::session_of(below).filter(|_| route.place.application.is_some()) {
            visit.session = Some(id.to_string());
            // Until Close or Cancel; there may be a file of this name, but nobody is told of that.
            let key = self.clerk.reply(route, &Principal::anonymous(), id).await;
            let key = key.map_err(Failure::from)?.ok_or(Failure::NotFound)?;
            return self.send_file(session, visit, route, &key, verb).await;
        }
        if !route.download {
            return Err(Trouble::NotAllowed);
        }
        let key = match Key::from_request(below) {
            Ok(key) => key,
            // Directories are never listed: there is nothing to see.
            Err(KeyRefused::Directory) => return Err(Failure::NotFound.into()),
            Err(refused) => return Err(refused.into()),
        };
        self.send_file(session, visit, route, &key, verb).await
    }

    async fn send_file(
        &self,
        session: &mut Session,
        visit: &mut Visit,
        route: &Route,
        key: &Key,
        verb: Verb,
    ) -> Result<(), Trouble> {
        let headers = &session.req_header().headers;
        let response = self.downloads.answer(&route.place.store, key, verb, headers).await?;
        self.deliver(session, visit, response).await;
        Ok(())
    }

    async fn deliver(&self, session: &mut Session, visit: &mut Visit, response: Response) {
        let Response {
            status,
            headers,
            mut body,
        } = response;
        let answer = Answer::new(status, headers).hanging_up(*self.leaving.borrow());
        visit.answered(Some(status));
        let Some(rest) = answer::begin(session, answer, &self.limits).await else {
            visit.is_broken = true;
            return;
        };
        loop {
            let sent = match body.next().await {
                Ok(Some(bytes)) => session
                    .write_response_body(Some(bytes), false)
                    .await
                    .map_err(|error| error.to_string()),
                Ok(None) => break,
                Err(broken) => Err(broken.to_string()),
            };
            if let Err(why) = sent {
                // The head promised more: all that is left is to close.
                session.set_keepalive(None);
                visit.is_broken = true;
                visit.why = Some(why);
                return;
            }
        }
        answer::end(session, rest, &self.limits).await;
    }
}
