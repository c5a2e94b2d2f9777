//! Downloads: GET and HEAD of what was uploaded, with ranges and conditions.

mod conditional;
mod multipart;
mod plan;
mod range;

pub use plan::{FileSeen, Piece, Plan, Verb, plan};
pub use range::{MAX_RANGES, Ranges, Selection};
