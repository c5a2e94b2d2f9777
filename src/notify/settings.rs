//! The knobs of the messenger.

use std::time::Duration;

use super::Target;
use crate::units::knob::{choices, settings};
use crate::units::{ByteSize, HttpOrigin, Secret};

/// How the server application gets the file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// There is none: files go straight to their destination.
    #[default]
    Off,
    /// As the body of the request.
    Value,
    /// As the place where it lies, in a header.
    Reference,
}

choices!(Mode {
    Off => "off",
    Value => "value",
    Reference => "reference",
});

settings! {
    /// The server application that is told of finished uploads, and whose reply goes to the client (upload-reply). Files of such a route
    /// do not appear at their destination unless the application asks for it.
    pub struct Settings {
        /// Whether there is one, and how it gets the file. "value": as the body of a POST. "reference": as the place where it lies: a path
        /// on this machine where the store is a local directory, else a URL that opens just this object for a while.
        pub mode: Mode = Mode::Off,
        /// Where it is told. The query of the upload is appended. A relative URL is taken from the directory of the upload's URL, on
        /// `origin`.
        #[example = "\"http://app:8000/uploads\""]
        pub url: Option<String> = None,
        /// Scheme, host and port for a relative `url`. Never those that the client asked for: whoever sends a request could choose them.
        #[example = "\"http://app:8000\""]
        pub origin: Option<HttpOrigin> = None,
        /// How long the application may take, from the first byte of the request to the last one of its answer. A client waits for
        /// five minutes; after the time-out it is told 408 and comes back.
        pub timeout: Duration = Duration::from_secs(240),
        /// Certificates (PEM) that are believed when `url` is https. Without it, those of this machine.
        #[example = "\"/etc/bits-gateway/app-ca.pem\""]
        pub ca_file: Option<String> = None,
        /// What the Authorization header says: "Bearer …" or "Basic …". Best given as { file = "…" } or { env = "…" }.
        #[example = "{ file = \"/run/secrets/app-authorization\" }"]
        pub authorization: Option<Secret> = None,
        /// Key of the signature (HMAC-SHA-256) in X-Bits-Gateway-Signature, by which the application knows that the request is ours:
        /// 16 characters or more.
        #[example = "{ file = \"/run/secrets/app-signing-key\" }"]
        pub signing_key: Option<Secret> = None,
        /// Where BITS-Static-Response-URL may lead. A client fetches what it names as if it came from us, so nowhere unless listed.
        #[example = "[\"https://static.example.com\"]"]
        pub static_reply_origins: Vec<HttpOrigin> = vec![],
        /// Largest reply. Above it the client is told 400 + 0x80200020.
        pub max_reply_size: ByteSize = ByteSize::gib(1),
        /// Scheme, host and port under which clients reach the gateway, for the URL of the reply: needed where TLS ends in front of it.
        /// Without it, those of `host_id`, or those that the Create-Session asked for.
        #[example = "\"https://uploads.example.com\""]
        pub reply_origin: Option<HttpOrigin> = None,
    }
}

/// How long a client waits for an answer, less the time to store one: a longer time-out would never be reached.
const LONGEST: Duration = Duration::from_secs(270);

/// A key that takes longer to guess than anybody has time.
pub(super) const SHORTEST_KEY: usize = 16;

impl Settings {
    /// Whether a URL is given that nobody is told of anything at.
    pub fn is_unused(&self) -> bool {
        self.mode == Mode::Off && self.url.is_some()
    }

    /// What contradicts itself: the key below `notify`, and a sentence about it. Nothing is opened.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        if self.mode == Mode::Off {
            return Vec::new();
        }
        let mut problems = Vec::new();
        let mut report = |key, reason: String| problems.push((key, reason));
        match &self.url {
            None => report(
                "url",
                "is missing: mode says that there is a server application".to_owned(),
            ),
            Some(url) => match Target::parse(url, self.origin.as_ref()) {
                Err(reason) => report("url", reason),
                Ok(target) if self.ca_file.is_some() && !target.tls() => {
                    report(
                        "ca_file",
                        "is not used: the server application is not reached by https".to_owned(),
                    );
                }
                Ok(_) => {}
            },
        }
        if self.timeout.is_zero() || self.timeout > LONGEST {
            report(
                "timeout",
                "has to be longer than 0s and at most 270s: clients wait for five minutes".to_owned(),
            );
        }
        if self.max_reply_size.bytes() == 0 {
            report("max_reply_size", "has to be more than 0B".to_owned());
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
