//! Parts of unequal length, cut where fragments end.
//!
//! What a store holds under a number is what was put there last, however late it arrives. So a part is *claimed* first: the record says where it
//! ends before any byte goes up, and that never changes. Whoever comes later finds the claim and keeps to it.

use serde::{Deserialize, Serialize};

use super::plan::SMALLEST;
use super::{MAX_PARTS, PartRange};

/// S3 takes no larger part.
const LARGEST: u64 = 5 << 30;

/// Claims that a record holds at a time: it stays small, however large a fragment is.
pub const MAX_CLAIMS: usize = 16;

/// What parts a store takes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Cutting {
    /// All of a file are equally long, but for the last one (Cloudflare R2).
    #[default]
    Alike,
    /// Of any length, under a number: the last one that was put there counts (S3, Google). They are claimed first.
    Claimed,
    /// Of any length, under a name that nobody else uses (Azure), or at a place of its own (a directory): nothing to claim.
    Free,
}

/// What a record says of its parts of unequal length. A record without it has equal ones.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Cuts {
    /// Bytes of the longest part. Fixed with the multipart upload: how short a part may be follows from it.
    pub largest: u64,
    /// Where the claimed parts end that are not recorded yet, in order. The first one begins where the last recorded part ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<u64>,
}

impl Cuts {
    /// Nothing is claimed yet, of a file of `total` bytes whose record says `part_size`. Parts may be twice as long, so that a fragment is one
    /// part, but no longer than `most` allows.
    ///
    /// Where nothing needs a claim, a large fragment is two parts for the same number of writes, and the first one is stored while the other
    /// comes in: unless the numbers are needed.
    pub fn new(cutting: Cutting, part_size: u64, total: u64, most: u64) -> Self {
        let shortest = shortest(part_size);
        let longest = if cutting == Cutting::Free && total <= shortest.saturating_mul(MAX_PARTS) {
            shortest.saturating_mul(2)
        } else {
            part_size.saturating_mul(2)
        };
        Self {
            largest: longest.min(most).min(LARGEST).max(part_size),
            claims: Vec::new(),
        }
    }
}

/// Bytes of the shortest part of a file whose record says `part_size`.
const fn shortest(part_size: u64) -> u64 {
    if part_size < SMALLEST { part_size } else { SMALLEST }
}

/// Where the parts of one file end, as far as that is settled.
///
/// Three rules hold of it. A part is at least [`CutPlan::least`] bytes long, but for the last one of the file; bytes that nobody claimed are
/// always fewer, so that no part ends within a tail that another replica wrote. As long as all keep to that, the numbers that are left suffice for
/// the bytes that are left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CutPlan {
    total: u64,
    part_size: u64,
    largest: u64,
    /// Where the last recorded part ends, and how many are recorded.
    recorded: u64,
    count: u64,
    /// Where the parts end that come after it.
    ends: Vec<u64>,
    /// How many of these are claimed, and never change.
    claimed: usize,
}

impl CutPlan {
    /// The plan for a file of `total` bytes of which `count` parts are recorded, up to the offset `recorded`.
    pub fn new(total: u64, part_size: u64, recorded: u64, count: usize, cuts: &Cuts) -> Self {
        Self {
            total,
            part_size: part_size.max(1),
            largest: cuts.largest.max(part_size).max(1),
            recorded,
            count: count as u64,
            ends: cuts.claims.clone(),
            claimed: cuts.claims.len(),
        }
    }

    /// Fragments that are shorter than this are small: several of them make a part.
    pub const fn smallest(&self) -> u64 {
        shortest(self.part_size)
    }

    /// Bytes of the longest part.
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// Where the last recorded part ends.
    pub const fn recorded(&self) -> u64 {
        self.recorded
    }

    /// Where the parts end that come after the recorded ones.
    pub fn ends(&self) -> &[u64] {
        &self.ends
    }

    /// From here on nothing is settled.
    pub fn settled(&self) -> u64 {
        self.ends.last().copied().unwrap_or(self.recorded)
    }

    /// How long the next part is at least: as long as the store wants it, and longer where the numbers that are left would not suffice otherwise.
    pub fn least(&self) -> u64 {
        let left = MAX_PARTS.saturating_sub(self.count + self.ends.len() as u64);
        let others = left.saturating_sub(1).saturating_mul(self.largest);
        let rest = self.total.saturating_sub(self.settled());
        rest.saturating_sub(others).max(self.smallest())
    }

    /// The part that holds the byte at `offset`; what is not settled yet counts as one that is longer than any fragment of it.
    pub fn part_at(&self, offset: u64) -> PartRange {
        let before = self.ends.iter().take_while(|end| **end <= offset).count();
        let index = u32::try_from(self.count + before as u64).unwrap_or(u32::MAX);
        let from = match before {
            0 => self.recorded,
            _ => self.ends.get(before - 1).copied().unwrap_or(self.recorded),
        };
        let open = from.saturating_add(self.largest).min(self.total);
        let to = self.ends.get(before).copied().unwrap_or(open);
        PartRange { index, from, to }
    }

    /// Settles parts for what comes up to `goal`, as far as it is enough for any; at most so many that `most` of them are not recorded.
    /// `false` when nothing new is settled.
    pub fn extend(&mut self, goal: u64, most: usize) -> bool {
        let (goal, before) = (goal.min(self.total), self.ends.len());
        while self.ends.len() < most {
            let from = self.settled();
            let rest = goal.saturating_sub(from);
            let least = self.least();
            if rest == 0 || (rest < least && goal < self.total) {
                break;
            }
            let length = match rest.div_ceil(self.largest) {
                1 => rest,
                several => rest.div_ceil(several).max(least).min(rest),
            };
            self.ends.push(from + length);
        }
        self.ends.len() > before
    }

    /// Ends the part at hand at `at`, where what comes broke off, unless it is claimed to end elsewhere or would be too short.
    pub fn cut_short(&mut self, at: u64) -> Option<PartRange> {
        let below = self.ends.iter().take_while(|end| **end <= at).count();
        self.ends.truncate(below.max(self.claimed));
        if at <= self.settled() || at - self.settled() < self.least() {
            return None;
        }
        self.ends.push(at);
        Some(self.part_at(at - 1))
    }

    /// All that is settled is claimed.
    pub fn claim(&mut self) {
        self.claimed = self.ends.len();
    }

    /// Where to end the next part when nobody knows yet which fragments it will come in; `None` at the end of the file.
    pub fn guess(&self) -> Option<u64> {
        let from = self.settled();
        let length = self.part_size.max(self.least()).min(self.largest);
        (from < self.total).then(|| from.saturating_add(length).min(self.total))
    }

    /// How far a tail may reach that holds the byte at `offset`: not beyond the part that it begins in, never as far as a part may be
    /// short, and never to the last byte.
    pub fn longest_tail(&self, offset: u64) -> u64 {
        let settled = self.settled();
        let end = if offset < settled {
            self.part_at(offset).to
        } else {
            settled.saturating_add(self.least() - 1)
        };
        end.min(self.total.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn plan(total: u64, part_size: u64) -> CutPlan {
        plan_for(Cutting::Claimed, total, part_size)
    }

    fn plan_for(cutting: Cutting, total: u64, part_size: u64) -> CutPlan {
        CutPlan::new(total, part_size, 0, 0, &Cuts::new(cutting, part_size, total, u64::MAX))
    }

    fn lengths(plan: &CutPlan) -> Vec<u64> {
        let mut from = plan.recorded;
        plan.ends
            .iter()
            .map(|end| end - std::mem::replace(&mut from, *end))
            .collect()
    }

    #[test]
    fn a_fragment_of_the_size_that_windows_sends_is_one_part() {
        let mut plan = plan(100 * MIB, 8 * MIB);
        assert!(plan.extend(13 * MIB, usize::MAX));
        assert!(plan.extend(26 * MIB, usize::MAX));
        assert_eq!(lengths(&plan), [13 * MIB, 13 * MIB]);
        assert!(!plan.extend(26 * MIB, usize::MAX));
    }

    #[test]
    fn where_nothing_needs_a_claim_it_is_two_as_long_as_the_numbers_suffice() {
        let mut few = plan_for(Cutting::Free, 10_000 * 5 * MIB, 8 * MIB);
        few.extend(13 * MIB, usize::MAX);
        few.extend(23 * MIB, usize::MAX);
        assert_eq!(lengths(&few), [13 * MIB / 2, 13 * MIB / 2, 10 * MIB]);
        let mut many = plan_for(Cutting::Free, 10_000 * 5 * MIB + 1, 8 * MIB);
        many.extend(13 * MIB, usize::MAX);
        assert_eq!(lengths(&many), [13 * MIB]);
    }

    #[test]
    fn a_large_fragment_is_cut_into_parts_that_are_alike() {
        let mut plan = plan(1000 * MIB, 8 * MIB);
        plan.extend(40 * MIB, usize::MAX);
        assert_eq!(plan.ends.len(), 3);
        assert!(lengths(&plan).iter().all(|length| *length <= 14 * MIB));
        assert_eq!(plan.settled(), 40 * MIB);
    }

    #[test]
    fn small_fragments_wait_until_there_is_enough_for_a_part() {
        let mut plan = plan(100 * MIB, 8 * MIB);
        assert!(!plan.extend(5 * MIB - 1, usize::MAX));
        assert_eq!(plan.part_at(0).from, 0);
        assert_eq!(plan.longest_tail(0), 5 * MIB - 1);
        assert!(plan.extend(5 * MIB, usize::MAX));
        assert_eq!(plan.guess(), Some(13 * MIB));
    }

    #[test]
    fn the_end_of_the_file_is_a_part_however_short() {
        let mut plan = plan(13 * MIB + 1, 8 * MIB);
        plan.extend(13 * MIB, usize::MAX);
        assert_eq!(plan.longest_tail(13 * MIB), 13 * MIB);
        assert!(plan.extend(13 * MIB + 1, usize::MAX));
        assert_eq!(lengths(&plan), [13 * MIB, 1]);
        assert_eq!(plan.guess(), None);
        assert!(plan.part_at(13 * MIB + 1).is_empty());
    }

    #[test]
    fn what_broke_off_is_a_part_where_nothing_else_was_claimed() {
        let mut free = plan(100 * MIB, 8 * MIB);
        free.extend(13 * MIB, usize::MAX);
        let mut claimed = free.clone();
        claimed.claim();
        assert_eq!(claimed.cut_short(9 * MIB), None);
        assert_eq!(lengths(&claimed), [13 * MIB]);
        let part = free.cut_short(9 * MIB).unwrap();
        assert_eq!((part.index, part.from, part.to), (0, 0, 9 * MIB));
        assert_eq!(free.cut_short(13 * MIB), None, "four are too few");
    }

    #[test]
    fn no_more_is_claimed_at_once_than_a_record_has_room_for() {
        let mut plan = plan(1 << 36, 8 * MIB);
        plan.largest = 16 * MIB;
        assert!(plan.extend(1 << 30, MAX_CLAIMS));
        assert_eq!(plan.ends.len(), MAX_CLAIMS);
        assert!(!plan.extend(1 << 30, MAX_CLAIMS));
    }

    proptest! {
        /// Whatever the fragments, the parts are neither too short nor too long nor too many.
        #[test]
        fn the_parts_of_any_fragments_are_such_as_a_store_takes(
            sizes in proptest::collection::vec(1u64..40, 1..60), rounds in 1usize..40, part_size in 1u64..30, breaks in any::<u64>(), free in any::<bool>(),
        ) {
            // A hundredth of S3's numbers, of parts that are as much larger.
            let total = sizes.iter().sum::<u64>() * rounds as u64 * 100;
            let part_size = part_size.max(total.div_ceil(MAX_PARTS));
            let mut plan = plan_for(if free { Cutting::Free } else { Cutting::Claimed }, total, part_size);
            let (mut at, mut round) = (0, 0u32);
            for size in sizes.iter().cycle() {
                if at == total { break; }
                let end = (at + size * 100).min(total);
                prop_assert!(at - plan.settled() < plan.least(), "more is left over than may be");
                plan.extend(end, usize::MAX);
                round += 1;
                if breaks >> (round % 64) & 1 == 1 && end < total {
                    at += (end - at).div_ceil(2);
                    plan.cut_short(at);
                    plan.ends.retain(|end| *end <= at);
                } else {
                    at = end;
                }
                prop_assert!(plan.settled() <= at);
            }
            let lengths = lengths(&plan);
            prop_assert_eq!(plan.settled(), total);
            prop_assert!(lengths.len() as u64 <= MAX_PARTS);
            prop_assert!(lengths.iter().all(|length| *length <= plan.largest()));
            prop_assert!(lengths.iter().rev().skip(1).all(|length| *length >= plan.smallest()));
        }

        #[test]
        fn every_byte_lies_in_exactly_one_part(ends in proptest::collection::btree_set(1u64..500, 0..20), recorded in 0u64..1) {
            let cuts = Cuts { largest: 600, claims: ends.iter().copied().collect() };
            let plan = CutPlan::new(500, 4, recorded, 7, &cuts);
            let (mut at, mut index) = (0, 7);
            while at < 500 {
                let part = plan.part_at(at);
                prop_assert_eq!((part.index, part.from), (index, at));
                for offset in part.from..part.to {
                    prop_assert_eq!(plan.part_at(offset), part);
                }
                at = part.to;
                index += 1;
            }
        }
    }
}
