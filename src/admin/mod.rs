//! The second listener: health and metrics, for those who run the gateway. It has a thread of its own, so that it answers
//! while the front desk is busy.

mod health;

pub use health::{Health, StoreHealth};

use std::fmt;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, SERVER};
use http::{HeaderValue, Method, Response, StatusCode};
use pingora::apps::ServerApp;
use pingora::apps::http_app::{HttpServer, ServeHttp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use self::health::Report;

/// Connections at once; further ones wait.
const CONNECTIONS: usize = 64;

/// Life of a connection: one request, and no reason to take longer.
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
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("health", &self.health)
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
    let server = Arc::new(HttpServer::new_app(pages));
    // To the engine we are always about to leave: it then ends every connection after its answer.
    let (_leaving, shutdown) = watch::channel(true);
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
        let (server, shutdown) = (Arc::clone(&server), shutdown.clone());
        tokio::spawn(async move {
            let _slot = slot;
            // Whoever takes longer is not somebody who waits for an answer.
            let _ = timeout(LIFE, server.process_new(Box::new(Stream::from(stream)), &shutdown)).await;
        });
    }
}

#[async_trait]
impl ServeHttp for Pages {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        self.answer(&head.method, head.uri.path(), head.uri.query())
    }
}

impl Pages {
    fn answer(&self, method: &Method, path: &str, query: Option<&str>) -> Response<Vec<u8>> {
        let verbose = query.is_some_and(|query| query.split('&').any(|word| word == "verbose" || word == "verbose=1"));
        let page = match path {
            "/livez" => health_page(self.health.live(verbose)),
            "/readyz" => health_page(self.health.ready(verbose)),
            "/startupz" => health_page(self.health.started(verbose)),
            "/metrics" => self.scrape(),
            _ => Page::text(StatusCode::NOT_FOUND, "not found\n"),
        };
        match *method {
            Method::GET => page.into_response(true),
            Method::HEAD => page.into_response(false),
            _ => Page::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n").into_response(true),
        }
    }

    fn scrape(&self) -> Page {
        Page {
            status: StatusCode::OK,
            content_type: METRICS_TYPE,
            text: (self.metrics)(),
        }
    }
}

struct Page {
    status: StatusCode,
    content_type: &'static str,
    text: String,
}

impl Page {
    fn text(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            text: text.to_owned(),
        }
    }

    fn into_response(self, with_body: bool) -> Response<Vec<u8>> {
        let length = HeaderValue::from(self.text.len());
        let mut response = Response::new(if with_body { self.text.into_bytes() } else { Vec::new() });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(SERVER, HeaderValue::from_static("bits-gateway"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn pages() -> Pages {
        Pages {
            health: Arc::new(Health::new(Vec::new())),
            metrics: Box::new(|| "bitsgw_things_total 0\n".to_owned()),
        }
    }

    #[test]
    fn only_the_four_pages_are_there() {
        let pages = pages();
        for (path, status) in [
            ("/livez", 200),
            ("/readyz", 200),
            ("/startupz", 200),
            ("/metrics", 200),
            ("/", 404),
            ("/metrics/", 404),
        ] {
            assert_eq!(pages.answer(&Method::GET, path, None).status(), status, "{path}");
        }
    }

    #[test]
    fn pages_can_only_be_read() {
        let refused = pages().answer(&Method::POST, "/livez", None);
        assert_eq!(refused.status(), 405);
        assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
        let head = pages().answer(&Method::HEAD, "/livez", None);
        assert_eq!(
            (
                head.headers()[CONTENT_LENGTH].to_str().expect("a number"),
                head.body().len()
            ),
            ("5", 0)
        );
    }

    #[test]
    fn a_listener_answers_over_a_socket_and_closes() {
        let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        open(listener, pages()).expect("room for a thread");
        let mut stream = TcpStream::connect(address).expect("listening");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and the end");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nbitsgw_things_total 0\n"), "{answer}");
    }
}
