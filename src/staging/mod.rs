//! The loading dock: fragments of any size into store-sized parts. Pure.

mod part;

pub use part::{PartId, PartRange, RecordedPart, UploadId};
