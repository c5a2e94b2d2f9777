//! The knobs of the floor.

use std::time::Duration;

use super::{Checksum, Coordination, Durability, Rules};
use crate::units::ByteSize;
use crate::units::knob::{Found, Kind, Knob, Reading, Shown, Value, choices, quoted, settings};

choices!(Durability {
    Fragment => "fragment",
    Part => "part",
});

choices!(Coordination {
    Shared => "shared",
    SingleReplica => "single-replica",
});

choices!(Checksum {
    Off => "off",
    Sha256 => "sha256",
});

/// What becomes of the packets of a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taking {
    /// They are carried out.
    Yes,
    /// They are refused.
    No,
    /// They go to the web server behind the route.
    Proxy,
}

impl Knob for Taking {
    fn kind() -> Kind {
        Kind::FlagOr(&["proxy"])
    }

    fn read(found: &Found, reading: &mut Reading<'_>) -> Option<Self> {
        match &found.value {
            Value::Flag(true) => Some(Self::Yes),
            Value::Flag(false) => Some(Self::No),
            Value::Text(word) | Value::Word(word) if word == "proxy" => Some(Self::Proxy),
            Value::Word(word) if word == "true" => Some(Self::Yes),
            Value::Word(word) if word == "false" => Some(Self::No),
            other => {
                reading.report(
                    &found.place,
                    format!("expected true, false or \"proxy\", found {}", quoted(other)),
                );
                None
            }
        }
    }

    fn show(&self) -> Shown {
        let text = match self {
            Self::Yes => "true",
            Self::No => "false",
            Self::Proxy => "\"proxy\"",
        };
        Shown::Text(text.to_owned())
    }
}

settings! {
    /// The rules for uploads of a route.
    pub struct Settings {
        /// Whether uploads are taken. false: every packet is answered 501 + 0x80070005; sessions under way wait, until their time-out.
        /// "proxy": packets go to `upstream` like everything else, such as to the IIS that this route is to replace one day.
        #[key = "upload"]
        pub taking: Taking = Taking::Yes,
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
        /// Size of the pieces in which a file is stored that comes in small fragments, from 5MiB to 5GiB; raised by itself for files of more
        /// than 10,000 of them. A large fragment is a piece of its own, up to twice this size (see `part_sizes`). Larger: fewer requests to
        /// the store, more memory for each upload at the moment a piece is full.
        pub part_size: ByteSize = ByteSize::mib(8),
        /// What a crash may take back. "fragment": nothing; every acknowledged byte is in the store. "part": the bytes since the last
        /// part boundary, which the client is told to send again; saves a write for each fragment, and needs
        /// `coordination = "single-replica"` or a `host_id`.
        pub durability: Durability = Durability::Fragment,
        /// Who else serves the same store. "shared": any number of replicas; the store must have conditional writes. "single-replica":
        /// only this process, for stores without them. Two processes on such a route would damage uploads.
        pub coordination: Coordination = Coordination::Shared,
        /// Whether the digest of every file is taken while it comes in: "sha256" or "off". It is told in the log and by `sessions`, and stored
        /// as metadata (bitssha256) of files of one part, where the store keeps any. About 0.6 ms of a core for each MiB, 3 ms on processors
        /// without instructions for it. Holds for sessions that begin from then on.
        pub checksum: Checksum = Checksum::Off,
        /// Whether every file gets a second one beside it, named like it with ".sha256" at the end, in the format of sha256sum. Uploads to such
        /// names are refused then. Needs `checksum = "sha256"`; four more requests to the store for each file.
        pub checksum_sidecar: bool = false,
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

    /// Whether packets go to the web server behind the route.
    pub fn passes_packets_on(&self) -> bool {
        self.taking == Taking::Proxy
    }

    /// Whether a digest is to lie beside each file that nobody takes.
    pub fn lacks_a_digest_for_the_sidecar(&self) -> bool {
        self.checksum_sidecar && self.checksum == Checksum::Off
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
            checksum: self.checksum,
            checksum_sidecar: self.checksum_sidecar,
        }
    }
}
