//! `Content-Range` of a fragment (MC-BUP 2.2.6, RFC 2616 14.16).

/// The bytes that a fragment carries: `first..end` of a file of `total` bytes. Empty only when the whole file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContentRange {
    first: u64,
    end: u64,
    total: u64,
}

impl ContentRange {
    /// The range of the bytes `first..end` of `total`; `None` unless `first < end <= total`, or all three are zero.
    pub const fn new(first: u64, end: u64, total: u64) -> Option<Self> {
        if (first < end && end <= total) || (first == 0 && end == 0 && total == 0) {
            Some(Self { first, end, total })
        } else {
            None
        }
    }

    /// Offset of the first byte.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Offset of the first byte after the range.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Size of the whole file in bytes.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes in the range.
    pub const fn len(&self) -> u64 {
        self.end - self.first
    }

    /// Whether this is the one fragment of a file of no bytes.
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }
}
