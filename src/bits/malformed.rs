//! Why a head did not parse.

use http::HeaderName;

use super::Hresult;

/// A message that breaks a rule of MC-BUP 2.2. The text of each is a sentence for the log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// A value is longer than its limit (MC-BUP 2.2.1).
    #[error("the value of the header {0} is too long")]
    HeaderTooLong(HeaderName),
    /// A header came twice that may come once.
    #[error("the header {0} appears more than once")]
    Repeated(&'static str),
    /// No `BITS-Packet-Type` (MC-BUP 3.2.5.2.3).
    #[error("the packet type is missing")]
    PacketTypeMissing,
    /// A `BITS-Packet-Type` that is none of the five (MC-BUP 2.2.1.2).
    #[error("the packet type is unknown")]
    PacketTypeUnknown,
    /// A body that is encoded (MC-BUP 2.2.6.1).
    #[error("the content encoding is not identity")]
    ContentEncoding,
    /// Bytes after a packet that has no body (MC-BUP 2.2.2.3, 2.2.4.3, 2.2.8.3, 2.2.10.3).
    #[error("a packet of this type has no body, but {0} bytes are announced")]
    BodyUnexpected(u64),
    /// A chunked body on a packet that is no fragment.
    #[error("only a fragment may be chunked")]
    ChunkedUnexpected,
    /// A fragment whose body is not framed at all (MC-BUP 3.2.5.2.3).
    #[error("the length of the body is missing")]
    LengthMissing,
    /// A `Content-Length` that is not one number.
    #[error("the content length is not one number")]
    LengthSyntax,
    /// `Content-Length` and `Transfer-Encoding` together: which one counts is a matter of taste, so neither does.
    #[error("both a content length and a transfer encoding are given")]
    LengthAndCoding,
    /// A `Transfer-Encoding` that is not `chunked` alone.
    #[error("the transfer encoding is not chunked alone")]
    TransferCoding,
    /// No `BITS-Session-Id` where there must be one (MC-BUP 2.2.1.2).
    #[error("the session id is missing")]
    SessionIdMissing,
    /// The session id is not a GUID.
    #[error("the session id is not a GUID")]
    SessionId,
    /// No `BITS-Supported-Protocols` on Create-Session (MC-BUP 2.2.2.2).
    #[error("the list of supported protocols is missing")]
    ProtocolsMissing,
    /// No protocol in common (MC-BUP 3.2.5.2.4).
    #[error("the list of supported protocols does not hold the BITS upload protocol")]
    NoCommonProtocol,
    /// No `Content-Range` on a fragment (MC-BUP 2.2.6.1).
    #[error("the content range is missing")]
    RangeMissing,
    /// A `Content-Range` in something else than `bytes`.
    #[error("the unit of the content range is not bytes")]
    RangeUnit,
    /// A `Content-Range` that is not `bytes FIRST-LAST/TOTAL`.
    #[error("the content range is not of the form \"bytes FIRST-LAST/TOTAL\"")]
    RangeSyntax,
    /// A `*` where the server must know a number.
    #[error("the content range leaves its bytes or the total open")]
    RangeOpen,
    /// A number of 2^64 or more.
    #[error("a number of the content range does not fit into 64 bits")]
    RangeOverflow,
    /// The first byte lies behind the last.
    #[error("the content range ends before it begins")]
    RangeBackwards,
    /// The last byte lies behind the end of the file.
    #[error("the content range goes beyond the end of the file")]
    RangeBeyondTotal,
    /// The body is not as long as its range (MC-BUP 2.2.6.1).
    #[error("the content range holds {range} bytes, the body {body}")]
    RangeLength {
        /// Bytes in the range.
        range: u64,
        /// Bytes in the body.
        body: u64,
    },
}

impl Malformed {
    /// The status and error code of the answer (MC-BUP 3.2.5.2.3): 411 for a fragment without a length, 500 with
    /// "session not found" for an id that can't name a session, 400 for everything else.
    pub const fn status(&self) -> (u16, Option<Hresult>) {
        match self {
            Self::LengthMissing => (411, Some(Hresult::INVALID_ARGUMENT)),
            Self::SessionId => (500, Some(Hresult::SESSION_NOT_FOUND)),
            _ => (400, Some(Hresult::INVALID_ARGUMENT)),
        }
    }

    /// Whether it is in doubt where the next request begins: the connection must then be closed after the answer.
    pub const fn unframed(&self) -> bool {
        matches!(
            self,
            Self::ChunkedUnexpected | Self::LengthSyntax | Self::LengthAndCoding | Self::TransferCoding
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_an_invalid_argument_but_the_two_that_have_a_status_of_their_own() {
        assert_eq!(
            Malformed::LengthMissing.status(),
            (411, Some(Hresult::INVALID_ARGUMENT))
        );
        assert_eq!(Malformed::SessionId.status(), (500, Some(Hresult::SESSION_NOT_FOUND)));
        for reason in [
            Malformed::HeaderTooLong(http::header::HOST),
            Malformed::Repeated("Content-Range"),
            Malformed::PacketTypeMissing,
            Malformed::PacketTypeUnknown,
            Malformed::ContentEncoding,
            Malformed::BodyUnexpected(1),
            Malformed::ChunkedUnexpected,
            Malformed::LengthSyntax,
            Malformed::LengthAndCoding,
            Malformed::TransferCoding,
            Malformed::SessionIdMissing,
            Malformed::ProtocolsMissing,
            Malformed::NoCommonProtocol,
            Malformed::RangeMissing,
            Malformed::RangeUnit,
            Malformed::RangeSyntax,
            Malformed::RangeOpen,
            Malformed::RangeOverflow,
            Malformed::RangeBackwards,
            Malformed::RangeBeyondTotal,
            Malformed::RangeLength { range: 1, body: 2 },
        ] {
            assert_eq!(reason.status(), (400, Some(Hresult::INVALID_ARGUMENT)), "{reason}");
        }
    }

    #[test]
    fn only_doubts_about_the_framing_end_the_connection() {
        assert!(Malformed::LengthAndCoding.unframed());
        assert!(Malformed::ChunkedUnexpected.unframed());
        assert!(!Malformed::LengthMissing.unframed());
        assert!(!Malformed::RangeLength { range: 1, body: 2 }.unframed());
    }
}
