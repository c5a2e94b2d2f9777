//! SHA-256 of a file that comes in parts, to different processes: its state is plain data, and goes into the record.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use sha2::digest::array::Array;
use sha2::digest::common::hazmat::SerializableState;

/// The SHA-256 of a whole file. Written as 64 small hexadecimal digits, as `sha256sum` does.
#[derive(Clone, Copy, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Sha256 {
    type Error = NotHex;

    fn try_from(text: String) -> Result<Self, NotHex> {
        text.parse()
    }
}

impl FromStr for Sha256 {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        let bytes = unhex(text).ok_or(NotHex)?;
        Ok(Self(bytes.try_into().map_err(|_| NotHex)?))
    }
}

/// Text that is no digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct NotHex;

/// How far the SHA-256 of a file has come: the state of the hash after its first bytes, and how many those were.
///
/// It counts only as long as the recorded parts end where it says: a version of this program that does not know it keeps it through a
/// rewrite of the record, and lists parts that it does not cover.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hashed {
    /// The bytes that went into it.
    at: u64,
    /// The state of the hash, as the library writes it: the same for all its 0.11 versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    state: String,
}

impl Hashed {
    /// Before the first byte.
    pub const fn nothing() -> Self {
        Self {
            at: 0,
            state: String::new(),
        }
    }

    /// The bytes that went into it: the offset of the next one.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The hash, ready to go on. `None` when the state is none that this version of the library writes.
    pub fn hasher(&self) -> Option<Hasher> {
        if self.at == 0 {
            return Some(Hasher::default());
        }
        let bytes = unhex(&self.state)?;
        let state = Array::try_from(bytes.as_slice()).ok()?;
        Some(Hasher {
            at: self.at,
            hash: sha2::Sha256::deserialize(&state).ok()?,
        })
    }
}

/// A hash that bytes go into, in order.
#[derive(Clone, Default)]
pub struct Hasher {
    at: u64,
    hash: sha2::Sha256,
}

impl Hasher {
    /// Takes the next bytes. About 0.6 ms of a core per MiB where it has instructions for it, and 3 ms where it does not.
    pub fn update(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// How far it has come, as a record keeps it.
    pub fn hashed(&self) -> Hashed {
        if self.at == 0 {
            return Hashed::nothing();
        }
        Hashed {
            at: self.at,
            state: hex(&self.hash.serialize()),
        }
    }

    /// The digest of all bytes that were taken.
    pub fn finish(self) -> Sha256 {
        Sha256(self.hash.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("at", &self.at).finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let value = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    let bytes: Option<_> = pairs
        .iter()
        .map(|[high, low]| Some(value(*high)? << 4 | value(*low)?))
        .collect();
    bytes.filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_digest_is_the_one_that_everybody_knows() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of(b"abc").to_string(), known);
        assert_eq!(known.parse(), Ok(Sha256::of(b"abc")));
        for wrong in ["", "ba78", &known[..63], &format!("{known}0"), &known.replace('b', "x")] {
            assert_eq!(wrong.parse::<Sha256>(), Err(NotHex), "{wrong}");
        }
    }

    /// Records that are in buckets hold this. A version of the library that writes another state must not read it by mistake: then records
    /// need a word for which one it is.
    #[test]
    fn the_state_is_the_one_that_records_hold() {
        let mut hasher = Hasher::default();
        hasher.update(&[7; 70]);
        let kept = concat!(
            r#"{"at":70,"state":"5fd7d9828641af4607ed7103a54f0c549b37e116abfe30e55fa25d6fb3140218"#,
            "010000000000000006070707070707000000000000000000000000000000000000000000000000000000000000",
            r#"000000000000000000000000000000000000000000000000000000"}"#
        );
        let hashed = hasher.hashed();
        assert_eq!(serde_json::to_string(&hashed).unwrap(), kept);
        let read: Hashed = serde_json::from_str(kept).unwrap();
        assert_eq!(read.hasher().unwrap().finish(), Sha256::of(&[7; 70]));
    }

    #[test]
    fn a_state_that_cannot_be_read_is_none() {
        for state in ["", "00", "zz", &"00".repeat(200)] {
            let hashed = Hashed {
                at: 5,
                state: state.to_owned(),
            };
            assert!(hashed.hasher().is_none(), "{state}");
        }
    }

    proptest! {
        #[test]
        fn a_hash_that_travels_is_the_hash_of_the_whole(
            data in proptest::collection::vec(any::<u8>(), 0..1000), cuts in proptest::collection::vec(0usize..1000, 0..20)
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(data.len())).collect();
            cuts.sort_unstable();
            cuts.push(data.len());
            let mut hashed = Hashed::nothing();
            let mut from = 0;
            for to in cuts {
                let written = serde_json::to_string(&hashed).unwrap();
                let read: Hashed = serde_json::from_str(&written).unwrap();
                let mut hasher = read.hasher().unwrap();
                hasher.update(&data[from..to]);
                hashed = hasher.hashed();
                prop_assert_eq!(hashed.at(), to as u64);
                from = to;
            }
            prop_assert_eq!(hashed.hasher().unwrap().finish(), Sha256::of(&data));
        }
    }
}
