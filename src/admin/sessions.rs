//! The pages about sessions: they are listed, shown and cancelled, and swept, by the register that the command line uses as well.
//!
//! ```text
//! GET    /sessions?route=…&prefix=…&phase=…&all&silent_for=…&active_within=…&limit=…   one JSON object a line
//! GET    /sessions/<id>                                                                one JSON object
//! DELETE /sessions/<id>                                                                cancels; the same
//! POST   /sweep?dry_run                                                                one JSON object a line
//! ```

use std::fmt;

use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::guard::{Guard, Unwelcome};
use super::page::{JSON, LINES, Page, Reply};
use crate::bits::SessionId;
use crate::store::Error;
use crate::units::parse_duration;
use crate::upload::{Filter, NotCancelled, Register};

/// Requests about sessions at once: each may read a whole store, and health pages shall not wait for them.
const AT_ONCE: usize = 8;

/// Lines that a list may be ahead of whoever reads it.
const AHEAD: usize = 64;

/// How to begin a sweep, which changes nothing if told so, and tells line by line.
pub type Sweep = Box<dyn Fn(bool) -> BoxStream<'static, String> + Send + Sync>;

/// Everything that the pages about sessions need.
pub struct Sessions {
    /// Who is let in.
    pub guard: Guard,
    /// What is listed and cancelled.
    pub register: Register,
    /// How to sweep.
    pub sweep: Sweep,
    /// Where stores are spoken to: not on the thread that answers health pages.
    pub runtime: Handle,
    /// How many more may ask.
    pub room: Room,
}

/// Room for those who ask at the same time.
#[derive(Debug)]
pub struct Room(Semaphore);

impl Default for Room {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("guard", &self.guard)
            .field("register", &self.register)
            .finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Debug, PartialEq)]
enum Asked {
    List(Filter),
    Show(SessionId),
    Cancel(SessionId),
    Sweep { dry_run: bool },
}

impl Sessions {
    /// Whether a path is one of these pages.
    pub(super) fn has(path: &str) -> bool {
        path == "/sessions" || path == "/sweep" || path.starts_with("/sessions/")
    }

    /// The answer, and the room that it takes as long as it is being sent.
    pub(super) async fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> (Reply, Option<SemaphorePermit<'_>>) {
        let asked = parse(method, uri);
        // Nobody learns what is there who is not let in: of all else, that comes first.
        let changes = *method != Method::GET && *method != Method::HEAD;
        if let Err(unwelcome) = self.guard.admit(uri, headers, changes) {
            return (refusal(unwelcome), None);
        }
        let asked = match asked {
            Ok(asked) => asked,
            Err(page) => return (page.into(), None),
        };
        let Ok(place) = self.room.0.try_acquire() else {
            let busy = Page::json(
                StatusCode::SERVICE_UNAVAILABLE,
                &error("others are asking; try again later"),
            );
            return (busy.into(), None);
        };
        (self.carry_out(asked).await, Some(place))
    }

    async fn carry_out(&self, asked: Asked) -> Reply {
        match asked {
            Asked::List(filter) => {
                if let Some(route) = filter.route.as_deref().filter(|route| !self.register.has_route(route)) {
                    let why = error(&format!("there is no route {route:?}"));
                    return Page::json(StatusCode::BAD_REQUEST, &why).into();
                }
                let lines = self.register.list(filter).map(|overview| match overview {
                    Ok(overview) => Ok(line(&overview)),
                    Err(error) => Err(error.to_string()),
                });
                self.stream(lines.boxed()).await
            }
            Asked::Show(id) => {
                let register = self.register.clone();
                let shown = self.runtime.spawn(async move { register.show(id).await }).await;
                match shown {
                    Ok(Ok(Some(detail))) => Page::json(StatusCode::OK, &detail).into(),
                    Ok(Ok(None)) => no_such_session(),
                    Ok(Err(trouble)) => unavailable(&trouble),
                    Err(_) => broken(),
                }
            }
            Asked::Cancel(id) => {
                let register = self.register.clone();
                // A task of its own: it comes to its end also when nobody waits for the answer.
                let cancelled = self.runtime.spawn(async move { register.cancel(id).await }).await;
                match cancelled {
                    Ok(Ok(overview)) => Page::json(StatusCode::OK, &overview).into(),
                    Ok(Err(NotCancelled::NotFound)) => no_such_session(),
                    Ok(Err(refused @ (NotCancelled::Publishing | NotCancelled::Newer(_)))) => {
                        Page::json(StatusCode::CONFLICT, &error(&refused.to_string())).into()
                    }
                    Ok(Err(refused @ NotCancelled::Unavailable(_))) => {
                        Page::json(StatusCode::SERVICE_UNAVAILABLE, &error(&refused.to_string())).into()
                    }
                    Err(_) => broken(),
                }
            }
            Asked::Sweep { dry_run } => {
                tracing::info!(dry_run, "an admin asks for a sweep");
                self.stream((self.sweep)(dry_run).map(Ok).boxed()).await
            }
        }
    }

    /// Lines as they come. What goes wrong before the first one is told by the status.
    async fn stream(&self, mut lines: BoxStream<'static, Result<String, String>>) -> Reply {
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        self.runtime.spawn(async move {
            while let Some(line) = lines.next().await {
                if sender.send(line).await.is_err() {
                    return;
                }
            }
        });
        match receiver.recv().await {
            Some(Err(why)) => Page::json(StatusCode::SERVICE_UNAVAILABLE, &error(&why)).into(),
            first => Reply::Lines {
                content_type: LINES,
                first: first.and_then(Result::ok),
                rest: receiver,
            },
        }
    }
}

/// A line of JSON.
pub fn line(value: &impl Serialize) -> String {
    // What is told is plain data, which always can be written.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// The line by which a list ends that could not be finished.
pub(super) fn error(why: &str) -> serde_json::Value {
    json!({ "error": why })
}

fn refusal(unwelcome: Unwelcome) -> Reply {
    let mut page = Page::json(unwelcome.status(), &error(&unwelcome.to_string()));
    page.asks_for_token = unwelcome == Unwelcome::Token;
    page.into()
}

fn no_such_session() -> Reply {
    Page::json(StatusCode::NOT_FOUND, &error("no such session")).into()
}

fn unavailable(trouble: &Error) -> Reply {
    Page::json(StatusCode::SERVICE_UNAVAILABLE, &error(&trouble.to_string())).into()
}

fn broken() -> Reply {
    Page::json(StatusCode::INTERNAL_SERVER_ERROR, &error("see the log")).into()
}

fn parse(method: &Method, uri: &Uri) -> Result<Asked, Page> {
    let wrong = |why: String| Page::json(StatusCode::BAD_REQUEST, &error(&why));
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    let nothing_more = || match pairs.first() {
        Some((name, _)) => Err(wrong(format!("nothing here is called {name:?}"))),
        None => Ok(()),
    };
    let get = *method == Method::GET || *method == Method::HEAD;
    match (uri.path(), uri.path().strip_prefix("/sessions/")) {
        ("/sessions", _) if get => Ok(Asked::List(filter(&pairs).map_err(wrong)?)),
        ("/sessions", _) => Err(Page::not_allowed("GET, HEAD")),
        ("/sweep", _) if *method == Method::POST => Ok(Asked::Sweep {
            dry_run: dry_run(&pairs).map_err(wrong)?,
        }),
        ("/sweep", _) => Err(Page::not_allowed("POST")),
        (_, Some(id)) => {
            nothing_more()?;
            let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
            let id = id.parse().map_err(|_| wrong(format!("{id:?} is no session id")))?;
            match *method {
                Method::GET | Method::HEAD => Ok(Asked::Show(id)),
                Method::DELETE => Ok(Asked::Cancel(id)),
                _ => Err(Page::not_allowed("GET, HEAD, DELETE")),
            }
        }
        (_, None) => Err(Page::text(StatusCode::NOT_FOUND, "not found\n")),
    }
}

fn filter(pairs: &[(String, String)]) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for (name, value) in pairs {
        match name.as_str() {
            "route" => filter.route = Some(value.clone()),
            "prefix" => filter.prefix = Some(value.clone()),
            "phase" => {
                for phase in value.split(',') {
                    filter.standings.push(phase.parse()?);
                }
            }
            "all" => filter.all = is_on(name, value)?,
            "silent_for" => filter.silent_for = Some(parse_duration(value)?),
            "active_within" => filter.active_within = Some(parse_duration(value)?),
            "limit" => filter.limit = Some(value.parse().map_err(|_| format!("{value:?} is no number"))?),
            other => {
                return Err(format!(
                    "{other:?} is none of route, prefix, phase, all, silent_for, active_within, limit"
                ));
            }
        }
    }
    Ok(filter)
}

fn dry_run(pairs: &[(String, String)]) -> Result<bool, String> {
    let mut dry_run = false;
    for (name, value) in pairs {
        match name.as_str() {
            "dry_run" => dry_run = is_on(name, value)?,
            other => return Err(format!("{other:?} is not dry_run")),
        }
    }
    Ok(dry_run)
}

/// `all` and `all=true` alike; anything unclear is refused: a sweep that was meant to be dry shall not be wet.
fn is_on(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("{name} is true or false, not {value:?}")),
    }
}

/// What a single JSON object is sent as.
impl Page {
    fn json(status: StatusCode, value: &impl Serialize) -> Self {
        Self {
            content_type: JSON,
            ..Self::text(status, &line(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upload::Standing;

    fn parsed(method: &Method, uri: &str) -> Result<Asked, u16> {
        parse(method, &uri.parse().unwrap()).map_err(|page| page.status.as_u16())
    }

    #[test]
    fn what_is_asked_for_is_understood_or_refused() {
        let id: SessionId = "{11111111-2222-4333-8444-555555555555}".parse().unwrap();
        let bare = "/sessions/11111111-2222-4333-8444-555555555555";
        let braced = "/sessions/%7B11111111-2222-4333-8444-555555555555%7D";
        assert_eq!(parsed(&Method::GET, bare), Ok(Asked::Show(id)));
        assert_eq!(parsed(&Method::GET, braced), Ok(Asked::Show(id)));
        assert_eq!(parsed(&Method::DELETE, bare), Ok(Asked::Cancel(id)));
        assert_eq!(parsed(&Method::POST, bare), Err(405));
        assert_eq!(parsed(&Method::GET, "/sessions/x"), Err(400));
        assert_eq!(parsed(&Method::DELETE, "/sessions"), Err(405));
        assert_eq!(parsed(&Method::GET, "/sweep"), Err(405));
        assert_eq!(parsed(&Method::POST, "/sweep"), Ok(Asked::Sweep { dry_run: false }));
        for dry in ["/sweep?dry_run", "/sweep?dry_run=true", "/sweep?dry_run=1"] {
            assert_eq!(parsed(&Method::POST, dry), Ok(Asked::Sweep { dry_run: true }));
        }
        for unclear in ["/sweep?dry-run", "/sweep?dry_run=yes!", "/sweep?all"] {
            assert_eq!(parsed(&Method::POST, unclear), Err(400), "{unclear}");
        }
        let filter = Filter {
            route: Some("/up/".to_owned()),
            prefix: Some("a b/".to_owned()),
            standings: vec![Standing::Open, Standing::Newer],
            all: true,
            silent_for: Some(Duration::from_secs(3600)),
            active_within: Some(Duration::from_secs(7200)),
            limit: Some(5),
        };
        let uri = "/sessions?route=/up/&prefix=a%20b/&phase=open,newer&all&silent_for=1h&active_within=2h&limit=5";
        assert_eq!(parsed(&Method::GET, uri), Ok(Asked::List(filter)));
        for wrong in ["?phase=half", "?silent_for=5", "?limit=-1", "?order=age", "?all=maybe"] {
            assert_eq!(parsed(&Method::GET, &format!("/sessions{wrong}")), Err(400), "{wrong}");
        }
    }
}
