//! A session as it was loaded: its record and the log of its tails.

use super::{Delivery, Phase, Principal, Record, Refusal, Tails, Target, Verdict};

/// A loaded session. It may be stale: two conditional writes of the store catch that, never this value.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The record.
    pub record: Record,
    /// The tails beyond the last recorded part, as they were listed **before** the record was read.
    pub tails: Tails,
}

impl Session {
    /// The next offset: every byte below it is stored.
    ///
    /// While the file is being published, or its server application has not taken it, this is one byte short of its size: no answer
    /// carries the size itself unless the record says that the client is done.
    pub fn end(&self) -> u64 {
        let total = self.record.total.unwrap_or_default();
        match &self.record.phase {
            Phase::Open(staged) | Phase::Expiring(staged) => self.tails.reach(staged.end()),
            Phase::Publishing { .. }
            | Phase::Sealed { .. }
            | Phase::Told {
                verdict: Verdict::Forbidden,
                ..
            } => total.saturating_sub(1),
            Phase::Told {
                verdict: Verdict::Accepted {
                    copy: Delivery::Wanted, ..
                },
                ..
            } => total.saturating_sub(1),
            Phase::Published { tag }
            | Phase::Told {
                tag,
                verdict: Verdict::Accepted { .. },
            } => tag.size,
            Phase::Closed { .. } => 0,
        }
    }

    /// The next offset, unless the session has ended.
    pub fn next(&self) -> Option<u64> {
        (!matches!(self.record.phase, Phase::Closed { .. })).then(|| self.end())
    }

    /// Whether `principal` may know of this session, and speaks of the URL that it was created for.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for somebody else's session, so that ids can't be probed, and for that of another host's route: when a route is
    /// bound to a host, the sessions that it had before begin again. [`Refusal::OtherTarget`].
    pub fn admit(&self, principal: &Principal, target: &Target) -> Result<(), Refusal> {
        if self.record.principal != *principal {
            return Err(Refusal::NotFound);
        }
        if self.record.target.differs_by_host(target) {
            return Err(Refusal::NotFound);
        }
        if self.record.target != *target {
            return Err(Refusal::OtherTarget);
        }
        Ok(())
    }
}
