//! The log of tails: acknowledged bytes beyond the last recorded part.

use std::collections::BTreeMap;

/// The listed tails of a session.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tails {
    /// Where each one begins, and where it ends.
    listed: BTreeMap<u64, u64>,
    /// The stretches that they cover, in order, with a gap between any two. One as a rule, however many tails there are: every packet asks
    /// how far the bytes reach.
    runs: Vec<(u64, u64)>,
}

impl Tails {
    /// No tail at all.
    pub const fn none() -> Self {
        Self {
            listed: BTreeMap::new(),
            runs: Vec::new(),
        }
    }

    /// Adds the tail of the bytes `from..to`, or replaces the one that begins there. An empty one says nothing and is left out.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from < to {
            match self.listed.insert(from, to) {
                Some(before) if before > to => self.connect(),
                _ => self.cover(from, to),
            }
        }
    }

    /// How far the bytes reach without a gap, beginning at `start`: the longest contiguous run.
    pub fn reach(&self, start: u64) -> u64 {
        let before = self.runs.partition_point(|&(from, _)| from <= start);
        match before.checked_sub(1).and_then(|last| self.runs.get(last)) {
            Some(&(_, to)) => start.max(to),
            None => start,
        }
    }

    /// Adds a stretch to the runs, and joins those that it touches.
    fn cover(&mut self, mut from: u64, mut to: u64) {
        let first = self.runs.partition_point(|&(_, end)| end < from);
        let behind = self.runs.partition_point(|&(begin, _)| begin <= to);
        if let Some(touched) = self.runs.get(first..behind) {
            from = touched.first().map_or(from, |&(begin, _)| begin.min(from));
            to = touched.last().map_or(to, |&(_, end)| end.max(to));
        }
        self.runs.splice(first..behind, [(from, to)]);
    }

    /// Finds the runs anew.
    fn connect(&mut self) {
        self.runs.clear();
        let listed = std::mem::take(&mut self.listed);
        for (&from, &to) in &listed {
            self.cover(from, to);
        }
        self.listed = listed;
    }

    /// The tails that hold bytes of `from..to`, in order of their offsets.
    pub fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        self.listed
            .range(..to)
            .map(|(&from, &to)| (from, to))
            .filter(move |&(_, end)| end > from)
    }

    /// The offsets of the tails that lie wholly below `end`: a recorded part covers them, nobody needs them.
    pub fn covered_by(&self, end: u64) -> Vec<u64> {
        self.listed
            .iter()
            .filter(|&(_, &to)| to <= end)
            .map(|(&from, _)| from)
            .collect()
    }

    /// Forgets the tails that lie wholly below `end`.
    pub fn drop_covered(&mut self, end: u64) {
        self.listed.retain(|_, to| *to > end);
        self.connect();
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.listed.len()
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
            tails in proptest::collection::vec((0u64..40, 1u64..10), 0..12), covered in 0u64..20, start in 0u64..40
        ) {
            let mut tails: Tails = tails.into_iter().map(|(from, length)| (from, from + length)).collect();
            tails.drop_covered(covered);
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
