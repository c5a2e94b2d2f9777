//! Answers of the second listener.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, SERVER, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::sessions;

/// The format of a single JSON object.
pub(super) const JSON: &str = "application/json";

/// One JSON object a line.
pub(super) const LINES: &str = "application/x-ndjson";

/// Plain words.
const TEXT: &str = "text/plain; charset=utf-8";

/// How long a reader may take for a piece of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lines are sent in pieces of about this many bytes, or as they come when they come slowly.
const PIECE: usize = 16 * 1024;

/// An answer that is known whole.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) text: String,
    /// What is allowed instead of the method that was used.
    pub(super) allow: Option<&'static str>,
    pub(super) asks_for_token: bool,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Reply {
    /// Whole.
    Page(Page),
    /// Line by line, as they come.
    Lines {
        content_type: &'static str,
        first: Option<String>,
        /// An error ends it.
        rest: mpsc::Receiver<Result<String, String>>,
    },
}

impl Page {
    pub(super) fn text(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            content_type: TEXT,
            text: text.to_owned(),
            allow: None,
            asks_for_token: false,
        }
    }

    pub(super) fn not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::text(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allow}\n"))
        }
    }

    pub(super) fn into_response(self, with_body: bool) -> Response<Vec<u8>> {
        let mut response = head(self.status, self.content_type);
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.text.len()));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.asks_for_token {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.map(|()| if with_body { self.text.into_bytes() } else { Vec::new() })
    }
}

impl Reply {
    /// Sends the answer. Whether it went out whole: if not, the connection has to break, so that its reader notices.
    pub(super) async fn send(self, session: &mut ServerSession, with_body: bool) -> bool {
        match self {
            Self::Page(page) => {
                let (head, body) = page.into_response(with_body).into_parts();
                write_head(session, head).await && (body.is_empty() || write(session, body.into(), true).await)
            }
            Self::Lines {
                content_type,
                first,
                rest,
            } => {
                let mut head = head(StatusCode::OK, content_type);
                head.headers_mut()
                    .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                write_head(session, head.into_parts().0).await && (!with_body || send_lines(session, first, rest).await)
            }
        }
    }
}

fn head(status: StatusCode, content_type: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(SERVER, HeaderValue::from_static("bits-gateway"));
    response
}

async fn send_lines(
    session: &mut ServerSession,
    first: Option<String>,
    mut rest: mpsc::Receiver<Result<String, String>>,
) -> bool {
    let mut piece = first.unwrap_or_default();
    loop {
        let next = match rest.try_recv() {
            Ok(next) if piece.len() < PIECE => Some(next),
            Err(mpsc::error::TryRecvError::Disconnected) => None,
            found => {
                if !piece.is_empty() && !write(session, std::mem::take(&mut piece).into(), false).await {
                    return false;
                }
                match found {
                    Ok(next) => Some(next),
                    Err(_) => rest.recv().await,
                }
            }
        };
        match next {
            Some(Ok(line)) => piece.push_str(&line),
            Some(Err(why)) => {
                // The end that HTTP itself would tell is missing: a reader that does not look at lines notices all the same.
                piece.push_str(&sessions::line(&sessions::error(&why)));
                write(session, piece.into(), false).await;
                return false;
            }
            None => return write(session, piece.into(), true).await,
        }
    }
}

async fn write_head(session: &mut ServerSession, head: http::response::Parts) -> bool {
    let head: ResponseHeader = head.into();
    matches!(
        timeout(PATIENCE, session.write_response_header(Box::new(head))).await,
        Ok(Ok(()))
    )
}

async fn write(session: &mut ServerSession, bytes: Bytes, end: bool) -> bool {
    matches!(
        timeout(PATIENCE, session.write_response_body(bytes, end)).await,
        Ok(Ok(()))
    )
}
