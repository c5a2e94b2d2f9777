//! One packet for every way to be answered: what holds for all Acks is held against these.

use std::sync::atomic::Ordering;

use bits_gateway::client::raw::{Answer, Packet};

use crate::support::{Door, House, Room, STRANGER, content};
use crate::wire::Line;

/// Bytes in the largest file and in the largest fragment that are taken.
pub const LARGEST_FILE: u64 = 64 << 20;
pub const LARGEST_FRAGMENT: u64 = 64 << 10;

/// An answer, and the status that it ought to have.
#[derive(Debug)]
pub struct Outcome {
    pub status: u16,
    pub answer: Answer,
}

impl Outcome {
    pub const fn is_success(&self) -> bool {
        self.status == 200
    }

    /// Whether the status says it all.
    pub const fn is_bare(&self) -> bool {
        matches!(self.status, 404 | 413 | 416 | 503)
    }
}

/// A house with routes for every answer: one that takes uploads, one that takes none, and one whose store is out of reach.
pub fn house() -> House {
    let limited = Room::new().ruled(|rules| {
        rules.max_upload_size = LARGEST_FILE;
        rules.max_fragment_size = LARGEST_FRAGMENT;
    });
    let asleep = Room::new().at("/asleep/");
    asleep.open.store(false, Ordering::Release);
    House::of([limited, Room::new().at("/off/").disabled(), asleep])
}

/// Sends a packet for every way to be answered, all over one connection, and says how they were.
pub async fn gamut(line: &Line) -> Vec<Outcome> {
    let file = content(1000, 0);
    let upload = line.begin("/up/f", &file).await;
    let (url, id) = (upload.target.as_str(), upload.id.as_str());
    let half = upload.fragment(0..500);
    let bytes = &file[..500];
    let long = "a".repeat(5000);
    let whole = Packet::fragment(url, id, 0..1000, 1000);
    let asked: Vec<(&str, u16, Packet, &[u8])> = vec![
        ("ping", 200, Packet::ping(url), b""),
        ("create", 200, Packet::create_session(url), b""),
        ("a gap", 416, upload.fragment(500..1000), bytes),
        ("a fragment", 200, half.clone(), bytes),
        ("a duplicate", 200, half.clone(), bytes),
        ("no range", 400, half.clone().without("Content-Range"), bytes),
        ("a bad range", 400, half.clone().with("Content-Range", "bytes x"), bytes),
        ("no session", 400, half.clone().without("BITS-Session-Id"), bytes),
        ("a bad session", 500, half.clone().with("BITS-Session-Id", "x"), bytes),
        (
            "an unknown session",
            500,
            half.clone().with("BITS-Session-Id", STRANGER),
            bytes,
        ),
        ("no length", 411, half.clone().without("Content-Length"), b""),
        (
            "another length",
            400,
            half.clone().with("Content-Length", "499"),
            &file[..499],
        ),
        ("an encoding", 400, half.clone().with("Content-Encoding", "gzip"), bytes),
        ("a long header", 400, half.clone().with("X-Long", &long), bytes),
        ("another total", 400, Packet::fragment(url, id, 500..1000, 1001), bytes),
        (
            "another URL",
            400,
            Packet::fragment("/up/g", id, 500..1000, 1000),
            bytes,
        ),
        ("the last fragment", 200, upload.fragment(500..1000), &file[500..]),
        ("the whole again", 200, whole.clone(), &file),
        ("close", 200, Packet::close_session(url, id), b""),
        ("close again", 200, Packet::close_session(url, id), b""),
        ("a fragment after close", 500, whole, &file),
        ("cancel after close", 200, Packet::cancel_session(url, id), b""),
        ("the file is there", 403, Packet::create_session(url), b""),
        ("close unknown", 500, Packet::close_session(url, STRANGER), b""),
        ("cancel unknown", 500, Packet::cancel_session(url, STRANGER), b""),
        (
            "close nothing",
            400,
            Packet::close_session(url, STRANGER).without("BITS-Session-Id"),
            b"",
        ),
        (
            "no protocols",
            400,
            Packet::create_session(url).without("BITS-Supported-Protocols"),
            b"",
        ),
        (
            "another protocol",
            400,
            Packet::create_session(url).with("BITS-Supported-Protocols", STRANGER),
            b"",
        ),
        ("a directory", 400, Packet::create_session("/up/d/"), b""),
        ("a bad path", 400, Packet::create_session("/up/../f"), b""),
        ("a body", 400, Packet::ping(url).with("Content-Length", "5"), b"bytes"),
        ("another type", 400, Packet::bits(url, "Whatever"), b""),
        ("no type", 400, Packet::bits(url, "").without("BITS-Packet-Type"), b""),
        ("no route", 404, Packet::create_session("/nowhere/f"), b""),
        ("ping, disabled", 501, Packet::ping("/off/f"), b""),
        ("create, disabled", 501, Packet::create_session("/off/f"), b""),
        (
            "fragment, disabled",
            501,
            Packet::fragment("/off/f", id, 0..500, 500),
            bytes,
        ),
        ("close, disabled", 501, Packet::close_session("/off/f", id), b""),
        ("cancel, disabled", 501, Packet::cancel_session("/off/f", id), b""),
        ("ping, out of reach", 200, Packet::ping("/asleep/f"), b""),
        ("create, out of reach", 503, Packet::create_session("/asleep/f"), b""),
        (
            "fragment, out of reach",
            503,
            Packet::fragment("/asleep/f", id, 0..500, 500),
            bytes,
        ),
        ("close, out of reach", 503, Packet::close_session("/asleep/f", id), b""),
    ];
    let mut outcomes = Vec::new();
    for (what, status, packet, body) in asked {
        let answer = line.exchange(&packet, body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        outcomes.push(Outcome { status, answer });
    }
    outcomes.extend(too_large(line).await);
    outcomes
}

/// What is too large for the route, by the file and by the fragment.
async fn too_large(line: &Line) -> Vec<Outcome> {
    let upload = line.begin("/up/large", &content(LARGEST_FRAGMENT + 1, 0)).await;
    let (url, id) = (upload.target.as_str(), upload.id.as_str());
    let file = Packet::fragment(url, id, 0..500, LARGEST_FILE + 1);
    let asked = [
        ("too large a file", 500, file, &upload.file[..500]),
        (
            "too large a fragment",
            413,
            upload.fragment(0..upload.size()),
            &upload.file,
        ),
        ("cancel", 200, Packet::cancel_session(url, id), b""),
        ("cancel again", 200, Packet::cancel_session(url, id), b""),
        ("close after cancel", 500, Packet::close_session(url, id), b""),
    ];
    let mut outcomes = Vec::new();
    for (what, status, packet, body) in asked {
        let answer = line.exchange(&packet, body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        outcomes.push(Outcome { status, answer });
    }
    outcomes
}
