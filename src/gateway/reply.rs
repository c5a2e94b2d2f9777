//! Where clients fetch the reply of a server application. Pure.
//!
//! The path is the one of IIS (MC-BUP 4.2): `BITS-Sessions/Replies/{session}/responsefile.bin` below the route. Nobody can upload to it by
//! accident: it holds the id of a session.

use std::str::FromStr;

use url::Url;

use crate::bits::SessionId;
use crate::notify::LONGEST_REPLY_URL;
use crate::units::HttpOrigin;

const FOLDER: &str = "BITS-Sessions/Replies/";
const FILE: &str = "/responsefile.bin";

/// The session whose reply `below` names, the raw path below its route.
pub(super) fn session_of(below: &str) -> Option<SessionId> {
    let id = below.strip_prefix(FOLDER)?.strip_suffix(FILE)?;
    // The braces are escaped in a URL, and not by everybody.
    let id = id
        .replace("%7B", "{")
        .replace("%7b", "{")
        .replace("%7D", "}")
        .replace("%7d", "}");
    SessionId::from_str(&id).ok()
}

/// What decides on the scheme, host and port of a reply's URL.
pub(super) struct Reached<'a> {
    /// The URL of the Create-Session.
    pub(super) created: &'a str,
    /// Where the clients of the route are sent for the rest of a session: maybe only that host has the reply.
    pub(super) host_id: Option<&'a str>,
    /// What is configured.
    pub(super) origin: Option<&'a HttpOrigin>,
}

/// The absolute URL of the reply of `session` on the route with this path prefix: the same on every replica. `None` when it is longer than
/// clients take (MC-BUP 2.2.1.2).
pub(super) fn url(reached: &Reached<'_>, route: &str, session: SessionId) -> Option<String> {
    let mut url = match reached.origin {
        Some(origin) => Url::parse(&origin.to_string()).ok()?,
        None => {
            let mut created = Url::parse(reached.created).ok()?;
            if let Some(host) = reached.host_id {
                created = Url::parse(&format!("{}://{host}", created.scheme())).ok()?;
            }
            created
        }
    };
    url.set_query(None);
    url.set_fragment(None);
    let route = route.trim_matches('/').replace('%', "%25");
    let slash = if route.is_empty() { "" } else { "/" };
    url.set_path(&format!("/{route}{slash}{FOLDER}{session}{FILE}"));
    let text = String::from(url);
    (text.len() <= LONGEST_REPLY_URL).then_some(text)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ID: &str = "{11111111-2222-4333-8444-555555555555}";

    fn url_of(created: &str, host_id: Option<&str>, origin: Option<&str>, route: &str) -> Option<String> {
        let origin = origin.map(|origin| origin.parse().unwrap());
        let reached = Reached {
            created,
            host_id,
            origin: origin.as_ref(),
        };
        url(&reached, route, ID.parse().unwrap())
    }

    #[test]
    fn the_url_is_absolute_and_encoded() {
        let file = "BITS-Sessions/Replies/%7B11111111-2222-4333-8444-555555555555%7D/responsefile.bin";
        for (created, host_id, origin, route, expected) in [
            ("http://h/up/a/f?x=1", None, None, "/up/", "http://h/up/"),
            ("http://h:8080/f", None, None, "/", "http://h:8080/"),
            ("http://h:8080/up/f", Some("node1"), None, "/up", "http://node1/up/"),
            (
                "http://h/up/f",
                Some("node1:81"),
                Some("https://u"),
                "/up",
                "https://u/up/",
            ),
            (
                "http://[::1]:80/f",
                None,
                None,
                "/my files/ü",
                "http://[::1]/my%20files/%C3%BC/",
            ),
        ] {
            assert_eq!(
                url_of(created, host_id, origin, route),
                Some(format!("{expected}{file}"))
            );
        }
    }

    #[test]
    fn a_url_that_no_client_takes_is_none() {
        let created = |length: usize| format!("http://{}/f", "h".repeat(length));
        assert!(url_of(&created(200), None, None, "/").is_some());
        assert!(url_of(&created(2200), None, None, "/").is_none());
        assert!(url_of("not a url", None, None, "/").is_none());
    }

    #[test]
    fn the_path_leads_back_to_the_session() {
        let id = SessionId::new(Uuid::from_u128(7));
        let reached = Reached {
            created: "http://h/f",
            host_id: None,
            origin: None,
        };
        let url = url(&reached, "/up/", id).unwrap();
        assert_eq!(session_of(url.strip_prefix("http://h/up/").unwrap()), Some(id));
        assert_eq!(
            session_of(&format!("BITS-Sessions/Replies/{id}/responsefile.bin")),
            Some(id)
        );
        for other in [
            "",
            "BITS-Sessions/Replies/responsefile.bin",
            "BITS-Sessions/Replies//responsefile.bin",
            "BITS-Sessions/Replies/%7B%7D/responsefile.bin",
            "BITS-Sessions/Replies/x/../responsefile.bin",
        ] {
            assert_eq!(session_of(other), None, "{other}");
        }
    }
}
