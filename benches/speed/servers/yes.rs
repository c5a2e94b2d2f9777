//! The answers of servers that keep nothing: what a client has to hear to go on.

use std::sync::atomic::{AtomicU64, Ordering};

/// What such a server reads of a head.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) session: Option<String>,
    /// Where in its file the body lies.
    pub(crate) from: u64,
    pub(crate) length: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Kind {
    Create,
    #[default]
    Other,
}

impl Head {
    pub(crate) fn parse(head: &[u8]) -> Self {
        let head = String::from_utf8_lossy(head);
        let mut read = Self::default();
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            read.header(name, value);
        }
        read
    }

    pub(crate) fn header(&mut self, name: &str, value: &str) {
        if name.eq_ignore_ascii_case("content-length") {
            self.length = value.parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("bits-session-id") {
            self.session = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("content-range") {
            let from = value.strip_prefix("bytes ").and_then(|range| range.split_once('-'));
            self.from = from.and_then(|(from, _)| from.parse().ok()).unwrap_or(0);
        } else if name.eq_ignore_ascii_case("bits-packet-type") && value == "Create-Session" {
            self.kind = Kind::Create;
        }
    }
}

/// The headers of a 200.
pub(crate) fn yes(head: &Head) -> Vec<(&'static str, String)> {
    static SESSIONS: AtomicU64 = AtomicU64::new(1);
    let mut fields = vec![("BITS-Packet-Type", "Ack".to_owned())];
    if head.kind == Kind::Create {
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        fields.push(("BITS-Session-Id", format!("{{00000000-0000-0000-0000-{session:012X}}}")));
    } else if let Some(session) = &head.session {
        fields.push(("BITS-Session-Id", session.clone()));
    }
    if head.length > 0 {
        fields.push(("BITS-Received-Content-Range", (head.from + head.length).to_string()));
    }
    fields
}
