//! The loading dock: fragments of any size into store-sized parts. Pure.
//!
//! A [`Layout`] says where the parts lie ([`PartPlan`] where all are alike, [`CutPlan`] where they end with the fragments), [`Assembler`] cuts
//! what arrives at their boundaries without copying it, and the small types in between are what a session's record remembers of it. [`Hasher`]
//! takes the digest of what passes through.

mod assembler;
mod cuts;
mod digest;
mod layout;
mod part;
mod plan;

pub use assembler::{Assembler, Piece};
pub use cuts::{CutPlan, Cuts, Cutting, MAX_CLAIMS};
pub use digest::{Hashed, Hasher, NotHex, Sha256};
pub use layout::Layout;
pub use part::{PartId, PartRange, RecordedPart, UploadId};
pub use plan::{MAX_PARTS, PartPlan};
