//! The wire: what BITS messages look like ([MC-BUP] 2.2). Pure.

mod ack;
mod code;
mod id;
mod malformed;
mod packet;
mod range;

pub use ack::{Ack, HostId};
pub use code::{ErrorContext, Hresult};
pub use id::SessionId;
pub use malformed::Malformed;
pub use packet::{BodyLength, Fragment, Packet, PacketKind, SentSessionId};
pub use range::ContentRange;
