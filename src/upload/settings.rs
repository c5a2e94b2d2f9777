//! The knobs of the floor.

use std::time::Duration;

use super::{Coordination, Durability, Rules};
use crate::units::ByteSize;
use crate::units::knob::{choices, settings};

choices!(Durability {
    Fragment => "fragment",
    Part => "part",
});

choices!(Coordination {
    Shared => "shared",
    SingleReplica => "single-replica",
});

settings! {
    /// The rules for uploads of a route.
    pub struct Settings {
        /// Whether uploads are taken. false: every packet is answered 501 + 0x80070005; sessions under way wait, until their time-out.
        #[key = "upload"]
        pub enabled: bool = true,
        /// Whether an existing file may be replaced. It shows its old content until the last byte of the new one is in.
        pub overwrite: bool = false,
        /// Largest file. Above it: 500 + 0x80200020 on the first fragment. A file has at most 10,000 parts, so larger files have larger
        /// parts, and a part may take a quarter of `limits.memory`: the default is 512GiB or what that allows, if that is less.
        #[example = "\"512GiB\""]
        pub max_upload_size: ByteSize = ByteSize::gib(512),
        /// Largest fragment. Above it: 413, which makes the client shrink its fragments. Windows sends up to 13 MiB; at least 5KiB.
        /// A smaller limit costs more requests, a larger one no memory.
        pub max_fragment_size: ByteSize = ByteSize::mib(64),
        /// How long a session lives without progress. What it has stored is deleted then.
        pub session_timeout: Duration = Duration::from_secs(14 * 24 * 3_600),
        /// How long the outcome of an ended session is remembered, for clients that ask again; one small object each. The default is
        /// `session_timeout`.
        #[example = "\"14d\""]
        pub closed_session_memory: Duration = Duration::from_secs(14 * 24 * 3_600),
        /// Size of the pieces in which a file is stored, from 5MiB to 5GiB; raised by itself for files of more than 10,000 of them.
        /// Larger: fewer requests to the store, more memory for each upload at the moment a piece is full.
        pub part_size: ByteSize = ByteSize::mib(8),
        /// What a crash may take back. "fragment": nothing; every acknowledged byte is in the store. "part": the bytes since the last
        /// part boundary, which the client is told to send again; saves a write for each fragment, and needs
        /// `coordination = "single-replica"` or a `host_id`.
        pub durability: Durability = Durability::Fragment,
        /// Who else serves the same store. "shared": any number of replicas; the store must have conditional writes. "single-replica":
        /// only this process, for stores without them. Two processes on such a route would damage uploads.
        pub coordination: Coordination = Coordination::Shared,
    }
}

settings! {
    /// What bodies may hold of this machine's memory.
    pub struct MemorySettings {
        /// Memory for all bodies on their way, of uploads and downloads together, at least four parts. The process needs about 60 MiB
        /// and 50 KiB for each connection beyond it. Larger: more uploads at full speed at the same time.
        pub memory: ByteSize = ByteSize::mib(512),
        /// How long a body waits for memory before 503 + Retry-After. A Windows client that is answered 503 comes back after ten
        /// minutes, so waiting is nearly always better.
        pub memory_wait: Duration = Duration::from_secs(60),
    }
}

impl Settings {
    /// Whether what one replica acknowledged is unknown to the next one, which may get the next packet.
    pub fn leaves_parts_behind(&self) -> bool {
        self.durability == Durability::Part && self.coordination == Coordination::Shared
    }

    /// The rules as the floor takes them.
    pub const fn rules(&self) -> Rules {
        Rules {
            overwrite: self.overwrite,
            max_upload_size: self.max_upload_size.bytes(),
            max_fragment_size: self.max_fragment_size.bytes(),
            part_size: self.part_size.bytes(),
            session_timeout: self.session_timeout,
            closed_session_memory: self.closed_session_memory,
            durability: self.durability,
            coordination: self.coordination,
        }
    }
}
