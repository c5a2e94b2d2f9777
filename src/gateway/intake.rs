//! What of the bytes that come in the HTTP engine gets to see: the heads of requests, and not one byte of what follows one. Pure.
//!
//! Whoever knows that the engine has taken nothing beyond a head may read the body itself, straight into the memory in which it
//! is kept. The engine's own reader has a buffer for each connection, and copies out of it.

use bytes::BytesMut;

/// The bytes of one connection on their way to its engine.
#[derive(Debug)]
pub(super) struct Intake {
    /// Came in one piece with the head and lies behind it.
    withheld: BytesMut,
    /// Bytes that the engine was given since the request began.
    given: usize,
    head: Scan,
    /// Whether nothing that lies behind a head was ever given to the engine. Once it is not so, nobody can tell any more.
    in_step: bool,
}

impl Intake {
    /// Of a connection on which nothing has come yet.
    pub(super) fn new() -> Self {
        Self {
            withheld: BytesMut::new(),
            given: 0,
            head: Scan::default(),
            in_step: true,
        }
    }

    /// The next request begins.
    pub(super) fn begin(&mut self) {
        self.given = 0;
        self.head = Scan::default();
    }

    /// The engine asks for bytes: those at the front of what is withheld that are its own. Empty: the socket is to be read.
    pub(super) fn ask(&mut self, most: usize) -> BytesMut {
        if self.head.is_over {
            // It reads the body itself, or sees no end where we saw one.
            self.in_step = false;
        }
        let front = &self.withheld[..most.min(self.withheld.len())];
        let its_own = if self.in_step {
            self.head.pass(front)
        } else {
            front.len()
        };
        self.given += its_own;
        self.withheld.split_to(its_own)
    }

    /// How many of `fresh`, read for the engine when nothing was withheld, are its own. The others are withheld.
    pub(super) fn sort(&mut self, fresh: &[u8]) -> usize {
        let its_own = if self.in_step {
            self.head.pass(fresh)
        } else {
            fresh.len()
        };
        self.given += its_own;
        self.withheld.extend_from_slice(&fresh[its_own..]);
        its_own
    }

    /// Whether the engine was given exactly a head of this many bytes, and never anything else.
    pub(super) fn is_at_the_end_of_a_head(&mut self, length: usize) -> bool {
        self.in_step &= self.head.is_over && self.given == length;
        self.in_step
    }

    /// Takes at most `most` of the bytes behind the head that are here already.
    pub(super) fn take(&mut self, most: usize) -> BytesMut {
        self.withheld.split_to(most.min(self.withheld.len()))
    }
}

/// Where in a head the last byte was.
#[derive(Debug)]
struct Scan {
    /// Empty lines before a request are no head.
    has_begun: bool,
    is_blank_line: bool,
    is_over: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            has_begun: false,
            is_blank_line: true,
            is_over: false,
        }
    }
}

impl Scan {
    /// How many of `bytes` belong to the head: all of them, or those up to the end of its empty line.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if self.has_begun && self.is_blank_line => {
                    self.is_over = true;
                    return at + 1;
                }
                b'\n' => self.is_blank_line = true,
                b'\r' => {}
                _ => (self.has_begun, self.is_blank_line) = (true, false),
            }
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADS: [&str; 4] = [
        "BITS_POST /up/f HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
    ];

    /// What the engine reads of `wire`, which comes in pieces of these lengths, until its head is over.
    fn read_head(intake: &mut Intake, wire: &mut &[u8], pieces: &mut impl Iterator<Item = usize>) -> Vec<u8> {
        intake.begin();
        let mut head = Vec::new();
        while !intake.head.is_over {
            let most = pieces.next().unwrap();
            let mut its_own = intake.ask(most).to_vec();
            if its_own.is_empty() {
                assert!(intake.withheld.is_empty());
                let (fresh, rest) = wire.split_at(most.min(wire.len()));
                let count = intake.sort(fresh);
                its_own.extend_from_slice(&fresh[..count]);
                *wire = rest;
            }
            head.extend(its_own);
        }
        head
    }

    proptest! {
        #[test]
        fn however_the_bytes_come_the_engine_gets_each_head_and_nothing_else(
            requests in prop::collection::vec((0..HEADS.len(), prop::collection::vec(any::<u8>(), 0..40)), 1..5),
            pieces in prop::collection::vec(1_usize..80, 1..20),
        ) {
            let wire: Vec<u8> = requests.iter().flat_map(|(head, body)| [HEADS[*head].as_bytes(), body].concat()).collect();
            let (mut wire, mut pieces) = (wire.as_slice(), pieces.into_iter().cycle());
            let mut intake = Intake::new();
            for (head, body) in requests {
                let read = read_head(&mut intake, &mut wire, &mut pieces);
                prop_assert_eq!(read, HEADS[head].as_bytes());
                prop_assert!(intake.is_at_the_end_of_a_head(HEADS[head].len()));
                let mut came = intake.take(body.len()).to_vec();
                let (rest, behind) = wire.split_at(body.len() - came.len());
                wire = behind;
                came.extend_from_slice(rest);
                prop_assert_eq!(came, body);
            }
        }
    }

    #[test]
    fn an_engine_that_reads_on_gets_everything_from_then_on_and_is_never_trusted_again() {
        let mut intake = Intake::new();
        let head = HEADS[0].as_bytes();
        assert_eq!(intake.sort(&[head, b"bo"].concat()), head.len());
        assert_eq!(intake.ask(100), "bo");
        assert_eq!(intake.ask(100), "");
        assert_eq!(intake.sort(b"dy\r\n\r\nand more"), 14);
        intake.begin();
        assert_eq!(intake.sort(&[head, b"body"].concat()), head.len() + 4);
        assert!(!intake.is_at_the_end_of_a_head(head.len()));
    }

    #[test]
    fn an_engine_that_has_another_idea_of_the_head_is_not_trusted() {
        let head = HEADS[0].as_bytes();
        for other in [head.len() - 2, head.len() + 3] {
            let mut intake = Intake::new();
            intake.sort(head);
            assert!(!intake.is_at_the_end_of_a_head(other));
            assert!(!intake.is_at_the_end_of_a_head(head.len()), "for good");
        }
    }
}
