//! A web server to talk to.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// Scheme, host and port of a web server, nothing else: `http://backend:8080`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HttpOrigin {
    tls: bool,
    host: String,
    port: u16,
}

impl HttpOrigin {
    /// Whether it speaks `https`.
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Host name or address; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, 80 or 443 when the text named none.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for HttpOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => {
                return Err(format!(
                    "{text:?} begins with \"{other}:\", not with http:// or https://"
                ));
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL with a user name or password in it is refused: they would show up in logs".to_owned());
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "{text:?} has a path or query: only scheme, host and port are used"
            ));
        }
        let host = url
            .host_str()
            .ok_or_else(|| format!("{text:?} names no host"))?
            .to_owned();
        let port = url
            .port_or_known_default()
            .ok_or_else(|| format!("{text:?} names no port"))?;
        Ok(Self { tls, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_host_and_port_are_read() {
        for (text, shown) in [
            ("http://backend:8080", "http://backend:8080"),
            ("https://backend", "https://backend:443"),
            ("http://[::1]/", "http://[::1]:80"),
        ] {
            assert_eq!(text.parse::<HttpOrigin>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn anything_more_is_refused() {
        for (text, reason) in [
            (
                "backend:8080",
                "\"backend:8080\" begins with \"backend:\", not with http:// or https://",
            ),
            ("backend", "\"backend\" is not a URL: relative URL without a base"),
            (
                "http://a/b",
                "\"http://a/b\" has a path or query: only scheme, host and port are used",
            ),
            (
                "http://u:p@a",
                "a URL with a user name or password in it is refused: they would show up in logs",
            ),
        ] {
            assert_eq!(text.parse::<HttpOrigin>().unwrap_err(), reason);
        }
    }
}
