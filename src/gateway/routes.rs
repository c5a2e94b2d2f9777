//! Which route a request belongs to. Pure.
//!
//! Paths are compared segment by segment, each decoded once, so that an encoded slash never moves a boundary. Letter case
//! counts in paths and does not in hosts. Dot segments mean nothing here: the key that is made of the rest refuses them.

use std::borrow::Cow;

/// A request target, taken apart but not decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Asked<'a> {
    /// `host[:port]` of an absolute-form target (RFC 9112 3.2.2).
    pub(super) authority: Option<&'a str>,
    /// The raw path; `*` for the asterisk form.
    pub(super) path: &'a str,
    /// The raw query, without the question mark.
    pub(super) query: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Takes a target apart: a path, an `http` or `https` URL, or the asterisk. `None` for anything else.
    pub(super) fn parse(target: &'a str) -> Option<Self> {
        if target == "*" {
            return Some(Self {
                authority: None,
                path: target,
                query: None,
            });
        }
        if target.starts_with('/') {
            return Some(Self::below(None, target));
        }
        let (scheme, rest) = target.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        (!authority.is_empty()).then(|| Self::below(Some(authority), rest))
    }

    fn below(authority: Option<&'a str>, rest: &'a str) -> Self {
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // RFC 9112 3.2.1: an absolute URL without a path means the root.
        Self {
            authority,
            path: if path.is_empty() { "/" } else { path },
            query,
        }
    }
}

/// `host` without its port and its last dot.
pub(super) fn bare_host(host: &str) -> &str {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// Every route, most particular first.
#[derive(Debug)]
pub(super) struct Routes<T> {
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    segments: Vec<String>,
    /// The hosts it answers for; empty: all.
    hosts: Vec<String>,
    route: T,
}

/// Where and for whom a route answers.
#[derive(Clone, Debug)]
pub(super) struct Location<'a> {
    /// The path prefix; a slash at its end does not matter.
    pub(super) path: &'a str,
    /// The host that it is bound to, if any.
    pub(super) host: Option<&'a str>,
    /// Where its clients are sent (`BITS-Host-Id`): it answers there as well, or they would be lost.
    pub(super) host_id: Option<&'a str>,
}

impl<T> Routes<T> {
    /// The table of these routes.
    pub(super) fn new<'a>(routes: impl IntoIterator<Item = (Location<'a>, T)>) -> Self {
        let mut entries: Vec<_> = routes.into_iter().map(|(at, route)| Entry::new(&at, route)).collect();
        // The longest prefix wins; of two equal ones the one that is bound to a host.
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.segments.len()), entry.hosts.is_empty()));
        Self { entries }
    }

    /// The route of `path` on `host` (which may carry a port), and the rest of the raw path below it, without a leading slash.
    pub(super) fn find<'p>(&self, host: &str, path: &'p str) -> Option<(&T, &'p str)> {
        let host = bare_host(host);
        let path = path.strip_prefix('/')?;
        self.entries
            .iter()
            .filter(|entry| entry.answers_for(host))
            .find_map(|entry| Some((&entry.route, entry.rest_of(path)?)))
    }
}

impl<T> Entry<T> {
    fn new(at: &Location<'_>, route: T) -> Self {
        let hosts = match at.host {
            Some(host) => [Some(host), at.host_id]
                .into_iter()
                .flatten()
                .map(|host| bare_host(host).to_owned())
                .collect(),
            None => Vec::new(),
        };
        let path = at.path.trim_matches('/');
        let segments = if path.is_empty() {
            Vec::new()
        } else {
            path.split('/').map(str::to_owned).collect()
        };
        Self { segments, hosts, route }
    }

    fn answers_for(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut rest = Some(path);
        for own in &self.segments {
            let (segment, below) = match rest?.split_once('/') {
                Some((segment, below)) => (segment, Some(below)),
                None => (rest?, None),
            };
            if decode(segment)? != own.as_str() {
                return None;
            }
            rest = below;
        }
        Some(rest.unwrap_or(""))
    }
}

fn decode(segment: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(segment).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Location<'_> {
        Location {
            path,
            host: None,
            host_id: None,
        }
    }

    fn routes(paths: &[&'static str]) -> Routes<&'static str> {
        Routes::new(paths.iter().map(|path| (at(path), *path)))
    }

    #[test]
    fn the_longest_prefix_wins_whatever_their_order() {
        for paths in [["/", "/a/", "/a/b/"], ["/a/b/", "/", "/a/"]] {
            let routes = routes(&paths);
            assert_eq!(routes.find("h", "/a/b/c"), Some((&"/a/b/", "c")));
            assert_eq!(routes.find("h", "/a/c"), Some((&"/a/", "c")));
            assert_eq!(routes.find("h", "/c/d"), Some((&"/", "c/d")));
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment_boundary() {
        let routes = routes(&["/up"]);
        assert_eq!(routes.find("h", "/up/a"), Some((&"/up", "a")));
        assert_eq!(routes.find("h", "/up"), Some((&"/up", "")));
        assert_eq!(routes.find("h", "/up/"), Some((&"/up", "")));
        assert_eq!(routes.find("h", "/upper/a"), None);
        assert_eq!(routes.find("h", "/UP/a"), None);
        assert_eq!(routes.find("h", "up/a"), None);
        assert_eq!(routes.find("h", "*"), None);
    }

    #[test]
    fn segments_are_decoded_once_and_the_rest_is_left_raw() {
        let routes = routes(&["/my files/"]);
        assert_eq!(routes.find("h", "/my%20files/a%20b"), Some((&"/my files/", "a%20b")));
        assert_eq!(routes.find("h", "/my%2520files/a"), None);
        assert_eq!(routes.find("h", "/my%ff/a"), None);
    }

    #[test]
    fn an_encoded_slash_is_no_boundary() {
        let routes = routes(&["/a/b/"]);
        assert_eq!(routes.find("h", "/a%2Fb/c"), None);
        assert_eq!(routes.find("h", "/a/b%2Fc"), None);
        assert_eq!(routes.find("h", "//a/b/c"), None);
    }

    #[test]
    fn dot_segments_are_left_for_the_key_to_refuse() {
        let routes = routes(&["/a/", "/b/"]);
        assert_eq!(routes.find("h", "/a/../b/c"), Some((&"/a/", "../b/c")));
    }

    #[test]
    fn a_route_with_a_host_answers_there_and_on_its_host_id_only() {
        let bound = Location {
            path: "/",
            host: Some("Front.example"),
            host_id: Some("node1.example:8080"),
        };
        let routes = Routes::new([(at("/"), "any"), (bound, "bound"), (at("/deep/"), "deep")]);
        for host in ["front.example", "FRONT.example:8080", "front.example.", "node1.example"] {
            assert_eq!(routes.find(host, "/a"), Some((&"bound", "a")), "{host}");
        }
        assert_eq!(routes.find("other.example", "/a"), Some((&"any", "a")));
        assert_eq!(routes.find("front.example", "/deep/a"), Some((&"deep", "a")));
    }

    #[test]
    fn a_host_id_alone_binds_a_route_to_nothing() {
        let routes = Routes::new([(
            Location {
                path: "/",
                host: None,
                host_id: Some("node1"),
            },
            (),
        )]);
        assert!(routes.find("anything", "/a").is_some());
    }

    #[test]
    fn hosts_lose_their_port_and_their_last_dot() {
        for (host, bare) in [
            ("a", "a"),
            ("a:80", "a"),
            ("a.", "a"),
            ("a.:80", "a"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("", ""),
        ] {
            assert_eq!(bare_host(host), bare);
        }
    }

    #[test]
    fn targets_are_taken_apart_in_all_their_forms() {
        let parts = |target| Asked::parse(target).map(|asked| (asked.authority, asked.path, asked.query));
        assert_eq!(parts("/a?b"), Some((None, "/a", Some("b"))));
        assert_eq!(parts("/a?b?c"), Some((None, "/a", Some("b?c"))));
        assert_eq!(parts("/a?"), Some((None, "/a", Some(""))));
        assert_eq!(parts("http://h:80/a"), Some((Some("h:80"), "/a", None)));
        assert_eq!(parts("HTTP://h"), Some((Some("h"), "/", None)));
        assert_eq!(parts("https://h?q"), Some((Some("h"), "/", Some("q"))));
        assert_eq!(parts("*"), Some((None, "*", None)));
        for target in ["", "a", "ftp://h/a", "http:///a", "http:/a", "h:80"] {
            assert_eq!(parts(target), None, "{target}");
        }
    }
}
