//! Requests as Windows writes them: the headers of the traces in MC-BUP 4.1, in their order and spelling. Pure.

use std::fmt::Write as _;

use super::machine::Outgoing;
use crate::bits::{PROTOCOL, header};

/// What is the same in all requests of an upload.
#[derive(Clone, Debug)]
pub(super) struct Letterhead {
    /// Path and query of the URL.
    pub(super) target: String,
    /// The value of `User-Agent`.
    pub(super) agent: String,
    /// The value of `Content-Name`.
    pub(super) name: Option<String>,
    /// The size of the file in bytes.
    pub(super) total: u64,
}

impl Letterhead {
    /// The head of the request that carries `packet` to `host`.
    pub(super) fn head(&self, packet: &Outgoing, host: &str) -> String {
        let kind = match packet {
            Outgoing::CreateSession => "Create-Session",
            Outgoing::Ping => "Ping",
            Outgoing::Fragment { .. } => "Fragment",
            Outgoing::CloseSession { .. } => "Close-Session",
        };
        let mut head = format!("BITS_POST {} HTTP/1.1\r\nAccept: */*\r\n", self.target);
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a String does not fail.
            let _ = write!(head, "{name}: {value}\r\n");
        };
        line(header::PACKET_TYPE, &kind);
        match packet {
            Outgoing::CreateSession => line(header::SUPPORTED_PROTOCOLS, &PROTOCOL),
            Outgoing::Fragment { session, .. } | Outgoing::CloseSession { session } => {
                line(header::SESSION_ID, session);
                // Not on Create-Session: only Windows before Vista SP1 does that (note 5).
                if let Some(name) = &self.name {
                    line("Content-Name", name);
                }
            }
            Outgoing::Ping => {}
        }
        let mut length = 0;
        if let Outgoing::Fragment { from, to, .. } = packet {
            length = to - from;
            match length {
                // HTTP has no form for an empty range, and what Windows sends is not known.
                0 => line(header::CONTENT_RANGE, &"bytes 0-0/0"),
                _ => line(
                    header::CONTENT_RANGE,
                    &format_args!("bytes {from}-{}/{}", to - 1, self.total),
                ),
            }
        }
        line("User-Agent", &self.agent);
        line("Host", &host);
        line(header::CONTENT_LENGTH, &length);
        line("Connection", &"Keep-Alive");
        head.push_str("\r\n");
        head
    }
}

/// `name` as a `Content-Name`, when it can be one: at most 260 characters, none that Windows forbids in file names (note 3), and
/// only ASCII, because no text says how others are to be written.
pub(super) fn content_name(name: &str) -> Option<String> {
    let legal = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !br#"\/:*?"<>|"#.contains(&byte);
    (!name.trim().is_empty() && name.trim() == name && name.len() <= 260 && name.bytes().all(legal))
        .then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}";

    fn head(packet: &Outgoing) -> String {
        let letterhead = Letterhead {
            target: "/upload/2000mb-rfc2119.txt".to_owned(),
            agent: "Microsoft BITS/6.7".to_owned(),
            name: Some("rfc2119.txt".to_owned()),
            total: 4892,
        };
        letterhead.head(packet, "frankcao8")
    }

    #[test]
    fn the_heads_have_the_bytes_of_the_traces() {
        // MC-BUP 4.1, but for the Content-Name that only old clients put on Create-Session.
        let create = "BITS_POST /upload/2000mb-rfc2119.txt HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Create-Session\r\n\
            BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\nUser-Agent: Microsoft BITS/6.7\r\n\
            Host: frankcao8\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n";
        assert_eq!(head(&Outgoing::CreateSession), create);
        assert_eq!(
            head(&Outgoing::CreateSession).len() + "Content-Name: rfc2119.txt\r\n".len(),
            281
        );

        let fragment = head(&Outgoing::Fragment {
            session: SESSION.to_owned(),
            from: 0,
            to: 4892,
        });
        assert_eq!(
            fragment,
            "BITS_POST /upload/2000mb-rfc2119.txt HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Fragment\r\n\
            BITS-Session-Id: {A0FF5911-4144-45B3-BF27-27AFC8EC8A67}\r\nContent-Name: rfc2119.txt\r\n\
            Content-Range: bytes 0-4891/4892\r\nUser-Agent: Microsoft BITS/6.7\r\nHost: frankcao8\r\nContent-Length: 4892\r\n\
            Connection: Keep-Alive\r\n\r\n"
        );
        assert_eq!(fragment.len(), 303);
        assert_eq!(head(&Outgoing::Ping).len(), 178);
        assert_eq!(
            head(&Outgoing::CloseSession {
                session: SESSION.to_owned()
            })
            .len(),
            271
        );
    }

    #[test]
    fn a_file_of_no_bytes_has_a_fragment_of_its_own() {
        let head = head(&Outgoing::Fragment {
            session: SESSION.to_owned(),
            from: 0,
            to: 0,
        });
        assert!(head.contains("\r\nContent-Range: bytes 0-0/0\r\n"));
        assert!(head.contains("\r\nContent-Length: 0\r\n"));
    }

    #[test]
    fn names_that_windows_or_http_would_not_take_are_left_out() {
        for name in [
            "",
            " a",
            "a ",
            "a\rb",
            "a\u{e4}b",
            "a|b",
            "a:b",
            "a\\b",
            &"x".repeat(261),
        ] {
            assert_eq!(content_name(name), None, "{name}");
        }
        for name in ["rfc2119.txt", "a b", &"x".repeat(260)] {
            assert_eq!(content_name(name).as_deref(), Some(name));
        }
    }
}
