//! What a server application answered (MC-BUP 2.2.13).

use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use url::Url;

use super::{Failure, LONGEST_REPLY_URL};
use crate::bits::header;
use crate::units::HttpOrigin;

/// An answer whose body has not been read.
#[derive(Debug)]
pub struct Heard {
    /// What the client gets.
    pub reply: Replied,
    /// Whether the file shall be copied to its destination. Only that the header is there counts (MC-BUP 2.2.13.2).
    pub copies: bool,
}

/// What the client gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Replied {
    /// Nothing that this answer says: the body is the reply, or a file is.
    Here,
    /// Something that is ready elsewhere, as the application wrote it.
    Elsewhere(String),
}

impl Heard {
    /// Reads the head of an answer. Every 2xx takes the file: who answers 204 or 202 has not failed.
    ///
    /// # Errors
    /// Any other status, and replies that no client may be sent to.
    pub(super) fn read(status: u16, headers: &HeaderMap, allowed: &[HttpOrigin]) -> Result<Self, Failure> {
        if !(200..300).contains(&status) {
            return Err(Failure::Status(status));
        }
        let url = headers
            .get(header::STATIC_RESPONSE_URL)
            .map(|value| value.as_bytes().trim_ascii());
        let reply = match url {
            None | Some([]) => Replied::Here,
            Some(url) => Replied::Elsewhere(elsewhere(url, allowed)?),
        };
        Ok(Self {
            reply,
            copies: headers.contains_key(header::COPY_TO_DESTINATION),
        })
    }
}

/// Whether the end of a body can be told from that of a connection.
pub(super) fn tells_length(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)
}

/// A URL that a client may be sent to: passed on unchanged (MC-BUP 3.3.5.2.4).
fn elsewhere(url: &[u8], allowed: &[HttpOrigin]) -> Result<String, Failure> {
    if url.len() > LONGEST_REPLY_URL {
        return Err(Failure::UrlTooLong(url.len()));
    }
    let text = String::from_utf8_lossy(url).into_owned();
    let refused = || Failure::Elsewhere(text.clone());
    // What a parser makes of anything else differs from one client to the next.
    if !url.iter().all(u8::is_ascii_graphic) || text.contains('\\') {
        return Err(refused());
    }
    let parsed = Url::parse(&text).map_err(|_| refused())?;
    let is_allowed = parsed.username().is_empty()
        && parsed.password().is_none()
        && allowed.iter().any(|origin| {
            parsed.scheme() == if origin.tls() { "https" } else { "http" }
                && parsed.host_str() == Some(origin.host())
                && parsed.port_or_known_default() == Some(origin.port())
        });
    if is_allowed { Ok(text) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const STATIC: &str = header::STATIC_RESPONSE_URL;

    fn read(status: u16, lines: &[(&'static str, &str)]) -> Result<Heard, Failure> {
        let allowed = ["http://h".parse().unwrap(), "https://s:444".parse().unwrap()];
        let headers = lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        Heard::read(status, &headers, &allowed)
    }

    #[test]
    fn a_static_reply_is_passed_on_as_it_was_written_where_it_may_lead() {
        for url in ["http://h/replies/ok.txt", "http://H:80/a%20b?x#y", "https://s:444/"] {
            let heard = read(200, &[(STATIC, url)]).unwrap();
            assert_eq!(heard.reply, Replied::Elsewhere(url.to_owned()));
        }
        for url in [
            "http://h:81/",
            "https://h/",
            "http://h.evil/",
            "http://h@evil/",
            "http://u:p@h/",
            "http://evil\\@h/",
            "/replies/ok.txt",
            "replies",
            "file:///etc/passwd",
            "http://h/a b",
        ] {
            let refused = read(200, &[(STATIC, url)]).unwrap_err();
            assert_eq!(refused, Failure::Elsewhere(url.to_owned()));
        }
    }

    #[test]
    fn a_static_reply_has_2200_characters_at_most() {
        let of = |length: usize| format!("http://h/{}", "x".repeat(length - 9));
        assert!(read(200, &[(STATIC, &of(2200))]).is_ok());
        let refused = read(200, &[(STATIC, &of(2201))]).unwrap_err();
        assert_eq!(refused, Failure::UrlTooLong(2201));
    }

    #[test]
    fn a_copy_is_asked_for_by_the_header_whatever_it_says() {
        for value in ["1", "0", "no", ""] {
            assert!(read(200, &[(header::COPY_TO_DESTINATION, value)]).unwrap().copies);
        }
        let heard = read(204, &[(STATIC, "")]).unwrap();
        assert!(!heard.copies && heard.reply == Replied::Here);
    }

    #[test]
    fn whatever_is_not_2xx_is_no() {
        for status in [100, 199, 300, 302, 400, 403, 404, 500, 503, 999] {
            assert_eq!(read(status, &[]).unwrap_err(), Failure::Status(status));
        }
    }
}
