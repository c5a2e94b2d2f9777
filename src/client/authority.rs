//! A host and perhaps a port, as they stand in a URL, a `Host` or a `BITS-Host-Id`. Pure.

use std::fmt;
use std::net::Ipv6Addr;

/// A host and perhaps a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// Reads a host name, an IPv4 address, or an IPv6 address with or without brackets (MC-BUP 2.2.3.2 allows the bare form),
    /// followed by a port or not (which MC-BUP leaves open). The letter case is kept: it goes into the `Host` header.
    pub fn parse(text: &str) -> Option<Self> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Some(Self {
                host: format!("[{text}]"),
                port: None,
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            None => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let legal = match bare {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.len() <= 255
                    && host
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            }
        };
        legal.then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The host without brackets: what is looked up and what a certificate must name.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, when one was given.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// This host, with `port` unless it has one of its own.
    #[must_use]
    pub fn or_port(self, port: Option<u16>) -> Self {
        Self {
            port: self.port.or(port),
            ..self
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_a_port() {
        for (text, host, port, written) in [
            ("FRANKCAO8", "FRANKCAO8", None, "FRANKCAO8"),
            (
                "node-1.example.com:8443",
                "node-1.example.com",
                Some(8443),
                "node-1.example.com:8443",
            ),
            ("192.0.2.1", "192.0.2.1", None, "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1", None, "[2001:db8::1]"),
            ("[2001:db8::1]", "2001:db8::1", None, "[2001:db8::1]"),
            ("[::1]:80", "::1", Some(80), "[::1]:80"),
        ] {
            let authority = Authority::parse(text).expect(text);
            assert_eq!((authority.host(), authority.port()), (host, port), "{text}");
            assert_eq!(authority.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "", "a b", "a/b", "http://a", "a:b", "a:70000", ":80", "[::1", "[x]", "a\r\nb", "a@b",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
