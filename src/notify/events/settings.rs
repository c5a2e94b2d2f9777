//! The knobs of the herald.

use std::time::Duration;

use url::Url;

use crate::notify::settings::SHORTEST_KEY;
use crate::session::EventKind;
use crate::units::Secret;
use crate::units::knob::{choices, settings};

/// How an event is written into a request (CloudEvents HTTP protocol binding 1.0, 3).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// There are none.
    #[default]
    Off,
    /// All of it as a JSON document.
    Structured,
    /// Its attributes as headers, its data as a JSON document.
    Binary,
}

choices!(Mode {
    Off => "off",
    Structured => "structured",
    Binary => "binary",
});

choices!(EventKind {
    Created => "created",
    Completed => "completed",
    Cancelled => "cancelled",
    Expired => "expired",
    Lost => "lost",
});

settings! {
    /// Who is told what becomes of sessions, as CloudEvents 1.0.
    pub struct Settings {
        /// Whether anybody is, and in which form. "structured": each event is a JSON document (application/cloudevents+json). "binary": its
        /// attributes are ce-… headers, its data is the document. Sessions that were created before that changed stay as they were.
        pub mode: Mode = Mode::Off,
        /// Where each event is sent with a POST. Redirects are not followed.
        #[example = "\"https://events.example.com/uploads\""]
        pub url: Option<String> = None,
        /// What is told of. "created"; "completed": the file is at its destination; "cancelled"; "expired": silent for longer than
        /// `session_timeout`; "lost": the store or another writer took away what it stood on. Each costs one small object for as long as
        /// the session is remembered.
        pub kinds: Vec<EventKind> = EventKind::ALL.to_vec(),
        /// The attribute `source` of events: a URI or the path of one. Without it, `path` of the route, after `//` and its `host` where it
        /// has one.
        #[example = "\"https://uploads.example.com/incoming/\""]
        pub source: Option<String> = None,
        /// How long the endpoint may take for each.
        pub timeout: Duration = Duration::from_secs(30),
        /// How long an event that nobody takes is worth trying; then it is dropped, with a line in the log. Until then the tombstone of its
        /// session stays.
        pub max_age: Duration = Duration::from_secs(3 * 24 * 3_600),
        /// Certificates (PEM) that are believed when `url` is https. Without it, those of this machine.
        #[example = "\"/etc/bits-gateway/events-ca.pem\""]
        pub ca_file: Option<String> = None,
        /// What the Authorization header says: "Bearer …" or "Basic …". Best given as { file = "…" } or { env = "…" }.
        #[example = "{ file = \"/run/secrets/events-authorization\" }"]
        pub authorization: Option<Secret> = None,
        /// Key of the signature (HMAC-SHA-256) in X-Bits-Gateway-Signature, by which the endpoint knows that an event is ours: 16 characters
        /// or more.
        #[example = "{ file = \"/run/secrets/events-signing-key\" }"]
        pub signing_key: Option<Secret> = None,
    }
}

/// Longer than anybody waits for the answer to so small a request.
const LONGEST: Duration = Duration::from_secs(300);

impl Settings {
    /// Whether a URL is given that nothing is ever sent to.
    pub fn is_unused(&self) -> bool {
        self.mode == Mode::Off && self.url.is_some()
    }

    /// What contradicts itself: the key below `events`, and a sentence about it. Nothing is opened.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        if self.mode == Mode::Off {
            return Vec::new();
        }
        let mut problems = Vec::new();
        let mut report = |key, reason: String| problems.push((key, reason));
        match &self.url {
            None => report("url", "is missing: mode says that somebody is told".to_owned()),
            Some(url) => match endpoint(url) {
                Err(reason) => report("url", reason),
                Ok(url) if self.ca_file.is_some() && url.scheme() != "https" => {
                    report(
                        "ca_file",
                        "is not used: the endpoint is not reached by https".to_owned(),
                    );
                }
                Ok(_) => {}
            },
        }
        if self.kinds.is_empty() {
            report("kinds", "names nothing; mode = \"off\" switches events off".to_owned());
        }
        if self
            .source
            .as_ref()
            .is_some_and(|source| !source.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            report("source", "is no URI: it holds a space, or more than ASCII".to_owned());
        }
        if self.timeout.is_zero() || self.timeout > LONGEST {
            report("timeout", "has to be longer than 0s and at most 5m".to_owned());
        }
        if self.max_age < Duration::from_secs(1) {
            report("max_age", "has to be 1s or longer".to_owned());
        }
        if self
            .signing_key
            .as_ref()
            .is_some_and(|key| key.expose().len() < SHORTEST_KEY)
        {
            report("signing_key", format!("has less than {SHORTEST_KEY} characters"));
        }
        if self
            .authorization
            .as_ref()
            .is_some_and(|value| !value.expose().bytes().all(|byte| matches!(byte, b' '..=b'~')))
        {
            report("authorization", "holds characters that no header can carry".to_owned());
        }
        problems
    }
}

/// The endpoint that a setting names.
///
/// # Errors
/// A sentence for whoever wrote the settings.
pub(super) fn endpoint(url: &str) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(format!("{url} is neither http:// nor https://"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(
            "a URL with a user name or password in it is refused: `authorization` keeps them out of logs".to_owned(),
        );
    }
    if parsed.fragment().is_some() {
        return Err("it has a fragment, which no server sees".to_owned());
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_told_by_its_key() {
        let fine = || Settings {
            mode: Mode::Binary,
            url: Some("https://h/in?x=1".to_owned()),
            ca_file: Some("ca.pem".to_owned()),
            source: Some("https://uploads.example.com/in/".to_owned()),
            signing_key: Some(Secret::inline("0123456789abcdef")),
            ..Settings::default()
        };
        let keys = |change: fn(&mut Settings)| -> Vec<&'static str> {
            let mut settings = fine();
            change(&mut settings);
            settings.problems().into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(|_| {}), [""; 0]);
        for url in ["in", "/in", "ftp://h/", "https://u:p@h/", "https://h/#f", "https:"] {
            let mut settings = fine();
            settings.url = Some(url.to_owned());
            let problems = settings.problems();
            assert_eq!(
                problems.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
                ["url"],
                "{url}"
            );
        }
        assert_eq!(keys(|settings| settings.url = None), ["url"]);
        assert_eq!(keys(|settings| settings.url = Some("http://h".to_owned())), ["ca_file"]);
        assert_eq!(keys(|settings| settings.kinds.clear()), ["kinds"]);
        assert_eq!(keys(|settings| settings.source = Some("a b".to_owned())), ["source"]);
        assert_eq!(keys(|settings| settings.timeout = Duration::ZERO), ["timeout"]);
        assert_eq!(keys(|settings| settings.timeout = 2 * LONGEST), ["timeout"]);
        assert_eq!(keys(|settings| settings.max_age = Duration::ZERO), ["max_age"]);
        assert_eq!(
            keys(|settings| settings.signing_key = Some(Secret::inline("short"))),
            ["signing_key"]
        );
        assert_eq!(
            keys(|settings| settings.authorization = Some(Secret::inline("a\nb"))),
            ["authorization"]
        );
        let off = Settings {
            mode: Mode::Off,
            kinds: Vec::new(),
            ..fine()
        };
        assert!(off.problems().is_empty() && off.is_unused());
    }
}
