//! Downloads of what was uploaded (MC-BUP 3.5, 3.6; RFC 2616 14.35), over sockets.

use std::fs::File;
use std::time::{Duration, SystemTime};

use bits_gateway::client::raw::{Answer, Packet};
use bits_gateway::clock::{Clock, SystemClock};

use crate::support::{Door, House, PART, Room, content, directory};
use crate::wire::{Line, Server};

const SIZE: u64 = 3 * PART + 100;

/// A house with a file at `/up/f`, and a connection to it.
async fn library() -> (House, Server, Line, Vec<u8>) {
    let house = House::new();
    let file = house.put("/up/f", &content(SIZE, 0)).await.file;
    let server = Server::open(&house);
    let line = server.connect().await;
    (house, server, line, file)
}

fn get(range: &str) -> Packet {
    Packet::new("GET", "/up/f").with("Range", range)
}

/// Covers: BUP-150
#[tokio::test]
async fn head_tells_length_and_date_and_has_no_body() {
    let (_house, _server, line, file) = library().await;
    let mut connection = line.raw().await;
    connection.send(Packet::new("HEAD", "/up/f")).await.unwrap();
    let head = connection.answer_to_head().await.unwrap();
    assert_eq!((head.status, head.minor), (200, 1));
    assert_eq!(head.header("Content-Length"), Some(SIZE.to_string().as_str()));
    let date = head.header("Last-Modified").unwrap();
    let moment = httpdate::parse_http_date(date).unwrap();
    assert!(
        now().duration_since(moment).unwrap() < Duration::from_secs(600),
        "{date}"
    );
    // Had it a body, that would be read as the next answer; and a GET says the same.
    let whole = connection.ask(Packet::new("GET", "/up/f")).await.unwrap();
    assert_eq!(
        (whole.header("Last-Modified"), &whole.body[..]),
        (Some(date), &file[..])
    );
}

/// Covers: BUP-151
#[tokio::test]
async fn a_single_range_gets_206_with_the_right_bytes() {
    let (_house, _server, line, file) = library().await;
    let last = SIZE - 1;
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=0-99".to_owned(), 0, 100),
        ("bytes=1000-2099".to_owned(), 1000, 2100),
        (format!("bytes={last}-{last}"), last, SIZE),
        (format!("bytes=100-{}", SIZE + 1000), 100, SIZE),
        ("bytes=100-".to_owned(), 100, SIZE),
        ("bytes=-100".to_owned(), SIZE - 100, SIZE),
        (format!("bytes=-{}", SIZE + 1), 0, SIZE),
        (format!("bytes=0-{last}"), 0, SIZE),
    ] {
        let part = line.exchange(get(&range), b"").await;
        assert_eq!(part.status, 206, "{range}");
        let expected = format!("bytes {first}-{}/{SIZE}", end - 1);
        assert_eq!(part.header("Content-Range"), Some(expected.as_str()), "{range}");
        assert_eq!(
            part.header("Content-Length"),
            Some((end - first).to_string().as_str()),
            "{range}"
        );
        assert_eq!(&part.body[..], &file[first as usize..end as usize], "{range}");
        assert!(part.header("Last-Modified").is_some(), "{range}");
    }
}

/// Covers: BUP-152
#[tokio::test]
async fn a_range_beyond_the_end_gets_416() {
    let (_house, _server, line, _file) = library().await;
    for range in [
        format!("bytes={SIZE}-"),
        format!("bytes={SIZE}-{SIZE}"),
        "bytes=1000000-".to_owned(),
        "bytes=-0".to_owned(),
    ] {
        let refused = line.exchange(get(&range), b"").await;
        assert_eq!(refused.status, 416, "{range}");
        assert_eq!(
            refused.header("Content-Range"),
            Some(format!("bytes */{SIZE}").as_str()),
            "{range}"
        );
        assert!(refused.body.is_empty(), "{range}");
    }
}

/// A part of an answer with several: its headers and its bytes.
struct Part {
    headers: Vec<(String, String)>,
    bytes: Vec<u8>,
}

/// The parts of `multipart/byteranges`, and how many line ends come before the first boundary.
fn parts(answer: &Answer) -> (Vec<Part>, usize) {
    let media = answer.header("Content-Type").unwrap();
    let boundary = media
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("several parts")
        .trim_matches('"');
    let delimiter = format!("--{boundary}");
    let find = |from: usize, what: &[u8]| {
        let at = answer.body[from..]
            .windows(what.len())
            .position(|window| window == what);
        at.map(|at| from + at)
    };
    let mut at = find(0, delimiter.as_bytes()).expect("a boundary");
    let before = answer.body[..at].to_vec();
    assert!(before.iter().all(|byte| b"\r\n".contains(byte)), "{before:?}");
    let mut parts = Vec::new();
    loop {
        at += delimiter.len();
        if answer.body[at..].starts_with(b"--") {
            assert!(
                [&b"--"[..], b"--\r\n"].contains(&&answer.body[at..]),
                "something comes after the last boundary"
            );
            return (parts, before.len() / 2);
        }
        let head = at + 2;
        let body = find(head, b"\r\n\r\n").expect("the headers of a part") + 4;
        let text = std::str::from_utf8(&answer.body[head..body - 4]).unwrap();
        let headers: Vec<(String, String)> = text
            .split("\r\n")
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let end = find(body, format!("\r\n{delimiter}").as_bytes()).expect("a boundary");
        parts.push(Part {
            headers,
            bytes: answer.body[body..end].to_vec(),
        });
        at = end + 2;
    }
}

/// Covers: BUP-153
#[tokio::test]
async fn several_ranges_come_in_the_order_of_the_request_and_unmerged() {
    let (_house, _server, line, file) = library().await;
    // Backwards, overlapping, adjacent, and twice the same.
    for ranges in [
        vec![2000..2100, 0..100],
        vec![0..100, 100..200],
        vec![0..100, 50..150],
        vec![5..6, 5..6],
        vec![SIZE - 1..SIZE, 0..1, 1000..2000],
    ] {
        let list: Vec<_> = ranges
            .iter()
            .map(|range| format!("{}-{}", range.start, range.end - 1))
            .collect();
        let answer = line.exchange(get(&format!("bytes={}", list.join(","))), b"").await;
        assert_eq!(answer.status, 206, "{list:?}");
        assert_eq!(
            answer.header("Content-Length"),
            Some(answer.body.len().to_string().as_str())
        );
        assert_eq!(answer.header("Content-Range"), None, "{list:?}");
        let (parts, _) = parts(&answer);
        assert_eq!(parts.len(), ranges.len(), "{list:?}");
        for ((part, range), text) in parts.iter().zip(&ranges).zip(&list) {
            let told = part.headers.iter().find(|(name, _)| name == "Content-Range").unwrap();
            assert_eq!(told.1, format!("bytes {text}/{SIZE}"));
            assert_eq!(part.bytes, file[range.start as usize..range.end as usize]);
        }
    }
}

/// Covers: BUP-154
#[tokio::test]
async fn a_part_has_few_headers_and_the_first_boundary_comes_soon() {
    let (_house, _server, line, _file) = library().await;
    let answer = line.exchange(get("bytes=0-0,2-2,4-4"), b"").await;
    let (parts, line_ends) = parts(&answer);
    assert!(line_ends <= 2, "{line_ends}");
    for part in parts {
        let other = part
            .headers
            .iter()
            .filter(|(name, _)| !["Content-Range", "Content-Type"].contains(&name.as_str()));
        let bytes: usize = other.map(|(name, value)| name.len() + value.len() + 4).sum();
        assert!(bytes <= 180, "{:?}", part.headers);
        assert!(
            part.headers.iter().any(|(name, _)| name == "Content-Type"),
            "{:?}",
            part.headers
        );
    }
}

/// Covers: BUP-155
#[tokio::test]
async fn no_download_is_chunked_or_compressed() {
    let house = House::new();
    let zeros = house.put("/up/f", &[b'0'; 100_000]).await.file;
    let server = Server::open(&house);
    let line = server.connect().await;
    for accepted in [None, Some("identity"), Some("gzip, deflate, br, zstd"), Some("*")] {
        for range in [None, Some("bytes=10-"), Some("bytes=0-9,20-29")] {
            let packet = Packet::new("GET", "/up/f");
            let packet = accepted.map_or(packet.clone(), |accepted| packet.with("Accept-Encoding", accepted));
            let packet = range.map_or(packet.clone(), |range| packet.with("Range", range));
            let answer = line.exchange(packet.clone(), b"").await;
            assert_eq!(answer.header("Transfer-Encoding"), None, "{packet}");
            assert_eq!(answer.header("Content-Encoding"), None, "{packet}");
            assert_eq!(
                answer.header("Content-Length"),
                Some(answer.body.len().to_string().as_str()),
                "{packet}"
            );
            if range.is_none() {
                assert!(answer.body == zeros, "{packet}");
            }
        }
    }
}

/// Covers: BUP-156
#[tokio::test]
async fn the_date_stays_while_the_content_stays_and_changes_with_it() {
    let root = tempfile::tempdir().unwrap();
    let house = House::of([Room::over(directory(root.path())).overwriting()]);
    house.put("/up/f", b"the first content").await;
    // An hour ago, so that nobody has to wait until the clock shows another second.
    let published = File::options().write(true).open(root.path().join("f")).unwrap();
    published.set_modified(now() - Duration::from_secs(3600)).unwrap();
    let server = Server::open(&house);
    let line = server.connect().await;
    let date = || async {
        let answer = line.exchange(Packet::new("GET", "/up/f"), b"").await;
        let partial = line.exchange(get("bytes=1-2"), b"").await;
        let date = answer.header("Last-Modified").unwrap().to_owned();
        assert_eq!(partial.header("Last-Modified"), Some(date.as_str()));
        date
    };
    let first = date().await;
    assert_eq!(date().await, first);
    assert_eq!(
        line.exchange(Packet::new("GET", "/up/f"), b"").await.body,
        "the first content"
    );
    let server = Server::open(&house.restarted());
    let answer = server.connect().await.exchange(Packet::new("GET", "/up/f"), b"").await;
    assert_eq!(
        answer.header("Last-Modified"),
        Some(first.as_str()),
        "a restart changes nothing"
    );
    // A session alone changes nothing either.
    let upload = house.begin("/up/f", b"another content").await;
    house.store(&upload, 0..3).await;
    assert_eq!(date().await, first);
    house.store(&upload, 3..upload.size()).await;
    assert_ne!(date().await, first);
}

/// Covers: BUP-157
#[tokio::test]
async fn a_get_without_a_range_gets_200_and_the_full_length() {
    let house = House::new();
    let server = Server::open(&house);
    let line = server.connect().await;
    for size in crate::support::SIZES {
        let target = format!("/up/{size}");
        let file = house.put(&target, &content(size, 0)).await.file;
        let whole = line.exchange(Packet::new("GET", &target), b"").await;
        assert_eq!((whole.status, whole.header("Content-Range")), (200, None));
        assert_eq!(whole.header("Content-Length"), Some(size.to_string().as_str()));
        assert_eq!(&whole.body[..], &file[..]);
    }
}

/// The time of this machine.
fn now() -> SystemTime {
    SystemClock.now().into()
}
