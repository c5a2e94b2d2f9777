//! The identifiers of the protocol: GUIDs in their text form (MC-BUP 2.2, MS-DTYP 2.3.4.3).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::Malformed;

/// The name of one upload session.
///
/// Written as the protocol writes it, `{UPPER-CASE-GUID}`; read with or without braces, in any letter case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(Uuid);

impl SessionId {
    /// The session that is named by `guid`.
    pub const fn new(guid: Uuid) -> Self {
        Self(guid)
    }

    /// The GUID without braces, lower case: the form in which it appears in object names.
    pub fn as_key(&self) -> String {
        self.0.as_hyphenated().to_string()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{:X}}}", self.0.as_hyphenated())
    }
}

impl FromStr for SessionId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        parse_guid(text).map(Self).ok_or(Malformed::SessionId)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// `{8-4-4-4-12}`, braces optional but paired, any letter case; nothing else that `uuid` would take (no `urn:`, no bare 32 digits).
pub(super) fn parse_guid(text: &str) -> Option<Uuid> {
    let bare = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    if bare.len() != 36 || !bare.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return None;
    }
    Uuid::try_parse(bare).ok()
}
