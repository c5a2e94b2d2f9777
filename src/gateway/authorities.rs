//! Whose word counts when a web server behind a route says who it is.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::WrappedX509;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificate authorities of one's own, believed instead of those of this machine.
#[derive(Clone)]
pub struct Authorities {
    certificates: Arc<CaType>,
    /// The engine shares its connections among peers that look alike, and does not look at whom they believe.
    group: u64,
}

/// Why nobody could be believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// The file cannot be read, or is no PEM.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate in it is none, or can vouch for nobody.
    #[error("{}: certificate {nth}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Which certificate of the file, from 1.
        nth: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds no certificate.
    #[error("{} holds no certificate", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Authorities {
    /// Those in a PEM file.
    ///
    /// # Errors
    /// When the file cannot be read, holds no certificate, or one that cannot be used.
    pub fn load(file: &Path) -> Result<Self, AuthoritiesError> {
        let unreadable = |error: rustls::pki_types::pem::Error| AuthoritiesError::Unreadable {
            path: file.to_owned(),
            reason: match error {
                rustls::pki_types::pem::Error::Io(error) => error.to_string(),
                other => other.to_string(),
            },
        };
        let mut group = DefaultHasher::new();
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
            let certificate = certificate.map_err(unreadable)?;
            let nth = certificates.len() + 1;
            certificate.hash(&mut group);
            certificates.push(usable(certificate).map_err(|reason| AuthoritiesError::Unusable {
                path: file.to_owned(),
                nth,
                reason,
            })?);
        }
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty { path: file.to_owned() });
        }
        Ok(Self {
            certificates: certificates.into(),
            group: group.finish(),
        })
    }

    /// From now on `peer` is believed when one of these vouches for it, and not otherwise.
    pub(super) fn judge(&self, peer: &mut HttpPeer) {
        peer.options.ca = Some(Arc::clone(&self.certificates));
        peer.group_key = self.group;
    }
}

/// What the engine takes for a certificate. Whatever it could stumble over at a connection is found here, at start.
fn usable(certificate: CertificateDer<'static>) -> Result<WrappedX509, String> {
    let wrapped = WrappedX509::try_new(certificate.to_vec(), |der| {
        X509Certificate::from_der(der).map(|(_, it)| it)
    })
    .map_err(|error| error.to_string())?;
    RootCertStore::empty()
        .add(certificate)
        .map_err(|error| error.to_string())?;
    Ok(wrapped)
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.certificates.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, content).unwrap();
        let error = Authorities::load(&file).unwrap_err().to_string();
        let shown = folder.path().display().to_string();
        error.replace(&shown, "")
    }

    #[test]
    fn a_file_that_vouches_for_nobody_is_told_at_once() {
        assert_eq!(refused(b""), "/ca.pem holds no certificate");
        assert_eq!(refused(b"no certificate at all"), "/ca.pem holds no certificate");
        let absent = Authorities::load(Path::new("absent/ca.pem")).unwrap_err().to_string();
        assert!(
            absent.starts_with("absent/ca.pem cannot be read: No such file"),
            "{absent}"
        );
        let cut = refused(b"-----BEGIN CERTIFICATE-----\nAAAA\n");
        assert!(cut.starts_with("/ca.pem cannot be read: "), "{cut}");
        let nonsense = refused(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(nonsense.starts_with("/ca.pem: certificate 1: "), "{nonsense}");
    }
}
