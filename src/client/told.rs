//! What an answer says to a BITS client (MC-BUP 2.2.3 to 2.2.9, 3.1.5.2.1). Pure.

use std::time::Duration;

use super::event::Refusal;
use super::wire::Answer;
use crate::bits::{ErrorContext, Hresult, PacketKind, header};
use crate::clock::Timestamp;

/// Codes that an application gets to see whatever the status says (MC-BUP 3.1.5.2.1): E_ACCESSDENIED, E_INVALIDARG,
/// BG_E_TOO_LARGE, BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH, BG_E_SERVER_EXECUTE_ENABLED. No time heals them.
const FATAL: [Hresult; 5] = [
    Hresult::ACCESS_DENIED,
    Hresult::INVALID_ARGUMENT,
    Hresult::TOO_LARGE,
    Hresult(0x8020_0022),
    Hresult(0x8020_0023),
];

/// An answer, as far as the protocol cares.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// `BITS-Packet-Type: Ack` was there.
    pub ack: bool,
    /// `BITS-Protocol`.
    pub protocol: Option<String>,
    /// `BITS-Session-Id`: 1 to 100 characters.
    pub session: Option<String>,
    /// `BITS-Host-Id`.
    pub host: Option<String>,
    /// `BITS-Host-Id-Fallback-Timeout`; `None` when there is none or it says "never" (`0xFFFFFFFF`).
    pub fallback_timeout: Option<Duration>,
    /// `BITS-Received-Content-Range`: the offset of the next byte that the server wants.
    pub received: Option<u64>,
    /// `BITS-Reply-URL`.
    pub reply_url: Option<String>,
    /// `BITS-Error`, or else `BITS-Error-Code`; a zero counts as none.
    pub error: Option<Hresult>,
    /// `BITS-Error-Context`.
    pub context: Option<ErrorContext>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Told {
    /// Reads an answer that came at `now`. What can't be read counts as absent.
    pub fn read(answer: &Answer, now: Timestamp) -> Self {
        let text = |name| answer.header(name).map(str::trim).filter(|value| !value.is_empty());
        Self {
            status: answer.status,
            ack: text(header::PACKET_TYPE).is_some_and(|kind| kind.eq_ignore_ascii_case("Ack")),
            protocol: text(header::PROTOCOL_CHOSEN).map(str::to_owned),
            // Any text of at most 100 characters may be an id (win32 page "Ack for Create-Session").
            session: text(header::SESSION_ID)
                .filter(|id| id.len() <= 100 && id.is_ascii())
                .map(str::to_owned),
            host: text(header::HOST_ID).map(str::to_owned),
            fallback_timeout: text(header::HOST_ID_FALLBACK_TIMEOUT)
                .and_then(number)
                .filter(|seconds| *seconds < u64::from(u32::MAX))
                .map(Duration::from_secs),
            received: text(header::RECEIVED_CONTENT_RANGE).and_then(number),
            reply_url: text(header::REPLY_URL).map(str::to_owned),
            error: text(header::ERROR)
                .or_else(|| text(header::ERROR_CODE))
                .and_then(code)
                .filter(|code| *code != 0)
                .map(Hresult),
            context: match text(header::ERROR_CONTEXT).and_then(code) {
                Some(5) => Some(ErrorContext::RemoteFile),
                Some(7) => Some(ErrorContext::RemoteApplication),
                _ => None,
            },
            retry_after: text(header::RETRY_AFTER).and_then(|value| retry_after(value, now)),
        }
    }

    /// 200 (MC-BUP 2.2.1), or the 201 that the win32 pages allow.
    pub const fn success(&self) -> bool {
        matches!(self.status, 200 | 201)
    }

    /// The server has no such session (MC-BUP 3.1.5.1.7).
    pub(super) fn lost_session(&self) -> bool {
        !self.success() && self.error == Some(Hresult::SESSION_NOT_FOUND)
    }

    /// Whether the same request may succeed later: the split that the win32 page "Handling server application errors" gives for
    /// statuses, which is the only one published, behind the codes that MC-BUP 3.1.5.2.1 hands to the application.
    pub(super) fn may_pass(&self) -> bool {
        if self.context != Some(ErrorContext::RemoteApplication)
            && self.error.is_some_and(|error| FATAL.contains(&error))
        {
            return false;
        }
        match self.status {
            300..=305 | 307 => false,
            400..=499 => matches!(self.status, 408 | 409),
            501 | 505 => false,
            _ => true,
        }
    }

    /// This answer as a "no" to `packet`.
    pub(super) const fn refusal(&self, packet: PacketKind) -> Refusal {
        Refusal {
            packet,
            status: self.status,
            error: self.error,
            context: self.context,
        }
    }
}

/// Decimal digits and nothing else.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// A code as servers write it: `0x8020001F`, `x8020001F` (as MC-BUP prints it in places), or a decimal number of either sign.
fn code(text: &str) -> Option<u32> {
    let hexadecimal = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .or_else(|| text.strip_prefix('x'));
    match hexadecimal {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        // A negative number is the same 32 bits read as a signed one.
        None => text
            .parse::<u32>()
            .ok()
            .or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned)),
    }
}

/// Seconds or a date (RFC 9110 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    match number(text) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => httpdate::parse_http_date(text)
            .ok()
            .map(|date| Timestamp::from(date).since(now)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bits::PROTOCOL;

    fn told(status: u16, headers: &[(&str, &str)]) -> Told {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let answer = Answer {
            minor: 1,
            status,
            reason: String::new(),
            headers,
            body: Bytes::new(),
        };
        Told::read(&answer, Timestamp::from_millis(784_111_777_000))
    }

    #[test]
    fn an_ack_of_create_session_is_read_in_any_letter_case() {
        let told = told(
            200,
            &[
                ("bits-packet-type", "ACK"),
                ("BITS-Protocol", PROTOCOL),
                ("Bits-Session-ID", "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}"),
                ("BITS-Host-ID", "FRANKCAO8"),
                ("BITS-Host-Id-Fallback-Timeout", "110"),
            ],
        );
        assert!(told.success() && told.ack);
        assert_eq!(told.session.as_deref(), Some("{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}"));
        assert_eq!(told.host.as_deref(), Some("FRANKCAO8"));
        assert_eq!(told.fallback_timeout, Some(Duration::from_secs(110)));
    }

    #[test]
    fn a_fallback_time_out_of_all_ones_is_none() {
        assert_eq!(
            told(200, &[("BITS-Host-Id-Fallback-Timeout", "4294967295")]).fallback_timeout,
            None
        );
    }

    #[test]
    fn both_spellings_of_the_error_header_count_and_the_specified_one_wins() {
        for (headers, expected) in [
            (&[("BITS-Error", "0x8020001F")][..], Some(0x8020_001F)),
            (&[("BITS-Error-Code", "0x8020001F")], Some(0x8020_001F)),
            (
                &[("BITS-Error-Code", "0x80070057"), ("BITS-Error", "0x80070005")],
                Some(0x8007_0005),
            ),
            (&[("BITS-Error", "x8020001f")], Some(0x8020_001F)),
            (&[("BITS-Error", "-2145386465")], Some(0x8020_001F)),
            (&[("BITS-Error", "2149580831")], Some(0x8020_001F)),
            (&[("BITS-Error", "0x0")], None),
            (&[("BITS-Error", "0x")], None),
            (&[("BITS-Error", "no")], None),
            (&[], None),
        ] {
            assert_eq!(told(500, headers).error.map(|error| error.0), expected, "{headers:?}");
        }
    }

    #[test]
    fn an_offset_is_decimal_digits_only() {
        for (text, expected) in [
            ("213", Some(213)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("0-213", None),
            ("+1", None),
            ("", None),
        ] {
            assert_eq!(
                told(200, &[("BITS-Received-Content-Range", text)]).received,
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        assert_eq!(
            told(503, &[("Retry-After", "30")]).retry_after,
            Some(Duration::from_secs(30))
        );
        let date = told(503, &[("Retry-After", "Sun, 06 Nov 1994 08:49:57 GMT")]).retry_after;
        assert_eq!(date, Some(Duration::from_secs(20)));
        assert_eq!(told(503, &[("Retry-After", "soon")]).retry_after, None);
    }

    #[test]
    fn statuses_split_into_those_that_may_pass_and_those_that_do_not() {
        let fatal = [
            300, 301, 302, 303, 304, 305, 307, 400, 401, 403, 404, 407, 410, 411, 413, 416, 451, 499, 501, 505,
        ];
        let passing = [
            100, 202, 204, 206, 306, 308, 399, 408, 409, 500, 502, 503, 504, 506, 599, 600,
        ];
        for status in fatal {
            assert!(!told(status, &[]).may_pass(), "{status}");
        }
        for status in passing {
            assert!(told(status, &[]).may_pass(), "{status}");
        }
    }

    #[test]
    fn a_fatal_code_outweighs_a_status_that_may_pass_unless_the_application_sent_it() {
        let code = ("BITS-Error", "0x80200020");
        assert!(!told(500, &[code, ("BITS-Error-Context", "0x5")]).may_pass());
        assert!(!told(500, &[code]).may_pass());
        assert!(told(500, &[code, ("BITS-Error-Context", "0x7")]).may_pass());
        assert!(told(500, &[("BITS-Error", "0x80070070"), ("BITS-Error-Context", "0x5")]).may_pass());
    }
}
