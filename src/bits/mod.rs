//! The wire: what BITS messages look like ([MC-BUP] 2.2). Pure: bytes and numbers in, values out.
//!
//! A request becomes a [`Packet`] or the first reason why it is none ([`Malformed`]); whatever is decided about it
//! becomes an [`Ack`], the only writer of response headers of the protocol. [`header`] spells their names.
//!
//! | MC-BUP | here |
//! |---|---|
//! | 2.2.1 common headers | [`header`], [`PacketKind`] |
//! | 2.2.1.2 error codes | [`Hresult`], [`ErrorContext`], [`Ack::refused`] |
//! | 2.2.2 to 2.2.10, requests | [`Packet`] |
//! | 2.2.3 to 2.2.11, answers | [`Ack`] |
//! | 3.2.5.2.3, validation | [`Packet::parse`], as far as the head alone can tell |
//!
//! Not here: the method, the URL, authentication (the front desk), and whether a well-formed packet suits its session
//! (`session`).
//!
//! [MC-BUP]: https://learn.microsoft.com/en-us/openspecs/windows_protocols/mc-bup/

mod ack;
mod code;
mod explanations;
pub mod header;
mod id;
mod malformed;
mod packet;
mod range;

pub use ack::{Ack, HostId};
pub use code::{ErrorContext, Explanation, Hresult, NotAnHresult};
pub use id::{PROTOCOL, PROTOCOLS_LIMIT, SessionId, offers_protocol};
pub use malformed::Malformed;
pub use packet::{BodyLength, Fragment, Packet, PacketKind, SentSessionId};
pub use range::ContentRange;
