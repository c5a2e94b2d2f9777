//! The rules of the house that no compiler knows: which room may name which, what the pure rooms keep out, how long a
//! file may be, which statement of the protocol has its test, whether the documents hold together.
//!
//! `docs/architecture.md` says why the rules are what they are.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "tests: they may panic, and nobody reaches into them"
)]

mod documents;
mod layering;
mod mutations;
mod requirements;
mod rooms;
mod source;
