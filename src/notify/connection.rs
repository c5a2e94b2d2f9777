//! How the HTTP services are reached that were configured.

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use reqwest::{Certificate, Client, redirect};

use crate::units::Secret;

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(10);

/// How long an idle connection is kept: less than most servers do, so that few requests meet one that is being closed.
const IDLE: Duration = Duration::from_secs(4);

/// Why somebody cannot be told of anything.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{section}.{key}: {reason}")]
pub struct Setup {
    /// The section of a route.
    pub section: &'static str,
    /// Which setting is in the way.
    pub key: &'static str,
    /// A sentence about it.
    pub reason: String,
}

/// Connections to a service, with the certificates of `ca_file` or of this machine.
pub(super) fn client(ca_file: Option<&str>, tls: bool) -> Result<Client, String> {
    // Whoever installed a provider before us is right too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .http1_only()
        .connect_timeout(CONNECTING)
        .pool_idle_timeout(IDLE)
        // What is told is for the one who was configured, and for nobody further on.
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .user_agent(concat!("bits-gateway/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = ca_file {
        builder = builder.tls_certs_only(authorities(Path::new(file))?);
    } else if !tls {
        // The certificates of the machine are read when the client is made, and may be broken: only who needs them depends on that.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| error.to_string())
}

/// What the Authorization header says.
pub(super) fn authorization(secret: &Secret) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(secret.expose()).map_err(|_| "holds characters that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why a service was not reached, without its URL: that may hold what no log should.
pub(super) fn unreachable(error: &reqwest::Error) -> String {
    let mut why = "cannot be reached".to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = cause.to_string();
        source = cause.source();
    }
    why
}

/// The certificates in a PEM file.
fn authorities(file: &Path) -> Result<Vec<Certificate>, String> {
    let shown = file.display();
    let pem = std::fs::read(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| format!("{shown}: {error}"))?;
    if found.is_empty() {
        return Err(format!("{shown} holds no certificate"));
    }
    Ok(found)
}
