//! Connections to a server application, and requests over them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::HeaderValue;
use reqwest::{Body, Client};
use tracing::debug;

use super::answer::{Heard, tells_length};
use super::connection::{self, Setup};
use super::letter::{Content, Letter};
use super::{Failure, Mode, Settings, Target};
use crate::clock::Timestamp;
use crate::units::{HttpOrigin, Secret};

/// Tells one server application of finished uploads.
pub struct Messenger {
    client: Client,
    target: Target,
    mode: Mode,
    timeout: Duration,
    authorization: Option<HeaderValue>,
    signing_key: Option<Secret>,
    static_reply_origins: Vec<HttpOrigin>,
    max_reply_size: u64,
    reply_origin: Option<HttpOrigin>,
}

/// A body, piece by piece.
pub type Pieces = BoxStream<'static, Result<Bytes, Failure>>;

impl Messenger {
    /// The messenger that the settings describe; `None` where there is no server application.
    ///
    /// # Errors
    /// [`Setup`]: what the settings name can't be used.
    pub fn new(settings: &Settings) -> Result<Option<Self>, Setup> {
        let (Mode::Value | Mode::Reference, Some(url)) = (settings.mode, &settings.url) else {
            return Ok(None);
        };
        let about = |key| {
            move |reason: String| Setup {
                section: "notify",
                key,
                reason,
            }
        };
        let target = Target::parse(url, settings.origin.as_ref()).map_err(about("url"))?;
        let client = connection::client(settings.ca_file.as_deref(), target.tls()).map_err(about("ca_file"))?;
        let authorization = settings.authorization.as_ref().map(connection::authorization);
        Ok(Some(Self {
            client,
            target,
            mode: settings.mode,
            timeout: settings.timeout,
            authorization: authorization.transpose().map_err(about("authorization"))?,
            signing_key: settings.signing_key.clone(),
            static_reply_origins: settings.static_reply_origins.clone(),
            max_reply_size: settings.max_reply_size.bytes(),
            reply_origin: settings.reply_origin.clone(),
        }))
    }

    /// How the application gets the file; never [`Mode::Off`].
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// How long the application may take.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Largest reply, in bytes.
    pub const fn max_reply_size(&self) -> u64 {
        self.max_reply_size
    }

    /// Where clients fetch replies from, if that is configured.
    pub const fn reply_origin(&self) -> Option<&HttpOrigin> {
        self.reply_origin.as_ref()
    }

    /// Tells the application, and gives back what it says and the body of its answer, which is to be read within the same time. The time is
    /// the caller's to keep: dropping the future breaks off.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn deliver(&self, letter: Letter, now: Timestamp) -> Result<(Heard, Pieces), Failure> {
        let url = self.target.of(&letter.original_url);
        let url = url.ok_or_else(|| Failure::Unreachable("no URL for this upload".to_owned()))?;
        let headers = letter.headers(&url, self.authorization.as_ref(), self.signing_key.as_ref(), now);
        let body = match letter.content {
            // With the length in the head, what is sent is as long or the connection breaks.
            Content::Value(pieces) if letter.size > 0 => Body::wrap_stream(pieces.map(|piece| piece.map_err(Broken))),
            Content::Value(_) | Content::Reference { .. } => Body::from(Bytes::new()),
        };
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        let answer = sent.map_err(|error| unreachable(&error))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers());
        debug!(session = %letter.session, status, "the server application answered");
        let heard = Heard::read(status, headers, &self.static_reply_origins)?;
        let tells_length = tells_length(headers);
        let most = self.max_reply_size;
        if answer.content_length().is_some_and(|length| length > most) && self.mode == Mode::Value {
            return Err(Failure::TooLarge);
        }
        let mut so_far = 0_u64;
        let pieces = answer.bytes_stream().map(move |piece| {
            let piece = piece.map_err(|error| unreachable(&error))?;
            so_far = so_far.saturating_add(piece.len() as u64);
            // A connection that ends is also how a broken one looks.
            if !tells_length && so_far > 0 {
                return Err(Failure::Malformed);
            }
            if so_far > most {
                return Err(Failure::TooLarge);
            }
            Ok(piece)
        });
        Ok((heard, pieces.boxed()))
    }
}

/// Why the file could not be sent to its end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(String);

fn unreachable(error: &reqwest::Error) -> Failure {
    Failure::Unreachable(connection::unreachable(error))
}

impl fmt::Debug for Messenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messenger")
            .field("target", &self.target)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
