//! Where the parts of a file lie, equal or not.

use super::{CutPlan, PartPlan, PartRange};

/// Where the parts of one file lie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Layout {
    /// All alike but the last one.
    Equal(PartPlan),
    /// Cut where fragments end.
    Cut(CutPlan),
}

impl Layout {
    /// Whether one part holds the whole file: then it is put as one object, without a multipart upload.
    pub const fn is_small(&self) -> bool {
        matches!(self, Self::Equal(plan) if plan.is_small())
    }

    /// The part that holds the byte at `offset`, or an empty range at the end of the file.
    pub fn part_at(&self, offset: u64) -> PartRange {
        match self {
            Self::Equal(plan) => plan.part_at(offset),
            Self::Cut(plan) => plan.part_at(offset),
        }
    }

    /// How far a tail may reach that holds the byte at `offset`.
    pub fn longest_tail(&self, offset: u64) -> u64 {
        match self {
            Self::Equal(_) => u64::MAX,
            Self::Cut(plan) => plan.longest_tail(offset),
        }
    }

    /// The plan, where the parts are of unequal length.
    pub const fn cut(&self) -> Option<&CutPlan> {
        match self {
            Self::Equal(_) => None,
            Self::Cut(plan) => Some(plan),
        }
    }

    /// The same, to be gone on with.
    pub const fn cut_mut(&mut self) -> Option<&mut CutPlan> {
        match self {
            Self::Equal(_) => None,
            Self::Cut(plan) => Some(plan),
        }
    }
}

impl From<PartPlan> for Layout {
    fn from(plan: PartPlan) -> Self {
        Self::Equal(plan)
    }
}
