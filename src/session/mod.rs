//! The rules: what a packet means for a session. Pure.

mod record;
mod tails;

pub use record::{
    Before, ObjectTag, Outcome, PAGE_PARTS, PageName, Phase, Principal, RECORD_VERSION, Record, Staged, Target,
};
pub use tails::Tails;
