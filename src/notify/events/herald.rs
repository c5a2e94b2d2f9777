//! One POST for each event.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderName};
use reqwest::{Client, Response};
use url::Url;

use super::settings::endpoint;
use super::{Event, Mode, Settings, Untaken};
use crate::clock::Timestamp;
use crate::notify::connection::{self, Setup, unreachable};
use crate::notify::signature;
use crate::session::{Announced, EventKind};
use crate::units::Secret;

/// The event, the same for every request about it, in the words of an IETF draft that frameworks know.
const IDEMPOTENCY: HeaderName = HeaderName::from_static("idempotency-key");

/// That all of this is ours; a header of ours.
const SIGNATURE: HeaderName = HeaderName::from_static("x-bits-gateway-signature");

/// As much of an answer is read, so that the connection can be used again.
const UNHEARD: usize = 64 * 1024;

/// And for so long: whoever dallies is asked over another one.
const AFTERTHOUGHT: Duration = Duration::from_secs(1);

/// Tells one endpoint of the sessions of a route.
pub struct Herald {
    client: Client,
    url: Url,
    mode: Mode,
    kinds: Vec<EventKind>,
    source: Option<String>,
    timeout: Duration,
    max_age: Duration,
    authorization: Option<HeaderValue>,
    signing_key: Option<Secret>,
}

impl Herald {
    /// The herald that the settings describe; `None` where nobody is told.
    ///
    /// # Errors
    /// [`Setup`]: what the settings name can't be used.
    pub fn new(settings: &Settings) -> Result<Option<Self>, Setup> {
        let (Mode::Structured | Mode::Binary, Some(url)) = (settings.mode, &settings.url) else {
            return Ok(None);
        };
        let about = |key| {
            move |reason: String| Setup {
                section: "events",
                key,
                reason,
            }
        };
        let url = endpoint(url).map_err(about("url"))?;
        let client =
            connection::client(settings.ca_file.as_deref(), url.scheme() == "https").map_err(about("ca_file"))?;
        let authorization = settings.authorization.as_ref().map(connection::authorization);
        Ok(Some(Self {
            client,
            url,
            mode: settings.mode,
            kinds: settings.kinds.clone(),
            source: settings.source.clone(),
            timeout: settings.timeout,
            max_age: settings.max_age,
            authorization: authorization.transpose().map_err(about("authorization"))?,
            signing_key: settings.signing_key.clone(),
        }))
    }

    /// What a session promises to tell whose Create-Session comes from `client`.
    pub fn promise(&self, client: Option<String>) -> Announced {
        Announced {
            kinds: self.kinds.clone(),
            max_age: self.max_age.as_secs(),
            client,
            end: None,
        }
    }

    /// What events say that they come from, where that is configured.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// How long the endpoint may take.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Tells the endpoint. Every 2xx takes the event.
    ///
    /// # Errors
    /// [`Untaken`]: it is to be told again.
    pub async fn tell(&self, event: &Event, now: Timestamp) -> Result<(), Untaken> {
        let telling = tokio::time::timeout(self.timeout, self.post(event, now));
        let answer = telling.await.unwrap_or(Err(Untaken::TimedOut(self.timeout)))?;
        // It has said all that counts: what goes wrong from here on takes nothing back.
        let _ = tokio::time::timeout(AFTERTHOUGHT, hear_out(answer)).await;
        Ok(())
    }

    async fn post(&self, event: &Event, now: Timestamp) -> Result<Response, Untaken> {
        let (mut headers, body) = event.request(self.mode);
        // Two identifiers and a hyphen.
        let id = HeaderValue::from_str(event.id()).unwrap_or_else(|_| HeaderValue::from_static(""));
        headers.insert(IDEMPOTENCY, id);
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(key) = &self.signing_key {
            let seconds = now.as_millis() / 1000;
            let (path, query) = (self.url.path(), self.url.query().unwrap_or_default());
            let head = format!("v1\n{seconds}\nPOST\n{path}\n{query}\n{}\n", event.id());
            let signature = signature::of(key, seconds, &[head.as_bytes(), &body]);
            headers.extend(HeaderValue::try_from(signature).map(|value| (SIGNATURE, value)));
        }
        let sent = self
            .client
            .post(self.url.clone())
            .headers(headers)
            .body(body)
            .send()
            .await;
        let answer = sent.map_err(|error| Untaken::Unreachable(unreachable(&error)))?;
        let status = answer.status();
        if status.is_success() {
            Ok(answer)
        } else {
            Err(Untaken::Status(status.as_u16()))
        }
    }
}

async fn hear_out(mut answer: Response) {
    let mut heard = 0;
    while let Ok(Some(piece)) = answer.chunk().await {
        heard += piece.len();
        if heard > UNHEARD {
            break;
        }
    }
}

impl fmt::Debug for Herald {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Herald")
            .field("mode", &self.mode)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::bits::SessionId;
    use crate::clock::random_id;
    use crate::session::{Before, Principal, Record, Target};

    fn event() -> Event {
        let target = Target {
            route: "/".to_owned(),
            key: "f".to_owned(),
            query: None,
        };
        let (id, nobody, now) = (
            SessionId::new(random_id()),
            Principal::anonymous(),
            Timestamp::default(),
        );
        let record = Record::begin(id, nobody, target, String::new(), 64, 64, false, Before::Absent, now);
        let record = record.announced(Announced {
            kinds: EventKind::ALL.to_vec(),
            max_age: 60,
            client: None,
            end: None,
        });
        Event::of(&record, EventKind::Created, "memory:///", None).unwrap()
    }

    #[tokio::test]
    async fn an_event_is_taken_by_its_status_however_slow_the_rest_of_the_answer_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let endpoint = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64];
            stream.read_exact(&mut request).await.unwrap();
            let head = b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n12345";
            stream.write_all(head).await.unwrap();
            std::future::pending::<()>().await;
        });
        let settings = Settings {
            mode: Mode::Binary,
            url: Some(url),
            timeout: Duration::from_secs(20),
            ..Settings::default()
        };
        let herald = Herald::new(&settings).unwrap().unwrap();
        assert_eq!(herald.tell(&event(), Timestamp::default()).await, Ok(()));
        endpoint.abort();
    }
}
