//! `bits-gateway healthcheck`: for containers that have no other program to ask with.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use super::{UNAVAILABLE, out, say};
use crate::config::Loaded;

/// How long connecting, and each read, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than any health page has.
const LONGEST_ANSWER: u64 = 64 << 10;

/// Asks the admin listener of a gateway with these settings.
pub(super) fn check(loaded: &Loaded, live: bool) -> ExitCode {
    let address = reachable(loaded.settings.server.admin_listen);
    let path = if live { "/livez" } else { "/readyz" };
    match ask(address, path) {
        Ok((200, page)) => out(&page),
        Ok((status, page)) => {
            say(&format!("http://{address}{path} answers {status}\n{page}"));
            ExitCode::from(UNAVAILABLE)
        }
        Err(error) => {
            say(&format!("http://{address}{path}: {error}\n"));
            ExitCode::from(UNAVAILABLE)
        }
    }
}

/// Where a listener on every interface can be reached from here.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one piece: whoever answers its first bytes and closes would reset the connection for the rest.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// Status and body.
fn parse(answer: &str) -> Option<(u16, String)> {
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn status_and_page_are_read() {
        let ready = answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
        assert_eq!(ask(ready, "/readyz").unwrap(), (200, "ok\n".to_owned()));
        let draining = answering("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n");
        assert_eq!(ask(draining, "/readyz").unwrap(), (503, "draining\n".to_owned()));
        let other = answering("SSH-2.0-x\r\n");
        assert_eq!(ask(other, "/readyz").unwrap_err().to_string(), "the answer is not HTTP");
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(
            ask(address, "/readyz").unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }

    #[test]
    fn a_listener_on_every_interface_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:2", "10.0.0.1:2"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
