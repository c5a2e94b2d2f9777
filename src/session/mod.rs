//! The rules: what a packet means for a session ([MC-BUP] 3.2). Pure.
//!
//! ```text
//! (create) ──▶ open ──last part stored──▶ publishing ──▶ published ──Close──▶ closed(completed)
//!               │ ▲  └─────small file, put──────────────────▲
//!        silent │ │ any packet                                       (names of ours: publishing, expiring, closed;
//!               ▼ │                                                   the specification's: RECEIVE_FRAGMENTS = open,
//!            expiring ──an hour later──▶ closed(expired)              WAIT_FOR_CLOSE = published, COMPLETE and
//!                                                                     CANCEL = closed)
//! open, expiring ──Close, Cancel──▶ closed(cancelled)
//! ```
//!
//! Where a server application takes the files (the specification's NOTIFY = sealed, WAIT_FOR_CLOSE = told):
//!
//! ```text
//! open ──▶ publishing ──▶ sealed ──it took the file──▶ told ──Close──▶ closed(completed)
//!   └──small file, put──────▲  │ ▲                       └─▶ (copied to the destination first, when it asked for that)
//!                              │ └──it failed: told again with the next fragment
//!                              ├──403: never told again──▶ told (forbidden) ──Close, Cancel──▶ closed(cancelled)
//!                              └──Close, Cancel──▶ closed(cancelled)
//! ```

mod events;
mod limits;
mod loaded;
mod record;
mod step;
mod tails;

pub use events::{Announced, End, EventKind};
pub use limits::Limits;
pub use loaded::Session;
pub use record::{
    Before, Claim, Delivery, ObjectTag, Outcome, PAGE_PARTS, PageName, Phase, Principal, RECORD_VERSION, Record, Reply,
    ReplyName, Staged, Target, Verdict,
};
pub use step::{Answer, Gone, Input, Refusal, Step, Then, step};
pub use tails::Tails;
