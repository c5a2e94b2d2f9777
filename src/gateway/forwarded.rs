//! Who a request comes from when proxies stand in between, and what the next server is told of it. Pure.
//!
//! What a proxy says of its client is believed only of those that are named (`server.trusted_proxies`): everybody else may have made it up.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// Whom each proxy had its request from, the last one last.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The scheme that the client used.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The host that the client asked for.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What speaks of one connection only and is never passed on (RFC 9110 7.6.1). `Transfer-Encoding` is not among them: the engine frames
/// bodies anew, and `Upgrade` is its business, too.
const OF_ONE_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
];

/// The name by which this server goes in `Via` (RFC 9110 7.6.3).
const OURSELVES: &str = "1.1 bits-gateway";

/// The proxies whose word counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Trusted(Vec<IpNet>);

impl Trusted {
    pub(super) const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Origin {
    /// The client; its port is 0 where only a header tells of it.
    pub(super) client: SocketAddr,
    /// Whether whoever sent it may speak for others.
    pub(super) is_vouched_for: bool,
    /// Whether the client used `https`.
    pub(super) is_https: bool,
}

impl Origin {
    /// The origin of a request with these headers that `peer` sent.
    pub(super) fn of(peer: SocketAddr, headers: &HeaderMap, trusted: &Trusted) -> Self {
        if !trusted.contains(peer.ip()) {
            return Self {
                client: peer,
                is_vouched_for: false,
                is_https: false,
            };
        }
        Self {
            client: client(peer, headers, trusted),
            is_vouched_for: true,
            is_https: last(headers, &FORWARDED_PROTO).is_some_and(|proto| proto.eq_ignore_ascii_case("https")),
        }
    }

    pub(super) const fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }
}

/// The last address that no trusted proxy has: whatever stands before it is what that client claims.
fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &Trusted) -> SocketAddr {
    let mut known = peer;
    let claims: Vec<_> = headers.get_all(FORWARDED_FOR).iter().map(text).collect();
    for claim in claims.iter().rev().flat_map(|claims| claims.rsplit(',')) {
        let Some(address) = address(claim.trim()) else {
            return known;
        };
        known = address;
        if !trusted.contains(address.ip()) {
            return known;
        }
    }
    known
}

/// An address with or without a port, an IPv6 one with or without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    text.parse()
        .ok()
        .or_else(|| Some(SocketAddr::new(bare.unwrap_or(text).parse().ok()?, 0)))
}

/// A value that need not be ASCII all along: what one proxy or client wrote there takes nothing away from what others did.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// The last element of a list, which the nearest proxy wrote.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = text(headers.get_all(name).iter().next_back()?);
    value.rsplit(',').next().map(|last| last.trim().to_owned())
}

/// What the next server is told: headers in their usual spelling, each with the value that it shall have. `None`: it goes without.
pub(super) type Told = [(&'static str, Option<HeaderValue>); 5];

/// What the next server is told of a request with these headers, which `peer` sent here.
pub(super) fn told(headers: &HeaderMap, peer: SocketAddr, origin: &Origin) -> Told {
    let before = |name: &HeaderName| list(headers, name).filter(|_| origin.is_vouched_for);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let values = [
        (
            "X-Forwarded-For",
            Some(appended(before(&FORWARDED_FOR), &peer.ip().to_canonical().to_string())),
        ),
        ("X-Forwarded-Proto", Some(origin.scheme().to_owned())),
        (
            "X-Forwarded-Host",
            before(&FORWARDED_HOST).or_else(|| host.map(str::to_owned)),
        ),
        (
            "Forwarded",
            Some(appended(before(&header::FORWARDED), &element(peer, origin, host))),
        ),
        ("Via", Some(appended(list(headers, &header::VIA), OURSELVES))),
    ];
    values.map(|(name, value)| (name, value.and_then(|value| HeaderValue::try_from(value).ok())))
}

/// The headers that have to go before a head is passed on: all that speak of the connection that it came over.
pub(super) fn hops(headers: &HeaderMap, is_upgrade: bool) -> Vec<HeaderName> {
    let named = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // What frames the body, or says where it goes, is not theirs to take away.
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING && *name != header::HOST);
    OF_ONE_CONNECTION
        .into_iter()
        .chain(named)
        .filter(|name| !is_upgrade || (*name != header::CONNECTION && *name != header::UPGRADE))
        .filter(|name| headers.contains_key(name))
        .collect()
}

/// One element of `Forwarded` (RFC 7239 4).
fn element(peer: SocketAddr, origin: &Origin, host: Option<&str>) -> String {
    let node = match peer.ip().to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let host = host
        .filter(|host| !host.contains(['"', '\\']))
        .map_or(String::new(), |host| format!(";host=\"{host}\""));
    format!("for={node}{host};proto={}", origin.scheme())
}

/// All of a list, however many lines it came in.
fn list(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(text).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn appended(before: Option<String>, element: &str) -> String {
    match before {
        Some(before) => format!("{before}, {element}"),
        None => element.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<HeaderName>().unwrap(),
                    value.parse::<HeaderValue>().unwrap(),
                )
            })
            .collect()
    }

    fn trusted(networks: &[&str]) -> Trusted {
        Trusted::new(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    fn origin(peer: &str, lines: &[(&str, &str)]) -> (String, &'static str) {
        let origin = Origin::of(
            peer.parse().unwrap(),
            &headers(lines),
            &trusted(&["10.0.0.0/8", "fd00::/8"]),
        );
        (origin.client.ip().to_string(), origin.scheme())
    }

    #[test]
    fn what_strangers_claim_is_not_believed() {
        let claims = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https")];
        assert_eq!(origin("192.0.2.1:5", &claims), ("192.0.2.1".to_owned(), "http"));
    }

    #[test]
    fn a_trusted_proxy_names_its_client() {
        for (claims, client) in [
            (&[][..], "10.0.0.1"),
            (&["192.0.2.1"][..], "192.0.2.1"),
            // The client itself may have sent the first one.
            (&["1.2.3.4, 192.0.2.1"][..], "192.0.2.1"),
            (&["1.2.3.4", "192.0.2.1, 10.9.9.9"][..], "192.0.2.1"),
            (&["192.0.2.1:4711"][..], "192.0.2.1"),
            (&["[2001:db8::1]:443, fd00::1"][..], "2001:db8::1"),
            (&["2001:db8::1"][..], "2001:db8::1"),
            (&["192.0.2.1, nonsense, 10.9.9.9"][..], "10.9.9.9"),
            (&["caf\u{e9}, 192.0.2.1"][..], "192.0.2.1"),
            (&["192.0.2.1, caf\u{e9}, 10.9.9.9"][..], "10.9.9.9"),
            (&["10.1.1.1, 10.2.2.2"][..], "10.1.1.1"),
            (&[""][..], "10.0.0.1"),
        ] {
            let mut lines = vec![("X-Forwarded-Proto", "http, HTTPS")];
            lines.extend(claims.iter().map(|claim| ("X-Forwarded-For", *claim)));
            assert_eq!(origin("10.0.0.1:5", &lines), (client.to_owned(), "https"), "{claims:?}");
        }
        assert_eq!(
            origin("[::ffff:10.0.0.1]:5", &[("X-Forwarded-For", "192.0.2.1")]).0,
            "192.0.2.1"
        );
    }

    /// What the next server sees of these headers.
    fn seen(peer: &str, lines: &[(&str, &str)], is_upgrade: bool) -> Vec<(String, String)> {
        let (peer, mut headers) = (peer.parse().unwrap(), headers(lines));
        let origin = Origin::of(peer, &headers, &trusted(&["10.0.0.0/8"]));
        let told = told(&headers, peer, &origin);
        for name in hops(&headers, is_upgrade) {
            headers.remove(&name);
        }
        for (name, value) in told {
            headers.remove(name);
            headers.extend(value.map(|value| (HeaderName::try_from(name).unwrap(), value)));
        }
        let mut seen: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value).into_owned()))
            .collect();
        seen.sort();
        seen
    }

    fn owned(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        lines
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_next_server_learns_who_asked_and_nothing_that_strangers_made_up() {
        let made_up = [
            ("Host", "h"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Forwarded-Host", "bank"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=1.2.3.4"),
            ("Via", "1.0 cache"),
        ];
        let expected = owned(&[
            ("forwarded", "for=192.0.2.1;host=\"h\";proto=http"),
            ("host", "h"),
            ("via", "1.0 cache, 1.1 bits-gateway"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "h"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(seen("192.0.2.1:5", &made_up, false), expected);
        let expected = owned(&[
            ("forwarded", "for=1.2.3.4, for=10.0.0.1;host=\"h\";proto=https"),
            ("host", "h"),
            ("via", "1.0 cache, 1.1 bits-gateway"),
            ("x-forwarded-for", "1.2.3.4, 10.0.0.1"),
            ("x-forwarded-host", "bank"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(seen("10.0.0.1:5", &made_up, false), expected);
    }

    #[test]
    fn what_speaks_of_one_connection_stays_there() {
        let lines = [
            ("Connection", "close, \u{e9}, X-Secret, Content-Length, Upgrade"),
            ("Keep-Alive", "timeout=5"),
            ("X-Secret", "a"),
            ("X-Other", "b"),
            ("Content-Length", "5"),
            ("Upgrade", "websocket"),
            ("TE", "trailers"),
            ("Proxy-Authorization", "Basic x"),
        ];
        let names = |is_upgrade| {
            let seen = seen("192.0.2.1:5", &lines, is_upgrade);
            let names = seen.into_iter().map(|(name, _)| name);
            names.filter(|name| !name.contains("forwarded")).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["content-length", "via", "x-other"]);
        assert_eq!(
            names(true),
            ["connection", "content-length", "upgrade", "via", "x-other"]
        );
    }

    #[test]
    fn an_address_of_version_6_is_quoted() {
        let seen = seen("[2001:db8::1]:5", &[], false);
        assert!(seen.contains(&("forwarded".to_owned(), "for=\"[2001:db8::1]\";proto=http".to_owned())));
        assert!(seen.iter().all(|(name, _)| name != "x-forwarded-host"), "{seen:?}");
    }
}
