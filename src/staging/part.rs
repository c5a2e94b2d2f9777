//! What a record remembers of the pieces of a file: plain data, so that any replica can go on with it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a store calls an unfinished multipart upload. Opaque; empty on stores that have no such name (Azure).
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

/// What a store calls one part that it holds (an ETag on S3, a block id on Azure). Opaque. Shared: what is staged is copied for every fragment,
/// with up to hundreds of them.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartId(pub Arc<str>);

/// A part that the record lists: its id, and the offset in the file at which it ends.
/// It begins where the one before it ends, so that a later plan may cut unequal parts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RecordedPart(pub PartId, pub u64);

impl RecordedPart {
    /// The store's name for the part.
    pub const fn id(&self) -> &PartId {
        &self.0
    }

    /// The offset of the first byte after the part.
    pub const fn end(&self) -> u64 {
        self.1
    }
}

/// Where one part lies: its index from zero, and the bytes `from..to` of the file that it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartRange {
    /// Index from zero: S3's part number is one more.
    pub index: u32,
    /// Offset of its first byte in the file.
    pub from: u64,
    /// Offset of the first byte after it.
    pub to: u64,
}

impl PartRange {
    /// Bytes in the part.
    pub const fn len(&self) -> u64 {
        self.to - self.from
    }

    /// Whether the part holds no byte at all.
    pub const fn is_empty(&self) -> bool {
        self.to == self.from
    }
}
