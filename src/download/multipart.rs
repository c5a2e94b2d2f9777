//! Several ranges in one answer: `multipart/byteranges` (RFC 9110 14.6, RFC 2046 5.1). Pure.

use std::ops::Range;

use bytes::Bytes;
use uuid::Uuid;

use super::plan::{CONTENT_TYPE, Piece};

/// The parts of an answer, in the order of the request (MC-BUP 3.5.5.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Multipart {
    /// Ranges of the file.
    pub(super) ranges: Vec<Range<u64>>,
    /// Bytes of the whole file.
    pub(super) size: u64,
    /// What the boundary is made of. It has to be random: whoever uploads a file must not be able to foresee the line that
    /// ends a part of it.
    pub(super) boundary: Uuid,
}

impl Multipart {
    /// The media type of the whole answer.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary.as_simple())
    }

    /// What is sent, in order.
    ///
    /// Nothing stands before the first boundary, not even the empty line that RFC 2046 permits, and a part has the two headers that
    /// it must have: BITS takes at most two CRLFs in front and at most 180 bytes of other headers (http-requirements-for-bits-downloads).
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let boundary = self.boundary.as_simple();
        let size = self.size;
        let mut pieces = Vec::with_capacity(self.ranges.len() * 2 + 1);
        for (at, range) in self.ranges.iter().enumerate() {
            let line_break = if at == 0 { "" } else { "\r\n" };
            let content_range = content_range(range, size);
            let head = format!(
                "{line_break}--{boundary}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Range: {content_range}\r\n\r\n"
            );
            pieces.push(Piece::Text(Bytes::from(head)));
            pieces.push(Piece::File(range.clone()));
        }
        pieces.push(Piece::Text(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
        pieces
    }
}

/// A Content-Range of `range`, which must not be empty, in a file of `size` bytes (RFC 9110 14.4).
pub(super) fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(ranges: Vec<Range<u64>>, size: u64) -> Multipart {
        Multipart {
            ranges,
            size,
            boundary: Uuid::from_u128(0xB0),
        }
    }

    fn fill(pieces: &[Piece], file: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => body.extend_from_slice(text),
                Piece::File(range) => body.extend_from_slice(&file[range.start as usize..range.end as usize]),
            }
        }
        body
    }

    #[test]
    fn the_body_is_spelled_as_the_rfc_shows_it() {
        let parts = parts(vec![0..2, 5..10], 10);
        assert_eq!(
            parts.content_type(),
            "multipart/byteranges; boundary=000000000000000000000000000000b0"
        );
        let body = String::from_utf8(fill(&parts.pieces(), b"0123456789")).unwrap();
        let expected = "--000000000000000000000000000000b0\r\n\
            Content-Type: application/octet-stream\r\n\
            Content-Range: bytes 0-1/10\r\n\
            \r\n\
            01\r\n\
            --000000000000000000000000000000b0\r\n\
            Content-Type: application/octet-stream\r\n\
            Content-Range: bytes 5-9/10\r\n\
            \r\n\
            56789\r\n\
            --000000000000000000000000000000b0--\r\n";
        assert_eq!(body, expected);
    }

    /// Reads a body as a client does: strictly, from the front.
    fn take_apart(mut body: &[u8], boundary: &str) -> Vec<(Vec<String>, Vec<u8>)> {
        let mut found = Vec::new();
        let first = format!("--{boundary}\r\n");
        let next = format!("\r\n--{boundary}");
        body = body
            .strip_prefix(first.as_bytes())
            .expect("the body begins with the boundary");
        loop {
            let blank = body.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
            let head = String::from_utf8(body[..blank].to_vec()).unwrap();
            body = &body[blank + 4..];
            let end = body
                .windows(next.len())
                .position(|window| window == next.as_bytes())
                .unwrap();
            found.push((head.split("\r\n").map(str::to_owned).collect(), body[..end].to_vec()));
            body = &body[end + next.len()..];
            if body == b"--\r\n" {
                return found;
            }
            body = body.strip_prefix(b"\r\n").unwrap();
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_apart_is_what_was_asked_for(
            file in prop::collection::vec(any::<u8>(), 1..300),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 2..20),
        ) {
            let size = file.len();
            let ranges: Vec<_> = cuts.iter().map(|(start, end)| {
                let start = start.index(size);
                start as u64..(start + 1 + end.index(size - start)) as u64
            }).collect();
            let parts = parts(ranges.clone(), size as u64);
            let pieces = parts.pieces();
            let body = fill(&pieces, &file);
            prop_assert_eq!(body.len() as u64, pieces.iter().map(Piece::length).sum::<u64>());
            let found = take_apart(&body, &parts.boundary.as_simple().to_string());
            prop_assert_eq!(found.len(), ranges.len());
            for ((head, content), range) in found.iter().zip(&ranges) {
                let expected = format!("Content-Range: bytes {}-{}/{size}", range.start, range.end - 1);
                prop_assert_eq!(head, &["Content-Type: application/octet-stream".to_owned(), expected]);
                prop_assert_eq!(content.as_slice(), &file[range.start as usize..range.end as usize]);
            }
        }
    }
}
