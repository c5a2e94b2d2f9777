//! The second listener: health, metrics and sessions, for those who run the gateway. It has a thread of its own, so that it answers
//! while the front desk is busy.

mod guard;
mod health;
mod page;
mod sessions;

pub use guard::{Guard, INTENT};
pub use health::{Health, StoreHealth};
pub use sessions::{Room, Sessions, Sweep, line};

use std::fmt;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Method, StatusCode};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use self::health::Report;
use self::page::{Page, Reply};

/// Connections at once; further ones wait.
const CONNECTIONS: usize = 64;

/// How long a connection may take until its request is there. It has no other.
const LIFE: Duration = Duration::from_secs(10);

/// The format of the metrics page.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Everything that the second listener shows.
pub struct Pages {
    /// Life, start and readiness.
    pub health: Arc<Health>,
    /// Every metric, in the format that Prometheus scrapes.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The sessions in the stores.
    pub sessions: Sessions,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("health", &self.health)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

/// Shows `pages` at `listener`, on a thread of its own, until the process ends.
///
/// # Errors
/// The system has no room for the thread or its runtime.
pub fn open(listener: StdListener, pages: Pages) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    listener.set_nonblocking(true)?;
    let serve = move || {
        runtime.block_on(async {
            match TcpListener::from_std(listener) {
                Ok(listener) => accept(&listener, pages).await,
                Err(error) => tracing::error!(%error, "the admin listener could not be opened"),
            }
        });
    };
    thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
    Ok(())
}

async fn accept(listener: &TcpListener, pages: Pages) {
    let pages = Arc::new(pages);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                #[expect(clippy::disallowed_methods, reason = "back-off: there is no event to wait for")]
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let _slot = slot;
            pages.serve(stream).await;
        });
    }
}

impl Pages {
    /// Answers one request; then the connection ends.
    async fn serve(&self, stream: TcpStream) {
        let mut session = ServerSession::new_http1(Box::new(Stream::from(stream)));
        // Whoever takes longer is not somebody who waits for an answer.
        if !matches!(timeout(LIFE, session.read_request()).await, Ok(Ok(true))) {
            return;
        }
        session.set_keepalive(None);
        let head = session.req_header();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let (reply, _room) = if Sessions::has(uri.path()) {
            self.sessions.answer(&method, &uri, &head.headers).await
        } else {
            (self.page(&method, uri.path(), uri.query()).into(), None)
        };
        let is_whole = reply.send(&mut session, method != Method::HEAD).await;
        if is_whole {
            // Whether the last bytes are taken is not ours any more.
            let _ = timeout(LIFE, session.finish()).await;
        }
    }

    fn page(&self, method: &Method, path: &str, query: Option<&str>) -> Page {
        let verbose = query.is_some_and(|query| query.split('&').any(|word| word == "verbose" || word == "verbose=1"));
        let page = match path {
            "/livez" => health_page(self.health.live(verbose)),
            "/readyz" => health_page(self.health.ready(verbose)),
            "/startupz" => health_page(self.health.started(verbose)),
            "/metrics" => self.scrape(),
            _ => Page::text(StatusCode::NOT_FOUND, "not found\n"),
        };
        match *method {
            Method::GET | Method::HEAD => page,
            _ => Page::not_allowed("GET, HEAD"),
        }
    }

    fn scrape(&self) -> Page {
        Page {
            content_type: METRICS_TYPE,
            ..Page::text(StatusCode::OK, &(self.metrics)())
        }
    }
}

fn health_page(report: Report) -> Page {
    let status = if report.well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Page::text(status, &report.text)
}

impl From<Page> for Reply {
    fn from(page: Page) -> Self {
        Self::Page(page)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream as StdStream};
    use std::time::Duration;

    use futures::stream::{self, StreamExt};
    use http::header::{ALLOW, CONTENT_LENGTH};
    use tokio::runtime::Runtime;

    use super::*;
    use crate::bits::SessionId;
    use crate::budget::Budget;
    use crate::clock::SystemClock;
    use crate::metrics::Metrics;
    use crate::session::{Principal, Target};
    use crate::store::Store;
    use crate::units::Secret;
    use crate::upload::{Asked, Checksum, Coordination, Durability, Place, Register, Rules, Uploads};

    /// A listener over a store in memory.
    struct Office {
        address: SocketAddr,
        uploads: Uploads,
        place: Arc<Place>,
        runtime: Runtime,
    }

    impl Office {
        fn open(guarded: impl FnOnce(SocketAddr) -> Guard) -> Self {
            let runtime = Runtime::new().expect("a runtime");
            let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("bound");
            let budget = Budget::new(1 << 20, Duration::from_secs(1));
            let uploads = Uploads::new(budget, Arc::new(SystemClock), Metrics::new(["/up/"]));
            let place = Arc::new(Place {
                route: "/up/".to_owned(),
                store: Store::memory(),
                rules: Rules {
                    overwrite: false,
                    max_upload_size: 1 << 30,
                    max_fragment_size: 1 << 30,
                    part_size: 8 << 20,
                    session_timeout: Duration::from_secs(3600),
                    closed_session_memory: Duration::from_secs(3600),
                    durability: Durability::Fragment,
                    coordination: Coordination::Shared,
                    checksum: Checksum::Off,
                    checksum_sidecar: false,
                },
                application: None,
                events: None,
            });
            let pages = Pages {
                health: Arc::new(Health::new(Vec::new())),
                metrics: Box::new(|| "bitsgw_things_total 0\n".to_owned()),
                sessions: Sessions {
                    guard: guarded(address),
                    register: Register::new(uploads.clone(), vec![Arc::clone(&place)]),
                    sweep: Box::new(|dry_run| stream::iter([format!("{{\"dry\":{dry_run}}}\n")]).boxed()),
                    runtime: runtime.handle().clone(),
                    room: Room::default(),
                },
            };
            open(listener, pages).expect("room for a thread");
            Self {
                address,
                uploads,
                place,
                runtime,
            }
        }

        fn without_token() -> Self {
            Self::open(|address| Guard::new(address, None))
        }

        fn session(&self, key: &str) -> SessionId {
            let asked = Asked {
                principal: Principal::anonymous(),
                target: Target {
                    route: "/up/".to_owned(),
                    key: key.to_owned(),
                    query: None,
                },
                url: format!("http://h/up/{key}"),
                client: None,
            };
            let created = self.uploads.create(&self.place, asked);
            self.runtime.block_on(created).expect("a session")
        }

        /// Head and body of the answer to a request with these further header lines.
        fn ask(&self, method: &str, path: &str, headers: &str) -> (String, String) {
            let mut stream = StdStream::connect(self.address).expect("listening");
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
            stream.write_all(request.as_bytes()).expect("taken");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer, and the end");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            (head.to_owned(), body.to_owned())
        }

        fn status(&self, method: &str, path: &str, headers: &str) -> String {
            let (head, _) = self.ask(method, path, headers);
            head["HTTP/1.1 ".len()..][..3].to_owned()
        }
    }

    #[test]
    fn only_these_pages_are_there() {
        let office = Office::without_token();
        for (path, status) in [
            ("/livez", "200"),
            ("/readyz", "200"),
            ("/startupz", "200"),
            ("/metrics", "200"),
            ("/sessions", "200"),
            ("/", "404"),
            ("/metrics/", "404"),
            ("/sessionsx", "404"),
            ("/sessions/", "400"),
        ] {
            assert_eq!(office.status("GET", path, ""), status, "{path}");
        }
    }

    #[test]
    fn pages_can_only_be_read() {
        let office = Office::without_token();
        let (head, _) = office.ask("POST", "/livez", "Content-Length: 0\r\n");
        assert!(
            head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nallow: GET, HEAD\r\n"),
            "{head}"
        );
        let (head, body) = office.ask("HEAD", "/livez", "");
        assert!(head.contains("\r\nContent-Length: 5\r\n"), "{head}");
        assert_eq!(body, "");
        let page = Page::not_allowed("GET").into_response(true);
        assert_eq!(
            (&page.headers()[ALLOW], &page.headers()[CONTENT_LENGTH]),
            (&"GET".parse().unwrap(), &9.into())
        );
    }

    #[test]
    fn a_listener_answers_over_a_socket_and_closes() {
        let (head, body) = Office::without_token().ask("GET", "/metrics", "");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("Connection: close"), "{head}");
        assert_eq!(body, "bitsgw_things_total 0\n");
    }

    #[test]
    fn sessions_are_listed_line_by_line_shown_and_cancelled() {
        let office = Office::without_token();
        let (first, second) = (office.session("a/one"), office.session("b/two"));
        let (head, body) = office.ask("GET", "/sessions?prefix=b/", "");
        assert!(head.contains("application/x-ndjson"), "{head}");
        assert!(body.contains("\"key\":\"b/two\"") && !body.contains("a/one"), "{body}");
        assert!(body.ends_with("\r\n0\r\n\r\n"), "the list is whole: {body}");

        let page = format!("/sessions/{}", first.as_key());
        let (_, body) = office.ask("GET", &page, "");
        let shown: serde_json::Value = serde_json::from_str(&body).expect(&body);
        assert_eq!(
            (&shown["phase"], &shown["part_size"]),
            (&"open".into(), &(8 << 20).into())
        );
        assert_eq!(
            office.status("DELETE", &page, ""),
            "403",
            "it does not say that it means it"
        );
        let (_, body) = office.ask("DELETE", &page, "X-Requested-By: test\r\n");
        let cancelled: serde_json::Value = serde_json::from_str(&body).expect(&body);
        assert_eq!(
            (&cancelled["phase"], &cancelled["outcome"]),
            (&"closed".into(), &"cancelled".into())
        );
        assert!(
            !office.ask("GET", "/sessions", "").1.contains("a/one"),
            "ended ones are not listed"
        );
        assert!(
            office.ask("GET", "/sessions?all", "").1.contains("a/one"),
            "unless they are asked for"
        );
        assert_eq!(
            office.status("GET", "/sessions/11111111-2222-4333-8444-555555555555", ""),
            "404"
        );
        assert_eq!(office.status("GET", "/sessions?route=/other/", ""), "400");
        assert_eq!(
            office.status("GET", &format!("/sessions/{}", second.as_key()), ""),
            "200"
        );
    }

    #[test]
    fn a_sweep_is_begun_by_whoever_means_it() {
        let office = Office::without_token();
        assert_eq!(office.status("POST", "/sweep", "Content-Length: 0\r\n"), "403");
        let meant = "X-Requested-By: test\r\nContent-Length: 0\r\n";
        assert!(office.ask("POST", "/sweep?dry_run", meant).1.contains("{\"dry\":true}"));
        assert!(office.ask("POST", "/sweep", meant).1.contains("{\"dry\":false}"));
    }

    #[test]
    fn off_loopback_only_the_token_opens_the_sessions_while_health_is_open_to_all() {
        // It listens on loopback, and is told that it does not.
        let elsewhere: SocketAddr = "0.0.0.0:0".parse().expect("an address");
        let closed = Office::open(|_| Guard::new(elsewhere, None));
        let (head, body) = closed.ask("GET", "/sessions", "");
        assert!(
            head.starts_with("HTTP/1.1 403 ") && body.contains("server.admin_token"),
            "{head}{body}"
        );
        let guarded = Office::open(|_| Guard::new(elsewhere, Some(Secret::inline("correct-horse-battery"))));
        let (head, body) = guarded.ask("GET", "/sessions/no-id", "");
        assert!(
            head.starts_with("HTTP/1.1 401 ") && head.contains("www-authenticate: Bearer"),
            "{head}{body}"
        );
        let token = "Authorization: Bearer correct-horse-battery\r\n";
        assert_eq!(guarded.status("GET", "/sessions", token), "200");
        assert_eq!(
            guarded.status("POST", "/sweep", &format!("{token}Content-Length: 0\r\n")),
            "200"
        );
        for office in [&closed, &guarded] {
            for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
                assert_eq!(office.status("GET", path, ""), "200", "{path}");
            }
        }
    }
}
