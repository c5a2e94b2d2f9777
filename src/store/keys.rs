//! Names of objects. The only file that spells one.

use std::fmt;

use object_store::path::Path;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use uuid::Uuid;

use crate::bits::SessionId;
use crate::session::{EventKind, PageName, ReplyName};
use crate::staging::UploadId;

/// The reserved prefix unless the configuration says another one.
pub const DEFAULT_RESERVED: &str = ".bits-gateway/";

/// Longest key in bytes, with the prefix of the store: what S3, GCS and Azure take.
const LONGEST_KEY: usize = 1024;

/// The longest name of a device: `CONOUT$`.
const LONGEST_DEVICE: usize = 7;

/// Longest segment in bytes: what file systems take, and every consumer that copies an upload onto one.
const LONGEST_SEGMENT: usize = 255;

/// The destination of an upload below the prefix of the route's store: relative, normalised (NFC), and never one of our own objects.
/// Or where a session of a server application keeps its file and its reply: no text makes such a key, so no URL names one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    name: String,
    /// Whether it lies among the objects of a session, and is named relative to all of them.
    is_own: bool,
}

/// Why a path names no key: 400, without a single request to the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyRefused {
    /// Nothing after the last slash: a directory, not a file.
    #[error("the path names a directory")]
    Directory,
    /// A percent sign that begins no escape.
    #[error("the path holds a broken percent escape")]
    BrokenEscape,
    /// A slash that was escaped: proxies disagree about what it means.
    #[error("the path holds an escaped slash")]
    EscapedSlash,
    /// Escaped twice: `%252e` and its kind.
    #[error("the path is escaped twice")]
    EscapedTwice,
    /// Not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// A control character, a line or paragraph separator, or no character at all.
    #[error("the path holds a control character")]
    Control,
    /// A character that turns the direction of the text.
    #[error("the path holds a bidirectional control")]
    Bidirectional,
    /// A backslash.
    #[error("the path holds a backslash")]
    Backslash,
    /// A colon: a drive or an alternate data stream on Windows.
    #[error("the path holds a colon")]
    Colon,
    /// A character that looks like a dot, a slash, a backslash or a colon.
    #[error("the path holds a character that looks like a dot, a slash or a colon")]
    LookAlike,
    /// Two slashes in a row, or one at the beginning.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// `.` or `..`.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// A segment that ends in a dot or a space, which Windows drops.
    #[error("a segment of the path ends in a dot or a space")]
    TrailingDotOrSpace,
    /// `CON`, `NUL`, `COM1` and their kind, with or without an extension.
    #[error("the path holds a Windows device name")]
    DeviceName,
    /// More than 255 bytes in a segment.
    #[error("a segment of the path is longer than 255 bytes")]
    SegmentTooLong,
    /// More than 1024 bytes.
    #[error("the path is longer than 1024 bytes")]
    TooLong,
    /// One of the gateway's own objects.
    #[error("the path is reserved")]
    Reserved,
}

impl Key {
    /// The key that the raw path of a request names, below the prefix of its route and without a leading slash.
    /// Escapes are undone exactly once.
    ///
    /// # Errors
    /// [`KeyRefused`]; nothing has asked the store by then.
    pub fn from_request(raw: &str) -> Result<Self, KeyRefused> {
        let decoded = decode(raw)?;
        Self::parse(&decoded)
    }

    /// The key with this decoded name, as a record holds it.
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn parse(name: &str) -> Result<Self, KeyRefused> {
        check(name)?;
        if is_nfc(name) {
            return Ok(Self::destination(name.to_owned()));
        }
        let normal: String = name.nfc().collect();
        // Normalising exchanges characters (a Kelvin sign becomes a K), so what it yields is judged anew.
        check(&normal)?;
        Ok(Self::destination(normal))
    }

    const fn destination(name: String) -> Self {
        Self { name, is_own: false }
    }

    /// Where the whole file of a session lies until its server application took it, and its client closed it.
    pub fn entity(id: SessionId) -> Self {
        Self {
            name: format!("{}/entity", id.as_key()),
            is_own: true,
        }
    }

    /// Where a session keeps this reply of its server application.
    pub fn reply(id: SessionId, name: ReplyName) -> Self {
        Self {
            name: format!("{}/reply/{}", id.as_key(), name.0),
            is_own: true,
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether it names an object of a session, not a destination.
    pub const fn is_own(&self) -> bool {
        self.is_own
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Undoes percent escapes once.
fn decode(raw: &str) -> Result<String, KeyRefused> {
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<&u8>| byte.and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(KeyRefused::BrokenEscape);
        };
        // Two hexadecimal digits are a byte.
        let byte = (high * 16 + low) as u8;
        if byte == b'/' {
            return Err(KeyRefused::EscapedSlash);
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).map_err(|_| KeyRefused::NotUtf8)
}

fn check(name: &str) -> Result<(), KeyRefused> {
    if name.is_empty() || name.ends_with('/') {
        return Err(KeyRefused::Directory);
    }
    if name.len() > LONGEST_KEY {
        return Err(KeyRefused::TooLong);
    }
    name.chars().try_for_each(check_character)?;
    if escaped_again(name) {
        return Err(KeyRefused::EscapedTwice);
    }
    name.split('/').try_for_each(check_segment)?;
    if holds_reserved(name, DEFAULT_RESERVED) {
        return Err(KeyRefused::Reserved);
    }
    Ok(())
}

fn check_character(character: char) -> Result<(), KeyRefused> {
    match character {
        '\\' => Err(KeyRefused::Backslash),
        ':' => Err(KeyRefused::Colon),
        // Separators break log lines; noncharacters and the byte order mark can't be told in the XML of a listing.
        '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FDD0}'..='\u{FDEF}' => Err(KeyRefused::Control),
        _ if character.is_control() || (character as u32) & 0xFFFE == 0xFFFE => Err(KeyRefused::Control),
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            Err(KeyRefused::Bidirectional)
        }
        // Dots, slashes, backslashes and colons in disguise.
        '\u{2024}' | '\u{2025}' | '\u{FE52}' | '\u{FF0E}' | '\u{2044}' | '\u{2215}' | '\u{29F8}' | '\u{FF0F}'
        | '\u{29F5}' | '\u{29F9}' | '\u{FE68}' | '\u{FF3C}' | '\u{A789}' | '\u{FE55}' | '\u{FF1A}' => {
            Err(KeyRefused::LookAlike)
        }
        _ => Ok(()),
    }
}

/// Whether an escape of a dot, a slash, a backslash or a NUL is left after one decoding.
fn escaped_again(name: &str) -> bool {
    name.match_indices('%').any(|(at, _)| {
        let escape = name.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        [b"2e", b"2f", b"5c", b"00"]
            .iter()
            .any(|bad| escape.eq_ignore_ascii_case(*bad))
    })
}

fn check_segment(segment: &str) -> Result<(), KeyRefused> {
    match segment {
        "" => Err(KeyRefused::EmptySegment),
        "." | ".." => Err(KeyRefused::DotSegment),
        _ if segment.len() > LONGEST_SEGMENT => Err(KeyRefused::SegmentTooLong),
        _ if segment.ends_with(['.', ' ']) => Err(KeyRefused::TrailingDotOrSpace),
        _ if is_device(segment) => Err(KeyRefused::DeviceName),
        _ => Ok(()),
    }
}

/// Whether Windows takes the segment for a device, whatever its extension.
fn is_device(segment: &str) -> bool {
    let stem = segment.split('.').next().unwrap_or_default().trim_end_matches(' ');
    if stem.len() > LONGEST_DEVICE {
        return false;
    }
    let stem = stem.to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let port = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    // Windows takes superscript digits for digits here.
    port.is_some_and(|port| {
        matches!(
            port,
            "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
        )
    })
}

/// Whether some run of segments spells `reserved`, in any letter case. Not only at the beginning: the store of another route
/// may begin deeper in the same bucket.
fn holds_reserved(name: &str, reserved: &str) -> bool {
    let reserved = reserved.trim_matches('/');
    if name.is_ascii() && reserved.is_ascii() {
        holds_run(name, reserved)
    } else {
        holds_folded_run(name, reserved)
    }
}

/// The same for names in ASCII, which nearly all are: every packet asks.
fn holds_run(name: &str, run: &str) -> bool {
    let begins = name.match_indices('/').map(|(slash, _)| slash + 1);
    std::iter::once(0).chain(begins).any(|begin| {
        let rest = name.get(begin..).unwrap_or_default();
        let (same, next) = (rest.get(..run.len()), rest.as_bytes().get(run.len()));
        same.is_some_and(|same| same.eq_ignore_ascii_case(run)) && matches!(next, None | Some(b'/'))
    })
}

fn holds_folded_run(name: &str, run: &str) -> bool {
    let fold = |segment: &str| segment.to_uppercase().to_lowercase();
    let run: Vec<String> = run.split('/').map(fold).collect();
    let segments: Vec<String> = name.split('/').map(fold).collect();
    segments.windows(run.len()).any(|found| found == run)
}

/// Where things lie in the buckets of a store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Prefix of destinations: empty, or with a slash at its end.
    destinations: String,
    /// Prefix of our own objects among the destinations, with a slash at its end.
    reserved: String,
    /// Prefix of our own objects in the bucket of the sessions, with a slash at its end.
    own: String,
}

/// What an object below a session's prefix is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Name {
    /// The record.
    Record,
    /// A full page of parts.
    Page(PageName),
    /// The tail that begins at this offset.
    Tail(u64),
    /// The mark that an event of the session was delivered, or given up.
    Event(EventKind),
    /// Something else, named relative to the session.
    Other(String),
}

impl Name {
    /// Whether it stays with the tombstone until that is forgotten.
    pub const fn is_kept(&self) -> bool {
        matches!(self, Self::Record | Self::Event(_))
    }
}

/// Why the prefixes of a store make no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a prefix must not hold empty or dot segments, backslashes or control characters")]
pub(super) struct BadPrefix;

impl Layout {
    /// Destinations below `destinations`, our own objects below `reserved` within `staging`.
    pub(super) fn new(destinations: &str, staging: &str, reserved: &str) -> Result<Self, BadPrefix> {
        let destinations = prefix(destinations)?;
        let reserved = prefix(reserved)?;
        if reserved.is_empty() {
            return Err(BadPrefix);
        }
        Ok(Self {
            own: prefix(staging)? + &reserved,
            destinations,
            reserved,
        })
    }

    /// Whether a key may be used in this store: neither reserved by its configuration nor too long with its prefix.
    pub(super) fn admits(&self, key: &Key) -> Result<(), KeyRefused> {
        if key.is_own {
            return Ok(());
        }
        if holds_reserved(key.as_str(), &self.reserved) {
            return Err(KeyRefused::Reserved);
        }
        if self.destinations.len() + key.as_str().len() > LONGEST_KEY {
            return Err(KeyRefused::TooLong);
        }
        Ok(())
    }

    /// The object that `key` names.
    pub(super) fn destination(&self, key: &Key) -> Result<Path, KeyRefused> {
        self.admits(key)?;
        Ok(path(&if key.is_own {
            format!("{}sessions/{}", self.own, key.name)
        } else {
            format!("{}{}", self.destinations, key.name)
        }))
    }

    /// Where all sessions are.
    pub(super) fn sessions(&self) -> Path {
        path(&format!("{}sessions", self.own))
    }

    /// Where one session is.
    pub(super) fn session(&self, id: SessionId) -> Path {
        path(&format!("{}sessions/{}", self.own, id.as_key()))
    }

    /// An object of a session.
    pub(super) fn object(&self, id: SessionId, name: &Name) -> Path {
        let (own, session) = (&self.own, id.as_key());
        path(&match name {
            Name::Record => format!("{own}sessions/{session}/record"),
            Name::Page(page) => format!("{own}sessions/{session}/parts/{}", page.0),
            Name::Tail(from) => format!("{own}sessions/{session}/tail/{from:020}"),
            Name::Event(kind) => format!("{own}sessions/{session}/event/{}", kind.as_str()),
            Name::Other(name) => format!("{own}sessions/{session}/{name}"),
        })
    }

    /// Where the tails of a session are.
    pub(super) fn tails(&self, id: SessionId) -> Path {
        path(&format!("{}sessions/{}/tail", self.own, id.as_key()))
    }

    /// The object that elects the sweeper of an interval.
    pub(super) fn sweep(&self) -> Path {
        path(&format!("{}sweep", self.own))
    }

    /// The object that elects who delivers the events that others left.
    pub(super) fn events(&self) -> Path {
        path(&format!("{}events", self.own))
    }

    /// The object that is put to learn the store's own time.
    pub(super) fn clock(&self) -> Path {
        path(&format!("{}clock", self.own))
    }

    /// An object of one run of the probe among the sessions.
    pub(super) fn probe(&self, run: Uuid, name: &str) -> Path {
        path(&format!("{}probe/{run}/{name}", self.own))
    }

    /// An object of one run of the probe among the destinations.
    pub(super) fn probe_destination(&self, run: Uuid, name: &str) -> Path {
        path(&format!("{}{}probe/{run}/{name}", self.destinations, self.reserved))
    }

    /// Where files are assembled among the destinations.
    pub(super) fn assembly(&self) -> Assembly {
        Assembly(format!("{}{}assembled/", self.destinations, self.reserved))
    }

    /// Which session and what of it an object is.
    pub(super) fn parse(&self, path: &Path) -> Option<(SessionId, Name)> {
        let below = path.as_ref().strip_prefix(&self.own)?.strip_prefix("sessions/")?;
        let (id, name) = below.split_once('/')?;
        let id: SessionId = id.parse().ok()?;
        let tail = |text: &str| (text.len() == 20).then(|| text.parse().ok()).flatten();
        let name = match name.split_once('/') {
            None if name == "record" => Name::Record,
            Some(("parts", page)) if !page.contains('/') => Name::Page(PageName(page.to_owned())),
            Some(("tail", from)) => tail(from).map_or_else(|| Name::Other(name.to_owned()), Name::Tail),
            Some(("event", kind)) => EventKind::named(kind).map_or_else(|| Name::Other(name.to_owned()), Name::Event),
            _ => Name::Other(name.to_owned()),
        };
        Some((id, name))
    }
}

/// Where files are assembled before they get their names, on a store whose completion takes no condition.
#[derive(Clone, Debug)]
pub(super) struct Assembly(String);

impl Assembly {
    /// Where the file of `session` that goes to `destination` is assembled.
    pub(super) fn path(&self, destination: &Path, session: SessionId) -> Path {
        path(&format!("{}{}", self.prefix(destination), session.as_key()))
    }

    /// Where all files that go to `destination` are assembled. The name of a destination is too long to be part of another one, so
    /// its hash is; two that share one harm nothing, sessions differ.
    pub(super) fn prefix(&self, destination: &Path) -> String {
        // FNV-1a: the same in every version of this program.
        let hash = destination
            .as_ref()
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            });
        format!("{}{hash:016x}/", self.0)
    }

    /// An upload of `session`, so that its parts and its end find where it is assembled.
    pub(super) fn upload(session: SessionId, id: &str) -> UploadId {
        UploadId(format!("{}:{id}", session.as_key()))
    }

    /// Where an upload is assembled, and what the store calls it.
    pub(super) fn split<'a>(&self, destination: &Path, upload: &'a UploadId) -> Option<(Path, &'a str)> {
        let (session, id) = upload.0.split_once(':')?;
        Some((self.path(destination, session.parse().ok()?), id))
    }
}

/// The name of a full page: its number, and what keeps two writers of it apart.
pub(super) fn page_name(number: usize, write: Uuid) -> PageName {
    PageName(format!("{number:05}-{}", write.simple()))
}

/// A prefix without a slash at its beginning and with one at its end, or empty.
fn prefix(text: &str) -> Result<String, BadPrefix> {
    let bare = text.strip_prefix('/').unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    if bare.is_empty() {
        return Ok(String::new());
    }
    let odd =
        |segment: &str| matches!(segment, "" | "." | "..") || segment.contains(|c: char| c == '\\' || c.is_control());
    if bare.split('/').any(odd) {
        return Err(BadPrefix);
    }
    Ok(format!("{bare}/"))
}

/// The path that `text` spells as it is.
fn path(text: &str) -> Path {
    // `parse` refuses empty and dot segments and control characters: keys, prefixes and page names hold none.
    Path::parse(text).unwrap_or_else(|_| Path::from(text))
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use proptest::prelude::*;

    use super::*;

    /// Every one of these is 400, before anybody asks the store.
    const BAD: &[(&str, &str, KeyRefused)] = &[
        ("nothing", "", KeyRefused::Directory),
        ("a directory", "dir/", KeyRefused::Directory),
        ("only a slash", "/", KeyRefused::Directory),
        ("a leading slash", "/a", KeyRefused::EmptySegment),
        ("two slashes", "a//b", KeyRefused::EmptySegment),
        ("three slashes", "a///b", KeyRefused::EmptySegment),
        ("two slashes at the end", "a//", KeyRefused::Directory),
        ("a dot", ".", KeyRefused::DotSegment),
        ("two dots", "..", KeyRefused::DotSegment),
        ("a way up", "../a", KeyRefused::DotSegment),
        ("a way up in the middle", "a/../b", KeyRefused::DotSegment),
        ("a way up at the end", "a/..", KeyRefused::DotSegment),
        ("a dot in the middle", "a/./b", KeyRefused::DotSegment),
        ("an escaped dot", "%2e", KeyRefused::DotSegment),
        ("escaped dots", "a/%2e%2e/b", KeyRefused::DotSegment),
        ("half escaped dots", "a/.%2E/b", KeyRefused::DotSegment),
        ("dots escaped twice", "a/%252e%252e/b", KeyRefused::EscapedTwice),
        ("a slash escaped twice", "a%252Fb", KeyRefused::EscapedTwice),
        ("a backslash escaped twice", "a%255cb", KeyRefused::EscapedTwice),
        ("a NUL escaped twice", "a%2500", KeyRefused::EscapedTwice),
        ("an escaped slash", "a%2fb", KeyRefused::EscapedSlash),
        ("an escaped slash, upper case", "a%2Fb", KeyRefused::EscapedSlash),
        ("an escaped way up", "%2e%2e%2fa", KeyRefused::EscapedSlash),
        ("a backslash", "a\\b", KeyRefused::Backslash),
        ("an escaped backslash", "a%5cb", KeyRefused::Backslash),
        ("a way up in Windows' manner", "..%5c..%5ca", KeyRefused::Backslash),
        ("a share", "%5c%5cserver%5cshare", KeyRefused::Backslash),
        ("a drive", "C:a", KeyRefused::Colon),
        ("a drive with a slash", "C:/a", KeyRefused::Colon),
        ("an alternate stream", "a.txt:hidden", KeyRefused::Colon),
        ("an alternate stream with a type", "a.txt::$DATA", KeyRefused::Colon),
        ("an escaped colon", "a%3Ab", KeyRefused::Colon),
        ("a percent sign at the end", "a%", KeyRefused::BrokenEscape),
        ("half an escape", "a%4", KeyRefused::BrokenEscape),
        ("no hexadecimal digits", "a%zz", KeyRefused::BrokenEscape),
        ("a sign in an escape", "a%+1", KeyRefused::BrokenEscape),
        ("an escape in IIS' manner", "a%u002e", KeyRefused::BrokenEscape),
        ("no UTF-8", "a%ff", KeyRefused::NotUtf8),
        ("an overlong slash", "a%c0%afb", KeyRefused::NotUtf8),
        ("an overlong dot", "%c0%ae", KeyRefused::NotUtf8),
        ("a lone surrogate", "a%ed%a0%80", KeyRefused::NotUtf8),
        ("half a character", "a%e2%82", KeyRefused::NotUtf8),
        ("a NUL", "a%00", KeyRefused::Control),
        ("a NUL before an extension", "a.exe%00.txt", KeyRefused::Control),
        ("a line feed", "a%0ab", KeyRefused::Control),
        ("a carriage return", "a%0d%0ab", KeyRefused::Control),
        ("a tab", "a%09b", KeyRefused::Control),
        ("an escape character", "a%1b[2J", KeyRefused::Control),
        ("DEL", "a%7f", KeyRefused::Control),
        ("a C1 control", "a%c2%85", KeyRefused::Control),
        ("a line separator", "a\u{2028}b", KeyRefused::Control),
        ("a byte order mark", "\u{FEFF}a", KeyRefused::Control),
        ("a noncharacter", "a\u{FFFF}", KeyRefused::Control),
        (
            "a right-to-left override",
            "a\u{202E}txt.exe",
            KeyRefused::Bidirectional,
        ),
        ("a right-to-left mark", "a\u{200F}", KeyRefused::Bidirectional),
        ("a directional isolate", "a\u{2066}b", KeyRefused::Bidirectional),
        ("an Arabic letter mark", "a\u{061C}", KeyRefused::Bidirectional),
        ("one dot leaders", "\u{2024}\u{2024}", KeyRefused::LookAlike),
        ("a two dot leader", "\u{2025}", KeyRefused::LookAlike),
        ("fullwidth full stops", "a/\u{FF0E}\u{FF0E}/b", KeyRefused::LookAlike),
        ("a fullwidth slash", "a\u{FF0F}b", KeyRefused::LookAlike),
        ("a division slash", "a\u{2215}b", KeyRefused::LookAlike),
        ("a fraction slash", "a\u{2044}b", KeyRefused::LookAlike),
        ("a fullwidth backslash", "a\u{FF3C}b", KeyRefused::LookAlike),
        ("a fullwidth colon", "a\u{FF1A}b", KeyRefused::LookAlike),
        ("an escaped look-alike", "a%ef%bc%8fb", KeyRefused::LookAlike),
        ("a dot at the end", "a.", KeyRefused::TrailingDotOrSpace),
        ("a dot at the end of a segment", "a./b", KeyRefused::TrailingDotOrSpace),
        ("three dots", "...", KeyRefused::TrailingDotOrSpace),
        ("a space at the end", "a%20", KeyRefused::TrailingDotOrSpace),
        ("only a space", "%20", KeyRefused::TrailingDotOrSpace),
        ("dots and a space", "..%20", KeyRefused::TrailingDotOrSpace),
        ("a device", "CON", KeyRefused::DeviceName),
        ("a device in lower case", "nul", KeyRefused::DeviceName),
        ("a device with an extension", "aux.txt", KeyRefused::DeviceName),
        ("a device with two extensions", "prn.tar.gz", KeyRefused::DeviceName),
        ("a device as a directory", "a/com1/b", KeyRefused::DeviceName),
        ("a printer", "LPT9", KeyRefused::DeviceName),
        ("a port with a superscript digit", "COM\u{B9}", KeyRefused::DeviceName),
        ("a device before a space", "con%20.txt", KeyRefused::DeviceName),
        ("the console", "CONIN$", KeyRefused::DeviceName),
        (
            "our own objects",
            ".bits-gateway/sessions/x/record",
            KeyRefused::Reserved,
        ),
        ("our own folder as a file", ".bits-gateway", KeyRefused::Reserved),
        (
            "our own objects in capitals",
            ".BITS-Gateway/sweep",
            KeyRefused::Reserved,
        ),
        (
            "our own objects, escaped",
            "%2ebits%2dgateway/sweep",
            KeyRefused::Reserved,
        ),
        (
            "our own objects with a long s",
            ".bit\u{17F}-gateway/sweep",
            KeyRefused::Reserved,
        ),
        (
            "our own objects of a store further down",
            "a/.bits-gateway/sweep",
            KeyRefused::Reserved,
        ),
    ];

    #[test]
    fn every_bad_path_is_refused_for_what_is_bad_about_it() {
        assert!(BAD.len() >= 60);
        for (name, path, why) in BAD {
            assert_eq!(Key::from_request(path), Err(*why), "{name}: {path:?}");
        }
    }

    #[test]
    fn lengths_are_counted_in_bytes() {
        let segment = "x".repeat(255);
        assert!(Key::from_request(&segment).is_ok());
        assert_eq!(
            Key::from_request(&format!("{segment}x")),
            Err(KeyRefused::SegmentTooLong)
        );
        assert_eq!(Key::from_request(&"ä".repeat(128)), Err(KeyRefused::SegmentTooLong));
        let long = [segment.as_str(); 4].join("/");
        assert_eq!(long.len(), 1023);
        assert!(Key::from_request(&long).is_ok());
        assert_eq!(Key::from_request(&format!("{long}/y")), Err(KeyRefused::TooLong));
    }

    #[test]
    fn good_paths_are_decoded_once_and_normalised() {
        for (path, key) in [
            ("a", "a"),
            ("a/b.txt", "a/b.txt"),
            ("with%20space", "with space"),
            ("a+b", "a+b"),
            ("100%25", "100%"),
            ("a%2525b", "a%25b"),
            ("%23tag", "#tag"),
            ("what%3f", "what?"),
            ("conf", "conf"),
            ("com10.txt", "com10.txt"),
            ("console.log", "console.log"),
            (".hidden", ".hidden"),
            ("..two", "..two"),
            ("bits-gateway", "bits-gateway"),
            (".bits-gateways", ".bits-gateways"),
            ("u%CC%88ber", "über"),
            ("\u{212A}elvin", "Kelvin"),
            ("%E6%97%A5%E6%9C%AC", "日本"),
        ] {
            assert_eq!(Key::from_request(path).unwrap().as_str(), key, "{path}");
        }
    }

    #[test]
    fn a_configured_reserved_prefix_is_out_of_reach_too() {
        let layout = Layout::new("files", "", "own/things").unwrap();
        for name in ["own/things", "OWN/things/x", "a/own/things/x"] {
            assert_eq!(
                layout.admits(&Key::parse(name).unwrap()),
                Err(KeyRefused::Reserved),
                "{name}"
            );
        }
        for name in ["own", "own/thing", "things/own"] {
            layout.admits(&Key::parse(name).unwrap()).unwrap();
        }
        let long = Key::parse(&["x".repeat(255).as_str(); 4].join("/")).unwrap();
        assert_eq!(layout.admits(&long), Err(KeyRefused::TooLong));
    }

    #[test]
    fn names_of_objects_are_read_as_they_are_written() {
        let layout = Layout::new("/files/", "staging", ".bits-gateway/").unwrap();
        let id = SessionId::new(Uuid::from_u128(7));
        let names = [
            Name::Record,
            Name::Page(page_name(3, Uuid::from_u128(1))),
            Name::Tail(0),
            Name::Tail(u64::MAX),
            Name::Other("entity".to_owned()),
        ];
        for name in names {
            let path = layout.object(id, &name);
            assert!(
                path.as_ref().starts_with("staging/.bits-gateway/sessions/00000000-"),
                "{path}"
            );
            assert_eq!(layout.parse(&path), Some((id, name)));
        }
        let key = Key::parse("a/b").unwrap();
        assert_eq!(layout.destination(&key).unwrap().as_ref(), "files/a/b");
        for odd in [
            "staging/.bits-gateway/sweep",
            "staging/.bits-gateway/sessions/x/record",
            "files/a/b",
        ] {
            assert_eq!(layout.parse(&Path::from(odd)), None, "{odd}");
        }
    }

    #[test]
    fn tails_are_listed_in_the_order_of_their_offsets() {
        let layout = Layout::new("", "", DEFAULT_RESERVED).unwrap();
        let id = SessionId::new(Uuid::from_u128(7));
        let offsets = [0, 9, 10, 99, 1_000_000, u64::MAX];
        let paths: Vec<Path> = offsets
            .iter()
            .map(|&from| layout.object(id, &Name::Tail(from)))
            .collect();
        assert!(paths.is_sorted());
    }

    #[test]
    fn a_prefix_that_could_lead_elsewhere_is_refused() {
        for bad in ["a//b", "../a", "a/./b", "a\\b", "a\nb"] {
            assert!(Layout::new(bad, "", DEFAULT_RESERVED).is_err(), "{bad:?}");
            assert!(Layout::new("", bad, DEFAULT_RESERVED).is_err(), "{bad:?}");
        }
        assert!(Layout::new("", "", "/").is_err(), "everything would be reserved");
    }

    #[test]
    fn an_upload_knows_where_its_file_is_assembled() {
        let assembly = Layout::new("files", "", DEFAULT_RESERVED).unwrap().assembly();
        let (session, destination) = (SessionId::new(Uuid::from_u128(7)), Path::from("files/a"));
        let upload = Assembly::upload(session, "id:with:colons");
        let (path, id) = assembly.split(&destination, &upload).unwrap();
        assert_eq!((path, id), (assembly.path(&destination, session), "id:with:colons"));
        assert!(
            assembly
                .path(&destination, session)
                .as_ref()
                .starts_with("files/.bits-gateway/assembled/")
        );
        assert_ne!(assembly.prefix(&destination), assembly.prefix(&Path::from("files/b")));
        assert!(
            assembly
                .split(&destination, &UploadId("no session".to_owned()))
                .is_none()
        );
    }

    /// Whatever the bytes, the key errs or is harmless, and is its own key.
    fn check_harmless(raw: &str) -> Result<(), TestCaseError> {
        let Ok(key) = Key::from_request(raw) else {
            return Ok(());
        };
        let name = key.as_str();
        prop_assert!(
            name.split('/')
                .all(|segment| !matches!(segment, "" | "." | "..") && segment.len() <= 255)
        );
        prop_assert!(!name.chars().any(|c| c.is_control() || matches!(c, '\\' | ':')));
        prop_assert!(name.len() <= 1024);
        let layout = Layout::new("route/prefix", "", DEFAULT_RESERVED).unwrap();
        let path = layout.destination(&key);
        let expected = format!("route/prefix/{name}");
        prop_assert!(path.is_err() || path.unwrap().as_ref() == expected);
        prop_assert_eq!(Key::parse(name), Ok(key.clone()));
        let escaped: Vec<String> = name
            .split('/')
            .map(|segment| percent_encode(segment.as_bytes(), NON_ALPHANUMERIC).to_string())
            .collect();
        prop_assert_eq!(Key::from_request(&escaped.join("/")), Ok(key));
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_reserved_run_in_ascii_is_found_by_the_short_way_as_by_the_long_one(
            name in "([abAB]{0,2}/){0,4}[abAB]{0,2}", run in "([abAB]{1,2}/){0,2}[abAB]{1,2}"
        ) {
            prop_assert_eq!(holds_run(&name, &run), holds_folded_run(&name, &run), "{} in {}", run, name);
        }

        #[test]
        fn random_bytes_name_a_harmless_key_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            check_harmless(&percent_encode(&bytes, NON_ALPHANUMERIC).to_string())?;
            check_harmless(&String::from_utf8_lossy(&bytes))?;
        }

        #[test]
        fn pieces_of_attacks_name_a_harmless_key_or_none(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just(".."), Just("."), Just("/"), Just("%2e"), Just("%2f"), Just("%25"), Just("2e"), Just("\\"),
                    Just("%5c"), Just("%00"), Just("a"), Just(" "), Just("%"), Just("con"), Just(".bits-gateway"),
                    Just("%c0%ae"), Just("\u{FF0E}"), Just("u%CC%88"), Just("ſ"), Just(":"), Just("#1"),
                ],
                0..12,
            )
        ) {
            check_harmless(&pieces.concat())?;
        }
    }
}
