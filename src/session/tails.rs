//! The log of tails: acknowledged bytes beyond the last recorded part.

use std::collections::BTreeMap;

/// The listed tails of a session: where each one begins, and where it ends.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tails(BTreeMap<u64, u64>);

impl Tails {
    /// No tail at all.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds the tail of the bytes `from..to`. An empty one says nothing and is left out.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from < to {
            self.0.insert(from, to);
        }
    }

    /// How far the bytes reach without a gap, beginning at `start`: the longest contiguous run.
    pub fn reach(&self, start: u64) -> u64 {
        // A tail that begins later cannot end the run earlier, so one walk in order of the offsets finds it.
        self.0
            .iter()
            .fold(start, |end, (&from, &to)| if from <= end { end.max(to) } else { end })
    }

    /// The tails that hold bytes of `from..to`, in order of their offsets.
    pub fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        self.0
            .range(..to)
            .map(|(&from, &to)| (from, to))
            .filter(move |&(_, end)| end > from)
    }

    /// The offsets of the tails that lie wholly below `end`: a recorded part covers them, nobody needs them.
    pub fn covered_by(&self, end: u64) -> Vec<u64> {
        self.0
            .iter()
            .filter(|&(_, &to)| to <= end)
            .map(|(&from, _)| from)
            .collect()
    }

    /// Forgets the tails that lie wholly below `end`.
    pub fn drop_covered(&mut self, end: u64) {
        self.0.retain(|_, to| *to > end);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<(u64, u64)> for Tails {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(tails: I) -> Self {
        let mut all = Self::none();
        for (from, to) in tails {
            all.insert(from, to);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gap_ends_the_run() {
        let tails: Tails = [(0, 10), (10, 15), (20, 30)].into_iter().collect();
        assert_eq!(tails.reach(0), 15);
        assert_eq!(tails.reach(20), 30);
        assert_eq!(tails.reach(16), 16);
    }

    #[test]
    fn tails_that_overlap_the_recorded_end_still_count() {
        let tails: Tails = [(0, 10), (8, 12)].into_iter().collect();
        assert_eq!(tails.reach(9), 12);
        assert_eq!(tails.within(9, 12).collect::<Vec<_>>(), vec![(0, 10), (8, 12)]);
        assert_eq!(tails.covered_by(10), vec![0]);
    }

    proptest! {
        /// The same rule as `chain` in the exhaustive model of the log, which knows no order.
        #[test]
        fn the_run_is_what_trying_every_tail_until_nothing_moves_gives(
            tails in proptest::collection::btree_map(0u64..40, 1u64..10, 0..12), start in 0u64..40
        ) {
            let tails: Tails = tails.into_iter().map(|(from, length)| (from, from + length)).collect();
            let mut end = start;
            let mut moved = true;
            while moved {
                moved = false;
                for (from, to) in tails.within(0, u64::MAX) {
                    if from <= end && end < to {
                        end = to;
                        moved = true;
                    }
                }
            }
            prop_assert_eq!(tails.reach(start), end);
        }
    }
}
