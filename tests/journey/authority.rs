//! Stores and web servers behind TLS with a certificate that no public authority has signed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bits_gateway::client::raw::{Packet, exchange};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::support::{Config, Gateway, program};

#[test]
fn a_private_authority_is_trusted_when_ssl_cert_file_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, _) = serve_refusals(certificate(&folder));
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

#[tokio::test]
async fn a_web_server_behind_a_route_is_believed_by_the_authority_of_the_route_alone() {
    let (ours, others) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let (port, heard) = serve_refusals(certificate(&ours));
    certificate(&others);
    let behind = |path: &str, authority: &TempDir, more: &str| {
        let (store, file) = (authority.path().join("files"), authority.path().join("server.pem"));
        let server = format!("upstream = \"https://127.0.0.1:{port}\"\nupstream_ca_file = {file:?}\n{more}");
        format!("[[routes]]\npath = \"{path}\"\nstore = {store:?}\n{server}\n")
    };
    let believed = behind("/ours/", &ours, "upstream_health_path = \"/healthz\"");
    let not_believed = behind("/others/", &others, "");
    let config = Config::from(Config::new().text().to_owned() + &believed + &not_believed);
    let gateway = Gateway::start(&config).await;
    let status = async |path: &str| {
        let answer = exchange(gateway.address, Packet::new("GET", path), b"").await;
        answer.expect("an answer").status
    };
    assert_eq!(status("/ours/a").await, 403);
    // The connection that was just made to that very server is none for a route that does not believe it.
    assert_eq!(status("/others/a").await, 502);
    assert_eq!(status("/ours/b").await, 403);
    let mut asked: Vec<_> = heard.try_iter().collect();
    asked.sort();
    asked.dedup();
    assert_eq!(
        asked,
        ["GET /healthz HTTP/1.1", "GET /ours/a HTTP/1.1", "GET /ours/b HTTP/1.1"]
    );
}

#[test]
fn an_authority_that_vouches_for_nobody_ends_the_program_with_78_and_a_sentence_that_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("absent.pem");
    let route = format!(
        "store = {:?}\nupstream = \"https://127.0.0.1:1\"\nupstream_ca_file = {file:?}\n",
        folder.path().join("files")
    );
    let config = Config::new().route("/up/", &route).write(folder.path());
    let output = program().args(["serve", "--config"]).arg(&config).output();
    let output = output.expect("the program was built");
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let why = "the route /up/ cannot be served: upstream_ca_file: ";
    assert!(
        told.contains(why) && told.contains("absent.pem cannot be read: No such file"),
        "{told}"
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

/// A server that knows nobody, until the test is over: every request that comes through TLS is answered with 403. Its port, and the first
/// line of each request.
fn serve_refusals(config: ServerConfig) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let config = Arc::new(config);
    let (tell, heard) = channel();
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            let tell = tell.clone();
            // A client that does not trust it goes away in the middle.
            thread::spawn(move || drop(refuse(StreamOwned::new(session, socket), &tell)));
        }
    });
    (port, heard)
}

fn refuse(stream: StreamOwned<ServerConnection, TcpStream>, tell: &Sender<String>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        // Nobody listens any more when the test is over.
        let _ = tell.send(line.trim_end().to_owned());
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line)?;
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim_end().parse().unwrap_or_default();
            }
        }
        io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
        stream
            .get_mut()
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")?;
        stream.get_mut().flush()?;
    }
}
