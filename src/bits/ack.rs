//! The answers (MC-BUP 2.2.3 to 2.2.11).

use std::time::Duration;

use http::HeaderValue;

use super::id::TEXT_LENGTH;
use super::{ErrorContext, Hresult, PROTOCOL, SentSessionId, SessionId, header};

/// Where the client shall send the rest of its session (MC-BUP 2.2.3.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostId {
    /// Host name or address. One that can't be a header value is not sent.
    pub host: String,
    /// After how many whole seconds of failure the client goes back to the original host; without it, never.
    pub fallback_timeout: Option<Duration>,
}

/// An answer to a packet: status and headers. Its body is always empty.
///
/// The only writer of response headers of the protocol, in the spelling of the protocol's own examples (MC-BUP 4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ack {
    status: u16,
    created: Option<Created>,
    session: Option<HeaderValue>,
    next: Option<u64>,
    reply: Option<HeaderValue>,
    error: Option<(Hresult, ErrorContext)>,
    retry_after: Option<u64>,
}

/// What only the Ack of a Create-Session says.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Created {
    host: Option<HeaderValue>,
    fallback_timeout: Option<u64>,
}

impl Ack {
    /// To a Ping (MC-BUP 2.2.5).
    pub const fn pong() -> Self {
        Self {
            status: 200,
            created: None,
            session: None,
            next: None,
            reply: None,
            error: None,
            retry_after: None,
        }
    }

    /// To a Create-Session that began the session `id` (MC-BUP 2.2.3).
    pub fn created(id: &SessionId, host: Option<&HostId>) -> Self {
        let sent = host.and_then(|host| Some((host, HeaderValue::from_str(&host.host).ok()?)));
        let created = Created {
            fallback_timeout: sent
                .as_ref()
                .and_then(|(host, _)| host.fallback_timeout)
                .map(|after| after.as_secs()),
            host: sent.map(|(_, value)| value),
        };
        Self {
            created: Some(created),
            session: Some(canonical(id)),
            ..Self::pong()
        }
    }

    /// To a Fragment: all bytes before the offset `next` are held (MC-BUP 2.2.7).
    pub fn fragment(session: &SentSessionId, next: u64) -> Self {
        Self::pong().about(Some(session)).holding(Some(next))
    }

    /// To a Close-Session (MC-BUP 2.2.9).
    pub fn closed(session: &SentSessionId) -> Self {
        Self::pong().about(Some(session))
    }

    /// To a Cancel-Session (MC-BUP 2.2.11).
    pub fn cancelled(session: &SentSessionId) -> Self {
        Self::pong().about(Some(session))
    }

    /// To a packet that was not carried out, with an error `status`.
    ///
    /// The error headers are left out where the status says it all (MC-BUP 2.2.1.2, appendix A <4>): 401, 404, 405,
    /// 413, 416 and 503, unless the server application found the error. On any other status a missing `error` becomes
    /// the code that BITS has for the status.
    pub fn refused(status: u16, error: Option<(Hresult, ErrorContext)>) -> Self {
        let speaks_for_itself = status < 400 || matches!(status, 401 | 404 | 405 | 413 | 416 | 503);
        let error = match error {
            Some((_, ErrorContext::RemoteApplication)) if status >= 400 => error,
            _ if speaks_for_itself => None,
            _ => error.or(Some((Hresult::of_status(status), ErrorContext::RemoteFile))),
        };
        Self {
            status,
            error,
            ..Self::pong()
        }
    }

    /// Names the session, as the client wrote it: on every Ack of a Fragment, a Close-Session and a Cancel-Session
    /// (MC-BUP 2.2.1.2), and on no Ack of a Create-Session that failed (MC-BUP 2.2.3.2).
    #[must_use]
    pub fn about(mut self, session: Option<&SentSessionId>) -> Self {
        // The text was a header value before: the other arm is for texts that were put together by hand.
        let echo = |sent: &SentSessionId| HeaderValue::from_str(&sent.text).unwrap_or_else(|_| canonical(&sent.id));
        self.session = session.map(echo);
        self
    }

    /// Tells the true next offset: on every Ack of a Fragment of a known session, whatever its status (MC-BUP 2.2.7.2).
    #[must_use]
    pub const fn holding(mut self, next: Option<u64>) -> Self {
        self.next = next;
        self
    }

    /// Tells where the answer of the server application is: on the Ack of the last fragment (MC-BUP 2.2.7.2). A URL that can't be a
    /// header value is not told.
    #[must_use]
    pub fn replied_at(mut self, url: &str) -> Self {
        self.reply = HeaderValue::from_str(url).ok();
        self
    }

    /// Asks the client to come back after `wait`, rounded up to whole seconds.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        let started = if wait.subsec_nanos() > 0 { 1 } else { 0 };
        self.retry_after = Some(wait.as_secs().saturating_add(started));
        self
    }

    /// The same for a session that was created by a POST, to somebody who expects 201 then.
    #[must_use]
    pub const fn as_created(mut self) -> Self {
        if self.created.is_some() {
            self.status = 201;
        }
        self
    }

    /// The status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The error that the headers tell, for the log.
    pub const fn error(&self) -> Option<(Hresult, ErrorContext)> {
        self.error
    }

    /// The headers in the order in which they are sent, spelled as on the wire.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, HeaderValue)> + use<> {
        let created = self.created.as_ref();
        let number = |value: Option<u64>| value.map(HeaderValue::from);
        let code = self.error.map(|(code, _)| hex(code));
        [
            (header::PRAGMA, Some(HeaderValue::from_static("no-cache"))),
            (header::PACKET_TYPE, Some(HeaderValue::from_static("Ack"))),
            (
                header::PROTOCOL_CHOSEN,
                created.map(|_| HeaderValue::from_static(PROTOCOL)),
            ),
            (header::SESSION_ID, self.session.clone()),
            (header::HOST_ID, created.and_then(|created| created.host.clone())),
            (
                header::HOST_ID_FALLBACK_TIMEOUT,
                number(created.and_then(|created| created.fallback_timeout)),
            ),
            (header::RECEIVED_CONTENT_RANGE, number(self.next)),
            (header::REPLY_URL, self.reply.clone()),
            (header::ERROR, code.clone()),
            (header::ERROR_CODE, code),
            (
                header::ERROR_CONTEXT,
                self.error
                    .map(|(_, context)| HeaderValue::from_static(context.as_str())),
            ),
            (
                header::ACCEPT_ENCODING,
                created.map(|_| HeaderValue::from_static("identity")),
            ),
            (header::RETRY_AFTER, number(self.retry_after)),
            (header::CONTENT_LENGTH, Some(HeaderValue::from_static("0"))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

fn canonical(id: &SessionId) -> HeaderValue {
    HeaderValue::from_str(id.encode(&mut [0; TEXT_LENGTH])).expect("hex digits, hyphens and braces are visible ASCII")
}

fn hex(code: Hresult) -> HeaderValue {
    HeaderValue::try_from(code.to_string()).expect("hex digits are visible ASCII")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOWER: &str = "{11111111-2222-4333-8444-5555555555aa}";

    fn sent() -> SentSessionId {
        SentSessionId {
            id: LOWER.parse().unwrap(),
            text: LOWER.to_owned(),
        }
    }

    fn block(ack: &Ack) -> String {
        let line = |(name, value): (&str, HeaderValue)| format!("{name}: {}\n", value.to_str().unwrap());
        format!("{}\n{}", ack.status(), ack.headers().map(line).collect::<String>())
    }

    const ERRORS: [&str; 3] = ["BITS-Error", "BITS-Error-Code", "BITS-Error-Context"];

    fn has_error(ack: &Ack) -> bool {
        let found = ack.headers().filter(|(name, _)| ERRORS.contains(name)).count();
        assert!(found == 0 || found == 3, "{ack:?}");
        found == 3
    }

    #[test]
    fn a_ping_is_answered_with_nothing_but_an_ack() {
        insta::assert_snapshot!(block(&Ack::pong()), @r"
        200
        Pragma: no-cache
        BITS-Packet-Type: Ack
        Content-Length: 0
        ");
    }

    #[test]
    fn a_new_session_is_named_in_upper_case_with_protocol_and_encoding() {
        insta::assert_snapshot!(block(&Ack::created(&sent().id, None)), @r"
        200
        Pragma: no-cache
        BITS-Packet-Type: Ack
        BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}
        BITS-Session-Id: {11111111-2222-4333-8444-5555555555AA}
        Accept-Encoding: identity
        Content-Length: 0
        ");
    }

    #[test]
    fn the_last_fragment_tells_where_the_reply_is() {
        insta::assert_snapshot!(block(&Ack::fragment(&sent(), 300_000).replied_at("http://h/replies/ok.txt")), @r"
        200
        Pragma: no-cache
        BITS-Packet-Type: Ack
        BITS-Session-Id: {11111111-2222-4333-8444-5555555555aa}
        BITS-Received-Content-Range: 300000
        BITS-Reply-URL: http://h/replies/ok.txt
        Content-Length: 0
        ");
    }

    #[test]
    fn a_new_session_may_be_sent_to_another_host() {
        let host = HostId {
            host: "FRANKCAO8".to_owned(),
            fallback_timeout: Some(Duration::from_secs(110)),
        };
        insta::assert_snapshot!(block(&Ack::created(&sent().id, Some(&host))), @r"
        200
        Pragma: no-cache
        BITS-Packet-Type: Ack
        BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}
        BITS-Session-Id: {11111111-2222-4333-8444-5555555555AA}
        BITS-Host-Id: FRANKCAO8
        BITS-Host-Id-Fallback-Timeout: 110
        Accept-Encoding: identity
        Content-Length: 0
        ");
    }

    #[test]
    fn a_host_that_is_no_header_value_is_not_sent_and_its_time_out_neither() {
        let host = HostId {
            host: "a\r\nb: c".to_owned(),
            fallback_timeout: Some(Duration::from_secs(110)),
        };
        assert_eq!(Ack::created(&sent().id, Some(&host)), Ack::created(&sent().id, None));
    }

    #[test]
    fn a_fragment_is_answered_with_the_next_offset_and_the_id_as_it_came() {
        insta::assert_snapshot!(block(&Ack::fragment(&sent(), 4892)), @r"
        200
        Pragma: no-cache
        BITS-Packet-Type: Ack
        BITS-Session-Id: {11111111-2222-4333-8444-5555555555aa}
        BITS-Received-Content-Range: 4892
        Content-Length: 0
        ");
    }

    #[test]
    fn close_and_cancel_are_answered_with_the_id_alone() {
        let expected = "200\nPragma: no-cache\nBITS-Packet-Type: Ack\nBITS-Session-Id: {11111111-2222-4333-8444-5555555555aa}\nContent-Length: 0\n";
        assert_eq!(block(&Ack::closed(&sent())), expected);
        assert_eq!(block(&Ack::cancelled(&sent())), expected);
    }

    #[test]
    fn an_error_is_told_under_both_names_with_its_context() {
        let ack = Ack::refused(500, Some((Hresult::SESSION_NOT_FOUND, ErrorContext::RemoteFile))).about(Some(&sent()));
        insta::assert_snapshot!(block(&ack), @r"
        500
        Pragma: no-cache
        BITS-Packet-Type: Ack
        BITS-Session-Id: {11111111-2222-4333-8444-5555555555aa}
        BITS-Error: 0x8020001F
        BITS-Error-Code: 0x8020001F
        BITS-Error-Context: 0x5
        Content-Length: 0
        ");
    }

    #[test]
    fn an_error_of_the_application_is_told_even_where_the_status_speaks_for_itself() {
        let error = (Hresult::of_status(503), ErrorContext::RemoteApplication);
        let ack = Ack::refused(503, Some(error))
            .about(Some(&sent()))
            .holding(Some(300_000));
        insta::assert_snapshot!(block(&ack), @r"
        503
        Pragma: no-cache
        BITS-Packet-Type: Ack
        BITS-Session-Id: {11111111-2222-4333-8444-5555555555aa}
        BITS-Received-Content-Range: 300000
        BITS-Error: 0x801901F7
        BITS-Error-Code: 0x801901F7
        BITS-Error-Context: 0x7
        Content-Length: 0
        ");
    }

    #[test]
    fn a_gap_is_answered_with_the_offset_and_no_error() {
        let ack = Ack::refused(416, None).about(Some(&sent())).holding(Some(0));
        insta::assert_snapshot!(block(&ack), @r"
        416
        Pragma: no-cache
        BITS-Packet-Type: Ack
        BITS-Session-Id: {11111111-2222-4333-8444-5555555555aa}
        BITS-Received-Content-Range: 0
        Content-Length: 0
        ");
    }

    #[test]
    fn momentary_trouble_says_when_to_come_back() {
        let ack = Ack::refused(503, None).retry_after(Duration::from_millis(29_001));
        insta::assert_snapshot!(block(&ack), @r"
        503
        Pragma: no-cache
        BITS-Packet-Type: Ack
        Retry-After: 30
        Content-Length: 0
        ");
    }

    #[test]
    fn some_statuses_never_carry_an_error_of_the_server() {
        let error = Some((Hresult::INVALID_ARGUMENT, ErrorContext::RemoteFile));
        for status in [401, 404, 405, 413, 416, 503] {
            assert!(!has_error(&Ack::refused(status, error)), "{status}");
            assert!(!has_error(&Ack::refused(status, None)), "{status}");
        }
    }

    #[test]
    fn every_other_error_carries_one() {
        for status in [400, 403, 408, 411, 500, 501] {
            assert_eq!(
                Ack::refused(status, None).error(),
                Some((Hresult::of_status(status), ErrorContext::RemoteFile))
            );
            assert!(has_error(&Ack::refused(status, None)), "{status}");
        }
    }

    #[test]
    fn an_id_that_was_put_together_by_hand_can_not_break_the_head() {
        let sent = SentSessionId {
            id: LOWER.parse().unwrap(),
            text: "x\r\nSet-Cookie: y".to_owned(),
        };
        assert_eq!(
            Ack::closed(&sent).session,
            Some(HeaderValue::from_static("{11111111-2222-4333-8444-5555555555AA}"))
        );
    }

    proptest! {
        #[test]
        fn every_refusal_keeps_the_rules_of_an_ack(
            status in any::<u16>(),
            error in prop::option::of((any::<u32>(), any::<bool>())),
            next in any::<Option<u64>>(),
            wait in any::<Option<u64>>(),
        ) {
            let context = |app| if app { ErrorContext::RemoteApplication } else { ErrorContext::RemoteFile };
            let mut ack = Ack::refused(status, error.map(|(code, app)| (Hresult(code), context(app)))).holding(next);
            if let Some(wait) = wait {
                ack = ack.retry_after(Duration::from_millis(wait));
            }
            prop_assert_eq!(has_error(&ack), ack.error().is_some());
            prop_assert!(status >= 400 || ack.error().is_none());
            let headers: Vec<_> = ack.headers().collect();
            let mut names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), headers.len());
            prop_assert!(headers.contains(&("BITS-Packet-Type", HeaderValue::from_static("Ack"))));
            prop_assert!(headers.contains(&("Content-Length", HeaderValue::from_static("0"))));
            let offset = headers.iter().find(|(name, _)| *name == "BITS-Received-Content-Range").map(|(_, value)| value);
            prop_assert_eq!(offset.map(|value| value.to_str().unwrap().parse().unwrap()), next);
        }
    }
}
