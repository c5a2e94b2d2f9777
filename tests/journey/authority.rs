//! Stores behind TLS with a certificate that no public authority has signed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::support::{Config, program};

#[test]
fn a_private_authority_is_trusted_when_ssl_cert_file_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = serve_refusals(certificate(&folder));
    let store =
        format!("store = \"s3://bucket\"\n[routes.store_options]\naws_endpoint = \"https://127.0.0.1:{port}\"\n");
    let keys = "aws_access_key_id = \"a\"\naws_secret_access_key = \"b\"\naws_region = \"us-east-1\"\n";
    let config = Config::new().route("/up/", &(store + keys)).write(folder.path());
    let check = |authorities: &Path| {
        let mut check = program();
        check.args(["check", "--live", "--config"]).arg(&config);
        let output = check.env("SSL_CERT_FILE", authorities).output();
        let output = output.expect("the program was built");
        assert_eq!(output.status.code(), Some(69));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let heard = check(&folder.path().join("server.pem"));
    assert!(
        heard.contains("s3://bucket: ") && heard.contains("denies access"),
        "{heard}"
    );

    // Somebody else's, so that the test does not depend on whom this machine trusts.
    let other = tempfile::tempdir().expect("a folder");
    certificate(&other);
    let unheard = check(&other.path().join("server.pem"));
    assert!(
        unheard.contains("s3://bucket: ") && unheard.contains("invalid peer certificate"),
        "{unheard}"
    );
}

/// A key and a certificate for 127.0.0.1 that it has signed itself, `server.key` and `server.pem`, and what a server does with them.
pub(crate) fn certificate(folder: &TempDir) -> ServerConfig {
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-keyout",
            "server.key",
            "-out",
            "server.pem",
            "-days",
            "2",
            "-subj",
            "/CN=server",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=CA:FALSE",
        ])
        .current_dir(folder.path())
        .output()
        .expect("the openssl command is needed for this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let chain = vec![CertificateDer::from_pem_file(folder.path().join("server.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(folder.path().join("server.key")).expect("a key");
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key that fits")
}

/// A server that knows nobody, until the test is over: every request that comes through TLS is answered with 403. Its port.
fn serve_refusals(config: ServerConfig) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let config = Arc::new(config);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            // A client that does not trust it goes away in the middle.
            thread::spawn(move || drop(refuse(StreamOwned::new(session, socket))));
        }
    });
    port
}

fn refuse(stream: StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim_end().parse().unwrap_or_default();
        }
        line.clear();
    }
    // What is not read would take the answer with it when the connection closes.
    io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
    let mut stream = stream.into_inner();
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    stream.conn.send_close_notify();
    stream.flush()
}
