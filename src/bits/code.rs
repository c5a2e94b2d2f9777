//! HRESULTs and error contexts (MC-BUP 2.2.1.2).

use std::fmt;
use std::str::FromStr;

use super::explanations::EXPLANATIONS;

/// An error code as BITS clients know it.
///
/// Written `0x` and eight upper-case hex digits: an independent client compares the digits with their letter case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hresult(pub u32);

impl Hresult {
    /// `BG_E_SESSION_NOT_FOUND`: the client starts again with Create-Session by itself (MC-BUP 3.1.5.1.7).
    pub const SESSION_NOT_FOUND: Self = Self(0x8020_001F);
    /// `E_ACCESSDENIED`: the destination may not be written.
    pub const ACCESS_DENIED: Self = Self(0x8007_0005);
    /// `E_INVALIDARG`: the packet breaks a rule of the protocol, or contradicts its session.
    pub const INVALID_ARGUMENT: Self = Self(0x8007_0057);
    /// `BG_E_TOO_LARGE`: the file is larger than the server allows.
    pub const TOO_LARGE: Self = Self(0x8020_0020);
    /// `ERROR_DISK_FULL`, as an HRESULT. MC-BUP 2.2.1.2 prints `0x80070112`, which is another error.
    pub const DISK_FULL: Self = Self(0x8007_0070);

    /// The code by which BITS reports the HTTP status `status`: `BG_E_HTTP_ERROR_nnn`.
    pub const fn of_status(status: u16) -> Self {
        // Both halves are disjoint: the sum is a union.
        Self(HTTP_ERROR | status as u32)
    }

    /// What the code means, if this program knows it.
    pub fn explain(self) -> Option<&'static Explanation> {
        let place = EXPLANATIONS
            .binary_search_by_key(&self, |explanation| explanation.code)
            .ok()?;
        EXPLANATIONS.get(place)
    }

    /// Every code that [`Hresult::explain`] knows, in ascending order.
    pub const fn explanations() -> &'static [Explanation] {
        EXPLANATIONS
    }
}

impl fmt::Display for Hresult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

/// Reads every form in which Windows and its documentation show a code: `0x80200020`, `x80200020`, `2149580832`,
/// `-2145386464`, and eight hex digits without a prefix.
impl FromStr for Hresult {
    type Err = NotAnHresult;

    fn from_str(text: &str) -> Result<Self, NotAnHresult> {
        let text = text.trim();
        if let Some(hex) = text.strip_prefix('0').unwrap_or(text).strip_prefix(['x', 'X']) {
            return parse_hex(hex);
        }
        // Errors have ten decimal digits: eight digits that begin with the error bit are hex.
        if text.len() == 8 && text.starts_with(['8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'A', 'B', 'C', 'D', 'E', 'F']) {
            return parse_hex(text);
        }
        let number: i64 = text.parse().map_err(|_| NotAnHresult)?;
        let unsigned = u32::try_from(number).or_else(|_| i32::try_from(number).map(i32::cast_unsigned));
        unsigned.map(Self).map_err(|_| NotAnHresult)
    }
}

/// A text that is no HRESULT.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an error code: expected one like 0x80200020 or -2145386464")]
pub struct NotAnHresult;

/// Who found the error (MC-BUP 2.2.1.2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorContext {
    /// `0x5`: the server.
    RemoteFile,
    /// `0x7`: the server application.
    RemoteApplication,
}

impl ErrorContext {
    /// The text of `BITS-Error-Context`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RemoteFile => "0x5",
            Self::RemoteApplication => "0x7",
        }
    }
}

/// What an error code means, to whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// The code.
    pub code: Hresult,
    /// Its symbol in the Windows headers.
    pub name: &'static str,
    /// What it says.
    pub sentence: &'static str,
    /// What a Windows client does about it.
    pub client: &'static str,
    /// What an administrator does about it.
    pub admin: &'static str,
}

fn parse_hex(digits: &str) -> Result<Hresult, NotAnHresult> {
    if digits.len() > 8 || digits.starts_with('+') {
        return Err(NotAnHresult);
    }
    u32::from_str_radix(digits, 16).map(Hresult).map_err(|_| NotAnHresult)
}

/// What `BG_E_HTTP_ERROR_nnn` has in common.
const HTTP_ERROR: u32 = 0x8019_0000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_written_with_eight_upper_case_digits() {
        assert_eq!(Hresult::SESSION_NOT_FOUND.to_string(), "0x8020001F");
        assert_eq!(Hresult(0).to_string(), "0x00000000");
    }

    #[test]
    fn a_code_is_read_in_every_form_that_windows_shows() {
        for text in [
            "0x80200020",
            "0X80200020",
            " 0x80200020 ",
            "x80200020",
            "80200020",
            "2149580832",
            "-2145386464",
        ] {
            assert_eq!(text.parse(), Ok(Hresult::TOO_LARGE), "{text:?}");
        }
        assert_eq!("0x8020001f".parse(), Ok(Hresult::SESSION_NOT_FOUND));
        assert_eq!("8020001f".parse(), Ok(Hresult::SESSION_NOT_FOUND));
        assert_eq!("0x0".parse(), Ok(Hresult(0)));
        assert_eq!("0".parse(), Ok(Hresult(0)));
        assert_eq!("12345678".parse(), Ok(Hresult(12_345_678)));
    }

    #[test]
    fn other_texts_are_no_codes() {
        for text in [
            "",
            " ",
            "0x",
            "0x+5",
            "0x180200020",
            "00x80200020",
            "4294967296",
            "-2147483649",
            "0xGG",
            "BG_E_TOO_LARGE",
            "80200g20",
            "éééé",
            "0x8020 020",
            "--1",
        ] {
            assert_eq!(text.parse::<Hresult>(), Err(NotAnHresult), "{text:?}");
        }
    }

    #[test]
    fn the_code_of_a_status_is_the_one_of_windows() {
        assert_eq!(Hresult::of_status(404), Hresult(0x8019_0194));
        assert_eq!(Hresult::of_status(408), Hresult(0x8019_0198));
        assert_eq!(Hresult::of_status(503), Hresult(0x8019_01F7));
    }

    #[test]
    fn the_table_is_in_order_and_each_entry_is_whole() {
        assert!(EXPLANATIONS.is_sorted_by(|a, b| a.code < b.code));
        let names: BTreeSet<_> = EXPLANATIONS.iter().map(|explanation| explanation.name).collect();
        assert_eq!(names.len(), EXPLANATIONS.len());
        for explanation in EXPLANATIONS {
            assert_eq!(explanation.code.explain(), Some(explanation));
            for text in [explanation.sentence, explanation.client, explanation.admin] {
                assert!(
                    text.ends_with('.') && !text.contains("  "),
                    "{}: {text:?}",
                    explanation.name
                );
            }
            if let Some(status) = explanation.name.strip_prefix("BG_E_HTTP_ERROR_") {
                assert_eq!(explanation.code, Hresult::of_status(status.parse().unwrap()));
            }
        }
    }

    #[test]
    fn every_code_that_the_server_sends_or_administrators_ask_about_is_explained() {
        for code in [
            Hresult::SESSION_NOT_FOUND,
            Hresult::ACCESS_DENIED,
            Hresult::INVALID_ARGUMENT,
            Hresult::TOO_LARGE,
            Hresult::DISK_FULL,
            Hresult(0x8007_0112),
            Hresult(0x8007_2EE2),
            Hresult(0x8007_2EE7),
            Hresult(0x8007_2F0C),
            Hresult(0x8007_2F8F),
            Hresult(0x8020_0010),
            Hresult(0x8020_0011),
            Hresult(0x8020_0012),
            Hresult(0x8020_0013),
            Hresult(0x8020_0014),
            Hresult(0x8020_001C),
            Hresult(0x8020_001D),
            Hresult(0x8020_0022),
            Hresult(0x8020_0023),
            Hresult(0x8020_0027),
            Hresult(0x8020_0028),
            Hresult(0x8020_003E),
            Hresult(0x8020_0040),
            Hresult(0x8020_0049),
            Hresult(0x8020_0050),
            Hresult(0x8020_0053),
        ] {
            assert!(code.explain().is_some(), "{code}");
        }
        for status in [
            400, 401, 403, 404, 405, 407, 408, 411, 413, 414, 416, 500, 501, 502, 503, 504,
        ] {
            assert!(Hresult::of_status(status).explain().is_some(), "{status}");
        }
        assert_eq!(Hresult(0).explain(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(code in any::<u32>()) {
            prop_assert_eq!(Hresult(code).to_string().parse(), Ok(Hresult(code)));
            let error = code | 0x8000_0000;
            prop_assert_eq!(error.to_string().parse(), Ok(Hresult(error)));
            prop_assert_eq!(error.cast_signed().to_string().parse(), Ok(Hresult(error)));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<Hresult>();
        }
    }
}
