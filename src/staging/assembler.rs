//! Chunks of any size into parts, without copying a byte.

use std::mem;

use bytes::Bytes;

use super::{Layout, PartRange};

/// A contiguous run of bytes of the file, in the chunks in which it came.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// Offset of its first byte in the file.
    pub from: u64,
    /// The bytes.
    pub chunks: Vec<Bytes>,
    len: u64,
}

impl Piece {
    /// An empty piece at `from`.
    pub const fn at(from: u64) -> Self {
        Self {
            from,
            chunks: Vec::new(),
            len: 0,
        }
    }

    /// The piece of `chunks` that begins at `from`.
    pub fn new(from: u64, chunks: Vec<Bytes>) -> Self {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { from, chunks, len }
    }

    /// Offset of the first byte after it.
    pub const fn end(&self) -> u64 {
        self.from + self.len
    }

    /// Bytes in it.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a chunk at the end.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len() as u64;
            self.chunks.push(chunk);
        }
    }

    /// The bytes from `offset` on, shared with this piece.
    pub fn since(&self, offset: u64) -> Self {
        let mut begin = self.from;
        let whole = self.chunks.iter().take_while(|chunk| {
            let end = begin + chunk.len() as u64;
            let is_below = end <= offset;
            if is_below {
                begin = end;
            }
            is_below
        });
        let whole = whole.count();
        let mut rest = Self::new(begin, self.chunks.get(whole..).unwrap_or_default().to_vec());
        rest.skip_to(offset);
        rest
    }

    /// Forgets the bytes below `offset`.
    pub fn skip_to(&mut self, offset: u64) {
        let mut skip = offset.saturating_sub(self.from).min(self.len);
        self.from += skip;
        self.len -= skip;
        let mut whole = 0;
        for chunk in &mut self.chunks {
            let length = chunk.len() as u64;
            if skip < length {
                // `skip` is less than the length of this chunk, which is a usize.
                *chunk = chunk.slice(skip as usize..);
                break;
            }
            skip -= length;
            whole += 1;
        }
        self.chunks.drain(..whole);
    }

    /// Forgets the bytes from `offset` on.
    pub fn cut_at(&mut self, offset: u64) {
        self.len = offset.saturating_sub(self.from).min(self.len);
        let mut room = self.len;
        self.chunks.retain_mut(|chunk| {
            let length = chunk.len() as u64;
            if room < length {
                // `room` is less than the length of this chunk, which is a usize.
                chunk.truncate(room as usize);
            }
            room = room.saturating_sub(length);
            !chunk.is_empty()
        });
    }
}

/// Cuts what arrives at the part boundaries.
///
/// It holds bytes of one part only: those from `held().from` to [`Assembler::at`]. Bytes of that part below
/// `held().from` are in the store already, as tails.
#[derive(Debug)]
pub struct Assembler {
    layout: Layout,
    held: Piece,
}

impl Assembler {
    /// An assembler that waits for the byte at `at` and holds nothing.
    pub fn new(layout: impl Into<Layout>, at: u64) -> Self {
        Self {
            layout: layout.into(),
            held: Piece::at(at),
        }
    }

    /// An assembler that goes on behind `held`, which lies within one part.
    pub fn holding(layout: impl Into<Layout>, held: Piece) -> Self {
        Self {
            layout: layout.into(),
            held,
        }
    }

    /// Where the parts lie.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The same, to be gone on with. What is held stays within one part.
    pub const fn layout_mut(&mut self) -> &mut Layout {
        &mut self.layout
    }

    /// The offset of the next byte.
    pub const fn at(&self) -> u64 {
        self.held.end()
    }

    /// What is held of the part at hand.
    pub const fn held(&self) -> &Piece {
        &self.held
    }

    /// The part that the held bytes belong to, or that the next byte will belong to when none is held.
    pub fn part(&self) -> PartRange {
        self.layout.part_at(self.held.from)
    }

    /// Takes of `chunk` what belongs to the part at hand and gives back the rest.
    pub fn push(&mut self, mut chunk: Bytes) -> Bytes {
        let room = self.part().to - self.at();
        let taken = chunk.split_to(chunk.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        self.held.push(taken);
        chunk
    }

    /// Whether the part at hand has all its bytes, here or as tails below `held().from`.
    pub fn is_full(&self) -> bool {
        !self.held.is_empty() && self.at() == self.part().to
    }

    /// Hands out what is held; the next byte is still the one at [`Assembler::at`].
    pub fn take(&mut self) -> Piece {
        let next = Piece::at(self.at());
        mem::replace(&mut self.held, next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::staging::PartPlan;

    proptest! {
        #[test]
        fn the_parts_are_the_input_cut_at_the_boundaries(
            data in proptest::collection::vec(any::<u8>(), 1..300),
            part_size in 1u64..40,
            cuts in proptest::collection::vec(1usize..50, 1..40),
        ) {
            let plan = PartPlan::new(part_size, data.len() as u64);
            let mut assembler = Assembler::new(plan, 0);
            let mut parts: Vec<Vec<u8>> = Vec::new();
            let whole = Bytes::from(data.clone());
            let mut sent = 0;
            for cut in cuts.iter().cycle() {
                if sent == whole.len() {
                    break;
                }
                let mut chunk = whole.slice(sent..(sent + cut).min(whole.len()));
                sent += chunk.len();
                while !chunk.is_empty() {
                    chunk = assembler.push(chunk);
                    prop_assert!(assembler.held().len() <= part_size);
                    if assembler.is_full() {
                        let part = assembler.part();
                        let piece = assembler.take();
                        prop_assert_eq!((piece.from, piece.end()), (part.from, part.to));
                        parts.push(piece.chunks.concat());
                    }
                }
            }
            prop_assert_eq!(assembler.at(), data.len() as u64);
            prop_assert!(parts.iter().rev().skip(1).all(|part| part.len() as u64 == part_size));
            prop_assert_eq!(parts.concat(), data);
        }

        #[test]
        fn skipping_drops_exactly_the_bytes_below_the_offset(
            lengths in proptest::collection::vec(0usize..20, 0..10), from in 0u64..5, to in 0u64..200
        ) {
            let mut next = 0u8;
            let mut piece = Piece::at(from);
            for length in lengths {
                piece.push((0..length).map(|_| { next = next.wrapping_add(1); next }).collect());
            }
            let all = piece.chunks.concat();
            let end = piece.end();
            let since = piece.since(to);
            prop_assert_eq!(piece.chunks.concat(), &all[..]);
            piece.skip_to(to);
            prop_assert_eq!((since.from, since.len(), since.chunks.concat()), (piece.from, piece.len(), piece.chunks.concat()));
            let dropped = usize::try_from(to.saturating_sub(from)).unwrap().min(all.len());
            prop_assert_eq!(piece.chunks.concat(), &all[dropped..]);
            prop_assert_eq!(piece.end(), end);
        }

        #[test]
        fn cutting_drops_exactly_the_bytes_from_the_offset_on(
            lengths in proptest::collection::vec(0usize..20, 0..10), from in 0u64..5, at in 0u64..200
        ) {
            let mut next = 0u8;
            let mut piece = Piece::at(from);
            for length in lengths {
                piece.push((0..length).map(|_| { next = next.wrapping_add(1); next }).collect());
            }
            let all = piece.chunks.concat();
            piece.cut_at(at);
            let kept = usize::try_from(at.saturating_sub(from)).unwrap().min(all.len());
            prop_assert_eq!(piece.chunks.concat(), &all[..kept]);
            prop_assert_eq!((piece.from, piece.len()), (from, kept as u64));
            prop_assert!(piece.chunks.iter().all(|chunk| !chunk.is_empty()));
        }
    }

    #[test]
    fn held_bytes_of_an_earlier_fragment_are_gone_on_with() {
        let plan = PartPlan::new(10, 25);
        let mut assembler = Assembler::holding(plan, Piece::new(13, vec![Bytes::from_static(b"abc")]));
        assert_eq!((assembler.at(), assembler.part().to), (16, 20));
        let rest = assembler.push(Bytes::from_static(b"defgHI"));
        assert!(assembler.is_full());
        assert_eq!(rest, "HI");
        let piece = assembler.take();
        assert_eq!(
            (piece.from, piece.end(), piece.chunks.concat().as_slice()),
            (13, 20, b"abcdefg".as_slice())
        );
        assert!(!assembler.is_full());
    }
}
