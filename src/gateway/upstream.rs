//! Where requests go that are neither packets nor downloads.

use std::time::Duration;

use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr};
use tokio::net::lookup_host;

use crate::units::HttpOrigin;

/// Time to reach the upstream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time in which the upstream may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(180);

/// A peer for one request; the name is looked up anew each time, so that the upstream may move.
pub(super) async fn peer(upstream: &HttpOrigin) -> pingora::Result<Box<HttpPeer>> {
    let host = upstream.host().trim_start_matches('[').trim_end_matches(']');
    let address = lookup_host((host, upstream.port()))
        .await
        .or_err_with(ErrorType::ConnectError, || format!("{upstream} was not found"))?
        .next()
        .ok_or_else(|| Error::explain(ErrorType::ConnectError, format!("{upstream} has no address")))?;
    let mut peer = HttpPeer::new(address, upstream.tls(), host.to_owned());
    peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
    peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT);
    peer.options.read_timeout = Some(READ_TIMEOUT);
    peer.options.write_timeout = Some(READ_TIMEOUT);
    Ok(Box::new(peer))
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
