//! What is uploaded: the byte at an offset depends on the offset alone, so that anybody can check any piece.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A prime: a piece that lands where it does not belong shows, whatever power of two it is off by.
const PERIOD: usize = 1_048_573;

/// Bytes that can be had in one piece.
const LONGEST: usize = 16 << 20;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut period = Vec::with_capacity(PERIOD);
    while period.len() < PERIOD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        period.extend_from_slice(&state.to_le_bytes());
    }
    period.truncate(PERIOD);
    period.iter().copied().cycle().take(PERIOD + LONGEST).collect()
});

/// The `length` bytes from `offset` on, of any file.
pub(crate) fn at(offset: u64, length: usize) -> &'static [u8] {
    let from = usize::try_from(offset % PERIOD as u64).expect("less than the period");
    &BYTES[from..from + length]
}

/// Whether these are the bytes from `offset` on.
pub(crate) fn is_at(offset: u64, bytes: &[u8]) -> bool {
    let pieces = (offset..).step_by(LONGEST).zip(bytes.chunks(LONGEST));
    let mut pieces = pieces;
    pieces.all(|(offset, piece)| piece == at(offset, piece.len()))
}

/// What a server has taken.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    bytes: AtomicU64,
    wrong: AtomicU64,
    looks: AtomicBool,
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            looks: AtomicBool::new(false),
        }
    }

    pub(crate) fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Compares the bytes, if that is asked for: in the rounds that are timed it is not.
    pub(crate) fn look(&self, offset: u64, bytes: &[u8]) {
        if self.looks.load(Ordering::Relaxed) && !is_at(offset, bytes) {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Begins again at nothing.
    pub(crate) fn begin(&self, looks: bool) {
        self.bytes.store(0, Ordering::Relaxed);
        self.wrong.store(0, Ordering::Relaxed);
        self.looks.store(looks, Ordering::Relaxed);
    }

    /// Bytes that were taken, and pieces that were wrong.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.wrong.load(Ordering::Relaxed))
    }
}
