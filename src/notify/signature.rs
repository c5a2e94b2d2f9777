//! The signature by which a server application knows that a request is ours, and about which session.

use std::fmt::Write;

use ring::hmac;

use crate::clock::Timestamp;
use crate::units::Secret;

/// What is signed. The body is not: it is not known before it has been sent, and https keeps it whole.
pub(super) struct Signed<'a> {
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) session: &'a str,
    pub(super) original_url: &'a str,
    pub(super) size: u64,
    /// Where the file lies and where the reply shall be, in words of the protocol and in ours; nothing where it is in the body.
    pub(super) places: [&'a str; 5],
}

impl Signed<'_> {
    /// One line for each, so that nothing moves from one to the next: no line holds a line end.
    fn text(&self, seconds: u64) -> String {
        let Self {
            path,
            query,
            session,
            original_url,
            size,
            places,
        } = self;
        let places = places.join("\n");
        format!("v1\n{seconds}\nPOST\n{path}\n{query}\n{session}\n{original_url}\n{size}\n{places}\n")
    }
}

/// `t=<seconds since 1970>,v1=<HMAC-SHA-256 in hexadecimal digits>`.
pub(super) fn sign(key: &Secret, now: Timestamp, signed: &Signed<'_>) -> String {
    let seconds = now.as_millis() / 1000;
    of(key, seconds, &[signed.text(seconds).as_bytes()])
}

/// The same of `pieces`, one after another.
pub(super) fn of(key: &Secret, seconds: u64, pieces: &[&[u8]]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for piece in pieces {
        context.update(piece);
    }
    let tag = context.sign();
    let mut text = format!("t={seconds},v1=");
    for byte in tag.as_ref() {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed<'a>(path: &'a str, query: &'a str) -> Signed<'a> {
        Signed {
            path,
            query,
            session: "{11111111-2222-4333-8444-555555555555}",
            original_url: "http://h/up/f.bin?ACCOUNT=873112",
            size: 300_000,
            places: [""; 5],
        }
    }

    /// The example of docs/applications.md: computed with Python's `hmac` module.
    #[test]
    fn a_signature_is_what_the_documentation_says() {
        let key = Secret::inline("a key of 16 bytes or more");
        let signature = sign(
            &key,
            Timestamp::from_millis(1_764_000_000_999),
            &signed("/app/in.asp", "ACCOUNT=873112"),
        );
        assert_eq!(
            signature,
            "t=1764000000,v1=f48cee94942807166861600a4a5a523e0f835c13845667a056408dca0996445f"
        );
    }

    #[test]
    fn nothing_moves_from_one_line_to_the_next() {
        let key = Secret::inline("a key of 16 bytes or more");
        let sign = |path, query| sign(&key, Timestamp::default(), &signed(path, query));
        assert_ne!(sign("/a", "b"), sign("/", "ab"));
        assert_ne!(sign("/a", "b"), sign("/ab", ""));
    }
}
