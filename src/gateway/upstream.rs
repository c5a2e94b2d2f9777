//! Where requests go that are neither packets nor downloads.

use std::time::Duration;

use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr};

/// Time to reach the upstream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time in which the upstream may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(180);

/// A server behind us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Upstream {
    /// A peer for one request; the name is looked up anew each time, so that the upstream may move.
    pub(super) async fn peer(&self) -> pingora::Result<Box<HttpPeer>> {
        let mut addresses = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .or_err_with(ErrorType::ConnectError, || format!("{} was not found", self.host))?;
        let address = addresses
            .next()
            .ok_or_else(|| Error::explain(ErrorType::ConnectError, format!("{} has no address", self.host)))?;
        let mut peer = HttpPeer::new(address, self.tls, self.host.clone());
        peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
        peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT);
        peer.options.read_timeout = Some(READ_TIMEOUT);
        peer.options.write_timeout = Some(READ_TIMEOUT);
        Ok(Box::new(peer))
    }
}

/// Tells the upstream whom it is answering.
pub(super) fn introduce(session: &Session, request: &mut RequestHeader) -> pingora::Result<()> {
    if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
        request.append_header("X-Forwarded-For", client.ip().to_string())?;
    }
    request.insert_header("X-Forwarded-Proto", "http")?;
    if let Some(host) = session.get_header(http::header::HOST) {
        request.insert_header("X-Forwarded-Host", host.clone())?;
    }
    Ok(())
}
