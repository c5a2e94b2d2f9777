//! Where uploads go, and under which rules.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Outbox, tell, work};
use crate::notify::Messenger;
use crate::session::{Principal, Target};
use crate::store::Store;

/// What a crash may take back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// Nothing: every acknowledged byte is in the store.
    #[default]
    Fragment,
    /// The bytes since the last part boundary: the client is told to send them again.
    Part,
}

/// Who else may serve the same sessions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Coordination {
    /// Any number of replicas; the store must have conditional writes.
    #[default]
    Shared,
    /// Only this process.
    SingleReplica,
}

/// Whether the digest of every file is taken while it comes in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Checksum {
    /// It is not.
    #[default]
    Off,
    /// Its SHA-256 is.
    Sha256,
}

/// The rules of a route.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Largest file, in bytes.
    pub max_upload_size: u64,
    /// Largest fragment, in bytes; above it the client is told to send smaller ones.
    pub max_fragment_size: u64,
    /// Smallest part size, in bytes; raised for files of more than 10,000 such parts.
    pub part_size: u64,
    /// How long a session may be silent.
    pub session_timeout: Duration,
    /// How long the outcome of an ended session is remembered.
    pub closed_session_memory: Duration,
    /// What a crash may take back.
    pub durability: Durability,
    /// Who else may serve the same sessions.
    pub coordination: Coordination,
    /// Whether the digest of every file is taken.
    pub checksum: Checksum,
    /// Whether it is published beside the file, too.
    pub checksum_sidecar: bool,
}

/// A route, as far as uploads need to know it.
#[derive(Debug)]
pub struct Place {
    /// The name of the route: its path prefix, after its host where it is bound to one. No two places have the same.
    pub route: String,
    /// Where its files and sessions are kept.
    pub store: Store,
    /// Its rules.
    pub rules: Rules,
    /// The server application that is told of its finished uploads, if there is one.
    pub application: Option<Arc<Messenger>>,
    /// Who is told what becomes of its sessions, if anybody is.
    pub events: Option<Arc<Outbox>>,
}

impl Place {
    /// Within what time a packet is answered once all of it is here.
    pub(super) const fn answer_within(&self) -> Duration {
        match self.application {
            Some(_) => tell::ANSWER_WITHIN,
            None => work::ANSWER_WITHIN,
        }
    }
}

/// Who asks, and for what.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who.
    pub principal: Principal,
    /// For what.
    pub target: Target,
    /// The absolute URL as the client sent it.
    pub url: String,
    /// From where, as far as that is believed.
    pub client: Option<IpAddr>,
}
