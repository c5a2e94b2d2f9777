//! TLS over a tokio socket, with rustls: whom to trust, and the stream.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Whose certificates are believed, and with which versions TLS is spoken.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

/// Why no certificate could be believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file can't be read, or is no PEM.
    #[error("the certificates in {path} can't be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no certificate that can sign others.
    #[error("{path} holds no certificate authority")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// None of the usual places of this machine holds certificates.
    #[error("this machine has no file of trusted certificate authorities ({0}); name one with --ca-file")]
    NoSystemRoots(String),
    /// rustls refused the settings.
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Where Debian, Red Hat, SUSE, Alpine, FreeBSD and macOS keep the authorities that the machine trusts.
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

impl Trust {
    /// Believes the authorities in the PEM file `ca_file` and no others; without one those of the machine.
    ///
    /// # Errors
    /// When the file, or every usual place of the machine, holds no usable certificate.
    pub fn load(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let roots = match ca_file {
            Some(path) => roots(path)?,
            None => SYSTEM_ROOTS
                .iter()
                .find_map(|path| roots(Path::new(path)).ok())
                .ok_or_else(|| TrustError::NoSystemRoots(SYSTEM_ROOTS.join(", ")))?,
        };
        // The provider is named rather than taken from the process, so that no order of initialisation matters.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

fn roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let unreadable = |error: rustls::pki_types::pem::Error| TrustError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    // Machines trust odd old certificates that rustls can't use; one that can be used is enough.
    roots.add_parsable_certificates(certificates);
    match roots.is_empty() {
        true => Err(TrustError::Empty { path: path.to_owned() }),
        false => Ok(roots),
    }
}

/// A TLS connection. Both directions are polled through one value, so that an answer can be read while a body is written.
#[derive(Debug)]
pub(super) struct TlsStream {
    tcp: TcpStream,
    session: ClientConnection,
}

impl TlsStream {
    /// Shakes hands with `host`.
    ///
    /// # Errors
    /// What the socket says; `InvalidData` around a [`rustls::Error`] for what TLS says.
    pub(super) async fn connect(tcp: TcpStream, host: &str, trust: &Trust) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| tls_error(rustls::Error::UnsupportedNameType))?;
        let session = ClientConnection::new(Arc::clone(&trust.0), name).map_err(tls_error)?;
        let mut stream = Self { tcp, session };
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    pub(super) const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_send(cx))?;
            // The last message of the handshake may have been one of ours.
            if self.session.is_handshaking() && ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.poll_send(cx)
    }

    /// Sends what rustls has to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Blocking { tcp: &mut self.tcp, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives some bytes and lets rustls digest them; 0 at the end of the stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let received = match self.session.read_tls(&mut Blocking { tcp: &mut self.tcp, cx }) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Err(error) = self.session.process_new_packets() {
            // The alert that tells the server why is worth one attempt.
            let _ = self.poll_send(cx);
            return Poll::Ready(Err(tls_error(error)));
        }
        Poll::Ready(Ok(received))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match io::Read::read(&mut self.session.reader(), buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            // What was received may have asked for an answer on the level of TLS; that must not wait for the next request. That it
            // can't be sent is no reason not to read what the server said before it hung up.
            let _ = self.poll_send(cx);
            ready!(self.poll_receive(cx))?;
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // rustls buffers a bounded amount: only when the socket takes nothing and that is full is there nothing to do.
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        let written = io::Write::write(&mut self.session.writer(), buf)?;
        if written == 0 && !buf.is_empty() {
            return Poll::Pending;
        }
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.send_close_notify();
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A socket as rustls wants it: "would block" instead of "pending". The waker is registered all the same.
struct Blocking<'a, 'b> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl io::Read for Blocking<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(bytes);
        match Pin::new(&mut *self.tcp).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Blocking<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.tcp).poll_write(self.cx, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tls_error(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Whether the server's certificate was refused, which no waiting heals.
pub(super) fn is_untrusted(error: &io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| {
            matches!(
                error,
                rustls::Error::InvalidCertificate(_) | rustls::Error::UnsupportedNameType
            )
        })
}
