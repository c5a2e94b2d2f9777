//! The memory that bodies are read into.
//!
//! Thousands of small pieces that are held for as long as a part takes to fill would be spread over the heaps of all threads, and an
//! allocator keeps the peak of each: the process would need a multiple of what is buffered. Few large pieces, used again and
//! again, need what they hold.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Size of a slab, in bytes. What is smaller gets memory of its own size.
pub(super) const SLAB: usize = 1024 * 1024;

/// Slabs that nobody uses at the moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Slabs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    free: Mutex<Free>,
    /// Bytes that were taken from elsewhere so far.
    elsewhere: AtomicU64,
}

#[derive(Debug, Default)]
struct Free {
    slabs: Vec<Vec<u8>>,
    /// The fewest that were free since the last look.
    least: usize,
}

impl Slabs {
    /// A slab, or as much memory as is `wanted` when that is less.
    pub(super) fn room(&self, wanted: usize) -> Filling {
        let wanted = wanted.max(1);
        if wanted < SLAB {
            return Filling {
                bytes: Vec::with_capacity(wanted),
                room: wanted,
                home: None,
            };
        }
        let free = self.with(|free| {
            let slab = free.slabs.pop();
            free.least = free.least.min(free.slabs.len());
            slab
        });
        Filling {
            bytes: free.unwrap_or_else(|| Vec::with_capacity(SLAB)),
            room: SLAB,
            home: Some(self.clone()),
        }
    }

    /// Notes that `bytes` more were taken from elsewhere, of a budget of which `spare` bytes are not reserved. What lies here unused is not
    /// reserved either: as many slabs go back to the system as bytes came from elsewhere, unless there is room for both.
    ///
    /// Some more than that may lie here for a while, less than a slab for each process: so most calls take no lock.
    pub(super) fn make_way(&self, bytes: u64, spare: u64) {
        const SLAB_BYTES: u64 = SLAB as u64;
        let before = self.0.elsewhere.fetch_add(bytes, Ordering::Relaxed);
        let owed = before.wrapping_add(bytes) / SLAB_BYTES - before / SLAB_BYTES;
        if owed == 0 {
            return;
        }
        let given = self.with(|free| {
            let kept = usize::try_from(spare / SLAB_BYTES).unwrap_or(usize::MAX);
            let surplus = free.slabs.len().saturating_sub(kept);
            let given = surplus.min(usize::try_from(owed).unwrap_or(usize::MAX));
            let given = free.slabs.split_off(free.slabs.len() - given);
            free.least = free.least.min(free.slabs.len());
            given
        });
        drop(given);
    }

    /// Gives the system back the slabs that were free all the time since the last call. To be called from time to time.
    pub(super) fn trim(&self) {
        let spare = self.with(|free| {
            let kept = free.slabs.len() - free.least;
            let spare = free.slabs.split_off(kept);
            free.least = kept;
            spare
        });
        drop(spare);
    }

    fn put_back(&self, mut slab: Vec<u8>) {
        slab.clear();
        self.with(|free| free.slabs.push(slab));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Free) -> T) -> T {
        act(&mut self.0.free.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A piece of memory that is being filled.
#[derive(Debug)]
pub struct Filling {
    bytes: Vec<u8>,
    room: usize,
    home: Option<Slabs>,
}

impl Filling {
    /// How many bytes it still has room for.
    pub const fn room(&self) -> usize {
        self.room - self.bytes.len()
    }

    /// Where they go; to be filled with at most [`Filling::room`] bytes.
    pub const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What it holds; `None` when that is nothing.
    pub fn take(mut self) -> Option<Bytes> {
        if self.bytes.is_empty() {
            return None;
        }
        if self.bytes.len() < self.room / 2 {
            // It is held for longer than it took to come: in no more memory than it needs.
            return Some(Bytes::copy_from_slice(&self.bytes));
        }
        Some(match self.home.take() {
            Some(home) => Bytes::from_owner(Slab {
                bytes: mem::take(&mut self.bytes),
                home,
            }),
            None => Bytes::from(mem::take(&mut self.bytes)),
        })
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.put_back(mem::take(&mut self.bytes));
        }
    }
}

/// A slab that is read by whoever holds a piece of it, and goes back when nobody does any more.
struct Slab {
    bytes: Vec<u8>,
    home: Slabs,
}

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.home.put_back(mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Slabs {
        fn free(&self) -> usize {
            self.with(|free| free.slabs.len())
        }
    }

    fn full(slabs: &Slabs) -> Bytes {
        let mut filling = slabs.room(usize::MAX);
        filling.bytes().resize(SLAB, 7);
        assert_eq!(filling.room(), 0);
        filling.take().expect("it is full")
    }

    #[test]
    fn a_slab_is_used_again_when_nobody_reads_it_any_more() {
        let slabs = Slabs::default();
        let piece = full(&slabs);
        let (first, last) = (piece.slice(..1), piece.slice(SLAB - 1..));
        let memory = piece.as_ptr();
        drop((piece, first));
        assert_eq!(slabs.free(), 0, "its last byte is still held");
        drop(last);
        assert_eq!(slabs.free(), 1);
        assert_eq!(full(&slabs).as_ptr(), memory);
    }

    #[test]
    fn small_pieces_take_no_slab() {
        let slabs = Slabs::default();
        let mut filling = slabs.room(5);
        filling.bytes().extend_from_slice(b"abcde");
        assert_eq!(filling.room(), 0);
        assert_eq!(filling.take().as_deref(), Some(&b"abcde"[..]));
        assert_eq!(slabs.free(), 0);
    }

    #[test]
    fn what_hardly_fills_a_slab_does_not_keep_it() {
        let slabs = Slabs::default();
        let mut filling = slabs.room(usize::MAX);
        filling.bytes().extend_from_slice(b"a");
        let piece = filling.take();
        assert_eq!((piece.as_deref(), slabs.free()), (Some(&b"a"[..]), 1));
        assert_eq!(slabs.room(usize::MAX).take(), None);
        assert_eq!(slabs.free(), 1, "an empty one goes back as well");
    }

    #[test]
    fn slabs_that_were_not_needed_for_a_while_are_given_back() {
        let slabs = Slabs::default();
        drop([full(&slabs), full(&slabs), full(&slabs)]);
        slabs.trim();
        assert_eq!(slabs.free(), 3, "they were in use since the last look");
        drop([full(&slabs), full(&slabs)]);
        slabs.trim();
        assert_eq!(slabs.free(), 2, "one was not");
        slabs.trim();
        assert_eq!(slabs.free(), 0);
    }

    #[test]
    fn what_is_taken_from_elsewhere_is_given_back_here_unless_there_is_room_for_both() {
        let slabs = Slabs::default();
        drop([full(&slabs), full(&slabs), full(&slabs)]);
        let slab = SLAB as u64;
        slabs.make_way(slab - 1, 0);
        assert_eq!(slabs.free(), 3, "not a whole slab yet");
        slabs.make_way(1, 3 * slab);
        assert_eq!(slabs.free(), 3, "there is room for both");
        slabs.make_way(slab, 2 * slab);
        assert_eq!(slabs.free(), 2);
        slabs.make_way(slab, 0);
        assert_eq!(slabs.free(), 1, "no more than was taken");
        slabs.make_way(100 * slab, 0);
        assert_eq!(slabs.free(), 0);
    }
}
