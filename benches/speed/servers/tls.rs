//! https in front of a store: what it takes is nobody's cost here.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::nginx;
use super::process::Process;
use super::stores::SeaweedFs;

/// Takes connections with TLS and passes on what comes over them.
pub(crate) struct Front {
    address: SocketAddr,
    certificates: TempDir,
    _process: Process,
}

impl Front {
    /// Begins one in front of this store, with a certificate of its own.
    pub(crate) fn of(seaweed: &SeaweedFs) -> io::Result<Self> {
        let certificates = tempfile::tempdir()?;
        let mut openssl = Command::new("openssl");
        openssl.current_dir(certificates.path());
        openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=store".split(' '));
        openssl.args("-keyout server.key -out server.pem -addext basicConstraints=CA:FALSE".split(' '));
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]);
        let made = openssl.output()?;
        if !made.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        let folder = certificates.path().display().to_string();
        let upstream = format!("127.0.0.1:{}", seaweed.port());
        let values = [("{CERTIFICATES}", folder.as_str()), ("{UPSTREAM}", &upstream)];
        let (process, address) = nginx::start(include_str!("../nginx/tls.conf"), &values)?;
        Ok(Self {
            address,
            certificates,
            _process: process,
        })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file with its certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.certificates.path().join("server.pem")
    }
}
