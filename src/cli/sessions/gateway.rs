//! The sessions as a running gateway tells of them on its admin listener.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use reqwest::{Client, Method, Response, StatusCode, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::{Host, Url};

use super::super::{USAGE, say};
use super::Failure;
use crate::admin::INTENT;
use crate::bits::SessionId;
use crate::cleanup::Told;
use crate::units::{Secret, show_duration};
use crate::upload::{Detail, Filter, Overview, Standing};

/// How long connecting may take.
const CONNECTING: Duration = Duration::from_secs(5);

/// How often a connection on which nothing comes is asked whether it lives: a list may take long between two lines.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// No line is longer: keys and URLs have bounds.
const LONGEST_LINE: usize = 1 << 20;

/// A running gateway.
pub(super) struct Gateway {
    client: Client,
    url: Url,
    token: Option<Secret>,
}

/// What is told instead of what was asked for.
#[derive(Deserialize)]
struct Trouble {
    error: String,
}

impl Gateway {
    pub(super) fn new(url: Url, token: Option<Secret>) -> Result<Self, Failure> {
        if token.is_some() && url.scheme() == "http" && !is_local(&url) {
            say("warning: the token goes over the network in plain text; put TLS in front of the admin listener\n");
        }
        // Without a provider of its own, TLS takes the one of the process. Whoever installed one before us is right too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECTING)
            .tcp_keepalive(KEEP_ALIVE)
            // The token is for the one who was named, and for nobody in between or further on.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(Failure::unavailable)?;
        Ok(Self { client, url, token })
    }

    pub(super) async fn list(&self, filter: &Filter) -> Result<BoxStream<'static, Result<Overview, Failure>>, Failure> {
        let mut url = self.at(&["sessions"]);
        ask(&mut url, filter);
        Ok(lines(self.request(Method::GET, url).await?))
    }

    pub(super) async fn show(&self, id: SessionId) -> Result<Detail, Failure> {
        self.one(Method::GET, id).await
    }

    pub(super) async fn cancel(&self, id: SessionId) -> Result<Overview, Failure> {
        self.one(Method::DELETE, id).await
    }

    pub(super) async fn sweep(&self, dry_run: bool) -> Result<BoxStream<'static, Result<Told, Failure>>, Failure> {
        let mut url = self.at(&["sweep"]);
        url.query_pairs_mut().append_pair("dry_run", &dry_run.to_string());
        Ok(lines(self.request(Method::POST, url).await?))
    }

    async fn one<T: DeserializeOwned>(&self, method: Method, id: SessionId) -> Result<T, Failure> {
        let url = self.at(&["sessions", &id.as_key()]);
        let answer = self
            .request(method, url.clone())
            .await
            .map_err(|failure| match failure.code {
                super::NOT_FOUND => Failure::not_found(id),
                _ => failure,
            })?;
        let body = answer.bytes().await.map_err(|error| broken(&url, &error))?;
        serde_json::from_slice(&body).map_err(|error| strange(&url, &error))
    }

    /// Where something is below the URL of the listener, which a proxy may have put below a path.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn request(&self, method: Method, url: Url) -> Result<Response, Failure> {
        let mut request = self.client.request(method, url.clone()).header(INTENT, "bits-gateway");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let answer = request.send().await.map_err(|error| broken(&url, &error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.unwrap_or_default();
        let why = serde_json::from_slice(&body)
            .map(|Trouble { error }| error)
            .unwrap_or_else(|_| format!("it answers {status}"));
        let code = match status {
            StatusCode::NOT_FOUND => super::NOT_FOUND,
            StatusCode::BAD_REQUEST => USAGE,
            _ => super::UNAVAILABLE,
        };
        Err(Failure {
            code,
            why: format!("{url}: {why}"),
        })
    }
}

/// The filter as a query.
fn ask(url: &mut Url, filter: &Filter) {
    let mut query = url.query_pairs_mut();
    let texts = [("route", &filter.route), ("prefix", &filter.prefix)];
    for (name, text) in texts {
        query.extend_pairs(text.iter().map(|text| (name, text)));
    }
    if !filter.standings.is_empty() {
        let phases: Vec<_> = filter.standings.iter().copied().map(Standing::as_str).collect();
        query.append_pair("phase", &phases.join(","));
    }
    if filter.all {
        query.append_pair("all", "true");
    }
    let spans = [
        ("silent_for", filter.silent_for),
        ("active_within", filter.active_within),
    ];
    for (name, span) in spans {
        query.extend_pairs(span.iter().map(|span| (name, show_duration(*span))));
    }
    query.extend_pairs(filter.limit.iter().map(|limit| ("limit", limit.to_string())));
}

/// The lines of an answer as they come. One that tells of an error is the last, and so is a connection that breaks.
fn lines<T: DeserializeOwned + Send + 'static>(answer: Response) -> BoxStream<'static, Result<T, Failure>> {
    let url = answer.url().clone();
    let lines = stream::try_unfold((answer, Vec::new(), url), |(mut answer, mut ahead, url)| async move {
        let line = loop {
            if let Some(end) = ahead.iter().position(|byte| *byte == b'\n') {
                let rest = ahead.split_off(end + 1);
                break std::mem::replace(&mut ahead, rest);
            }
            if ahead.len() > LONGEST_LINE {
                return Err(Failure::unavailable(format!("{url}: a line without end")));
            }
            match answer.chunk().await.map_err(|error| broken(&url, &error))? {
                Some(chunk) => ahead.extend_from_slice(&chunk),
                None if ahead.is_empty() => return Ok(None),
                None => break std::mem::take(&mut ahead),
            }
        };
        if let Ok(Trouble { error }) = serde_json::from_slice(&line) {
            return Err(Failure::unavailable(format!("{url}: {error}")));
        }
        let value = serde_json::from_slice(&line).map_err(|error| strange(&url, &error))?;
        Ok(Some((value, (answer, ahead, url))))
    });
    lines.boxed()
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

fn broken(url: &Url, error: &reqwest::Error) -> Failure {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        why = error.to_string();
        cause = error.source();
    }
    Failure::unavailable(format!("{url}: {why}"))
}

fn strange(url: &Url, error: &serde_json::Error) -> Failure {
    Failure::unavailable(format!("{url}: what it tells is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_asked_for_as_the_listener_reads_it() {
        let mut url: Url = "http://127.0.0.1:9090/sessions".parse().unwrap();
        let filter = Filter {
            route: Some("/up/".to_owned()),
            prefix: Some("a b&c".to_owned()),
            standings: vec![Standing::Open, Standing::Newer],
            all: true,
            silent_for: Some(Duration::from_secs(5400)),
            active_within: None,
            limit: Some(3),
        };
        ask(&mut url, &filter);
        assert_eq!(
            url.query(),
            Some("route=%2Fup%2F&prefix=a+b%26c&phase=open%2Cnewer&all=true&silent_for=90m&limit=3")
        );
    }

    #[test]
    fn a_listener_may_lie_below_a_path() {
        for (url, asked) in [
            ("http://h:1", "http://h:1/sessions/x"),
            ("http://h:1/", "http://h:1/sessions/x"),
            ("https://h/admin/", "https://h/admin/sessions/x"),
        ] {
            let gateway = Gateway::new(url.parse().unwrap(), None).unwrap();
            assert_eq!(gateway.at(&["sessions", "x"]).as_str(), asked);
        }
    }
}
