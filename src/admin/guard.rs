//! Who may see and end sessions: whoever presents the token; on loopback without one, programs of this machine, but no page that a
//! browser on it has open.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, StatusCode, Uri};

use crate::units::Secret;

/// What a request that changes something carries where no token is asked for. A page of a browser cannot send it to another origin
/// without asking first, and nobody here would say yes.
pub const INTENT: HeaderName = HeaderName::from_static("x-requested-by");

/// Browsers say by it where a page came from.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who is let in.
#[derive(Clone, Debug)]
pub struct Guard {
    token: Option<Secret>,
    is_local: bool,
}

/// Why somebody is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unwelcome {
    /// There is no token, and the listener can be reached from other machines.
    #[error(
        "sessions are shown off loopback to those only who present a token: set server.admin_token, or let server.admin_listen be 127.0.0.1"
    )]
    Closed,
    /// The token is missing or wrong.
    #[error("present the token of server.admin_token: Authorization: Bearer …")]
    Token,
    /// It asks by a name that is not this machine's own.
    #[error("ask for localhost or 127.0.0.1: another name may be a page's that a browser on this machine has open")]
    Host,
    /// It comes from a page in a browser.
    #[error("not for pages of a browser; with a server.admin_token they may ask as well")]
    Browser,
    /// It does not say that it means it.
    #[error("send the header X-Requested-By, with any value: pages of a browser cannot")]
    Intent,
}

impl Unwelcome {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Closed | Self::Host | Self::Browser | Self::Intent => StatusCode::FORBIDDEN,
        }
    }
}

impl Guard {
    /// The guard of a listener at `address`. With a token, everybody has to present it.
    pub const fn new(address: SocketAddr, token: Option<Secret>) -> Self {
        Self {
            token,
            is_local: address.ip().is_loopback(),
        }
    }

    /// Whether a request may come in, which changes something if `changes`.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap, changes: bool) -> Result<(), Unwelcome> {
        if let Some(token) = &self.token {
            let presented = headers.get(AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
            let presented = bearer(presented).unwrap_or_default();
            return if token.is(presented) {
                Ok(())
            } else {
                Err(Unwelcome::Token)
            };
        }
        if !self.is_local {
            return Err(Unwelcome::Closed);
        }
        if !names_this_machine(uri, headers) {
            return Err(Unwelcome::Host);
        }
        let site = headers.get(FETCH_SITE);
        if headers.contains_key(ORIGIN) || site.is_some_and(|site| site != "none") {
            return Err(Unwelcome::Browser);
        }
        if changes && headers.get(INTENT).is_none_or(|value| value.is_empty()) {
            return Err(Unwelcome::Intent);
        }
        Ok(())
    }
}

/// The token in `Bearer …` (RFC 6750 2.1); the scheme in any letter case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// Whether it is asked for by a name that leads here whoever resolves it. A name of somebody else's may lead here, too: that is how a page
/// gets a browser to take this listener for its own server (DNS rebinding).
fn names_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let named = host.to_str().is_ok_and(is_local_name);
    named
        && uri
            .authority()
            .is_none_or(|authority| is_local_name(authority.as_str()))
}

fn is_local_name(authority: &str) -> bool {
    let name = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split_once(':').map_or(authority, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TOKEN: &str = "correct-horse-battery";

    fn guard(address: &str, token: Option<&str>) -> Guard {
        Guard::new(address.parse().unwrap(), token.map(Secret::inline))
    }

    fn asked(guard: &Guard, changes: bool, headers: &[(HeaderName, &str)]) -> Result<(), Unwelcome> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        guard.admit(&"/sessions".parse().unwrap(), &map, changes)
    }

    #[test]
    fn without_a_token_nobody_is_let_in_from_elsewhere() {
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1"] {
            let guard = guard(address, None);
            let here = [(HOST, "localhost"), (INTENT, "x")];
            assert_eq!(asked(&guard, false, &here), Err(Unwelcome::Closed), "{address}");
        }
    }

    #[test]
    fn whoever_presents_the_token_is_let_in_and_nobody_else() {
        for address in ["0.0.0.0:1", "127.0.0.1:1"] {
            let guard = guard(address, Some(TOKEN));
            for good in ["Bearer correct-horse-battery", "bearer  correct-horse-battery "] {
                assert_eq!(asked(&guard, true, &[(AUTHORIZATION, good)]), Ok(()), "{good}");
            }
            for bad in [
                "",
                "Bearer",
                "Bearer ",
                "Bearer correct-horse-batterz",
                "Bearer correct-horse-battery-staple",
                "Bearer correct-horse",
                "Basic correct-horse-battery",
                "correct-horse-battery",
            ] {
                let asked = asked(&guard, false, &[(HOST, "localhost"), (AUTHORIZATION, bad)]);
                assert_eq!(asked, Err(Unwelcome::Token), "{bad}");
            }
            assert_eq!(asked(&guard, false, &[(HOST, "localhost")]), Err(Unwelcome::Token));
        }
        assert!(!format!("{:?}", guard("127.0.0.1:1", Some(TOKEN))).contains(TOKEN));
    }

    #[test]
    fn names_that_are_not_this_machines_are_refused_on_loopback() {
        let guard = guard("127.0.0.1:9090", None);
        for good in [
            "localhost",
            "LocalHost:9090",
            "127.0.0.1:9090",
            "127.8.8.8",
            "[::1]:9090",
        ] {
            assert_eq!(asked(&guard, false, &[(HOST, good)]), Ok(()), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
        ] {
            assert_eq!(asked(&guard, false, &[(HOST, bad)]), Err(Unwelcome::Host), "{bad}");
        }
        assert_eq!(asked(&guard, false, &[]), Err(Unwelcome::Host));
        let two = [(HOST, "localhost"), (HOST, "evil.example")];
        assert_eq!(asked(&guard, false, &two), Err(Unwelcome::Host));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        let absolute = "http://evil.example/sessions".parse().unwrap();
        assert_eq!(guard.admit(&absolute, &headers, false), Err(Unwelcome::Host));
    }

    #[test]
    fn a_page_in_a_browser_sees_nothing_and_changes_nothing() {
        let guard = guard("127.0.0.1:9090", None);
        let here = (HOST, "localhost:9090");
        let cross = [here.clone(), (FETCH_SITE, "cross-site")];
        assert_eq!(asked(&guard, false, &cross), Err(Unwelcome::Browser));
        let origin = [here.clone(), (ORIGIN, "http://localhost:9090"), (INTENT, "x")];
        assert_eq!(asked(&guard, true, &origin), Err(Unwelcome::Browser));
        // Typed into the address line by whoever sits there.
        assert_eq!(asked(&guard, false, &[here.clone(), (FETCH_SITE, "none")]), Ok(()));
        assert_eq!(asked(&guard, true, std::slice::from_ref(&here)), Err(Unwelcome::Intent));
        assert_eq!(
            asked(&guard, true, &[here.clone(), (INTENT, "")]),
            Err(Unwelcome::Intent)
        );
        assert_eq!(asked(&guard, true, &[here, (INTENT, "curl")]), Ok(()));
    }
}
