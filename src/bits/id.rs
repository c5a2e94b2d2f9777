//! The identifiers of the protocol: GUIDs in their text form (MC-BUP 2.2, MS-DTYP 2.3.4.3).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::Malformed;

/// The one protocol there is (MC-BUP 1.7.1, appendix A <6>), as Windows writes it.
pub const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// Entries of a list of protocols that count; a server may ignore what comes after them (MC-BUP appendix A <6>).
pub const PROTOCOLS_LIMIT: usize = 100;

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

    /// Writes the text of the protocol, `{UPPER-CASE-GUID}`, into `buffer`.
    pub(super) fn encode<'a>(&self, buffer: &'a mut [u8; TEXT_LENGTH]) -> &'a str {
        self.0.as_braced().encode_upper(buffer)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; TEXT_LENGTH]))
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

/// Whether a value of `BITS-Supported-Protocols` holds [`PROTOCOL`] among its first [`PROTOCOLS_LIMIT`] entries.
///
/// Any run of blanks and commas separates entries: MC-BUP 2.2.2.2 has both, the win32 documentation blanks only.
/// Letter case and braces don't matter, and entries of any other kind are passed over.
pub fn offers_protocol(list: &[u8]) -> bool {
    any_offers_protocol(std::iter::once(list))
}

/// The same for a list that came in several lines: they are one list (RFC 2616 4.2).
pub(super) fn any_offers_protocol<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    lines
        .flat_map(|line| line.split(|b| matches!(b, b' ' | b'\t' | b',')))
        .filter(|entry| !entry.is_empty())
        .take(PROTOCOLS_LIMIT)
        .any(|entry| strip_braces(entry).is_some_and(|guid| guid.eq_ignore_ascii_case(PROTOCOL_BARE)))
}

/// `{8-4-4-4-12}`, braces optional but paired, any letter case; nothing else that `uuid` would take (no `urn:`, no
/// bare 32 digits).
fn parse_guid(text: &str) -> Option<Uuid> {
    let bare = strip_braces(text.as_bytes())?;
    if bare.len() != 36 || !bare.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-') {
        return None;
    }
    Uuid::try_parse_ascii(bare).ok()
}

/// `text` without its braces; `None` when one of the pair is missing.
fn strip_braces(text: &[u8]) -> Option<&[u8]> {
    match text.strip_prefix(b"{") {
        Some(rest) => rest.strip_suffix(b"}"),
        None => Some(text),
    }
}

/// Bytes of a GUID in braces.
pub(super) const TEXT_LENGTH: usize = uuid::fmt::Braced::LENGTH;
const PROTOCOL_BARE: &[u8] = b"7df0354d-249b-430f-820d-3d2a9bef4931";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OTHER: &str = "{00000000-0000-0000-0000-000000000001}";

    #[test]
    fn an_id_is_written_in_braces_and_upper_case() {
        let id: SessionId = "{a0ff5911-4144-45b3-bf27-27afc8ec8a67}".parse().unwrap();
        assert_eq!(id.to_string(), "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}");
        assert_eq!(id.as_key(), "a0ff5911-4144-45b3-bf27-27afc8ec8a67");
    }

    #[test]
    fn an_id_is_read_with_and_without_braces_in_any_letter_case() {
        let id = SessionId::new(Uuid::from_u128(0xA0FF_5911_4144_45B3_BF27_27AF_C8EC_8A67));
        for text in [
            "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}",
            "{a0ff5911-4144-45b3-bf27-27afc8ec8a67}",
            "{A0ff5911-4144-45B3-bf27-27AFC8ec8a67}",
            "A0FF5911-4144-45B3-BF27-27AFC8EC8A67",
            "a0ff5911-4144-45b3-bf27-27afc8ec8a67",
        ] {
            assert_eq!(text.parse(), Ok(id), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_an_id() {
        for text in [
            "",
            "{}",
            "x",
            "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67",
            "A0FF5911-4144-45B3-BF27-27AFC8EC8A67}",
            "{{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}}",
            "(A0FF5911-4144-45B3-BF27-27AFC8EC8A67)",
            "A0FF5911414445B3BF2727AFC8EC8A67",
            "{A0FF5911414445B3BF2727AFC8EC8A67}",
            "urn:uuid:A0FF5911-4144-45B3-BF27-27AFC8EC8A67",
            "A0FF-59114144-45B3-BF27-27AFC8EC8A67",
            "{A0FF5911-4144-45B3-BF27-27AFC8EC8A6}",
            "{A0FF5911-4144-45B3-BF27-27AFC8EC8A677}",
            "{G0FF5911-4144-45B3-BF27-27AFC8EC8A67}",
            "{A0FF5911-4144-45B3-BF27-27AFC8EC8Aé}",
            "../../../../../../../../../../etc/passwd",
            "------------------------------------",
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(Malformed::SessionId), "{text:?}");
        }
    }

    #[test]
    fn the_protocol_is_found_among_others_however_they_are_separated() {
        let ours = PROTOCOL;
        for list in [
            ours.to_owned(),
            format!("{OTHER} {ours}"),
            format!("{ours} {OTHER}"),
            format!("{OTHER},{ours},{OTHER}"),
            format!("{OTHER}, \t,, {ours} ,"),
            format!(",,  {ours}"),
            format!("nonsense {ours}"),
            ours.to_uppercase(),
            "{7df0354d-249b-430f-820D-3D2A9BEF4931}".to_owned(),
            "7df0354d-249b-430f-820d-3d2a9bef4931".to_owned(),
        ] {
            assert!(offers_protocol(list.as_bytes()), "{list:?}");
        }
    }

    #[test]
    fn a_list_without_the_protocol_does_not_offer_it() {
        for list in [
            "",
            " ,, ",
            OTHER,
            "nonsense",
            "{7df0354d-249b-430f-820d-3d2a9bef4931",
            "7df0354d-249b-430f-820d-3d2a9bef4931}",
            "{7df0354d-249b-430f-820d-3d2a9bef4932}",
            "{7df0354d-249b-430f-820d-3d2a9bef4931};",
        ] {
            assert!(!offers_protocol(list.as_bytes()), "{list:?}");
        }
    }

    #[test]
    fn the_first_hundred_entries_count() {
        let others = vec![OTHER; 99].join(" ");
        assert!(offers_protocol(format!("{others} {PROTOCOL}").as_bytes()));
        assert!(!offers_protocol(format!("{others} {OTHER} {PROTOCOL}").as_bytes()));
        let lines = [others.as_bytes(), PROTOCOL.as_bytes()];
        assert!(any_offers_protocol(lines.into_iter()));
        let lines = [others.as_bytes(), OTHER.as_bytes(), PROTOCOL.as_bytes()];
        assert!(!any_offers_protocol(lines.into_iter()));
    }

    #[test]
    fn the_bare_form_is_the_protocol_without_braces() {
        assert_eq!(strip_braces(PROTOCOL.as_bytes()), Some(PROTOCOL_BARE));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(guid in any::<u128>()) {
            let id = SessionId::new(Uuid::from_u128(guid));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.as_key().parse(), Ok(id));
            prop_assert_eq!(serde_json::from_str::<SessionId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), list in any::<Vec<u8>>()) {
            let _ = text.parse::<SessionId>();
            let _ = offers_protocol(&list);
        }

        #[test]
        fn a_list_of_clean_entries_offers_the_protocol_when_one_of_them_is_it(
            entries in prop::collection::vec(prop_oneof![Just(PROTOCOL), Just(OTHER)], 0..=100),
            separator in "[ ,\t]{1,3}",
        ) {
            let list = entries.join(&separator);
            prop_assert_eq!(offers_protocol(list.as_bytes()), entries.contains(&PROTOCOL));
        }
    }
}
