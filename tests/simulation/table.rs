//! Which fault met which step: an empty cell is a promise that nobody tried.

use std::fmt;

/// What a request to the store is to the gateway.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    Look,
    CreateRecord,
    SaveRecord,
    ReadRecord,
    ListTails,
    FindTail,
    CreateTail,
    ReadTail,
    WritePage,
    ReadPage,
    Begin,
    PutPart,
    Complete,
    PutFile,
    RemoveStaged,
    RemoveRecord,
    Abort,
    ListUploads,
    ListSession,
    ListSessions,
    Clock,
    Elect,
}

pub const STEPS: [Step; 22] = [
    Step::Look,
    Step::CreateRecord,
    Step::SaveRecord,
    Step::ReadRecord,
    Step::ListTails,
    Step::FindTail,
    Step::CreateTail,
    Step::ReadTail,
    Step::WritePage,
    Step::ReadPage,
    Step::Begin,
    Step::PutPart,
    Step::Complete,
    Step::PutFile,
    Step::RemoveStaged,
    Step::RemoveRecord,
    Step::Abort,
    Step::ListUploads,
    Step::ListSession,
    Step::ListSessions,
    Step::Clock,
    Step::Elect,
];

/// What happens to a request, or to the process that waits for it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// It never arrives.
    Lost,
    /// It is carried out, and nobody learns of it.
    AnswerLost,
    /// It is given up, and carried out minutes later.
    Late,
    /// No answer comes for longer than anybody waits.
    Slow,
    /// It is carried out, repeated by the client library, and the repetition is refused.
    Echo,
    /// It is refused although its condition holds (S3: 409, another conditional write is under way).
    Refused,
    /// The object was written within the last second (Google: 429).
    Throttled,
    /// The store ended the multipart upload.
    Ended,
    /// The process is killed while it waits.
    Killed,
    /// The process is frozen while it waits, and woken later.
    Frozen,
    /// Another request for the same session is under way, of another process.
    Raced,
}

pub const FAULTS: [Fault; 11] = [
    Fault::Lost,
    Fault::AnswerLost,
    Fault::Late,
    Fault::Slow,
    Fault::Echo,
    Fault::Refused,
    Fault::Throttled,
    Fault::Ended,
    Fault::Killed,
    Fault::Frozen,
    Fault::Raced,
];

impl Step {
    /// Whether the request changes something.
    pub const fn writes(self) -> bool {
        !matches!(
            self,
            Self::Look
                | Self::ReadRecord
                | Self::ListTails
                | Self::FindTail
                | Self::ReadTail
                | Self::ReadPage
                | Self::ListUploads
                | Self::ListSession
                | Self::ListSessions
        )
    }

    /// Whether the request depends on what is there.
    pub const fn is_conditional(self) -> bool {
        matches!(
            self,
            Self::CreateRecord | Self::SaveRecord | Self::CreateTail | Self::Complete | Self::PutFile | Self::Elect
        )
    }

    /// Whether few worlds come to it.
    pub const fn is_rare(self) -> bool {
        matches!(
            self,
            Self::WritePage | Self::ReadPage | Self::RemoveRecord | Self::ListUploads
        )
    }

    /// Whether everybody sees its effect.
    pub const fn publishes(self) -> bool {
        matches!(self, Self::Complete | Self::PutFile)
    }
}

impl Fault {
    /// Whether `step` can meet this.
    pub const fn befalls(self, step: Step) -> bool {
        match self {
            Self::Lost | Self::AnswerLost | Self::Slow | Self::Killed | Self::Frozen => true,
            Self::Late => step.writes(),
            Self::Echo | Self::Refused => step.is_conditional(),
            Self::Throttled => matches!(step, Step::SaveRecord),
            Self::Ended => matches!(step, Step::PutPart | Step::Complete),
            // What is asked for no session, or before anybody can know of it.
            Self::Raced => !matches!(
                step,
                Step::Look | Step::CreateRecord | Step::ListUploads | Step::ListSessions | Step::Clock | Step::Elect
            ),
        }
    }
}

/// How often each fault met each step.
#[derive(Clone, Debug, Default)]
pub struct Table([[u64; FAULTS.len()]; STEPS.len()]);

impl Table {
    pub fn count(&mut self, step: Step, fault: Fault) {
        self.0[step as usize][fault as usize] += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (row, more) in self.0.iter_mut().zip(&other.0) {
            for (cell, more) in row.iter_mut().zip(more) {
                *cell += more;
            }
        }
    }

    /// The cells that a run should have filled and did not.
    pub fn empty(&self) -> Vec<(Step, Fault)> {
        let cells = STEPS
            .iter()
            .flat_map(|&step| FAULTS.iter().map(move |&fault| (step, fault)));
        cells
            .filter(|&(step, fault)| fault.befalls(step) && self.0[step as usize][fault as usize] == 0)
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:14}", "")?;
        for fault in FAULTS {
            write!(f, "{:>11}", format!("{fault:?}"))?;
        }
        for step in STEPS {
            write!(f, "\n{:14}", format!("{step:?}"))?;
            for fault in FAULTS {
                match self.0[step as usize][fault as usize] {
                    0 if !fault.befalls(step) => write!(f, "{:>11}", "-")?,
                    count => write!(f, "{count:>11}")?,
                }
            }
        }
        Ok(())
    }
}
