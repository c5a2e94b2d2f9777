//! The loading dock: fragments of any size into store-sized parts. Pure.
//!
//! [`PartPlan`] says where the parts lie, [`Assembler`] cuts what arrives at their boundaries without copying it, and
//! the small types in between are what a session's record remembers of it. [`Hasher`] takes the digest of what passes through.

mod assembler;
mod digest;
mod part;
mod plan;

pub use assembler::{Assembler, Piece};
pub use digest::{Hashed, Hasher, NotHex, Sha256};
pub use part::{PartId, PartRange, RecordedPart, UploadId};
pub use plan::{MAX_PARTS, PartPlan};
