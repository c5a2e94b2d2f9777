//! The engine alone: a pingora proxy whose `request_filter` reads bodies with pingora's own reader and holds the same parts as the
//! gateway does.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

use super::process::free_port;
use super::role::{TALLY, attend};
use super::yes::{Head, yes};

/// Size of a part.
const PART: usize = 8 << 20;

/// Never returns.
pub(crate) fn serve() -> io::Result<()> {
    let conf = ServerConf {
        threads: super::THREADS,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let mut service = http_proxy_service(&server.configuration, Holder::default());
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    service.add_tcp(&address.to_string());
    server.add_service(service);
    attend(address);
    server.run_forever();
}

/// Holds what came of each session that is not yet a part.
#[derive(Default)]
struct Holder(Mutex<HashMap<String, Vec<Bytes>>>);

impl Holder {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Vec<Bytes>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ProxyHttp for Holder {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Err(pingora::Error::new(pingora::ErrorType::InternalError))
    }

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        let mut head = Head::default();
        for (name, value) in &session.req_header().headers {
            head.header(name.as_str(), value.to_str().unwrap_or_default());
        }
        if head.length > 0 {
            let name = head.session.clone().unwrap_or_default();
            let mut part = self.with(|held| held.remove(&name)).unwrap_or_default();
            let mut length: usize = part.iter().map(Bytes::len).sum();
            let mut at = head.from;
            while let Some(chunk) = session.as_downstream_mut().read_request_body().await? {
                TALLY.look(at, &chunk);
                at += chunk.len() as u64;
                length += chunk.len();
                part.push(chunk);
                if length >= PART {
                    length = 0;
                    part.clear();
                }
            }
            TALLY.count(at - head.from);
            if length > 0 {
                self.with(|held| held.insert(name, part));
            }
        } else if let Some(session) = &head.session {
            self.with(|held| held.remove(session));
        }
        let mut answer = ResponseHeader::build(200, Some(4))?;
        for (name, value) in yes(&head) {
            answer.insert_header(name, value)?;
        }
        answer.insert_header("Content-Length", "0")?;
        session.write_response_header(Box::new(answer), true).await?;
        Ok(true)
    }
}
