//! The five packets (MC-BUP 2.2.2 to 2.2.10).

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::header::{self, only};
use super::id::any_offers_protocol;
use super::{ContentRange, Malformed, SessionId};

/// A session id, and the text in which the client sent it: Acks echo the text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SentSessionId {
    /// What the text means.
    pub id: SessionId,
    /// The text as it came, at most 38 bytes.
    pub text: String,
}

impl SentSessionId {
    /// The session id of a request, if it has exactly one and that one is a GUID: the answers to a Fragment, a
    /// Close-Session and a Cancel-Session carry it even when the rest of the head is malformed.
    pub fn find(headers: &HeaderMap) -> Option<Self> {
        Self::read(only(headers, header::SESSION_ID).ok()??).ok()
    }

    fn read(value: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(value).map_err(|_| Malformed::SessionId)?;
        Ok(Self {
            id: text.parse()?,
            text: text.to_owned(),
        })
    }
}

/// How the length of the request's body was told by its framing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyLength {
    /// A `Content-Length`.
    Known(u64),
    /// `Transfer-Encoding: chunked` alone.
    Chunked,
    /// Neither of them.
    Absent,
}

impl BodyLength {
    /// Reads it from the headers of a request.
    ///
    /// # Errors
    /// [`Malformed::LengthAndCoding`], [`Malformed::TransferCoding`], [`Malformed::LengthSyntax`]: where the request
    /// ends is then in doubt.
    pub fn of(headers: &HeaderMap) -> Result<Self, Malformed> {
        let length = only(headers, header::CONTENT_LENGTH).map_err(|_| Malformed::LengthSyntax)?;
        let coding = only(headers, header::TRANSFER_ENCODING).map_err(|_| Malformed::TransferCoding)?;
        match (length, coding) {
            (None, None) => Ok(Self::Absent),
            (Some(_), Some(_)) => Err(Malformed::LengthAndCoding),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Self::Chunked),
            (None, Some(_)) => Err(Malformed::TransferCoding),
            (Some(length), None) => parse_length(length).map(Self::Known).ok_or(Malformed::LengthSyntax),
        }
    }
}

/// A fragment of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fragment {
    /// The session it belongs to.
    pub session: SentSessionId,
    /// The bytes that the body holds.
    pub range: ContentRange,
}

/// A request of the protocol, parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet {
    /// Is somebody there? Touches nothing.
    Ping,
    /// Begin a session; the list of protocols held ours.
    CreateSession,
    /// Bytes of the file.
    Fragment(Fragment),
    /// The upload is done, or given up before its end.
    CloseSession(SentSessionId),
    /// Forget the upload.
    CancelSession(SentSessionId),
}

impl Packet {
    /// Reads a request with the method `BITS_POST`.
    ///
    /// # Errors
    /// The first rule of MC-BUP 2.2 that the head breaks, in the order of MC-BUP 3.2.5.2.3: the form of the message,
    /// the length of its body, the session id.
    pub fn parse(headers: &HeaderMap, body: BodyLength) -> Result<Self, Malformed> {
        Self::parse_with(headers, body, None)
    }

    /// The same where credentials come in a header of their own, `token`, which may be as long as `Authorization`
    /// may ([`header::CREDENTIAL_LIMIT`]).
    ///
    /// # Errors
    /// See [`Packet::parse`].
    pub fn parse_with(headers: &HeaderMap, body: BodyLength, token: Option<&HeaderName>) -> Result<Self, Malformed> {
        let kind = only(headers, header::PACKET_TYPE).map(|value| value.map(PacketKind::named));
        // Before everything else, so that no other reason hides that the connection must go.
        if body == BodyLength::Chunked && kind != Ok(Some(PacketKind::Fragment)) {
            return Err(Malformed::ChunkedUnexpected);
        }
        header::refuse_long_values(headers, token)?;
        let kind = kind?.ok_or(Malformed::PacketTypeMissing)?;
        header::refuse_encodings(headers)?;
        match kind {
            PacketKind::Other => Err(Malformed::PacketTypeUnknown),
            PacketKind::Fragment => parse_fragment(headers, body).map(Self::Fragment),
            PacketKind::Ping => refuse_body(body).map(|()| Self::Ping),
            PacketKind::CreateSession => {
                refuse_body(body)?;
                negotiate(headers).map(|()| Self::CreateSession)
            }
            PacketKind::CloseSession => parse_ending(headers, body).map(Self::CloseSession),
            PacketKind::CancelSession => parse_ending(headers, body).map(Self::CancelSession),
        }
    }

    /// Which of the five it is.
    pub const fn kind(&self) -> PacketKind {
        match self {
            Self::Ping => PacketKind::Ping,
            Self::CreateSession => PacketKind::CreateSession,
            Self::Fragment(_) => PacketKind::Fragment,
            Self::CloseSession(_) => PacketKind::CloseSession,
            Self::CancelSession(_) => PacketKind::CancelSession,
        }
    }

    /// The session that the packet speaks of. A Ping has none, whatever it carries (MC-BUP 2.2.4.2).
    pub const fn sent_session(&self) -> Option<&SentSessionId> {
        match self {
            Self::Ping | Self::CreateSession => None,
            Self::Fragment(fragment) => Some(&fragment.session),
            Self::CloseSession(session) | Self::CancelSession(session) => Some(session),
        }
    }
}

/// Which kind a packet is: known even when the rest of it did not parse.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PacketKind {
    /// Ping.
    Ping,
    /// Create-Session.
    CreateSession,
    /// Fragment.
    Fragment,
    /// Close-Session.
    CloseSession,
    /// Cancel-Session.
    CancelSession,
    /// Anything else, or nothing.
    Other,
}

impl PacketKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ping,
        Self::CreateSession,
        Self::Fragment,
        Self::CloseSession,
        Self::CancelSession,
        Self::Other,
    ];

    /// The kind that a request says it is, in any letter case: MC-BUP 2.2.1.2 writes the names in upper case, Windows
    /// capitalised (MC-BUP 4.1), and other clients as they like.
    pub fn of(headers: &HeaderMap) -> Self {
        match only(headers, header::PACKET_TYPE) {
            Ok(Some(name)) => Self::named(name),
            _ => Self::Other,
        }
    }

    /// The name as Windows writes it in `BITS-Packet-Type` (MC-BUP 4.1); `Other` is no name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "Ping",
            Self::CreateSession => "Create-Session",
            Self::Fragment => "Fragment",
            Self::CloseSession => "Close-Session",
            Self::CancelSession => "Cancel-Session",
            Self::Other => "Other",
        }
    }

    /// Whether the answers carry `BITS-Session-Id` as the client sent it.
    pub const fn has_session(self) -> bool {
        matches!(self, Self::Fragment | Self::CloseSession | Self::CancelSession)
    }

    fn named(name: &[u8]) -> Self {
        // A packet type of "other" finds `Other` and is answered like any unknown one.
        let same = |kind: &Self| name.eq_ignore_ascii_case(kind.name().as_bytes());
        Self::ALL.into_iter().find(same).unwrap_or(Self::Other)
    }
}

/// The name as Windows writes it.
impl fmt::Display for PacketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// MC-BUP 2.2.6. The id is understood last: that a session does not exist comes after everything that is wrong with
/// the message itself, and an id that is no GUID names no session (MC-BUP 3.2.5.2.3).
fn parse_fragment(headers: &HeaderMap, body: BodyLength) -> Result<Fragment, Malformed> {
    let id = session_id(headers)?;
    let range = only(headers, header::CONTENT_RANGE)?.ok_or(Malformed::RangeMissing)?;
    let range = std::str::from_utf8(range).map_err(|_| Malformed::RangeSyntax)?;
    let length = match body {
        BodyLength::Known(length) => Some(length),
        BodyLength::Chunked | BodyLength::Absent => None,
    };
    let range = ContentRange::parse(range, length)?;
    if body == BodyLength::Absent {
        return Err(Malformed::LengthMissing);
    }
    Ok(Fragment {
        session: SentSessionId::read(id)?,
        range,
    })
}

/// MC-BUP 2.2.8, 2.2.10.
fn parse_ending(headers: &HeaderMap, body: BodyLength) -> Result<SentSessionId, Malformed> {
    refuse_body(body)?;
    SentSessionId::read(session_id(headers)?)
}

fn session_id(headers: &HeaderMap) -> Result<&[u8], Malformed> {
    only(headers, header::SESSION_ID)?.ok_or(Malformed::SessionIdMissing)
}

/// MC-BUP 2.2.2.2, 3.2.5.2.4.
fn negotiate(headers: &HeaderMap) -> Result<(), Malformed> {
    let mut lines = headers
        .get_all(header::SUPPORTED_PROTOCOLS)
        .iter()
        .map(HeaderValue::as_bytes)
        .peekable();
    if lines.peek().is_none() {
        return Err(Malformed::ProtocolsMissing);
    }
    any_offers_protocol(lines)
        .then_some(())
        .ok_or(Malformed::NoCommonProtocol)
}

/// A missing length is an empty body: XenServer's client sends none with Create-Session and Close-Session.
const fn refuse_body(body: BodyLength) -> Result<(), Malformed> {
    match body {
        BodyLength::Absent | BodyLength::Known(0) => Ok(()),
        BodyLength::Known(length) => Err(Malformed::BodyUnexpected(length)),
        BodyLength::Chunked => Err(Malformed::ChunkedUnexpected),
    }
}

/// Decimal digits and nothing else: no sign, which `u64::from_str` would take.
fn parse_length(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Hresult, PROTOCOL};
    use super::BodyLength::{Absent, Chunked, Known};
    use super::*;

    const ID: &str = "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    fn parse(lines: &[(&str, &str)], body: BodyLength) -> Result<Packet, Malformed> {
        Packet::parse(&headers(lines), body)
    }

    fn sent(text: &str) -> SentSessionId {
        SentSessionId {
            id: text.parse().unwrap(),
            text: text.to_owned(),
        }
    }

    fn fragment(range: &str, body: BodyLength) -> Result<Packet, Malformed> {
        parse(
            &[
                ("BITS-Packet-Type", "Fragment"),
                ("BITS-Session-Id", ID),
                ("Content-Range", range),
            ],
            body,
        )
    }

    #[test]
    fn reads_the_packets_of_a_windows_client() {
        let common = [
            ("Accept", "*/*"),
            ("User-Agent", "Microsoft BITS/6.7"),
            ("Host", "frankcao8"),
        ];
        let with = |own: &[(&str, &str)], body| parse(&[&common[..], own].concat(), body);
        assert_eq!(
            with(
                &[
                    ("BITS-Packet-Type", "Create-Session"),
                    ("BITS-Supported-Protocols", "{7df0354d-249b-430f-820d-3d2a9bef4931}"),
                    ("Content-Name", "rfc2119.txt"),
                ],
                Known(0)
            ),
            Ok(Packet::CreateSession)
        );
        assert_eq!(
            with(
                &[
                    ("BITS-Packet-Type", "Fragment"),
                    ("BITS-Session-Id", ID),
                    ("Content-Name", "rfc2119.txt"),
                    ("Content-Range", "bytes 0-4891/4892"),
                ],
                Known(4892)
            ),
            Ok(Packet::Fragment(Fragment {
                session: sent(ID),
                range: ContentRange::new(0, 4892, 4892).unwrap()
            }))
        );
        assert_eq!(with(&[("BITS-Packet-Type", "Ping")], Known(0)), Ok(Packet::Ping));
        let close = [
            ("BITS-Packet-Type", "Close-Session"),
            ("BITS-Session-Id", ID),
            ("Content-Name", "rfc2119.txt"),
        ];
        assert_eq!(with(&close, Known(0)), Ok(Packet::CloseSession(sent(ID))));
        let cancel = [("BITS-Packet-Type", "Cancel-Session"), ("BITS-Session-Id", ID)];
        assert_eq!(with(&cancel, Known(0)), Ok(Packet::CancelSession(sent(ID))));
    }

    #[test]
    fn letter_case_of_names_and_types_does_not_matter() {
        for kind in ["PING", "ping", "pInG", " Ping\t"] {
            assert_eq!(
                parse(&[("bits-PACKET-type", kind)], Absent),
                Ok(Packet::Ping),
                "{kind:?}"
            );
        }
        let shouted = [("BITS-PACKET-TYPE", "CANCEL-SESSION"), ("BITS-SESSION-ID", ID)];
        assert_eq!(parse(&shouted, Absent), Ok(Packet::CancelSession(sent(ID))));
    }

    #[test]
    fn unknown_headers_change_nothing() {
        let extra = [
            ("BITS-Packet-Type", "Ping"),
            ("X-Anything", "é"),
            ("X-Anything", "2"),
            ("BITS-Future", "?"),
        ];
        assert_eq!(parse(&extra, Known(0)), Ok(Packet::Ping));
    }

    #[test]
    fn a_ping_may_carry_any_session_id() {
        for id in [ID, "nonsense", ""] {
            assert_eq!(
                parse(&[("BITS-Packet-Type", "Ping"), ("BITS-Session-Id", id)], Known(0)),
                Ok(Packet::Ping)
            );
        }
    }

    #[test]
    fn a_packet_without_a_known_type_is_refused() {
        assert_eq!(parse(&[], Known(0)), Err(Malformed::PacketTypeMissing));
        for kind in [
            "",
            "Ack",
            "Other",
            "Create",
            "Create-Session2",
            "Fragment, Fragment",
            "Frägment",
        ] {
            assert_eq!(
                parse(&[("BITS-Packet-Type", kind)], Known(0)),
                Err(Malformed::PacketTypeUnknown),
                "{kind:?}"
            );
        }
        let twice = [("BITS-Packet-Type", "Ping"), ("BITS-Packet-Type", "Ping")];
        assert_eq!(parse(&twice, Known(0)), Err(Malformed::Repeated("BITS-Packet-Type")));
    }

    #[test]
    fn packets_without_a_body_refuse_one_and_do_without_a_length() {
        let id = ("BITS-Session-Id", ID);
        let list = ("BITS-Supported-Protocols", PROTOCOL);
        for (kind, own) in [
            ("Ping", id),
            ("Create-Session", list),
            ("Close-Session", id),
            ("Cancel-Session", id),
        ] {
            let lines = [("BITS-Packet-Type", kind), own];
            assert!(parse(&lines, Absent).is_ok(), "{kind}");
            assert!(parse(&lines, Known(0)).is_ok(), "{kind}");
            assert_eq!(parse(&lines, Known(1)), Err(Malformed::BodyUnexpected(1)), "{kind}");
            assert_eq!(parse(&lines, Chunked), Err(Malformed::ChunkedUnexpected), "{kind}");
        }
    }

    #[test]
    fn nothing_hides_that_a_chunked_body_came_where_none_may() {
        let long = "a".repeat(5000);
        for lines in [
            &[][..],
            &[("BITS-Packet-Type", "nonsense")],
            &[("BITS-Packet-Type", "Fragment"), ("BITS-Packet-Type", "Fragment")],
            &[("BITS-Packet-Type", "Ping"), ("X-Anything", &long)],
            &[("BITS-Packet-Type", "Ping"), ("Content-Encoding", "gzip")],
        ] {
            let refused = parse(lines, Chunked).unwrap_err();
            assert!(refused.unframed(), "{lines:?}");
        }
    }

    #[test]
    fn a_session_needs_the_protocol_in_its_list() {
        let kind = ("BITS-Packet-Type", "Create-Session");
        assert_eq!(parse(&[kind], Known(0)), Err(Malformed::ProtocolsMissing));
        for list in ["", " , ", "{00000000-0000-0000-0000-000000000001}", "nonsense"] {
            let refused = parse(&[kind, ("BITS-Supported-Protocols", list)], Known(0));
            assert_eq!(refused, Err(Malformed::NoCommonProtocol), "{list:?}");
        }
        let lines = [
            kind,
            ("BITS-Supported-Protocols", "{00000000-0000-0000-0000-000000000001}"),
            ("BITS-Supported-Protocols", PROTOCOL),
        ];
        assert_eq!(parse(&lines, Known(0)), Ok(Packet::CreateSession));
    }

    #[test]
    fn a_list_of_a_hundred_protocols_fits_with_ours_last() {
        let list = format!("{}{PROTOCOL}", "{00000000-0000-0000-0000-000000000001} ".repeat(99));
        let lines = [
            ("BITS-Packet-Type", "Create-Session"),
            ("BITS-Supported-Protocols", &*list),
        ];
        assert_eq!(parse(&lines, Known(0)), Ok(Packet::CreateSession));
    }

    #[test]
    fn the_length_of_a_fragment_is_its_range_or_comes_in_chunks() {
        assert!(fragment("bytes 0-9/10", Known(10)).is_ok());
        assert!(fragment("bytes 0-9/10", Chunked).is_ok());
        assert_eq!(
            fragment("bytes 0-9/10", Known(9)),
            Err(Malformed::RangeLength { range: 10, body: 9 })
        );
        assert_eq!(
            fragment("bytes 0-9/10", Known(0)),
            Err(Malformed::RangeLength { range: 10, body: 0 })
        );
        assert_eq!(fragment("bytes 0-9/10", Absent), Err(Malformed::LengthMissing));
        assert!(fragment("bytes */0", Known(0)).is_ok());
        assert!(fragment("bytes */0", Chunked).is_ok());
        assert_eq!(fragment("bytes */0", Absent), Err(Malformed::LengthMissing));
    }

    #[test]
    fn a_fragment_needs_one_range() {
        let kind = ("BITS-Packet-Type", "Fragment");
        let id = ("BITS-Session-Id", ID);
        let range = ("Content-Range", "bytes 0-9/10");
        assert_eq!(parse(&[kind, id], Known(10)), Err(Malformed::RangeMissing));
        assert_eq!(
            parse(&[kind, id, range, range], Known(10)),
            Err(Malformed::Repeated("Content-Range"))
        );
        assert_eq!(
            parse(&[kind, id, ("Content-Range", "bytés")], Known(10)),
            Err(Malformed::RangeUnit)
        );
    }

    #[test]
    fn a_missing_session_id_is_an_invalid_argument_and_a_strange_one_no_session() {
        for kind in ["Fragment", "Close-Session", "Cancel-Session"] {
            let (body, range) = match kind {
                "Fragment" => (Known(10), ("Content-Range", "bytes 0-9/10")),
                _ => (Known(0), ("X-Nothing", "")),
            };
            let kind = ("BITS-Packet-Type", kind);
            assert_eq!(parse(&[kind, range], body), Err(Malformed::SessionIdMissing));
            for id in [
                "",
                "nonsense",
                "../../x",
                "{é}",
                "0",
                "{A0FF5911-4144-45B3-BF27-27AFC8EC8A6}",
            ] {
                let refused = parse(&[kind, range, ("BITS-Session-Id", id)], body).unwrap_err();
                assert_eq!(refused, Malformed::SessionId, "{id:?}");
                assert_eq!(refused.status(), (500, Some(Hresult::SESSION_NOT_FOUND)));
            }
            let twice = [kind, range, ("BITS-Session-Id", ID), ("BITS-Session-Id", ID)];
            assert_eq!(parse(&twice, body), Err(Malformed::Repeated("BITS-Session-Id")));
        }
    }

    #[test]
    fn the_first_broken_rule_is_told() {
        let long = "a".repeat(4097);
        let mut lines = vec![
            ("X-Anything", &*long),
            ("Content-Encoding", "gzip"),
            ("BITS-Session-Id", "nonsense"),
            ("Content-Range", "lines 0-9/10"),
            ("BITS-Packet-Type", "Fragment"),
        ];
        let mut told = || {
            let reason = parse(&lines, Absent).unwrap_err();
            lines.remove(0);
            reason
        };
        assert!(matches!(told(), Malformed::HeaderTooLong(_)));
        assert_eq!(told(), Malformed::ContentEncoding);
        assert_eq!(told(), Malformed::RangeUnit);
        assert_eq!(told(), Malformed::SessionIdMissing);
        let strange = [
            ("BITS-Packet-Type", "Fragment"),
            ("BITS-Session-Id", "nonsense"),
            ("Content-Range", "bytes 0-9/10"),
        ];
        assert_eq!(parse(&strange, Absent), Err(Malformed::LengthMissing));
        assert_eq!(parse(&strange, Known(10)), Err(Malformed::SessionId));
    }

    #[test]
    fn credentials_may_be_long() {
        let ticket = format!("Negotiate {}", "a".repeat(60_000));
        let lines = [("BITS-Packet-Type", "Ping"), ("Authorization", &*ticket)];
        assert_eq!(parse(&lines, Known(0)), Ok(Packet::Ping));
        let lines = headers(&[("BITS-Packet-Type", "Ping"), ("X-Api-Key", &ticket)]);
        let token = HeaderName::from_static("x-api-key");
        assert_eq!(Packet::parse_with(&lines, Known(0), Some(&token)), Ok(Packet::Ping));
        assert!(Packet::parse(&lines, Known(0)).is_err());
    }

    #[test]
    fn the_kind_and_the_session_are_known_when_the_rest_is_malformed() {
        let broken = headers(&[
            ("BITS-Packet-Type", "fragment"),
            ("BITS-Session-Id", &ID.to_lowercase()),
        ]);
        assert!(Packet::parse(&broken, Known(1)).is_err());
        assert_eq!(PacketKind::of(&broken), PacketKind::Fragment);
        assert_eq!(SentSessionId::find(&broken), Some(sent(&ID.to_lowercase())));
        assert_eq!(PacketKind::of(&headers(&[])), PacketKind::Other);
        assert_eq!(SentSessionId::find(&headers(&[])), None);
        let doubled = headers(&[("BITS-Session-Id", ID), ("BITS-Session-Id", ID)]);
        assert_eq!(SentSessionId::find(&doubled), None);
        assert_eq!(SentSessionId::find(&headers(&[("BITS-Session-Id", "nonsense")])), None);
    }

    #[test]
    fn a_packet_says_its_kind_and_session() {
        let close = Packet::CloseSession(sent(ID));
        assert_eq!(close.kind(), PacketKind::CloseSession);
        assert_eq!(close.sent_session(), Some(&sent(ID)));
        assert_eq!(Packet::Ping.sent_session(), None);
        for kind in PacketKind::ALL {
            assert_eq!(PacketKind::named(kind.name().as_bytes()), kind);
        }
    }

    #[test]
    fn the_framing_is_read_from_the_headers() {
        let of = |lines: &[(&str, &str)]| BodyLength::of(&headers(lines));
        let length = |text| of(&[("Content-Length", text)]);
        let coding = |text| of(&[("Transfer-Encoding", text)]);
        assert_eq!(of(&[]), Ok(Absent));
        assert_eq!(length("0"), Ok(Known(0)));
        assert_eq!(length("18446744073709551615"), Ok(Known(u64::MAX)));
        for text in ["", "+3", "-1", "0x10", "1 2", "3, 3", "18446744073709551616", "é"] {
            assert_eq!(length(text), Err(Malformed::LengthSyntax), "{text:?}");
        }
        assert_eq!(coding("Chunked"), Ok(Chunked));
        for text in [
            "",
            "gzip",
            "gzip, chunked",
            "chunked, chunked",
            "identity",
            "xchunked",
            "chunked;a=b",
        ] {
            assert_eq!(coding(text), Err(Malformed::TransferCoding), "{text:?}");
        }
        let both = of(&[("Content-Length", "5"), ("Transfer-Encoding", "chunked")]);
        assert_eq!(both, Err(Malformed::LengthAndCoding));
        assert_eq!(
            of(&[("Content-Length", "5"), ("Content-Length", "5")]),
            Err(Malformed::LengthSyntax)
        );
        let twice = of(&[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]);
        assert_eq!(twice, Err(Malformed::TransferCoding));
    }

    fn any_body() -> impl Strategy<Value = BodyLength> {
        prop_oneof![
            Just(Absent),
            Just(Chunked),
            (0u64..20).prop_map(Known),
            any::<u64>().prop_map(Known)
        ]
    }

    fn any_line() -> impl Strategy<Value = (String, Vec<u8>)> {
        let name = prop_oneof![
            Just("BITS-Packet-Type".to_owned()),
            Just("BITS-Session-Id".to_owned()),
            Just("Content-Range".to_owned()),
            Just("BITS-Supported-Protocols".to_owned()),
            Just("Content-Encoding".to_owned()),
            "[A-Za-z-]{1,12}",
        ];
        let value = prop_oneof![
            "(Ping|Create-Session|Fragment|Close-Session|Cancel-Session)".prop_map(String::into_bytes),
            Just(ID.as_bytes().to_vec()),
            Just(PROTOCOL.as_bytes().to_vec()),
            "bytes [0-9]-[0-9]/[0-9]{1,2}".prop_map(String::into_bytes),
            prop::collection::vec(prop_oneof![32u8..=126, 128u8..=255], 0..40),
        ];
        (name, value)
    }

    proptest! {
        #[test]
        fn no_head_makes_it_panic_and_what_parses_agrees_with_the_head(
            lines in prop::collection::vec(any_line(), 0..8),
            body in any_body(),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
            }
            if let Ok(packet) = Packet::parse(&headers, body) {
                prop_assert_eq!(packet.kind(), PacketKind::of(&headers));
                prop_assert_eq!(packet.kind().has_session(), packet.sent_session().is_some());
                if let Some(session) = packet.sent_session() {
                    prop_assert_eq!(Some(session.clone()), SentSessionId::find(&headers));
                }
                match (&packet, body) {
                    (Packet::Fragment(fragment), Known(length)) => prop_assert_eq!(fragment.range.len(), length),
                    (Packet::Fragment(_), _) => prop_assert_eq!(body, Chunked),
                    (_, _) => prop_assert!(matches!(body, Absent | Known(0))),
                }
            }
        }

        #[test]
        fn every_fragment_that_can_be_written_is_read(
            guid in any::<u128>(),
            mut bounds in any::<[u64; 3]>(),
            upper in any::<bool>(),
        ) {
            bounds.sort_unstable();
            let [first, end, total] = bounds;
            prop_assume!(first < end);
            let range = ContentRange::new(first, end, total).unwrap();
            let id = SessionId::new(uuid::Uuid::from_u128(guid));
            let text = if upper { id.to_string() } else { id.as_key() };
            let lines = [
                ("BITS-Packet-Type", "Fragment"),
                ("BITS-Session-Id", &*text),
                ("Content-Range", &range.to_string()),
            ];
            let packet = parse(&lines, Known(range.len()));
            let session = SentSessionId { id, text: text.clone() };
            prop_assert_eq!(packet, Ok(Packet::Fragment(Fragment { session, range })));
        }
    }
}
