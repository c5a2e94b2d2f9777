//! Where one part ends and the next begins.

use super::PartRange;

/// The most parts that a multipart upload may have (S3's limit; Azure allows more).
pub const MAX_PARTS: u64 = 10_000;

/// S3 takes no smaller part, but for the last one of a file.
pub(super) const SMALLEST: u64 = 5 << 20;

/// The parts of one file: all equal but the last, so that part *k* is the same bytes whoever uploads it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartPlan {
    part_size: u64,
    total: u64,
}

impl PartPlan {
    /// The part size for a file of `total` bytes: at least `smallest`, and large enough that [`MAX_PARTS`] suffice.
    pub const fn part_size_for(total: u64, smallest: u64) -> u64 {
        let needed = total.div_ceil(MAX_PARTS);
        if needed > smallest { needed } else { smallest }
    }

    /// The part size for a file of which the first fragment holds `first` bytes, for stores whose parts have to be alike: one that lets fragments of
    /// this size end where parts do. Of a size that can't be divided, a few bytes are left over each time.
    pub const fn part_size_like(first: u64, total: u64, part_size: u64, most: u64) -> u64 {
        let needed = Self::part_size_for(total, if part_size < SMALLEST { part_size } else { SMALLEST });
        let several = first / needed;
        if several == 0 || first / several > most {
            return Self::part_size_for(total, part_size);
        }
        first / several
    }

    /// The plan for `total` bytes in parts of `part_size` bytes; a part size of zero counts as one.
    pub const fn new(part_size: u64, total: u64) -> Self {
        Self {
            part_size: if part_size == 0 { 1 } else { part_size },
            total,
        }
    }

    /// Size of the whole file in bytes.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Whether one part holds the whole file: then it is put as one object, without a multipart upload.
    pub const fn is_small(&self) -> bool {
        self.total <= self.part_size
    }

    /// The part that holds the byte at `offset`, or an empty range at the end of the file.
    pub fn part_at(&self, offset: u64) -> PartRange {
        let offset = offset.min(self.total);
        let index = offset / self.part_size;
        let from = index * self.part_size;
        PartRange {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            from,
            to: from.saturating_add(self.part_size).min(self.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_file_of_exactly_one_part_is_small_and_one_byte_more_is_not() {
        assert!(PartPlan::new(8 * MIB, 8 * MIB).is_small());
        assert!(!PartPlan::new(8 * MIB, 8 * MIB + 1).is_small());
        assert!(PartPlan::new(8 * MIB, 0).is_small());
    }

    #[test]
    fn parts_of_one_size_end_where_fragments_of_one_size_do() {
        let like = |first| PartPlan::part_size_like(first, 1 << 30, 8 * MIB, 128 * MIB);
        assert_eq!(like(13 * MIB), 13 * MIB / 2);
        assert_eq!(like(13_000_001), 6_500_000);
        assert_eq!(like(8 * MIB), 8 * MIB);
        assert_eq!(like(64 * MIB), 64 * MIB / 12);
        assert_eq!(like(5 * MIB - 1), 8 * MIB, "too short for a part");
        let large = PartPlan::part_size_like(13 * MIB, 100_000 * MIB, 8 * MIB, 128 * MIB);
        assert_eq!(large, 13 * MIB, "10,000 parts suffice");
        let larger = PartPlan::part_size_like(13 * MIB, 200_000 * MIB, 8 * MIB, 128 * MIB);
        assert_eq!(larger, 20 * MIB);
        assert_eq!(PartPlan::part_size_like(9 * MIB, 1 << 30, 8 * MIB, 8 * MIB), 8 * MIB);
    }

    proptest! {
        #[test]
        fn ten_thousand_parts_always_suffice(total in 0u64..=u64::MAX / 2, smallest in 1u64..=64 * MIB) {
            let size = PartPlan::part_size_for(total, smallest);
            prop_assert!(size >= smallest);
            prop_assert!(total.div_ceil(size) <= MAX_PARTS);
        }

        #[test]
        fn every_byte_lies_in_exactly_one_part(part_size in 1u64..50, total in 1u64..500) {
            let plan = PartPlan::new(part_size, total);
            let mut at = 0;
            let mut index = 0;
            while at < total {
                let part = plan.part_at(at);
                prop_assert_eq!((part.index, part.from), (index, at));
                prop_assert!(part.to == total || part.len() == part_size);
                for offset in part.from..part.to {
                    prop_assert_eq!(plan.part_at(offset), part);
                }
                at = part.to;
                index += 1;
            }
        }
    }
}
