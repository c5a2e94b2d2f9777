//! Where a request begins and ends: heads that leave it in doubt are refused, and their connection is closed. Pure.
//!
//! The HTTP engine is lenient where RFC 9112 lets it be (two lengths, a length beside a coding, lines that end in a bare
//! line feed), and a proxy in front of us may read the same bytes in another way. What two readers can understand in two
//! ways is not answered but refused.

use super::routes::Asked;

/// Longest head, in bytes. Kerberos tickets take up to 64 KiB of it (protocol digest, part 0).
const MAX_HEAD: usize = 128 * 1024;

/// Longest request target, in bytes: the limit that MC-BUP 2.2.1.2 puts on header values. BITS itself stops at 2,200 characters.
const MAX_TARGET: usize = 4096;

/// Why a head is refused before anything else looks at it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Doubt {
    /// The head is longer than any client of ours has reason to send.
    #[error("the head is longer than 128 KiB")]
    HeadTooLong,
    /// The target is longer than any client of ours has reason to send.
    #[error("the request target is longer than 4,096 bytes")]
    TargetTooLong,
    /// Bytes that no URL has: controls, blanks, anything beyond ASCII, a fragment identifier.
    #[error("the request target holds bytes that no URL has")]
    Target,
    /// A line ends in a line feed alone.
    #[error("a line of the head ends in a bare line feed")]
    BareLineFeed,
    /// More than one length, equal or not.
    #[error("the length is told more than once")]
    TwoLengths,
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("the length is told in two ways")]
    LengthAndCoding,
    /// A transfer coding other than `chunked`.
    #[error("the transfer coding is not chunked")]
    Coding,
    /// A transfer coding on a message that has no use for one.
    #[error("a transfer coding on a message that must not have one")]
    CodingHere,
    /// HTTP/1.1 without `Host`, or a `Host` that names none.
    #[error("the request names no host")]
    NoHost,
}

/// What the framing rules need to know of a head beyond its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    /// The head as it was read, up to and with its empty line.
    pub(super) raw: &'a [u8],
    /// Whether it says HTTP/1.1; older ones may omit `Host`.
    pub(super) http_11: bool,
    /// Whether its body may be chunked: fragments, and what goes to an upstream.
    pub(super) may_be_chunked: bool,
}

impl Head<'_> {
    /// Whether everybody who reads this head finds the same request in it.
    ///
    /// # Errors
    /// The first doubt.
    pub(super) fn check(&self) -> Result<(), Doubt> {
        if self.raw.len() > MAX_HEAD {
            return Err(Doubt::HeadTooLong);
        }
        let mut lines = lines(self.raw)?;
        check_target(request_target(lines.next().unwrap_or_default()).ok_or(Doubt::Target)?)?;
        let mut seen = Seen::default();
        for line in lines {
            seen.field(line);
        }
        self.judge(&seen)
    }

    fn judge(&self, seen: &Seen<'_>) -> Result<(), Doubt> {
        match (seen.lengths, &seen.codings[..]) {
            (0 | 1, []) => {}
            (0, [coding]) if !coding.eq_ignore_ascii_case(b"chunked") => return Err(Doubt::Coding),
            (0, [_]) if !self.may_be_chunked => return Err(Doubt::CodingHere),
            (0, [_]) => {}
            (0, _) => return Err(Doubt::Coding),
            (_, []) => return Err(Doubt::TwoLengths),
            (_, _) => return Err(Doubt::LengthAndCoding),
        }
        match seen.host {
            Some(host) if is_host(host) => Ok(()),
            None if !self.http_11 => Ok(()),
            Some(_) | None => Err(Doubt::NoHost),
        }
    }
}

/// The header fields that frame a message.
#[derive(Default)]
struct Seen<'a> {
    lengths: usize,
    codings: Vec<&'a [u8]>,
    host: Option<&'a [u8]>,
}

impl<'a> Seen<'a> {
    fn field(&mut self, line: &'a [u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            // `5, 5` is two lengths in one line.
            self.lengths += value.split(|byte| *byte == b',').count();
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.codings.push(value);
        } else if name.eq_ignore_ascii_case(b"host") {
            self.host = Some(value);
        }
    }
}

/// The lines of a head without their ends; empty lines before the request line are skipped (RFC 9112 2.2).
fn lines(raw: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Doubt> {
    let mut previous = 0;
    for byte in raw {
        if *byte == b'\n' && previous != b'\r' {
            return Err(Doubt::BareLineFeed);
        }
        previous = *byte;
    }
    Ok(raw
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty()))
}

fn request_target(line: &[u8]) -> Option<&[u8]> {
    let first = line.iter().position(|byte| *byte == b' ')?;
    let last = line.iter().rposition(|byte| *byte == b' ')?;
    line.get(first + 1..last)
}

fn check_target(target: &[u8]) -> Result<(), Doubt> {
    if target.len() > MAX_TARGET {
        return Err(Doubt::TargetTooLong);
    }
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Doubt::Target);
    }
    let text = std::str::from_utf8(target).map_err(|_| Doubt::Target)?;
    let asked = Asked::parse(text).ok_or(Doubt::Target)?;
    // The engine turns raw control bytes into their escapes before anybody can see them, so that the escapes have to be
    // refused for both. In a query they are data, all but NUL.
    if escapes(asked.path).any(|byte| byte.is_ascii_control())
        || escapes(asked.query.unwrap_or("")).any(|byte| byte == 0)
    {
        return Err(Doubt::Target);
    }
    Ok(())
}

/// The bytes that stand in `text` as `%xx`.
fn escapes(text: &str) -> impl Iterator<Item = u8> {
    text.as_bytes().windows(3).filter_map(|window| {
        let digits = std::str::from_utf8(window.strip_prefix(b"%")?).ok()?;
        digits
            .bytes()
            .all(|digit| digit.is_ascii_hexdigit())
            .then(|| u8::from_str_radix(digits, 16).ok())?
    })
}

/// A name, an address or a bracketed IPv6 address, with or without a port.
fn is_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':' | b'[' | b']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str) -> Result<(), Doubt> {
        check_bytes(head.replace('\n', "\r\n").as_bytes())
    }

    fn check_bytes(raw: &[u8]) -> Result<(), Doubt> {
        Head {
            raw,
            http_11: true,
            may_be_chunked: true,
        }
        .check()
    }

    fn check_target_of(target: &str) -> Result<(), Doubt> {
        check(&format!("GET {target} HTTP/1.1\nHost: h\n\n"))
    }

    #[test]
    fn what_windows_sends_is_beyond_doubt() {
        let head = "BITS_POST /uploads/a.bin HTTP/1.1\nAccept: */*\nBITS-Packet-Type: Fragment\nHost: server:8080\n\
                    Content-Length: 5\nConnection: Keep-Alive\n\n";
        assert_eq!(check(head), Ok(()));
    }

    #[test]
    fn empty_lines_before_the_request_line_are_skipped() {
        assert_eq!(check("\n\nGET / HTTP/1.1\nHost: h\n\n"), Ok(()));
    }

    #[test]
    fn a_bare_line_feed_anywhere_in_the_head_is_refused() {
        for head in [
            &b"GET / HTTP/1.1\nHost: h\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n\n",
            b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(check_bytes(head), Err(Doubt::BareLineFeed));
        }
    }

    #[test]
    fn two_lengths_are_refused_even_when_they_agree() {
        for fields in [
            "Content-Length: 5\ncontent-length: 5",
            "Content-Length: 5, 5",
            "Content-Length: 5\nContent-Length: 6",
        ] {
            assert_eq!(
                check(&format!("GET / HTTP/1.1\nHost: h\n{fields}\n\n")),
                Err(Doubt::TwoLengths),
                "{fields}"
            );
        }
    }

    #[test]
    fn a_length_beside_a_coding_is_refused() {
        let head = "GET / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nContent-Length: 5\n\n";
        assert_eq!(check(head), Err(Doubt::LengthAndCoding));
    }

    #[test]
    fn the_only_coding_is_chunked_told_once() {
        for coding in [
            "gzip, chunked",
            "identity",
            "chunked, chunked",
            "chunked\nTransfer-Encoding: chunked",
            "",
        ] {
            let head = format!("GET / HTTP/1.1\nHost: h\nTransfer-Encoding: {coding}\n\n");
            assert_eq!(check(&head), Err(Doubt::Coding), "{coding}");
        }
        assert_eq!(check("GET / HTTP/1.1\nHost: h\nTransfer-Encoding: Chunked\n\n"), Ok(()));
    }

    #[test]
    fn a_coding_is_refused_where_none_may_be() {
        let raw = b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let head = Head {
            raw,
            http_11: true,
            may_be_chunked: false,
        };
        assert_eq!(head.check(), Err(Doubt::CodingHere));
    }

    #[test]
    fn only_http_1_0_may_omit_the_host() {
        let raw = b"GET / HTTP/1.0\r\n\r\n";
        assert_eq!(
            Head {
                raw,
                http_11: false,
                may_be_chunked: true
            }
            .check(),
            Ok(())
        );
        assert_eq!(
            Head {
                raw,
                http_11: true,
                may_be_chunked: true
            }
            .check(),
            Err(Doubt::NoHost)
        );
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in ["", "a b", "a/b", "h\u{e4}", "a@b", "a,b"] {
            assert_eq!(
                check(&format!("GET / HTTP/1.1\nHost: {host}\n\n")),
                Err(Doubt::NoHost),
                "{host}"
            );
        }
        for host in ["server", "server:8080", "10.0.0.1:80", "[::1]:8080", "my_host.example"] {
            assert_eq!(check(&format!("GET / HTTP/1.1\nHost: {host}\n\n")), Ok(()), "{host}");
        }
    }

    #[test]
    fn targets_with_bytes_that_no_url_has_are_refused() {
        for target in [
            "/a\0b", "/a b", "/a\tb", "/a\u{7f}", "/\u{e4}", "/a#b", "/a%00b", "/a%0ab", "/a%7F", "/a?b=%00", "a", "",
        ] {
            assert_eq!(check_target_of(target), Err(Doubt::Target), "{target:?}");
        }
        for target in [
            "/a%20b",
            "/%C3%A4",
            "/a?b=%0a",
            "/%",
            "/%zz",
            "/a?b=c%",
            "*",
            "http://h/a",
            "HTTPS://h:1/a?b",
        ] {
            assert_eq!(check_target_of(target), Ok(()), "{target:?}");
        }
    }

    #[test]
    fn the_limits_are_the_last_good_lengths() {
        let target = format!("/{}", "a".repeat(MAX_TARGET - 1));
        assert_eq!(check_target_of(&target), Ok(()));
        assert_eq!(check_target_of(&format!("{target}a")), Err(Doubt::TargetTooLong));
        let frame = "GET / HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n";
        let head = |length: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
                "a".repeat(length - frame.len())
            )
        };
        assert_eq!(check_bytes(head(MAX_HEAD).as_bytes()), Ok(()));
        assert_eq!(check_bytes(head(MAX_HEAD + 1).as_bytes()), Err(Doubt::HeadTooLong));
    }
}
