//! The headers of the protocol: their names, and the rules that hold for every header (MC-BUP 2.2.1).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Malformed;

/// Which packet a request is; `Ack` on every answer (MC-BUP 2.2.1.2).
pub const PACKET_TYPE: &str = "BITS-Packet-Type";
/// The protocols that a client speaks, on Create-Session (MC-BUP 2.2.2.2).
pub const SUPPORTED_PROTOCOLS: &str = "BITS-Supported-Protocols";
/// The protocol that the server chose (MC-BUP 2.2.3.2).
pub const PROTOCOL_CHOSEN: &str = "BITS-Protocol";
/// The session (MC-BUP 2.2.1.2).
pub const SESSION_ID: &str = "BITS-Session-Id";
/// Where the client shall send the rest of its session (MC-BUP 2.2.3.2).
pub const HOST_ID: &str = "BITS-Host-Id";
/// After how many seconds without success it shall come back (MC-BUP 2.2.3.2).
pub const HOST_ID_FALLBACK_TIMEOUT: &str = "BITS-Host-Id-Fallback-Timeout";
/// The next offset that the server wants: one number, whatever the name says (MC-BUP 2.2.7.2).
pub const RECEIVED_CONTENT_RANGE: &str = "BITS-Received-Content-Range";
/// Where the answer of the server application is to be fetched (MC-BUP 2.2.7.2).
pub const REPLY_URL: &str = "BITS-Reply-URL";
/// To a server application: the absolute URL of the upload (MC-BUP 2.2.12.2).
pub const ORIGINAL_REQUEST_URL: &str = "BITS-Original-Request-URL";
/// To a server application: where the file lies. In the spelling of the examples, not of the text (MC-BUP 3.4.5.2, 4.2; 2.2.12.2 differs).
pub const REQUEST_DATA_FILE: &str = "BITS-Request-DataFile-Name";
/// To a server application: where it writes its answer, in the same spelling.
pub const RESPONSE_DATA_FILE: &str = "BITS-Response-DataFile-Name";
/// From a server application: an answer that is ready elsewhere (MC-BUP 2.2.13.2).
pub const STATIC_RESPONSE_URL: &str = "BITS-Static-Response-URL";
/// From a server application: the file shall go to its destination as well (MC-BUP 2.2.13.2).
pub const COPY_TO_DESTINATION: &str = "BITS-Copy-File-To-Destination";
/// An error code, by the name of MC-BUP 2.2.1.2.
pub const ERROR: &str = "BITS-Error";
/// The same error code, by the name of the win32 documentation: which of the two a client reads differs.
pub const ERROR_CODE: &str = "BITS-Error-Code";
/// Who found the error (MC-BUP 2.2.1.2).
pub const ERROR_CONTEXT: &str = "BITS-Error-Context";
/// The bytes of a fragment (MC-BUP 2.2.6.1).
pub const CONTENT_RANGE: &str = "Content-Range";
/// How a body is encoded; this server knows `identity` only (MC-BUP appendix A <12>).
pub const CONTENT_ENCODING: &str = "Content-Encoding";
/// Which encodings the server takes (MC-BUP 2.2.3.1).
pub const ACCEPT_ENCODING: &str = "Accept-Encoding";
/// Bytes of a body.
pub const CONTENT_LENGTH: &str = "Content-Length";
/// How a body without a length is framed.
pub const TRANSFER_ENCODING: &str = "Transfer-Encoding";
/// When to come back after a 503.
pub const RETRY_AFTER: &str = "Retry-After";
/// Tells caches of HTTP/1.0 to keep nothing, as IIS does (MC-BUP 4.1).
pub const PRAGMA: &str = "Pragma";

/// Longest value of a header in bytes (MC-BUP 2.2.1, appendix A <2>).
pub const VALUE_LIMIT: usize = 4096;
/// Longest value of a header that carries credentials, in bytes: Kerberos tickets with many groups are large.
pub const CREDENTIAL_LIMIT: usize = 64 * 1024;

/// Refuses values above their limit: [`VALUE_LIMIT`], or [`CREDENTIAL_LIMIT`] for `Authorization`, `Cookie` and `token`.
pub(super) fn refuse_long_values(headers: &HeaderMap, token: Option<&HeaderName>) -> Result<(), Malformed> {
    for (name, value) in headers {
        if value.len() <= VALUE_LIMIT {
            continue;
        }
        let credential = *name == http::header::AUTHORIZATION || *name == http::header::COOKIE || Some(name) == token;
        if !credential || value.len() > CREDENTIAL_LIMIT {
            return Err(Malformed::HeaderTooLong(name.clone()));
        }
    }
    Ok(())
}

/// Refuses every content coding but `identity` (MC-BUP 2.2.6.1, appendix A <12>): what is stored is what was sent.
pub(super) fn refuse_encodings(headers: &HeaderMap) -> Result<(), Malformed> {
    let foreign = |coding: &[u8]| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity");
    for value in headers.get_all(CONTENT_ENCODING) {
        if value.as_bytes().split(|b| *b == b',').map(trim).any(foreign) {
            return Err(Malformed::ContentEncoding);
        }
    }
    Ok(())
}

/// The value of a header that may come once at most. Two of them are refused even when they agree: another server on
/// the way may have acted on the other one.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| trim(HeaderValue::as_bytes(value)));
    match values.next() {
        Some(_) => Err(Malformed::Repeated(name)),
        None => Ok(first),
    }
}

/// `value` without blanks around it (RFC 2616 4.2).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|b| !blank(b))
        .map_or(start, |last| last.saturating_add(1));
    value.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn a_value_of_4096_bytes_is_fine_and_one_more_is_not() {
        let fits = headers(&[("X-Anything", &"a".repeat(4096))]);
        assert_eq!(refuse_long_values(&fits, None), Ok(()));
        let long = headers(&[("X-Anything", &"a".repeat(4097))]);
        let name = HeaderName::from_static("x-anything");
        assert_eq!(refuse_long_values(&long, None), Err(Malformed::HeaderTooLong(name)));
    }

    #[test]
    fn the_second_of_two_lines_is_measured_too() {
        let long = headers(&[("X-Anything", "a"), ("X-Anything", &"a".repeat(4097))]);
        assert!(refuse_long_values(&long, None).is_err());
    }

    #[test]
    fn credentials_may_take_64_kib() {
        let token = HeaderName::from_static("x-api-key");
        for name in ["Authorization", "Cookie", "X-Api-Key"] {
            let fits = headers(&[(name, &"a".repeat(65_536))]);
            assert_eq!(refuse_long_values(&fits, Some(&token)), Ok(()), "{name}");
            let long = headers(&[(name, &"a".repeat(65_537))]);
            assert!(refuse_long_values(&long, Some(&token)).is_err(), "{name}");
        }
        let unasked = headers(&[("X-Api-Key", &"a".repeat(4097))]);
        assert!(refuse_long_values(&unasked, None).is_err());
    }

    #[test]
    fn only_the_identity_coding_passes() {
        for fine in ["identity", "IDENTITY", "", " ", "identity, identity", "identity,"] {
            assert_eq!(
                refuse_encodings(&headers(&[("Content-Encoding", fine)])),
                Ok(()),
                "{fine:?}"
            );
        }
        for foreign in ["gzip", "identity, gzip", "br,identity", "x", "identity;q=1"] {
            let refused = refuse_encodings(&headers(&[("Content-Encoding", foreign)]));
            assert_eq!(refused, Err(Malformed::ContentEncoding), "{foreign:?}");
        }
        let second = headers(&[("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]);
        assert_eq!(refuse_encodings(&second), Err(Malformed::ContentEncoding));
    }

    #[test]
    fn names_are_found_in_any_letter_case_and_values_are_trimmed() {
        let sent = headers(&[("bITS-sESSION-iD", " \tvalue \t")]);
        assert_eq!(only(&sent, SESSION_ID), Ok(Some(&b"value"[..])));
        assert_eq!(only(&sent, PACKET_TYPE), Ok(None));
    }

    #[test]
    fn two_equal_lines_are_one_too_many() {
        let sent = headers(&[("BITS-Session-Id", "a"), ("BITS-Session-Id", "a")]);
        assert_eq!(only(&sent, SESSION_ID), Err(Malformed::Repeated(SESSION_ID)));
    }

    #[test]
    fn trimming_takes_blanks_from_the_ends_only() {
        for (from, to) in [
            ("", ""),
            (" ", ""),
            ("a", "a"),
            ("\t a b \t", "a b"),
            (" a", "a"),
            ("a ", "a"),
        ] {
            assert_eq!(trim(from.as_bytes()), to.as_bytes(), "{from:?}");
        }
    }
}
