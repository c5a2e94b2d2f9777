//! On which terms a file is published: what its destination has to be, and until when that may be begun.
//!
//! What has to be begun in time must not be begun late by anybody on the way: not after a wait for credentials, and not by the repeats
//! of `object_store`. So a request carries its deadline with it, down to where it is sent.

use async_trait::async_trait;
use http::Extensions;
use object_store::PutOptions;
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};

use super::Error;
use super::objects::{attributes, mode_of};
use crate::bits::SessionId;
use crate::clock::Deadline;
use crate::session::Before;

/// The terms of a publication.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What the destination was at Create-Session, and still has to be.
    pub before: &'a Before,
    /// From when on no request for it is sent any more. One that was sent may be carried out later: nobody can take it back.
    pub by: Deadline,
}

impl<'a> Terms<'a> {
    /// The terms of a publication that may be begun at any time.
    pub const fn whenever(before: &'a Before) -> Self {
        Self {
            before,
            by: Deadline::NEVER,
        }
    }

    /// The options of a put that publishes on these terms.
    pub(super) fn put(&self, session: SessionId) -> PutOptions {
        let mut extensions = Extensions::new();
        extensions.insert(self.by);
        PutOptions {
            mode: mode_of(self.before),
            attributes: attributes(session),
            extensions,
            ..PutOptions::default()
        }
    }
}

/// What was not begun because it was too late for it.
#[derive(Debug, thiserror::Error)]
#[error("it was too late to begin")]
pub(super) struct TooLate;

impl TooLate {
    /// Refuses what carries a deadline that has passed.
    pub(super) fn check(extensions: &Extensions) -> Result<(), Self> {
        match extensions.get::<Deadline>() {
            Some(by) if by.has_passed() => Err(Self),
            _ => Ok(()),
        }
    }
}

impl From<TooLate> for Error {
    fn from(late: TooLate) -> Self {
        Self::Unavailable(late.to_string())
    }
}

impl From<TooLate> for object_store::Error {
    fn from(late: TooLate) -> Self {
        Self::Generic {
            store: "late",
            source: late.into(),
        }
    }
}

/// Connections over which no request goes after its deadline.
#[derive(Debug)]
pub(super) struct Gate(HttpClient);

impl Gate {
    pub(super) fn before(client: HttpClient) -> HttpClient {
        HttpClient::new(Self(client))
    }
}

#[async_trait]
impl HttpService for Gate {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Of this kind, because `object_store` does not repeat it.
        TooLate::check(request.extensions()).map_err(|late| HttpError::new(HttpErrorKind::Unknown, late))?;
        self.0.execute(request).await
    }
}
