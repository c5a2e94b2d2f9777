//! HTTP/1.1 as bytes: heads of answers, their framing, reading them from a connection.
//!
//! A small implementation of our own, because this client stands in for Windows: its requests carry the header names in the
//! spelling and order of Windows, which `hyper` (and `reqwest` with it) can't write, and an answer that comes while the body is
//! still being sent must be read even when the sending then fails, where `hyper` gives up with the write error.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// An answer, byte for byte as far as it matters: header names keep their spelling, headers their order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The digit after `HTTP/1.`.
    pub minor: u8,
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: String,
    /// Names and values in the order in which they came. Bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of a chunked one.
    pub body: Bytes,
}

impl Answer {
    /// The value of the first header of this name, in any letter case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The values of all headers of this name, in any letter case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The header names as they were spelled, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the connection may carry another request after this answer (RFC 9112 9.3).
    pub fn keeps_connection(&self) -> bool {
        let says = |token: &str| {
            self.all("Connection")
                .flat_map(|value| value.split(','))
                .any(|said| said.trim().eq_ignore_ascii_case(token))
        };
        match self.minor {
            0 => says("keep-alive"),
            _ => !says("close"),
        }
    }

    /// Whether another answer to the same request follows (RFC 9110 15.2).
    pub(super) const fn interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }
}

/// How the end of a body is told (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClosed,
}

/// The largest head that is read, in bytes.
const MOST_HEAD: usize = 64 * 1024;

/// Takes the head of an answer off the front of `buffer`; `None` while it is incomplete.
///
/// # Errors
/// `InvalidData` when it is no head of HTTP/1.
pub(super) fn take_head(buffer: &mut BytesMut) -> io::Result<Option<Answer>> {
    let Some(end) = find(buffer, b"\r\n\r\n") else {
        return match buffer.len() > MOST_HEAD {
            true => Err(invalid("the head of the answer is too long")),
            false => Ok(None),
        };
    };
    let head = buffer.split_to(end + 4);
    let text = String::from_utf8_lossy(&head[..end]);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let (minor, status, reason) = status_of(status_line).ok_or_else(|| invalid("the answer is not HTTP/1"))?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| invalid("a header of the answer has no colon"))?;
        if name.is_empty() || name.contains([' ', '\t', '\n', '\r']) {
            return Err(invalid("a header of the answer has no name, or blanks in it"));
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Some(Answer {
        minor,
        status,
        reason: reason.to_owned(),
        headers,
        body: Bytes::new(),
    }))
}

fn status_of(line: &str) -> Option<(u8, u16, &str)> {
    let rest = line.strip_prefix("HTTP/1.")?;
    let (minor, rest) = rest.split_once(' ')?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let minor = match minor {
        "0" => 0,
        "1" => 1,
        _ => return None,
    };
    let status = (status.len() == 3)
        .then(|| status.parse().ok())
        .flatten()
        .filter(|status| *status >= 100)?;
    Some((minor, status, reason))
}

/// Reads one answer, interim ones included, with at most `most_body` bytes of body.
///
/// # Errors
/// `UnexpectedEof` when the connection ends first, `InvalidData` when it is no HTTP/1, what the connection says otherwise.
pub(super) async fn read_answer<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    to_head: bool,
    most_body: usize,
) -> io::Result<Answer> {
    loop {
        if let Some(mut answer) = take_head(buffer)? {
            answer.body = read_body(stream, buffer, &answer, to_head, most_body).await?;
            return Ok(answer);
        }
        more(stream, buffer).await?;
    }
}

/// Reads the body that belongs to the head `answer`.
///
/// # Errors
/// As [`read_answer`].
pub(super) async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    answer: &Answer,
    to_head: bool,
    most_body: usize,
) -> io::Result<Bytes> {
    match framing(answer, to_head)? {
        Framing::Length(length) => {
            let length = usize::try_from(length)
                .ok()
                .filter(|length| *length <= most_body)
                .ok_or_else(too_long)?;
            take(stream, buffer, length).await
        }
        Framing::Chunked => read_chunks(stream, buffer, most_body).await,
        Framing::UntilClosed => {
            while stream.read_buf(buffer).await? > 0 {
                if buffer.len() > most_body {
                    return Err(too_long());
                }
            }
            Ok(buffer.split().freeze())
        }
    }
}

fn framing(answer: &Answer, to_head: bool) -> io::Result<Framing> {
    if to_head || matches!(answer.status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if let Some(coding) = answer.header("Transfer-Encoding") {
        return match coding.eq_ignore_ascii_case("chunked") {
            true => Ok(Framing::Chunked),
            false => Err(invalid("the answer has a transfer coding other than chunked")),
        };
    }
    let mut lengths = answer.all("Content-Length");
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(Framing::UntilClosed),
        (Some(length), None) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| invalid("the Content-Length of the answer is too large")),
        _ => Err(invalid("the answer has no clear Content-Length")),
    }
}

async fn read_chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    most_body: usize,
) -> io::Result<Bytes> {
    let mut body = BytesMut::new();
    loop {
        let line = take_line(stream, buffer).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| invalid("a chunk of the answer has no size"))?;
        if size > most_body.saturating_sub(body.len()) {
            return Err(too_long());
        }
        if size == 0 {
            break;
        }
        body.extend_from_slice(&take(stream, buffer, size).await?);
        if take(stream, buffer, 2).await?.as_ref() != b"\r\n" {
            return Err(invalid("a chunk of the answer does not end where it should"));
        }
    }
    while !take_line(stream, buffer).await?.is_empty() {}
    Ok(body.freeze())
}

async fn take_line<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<String> {
    loop {
        if let Some(end) = find(buffer, b"\r\n") {
            let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.advance(end + 2);
            return Ok(line);
        }
        if buffer.len() > MOST_HEAD {
            return Err(too_long());
        }
        more(stream, buffer).await?;
    }
}

async fn take<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut, length: usize) -> io::Result<Bytes> {
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    Ok(buffer.split_to(length).freeze())
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed the connection without a whole answer",
        )),
        _ => Ok(()),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn too_long() -> io::Error {
    invalid("the body of the answer is too long")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn read(bytes: &[u8]) -> io::Result<(Answer, BytesMut)> {
        block_on(async {
            let mut buffer = BytesMut::new();
            let answer = read_answer(&mut &bytes[..], &mut buffer, false, 1_000).await?;
            Ok((answer, buffer))
        })
    }

    #[test]
    fn names_keep_their_spelling_and_headers_their_order() {
        let (answer, rest) = read(
            b"HTTP/1.1 416 Requested Range Not Satisfiable\r\nBITS-Packet-Type: Ack\r\nX:\r\nx: \ty \r\nContent-Length: 0\r\n\r\nHTTP",
        )
        .unwrap();
        assert_eq!(
            (answer.minor, answer.status, answer.reason.as_str()),
            (1, 416, "Requested Range Not Satisfiable")
        );
        assert_eq!(
            answer.names().collect::<Vec<_>>(),
            ["BITS-Packet-Type", "X", "x", "Content-Length"]
        );
        assert_eq!(answer.all("X").collect::<Vec<_>>(), ["", "y"]);
        assert_eq!(&rest[..], b"HTTP");
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        for (text, body, rest) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", "abc", "d"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: t\r\n\r\nd",
                "abc",
                "d",
            ),
            ("HTTP/1.0 200 OK\r\n\r\nabcd", "abcd", ""),
            ("HTTP/1.1 204 \r\n\r\nd", "", "d"),
            ("HTTP/1.1 304\r\nContent-Length: 7\r\n\r\nd", "", "d"),
        ] {
            let (answer, left) = read(text.as_bytes()).expect(text);
            assert_eq!(
                (&answer.body[..], &left[..]),
                (body.as_bytes(), rest.as_bytes()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_clear_answer_is_an_error() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nblank : x\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_connection_is_kept_as_the_version_and_the_header_say() {
        for (text, keeps) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            let answer = take_head(&mut BytesMut::from(text)).unwrap().unwrap();
            assert_eq!(answer.keeps_connection(), keeps, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, status in 0_u16..1000) {
            let _ = read(&bytes);
            let mut answer = format!("HTTP/1.1 {status} x\r\n").into_bytes();
            answer.extend(&bytes);
            let _ = read(&answer);
        }
    }
}
