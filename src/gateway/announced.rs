//! What a load balancer says of a connection before the first request: the PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes that every announcement of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What follows the signature: version, family, and the length of the rest.
const FIXED: usize = 4;

/// Longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// Longest rest of version 2 that is read: addresses, and whatever else a balancer wants to tell.
const LONGEST_REST: usize = 4096;

/// Reads the announcement with which a connection begins, and not one byte more. Gives back the client that it names; none where the balancer
/// speaks for itself, as in its health checks, or does not know.
pub(super) async fn announced(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut bytes = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut bytes).await?;
    if bytes == SIGNATURE {
        bytes.resize(SIGNATURE.len() + FIXED, 0);
        stream.read_exact(&mut bytes[SIGNATURE.len()..]).await?;
        let rest = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if rest > LONGEST_REST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.resize(SIGNATURE.len() + FIXED + rest, 0);
        stream.read_exact(&mut bytes[SIGNATURE.len() + FIXED..]).await?;
    } else {
        while bytes.last() != Some(&b'\n') && bytes.len() < LONGEST_LINE {
            bytes.push(stream.read_u8().await?);
        }
    }
    read(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The client that an announcement names. `None`: it is none.
#[expect(clippy::option_option, reason = "an announcement that names nobody is one")]
fn read(bytes: &[u8]) -> Option<Option<SocketAddr>> {
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(header) => Some(match header.ok()?.addresses {
            v1::Addresses::Tcp4(of) => Some((of.source_address, of.source_port).into()),
            v1::Addresses::Tcp6(of) => Some((of.source_address, of.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            Some(match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(of)) => Some((of.source_address, of.source_port).into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(of)) => Some((of.source_address, of.source_port).into()),
                _ => None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n";

    /// What comes of an announcement, and what is left for the request behind it.
    async fn heard(announcement: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let bytes = [announcement, REQUEST].concat();
        let mut stream = &bytes[..];
        let heard = announced(&mut stream).await;
        (heard, stream.to_vec())
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn the_client_is_read_and_the_request_left_alone() {
        let ipv4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
        let mut ipv6 = [0; 36];
        ipv6[..2].copy_from_slice(&[0x20, 0x01]);
        ipv6[32..34].copy_from_slice(&[0, 9]);
        let extra = [&ipv4[..], &[4, 0, 1, 7]].concat();
        for (announcement, client) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n".to_vec(),
                Some("192.0.2.1:4711"),
            ),
            (b"PROXY TCP6 2001:: ::1 9 80\r\n".to_vec(), Some("[2001::]:9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version_2(1, 0x11, &ipv4), Some("192.0.2.1:4711")),
            (version_2(1, 0x11, &extra), Some("192.0.2.1:4711")),
            (version_2(1, 0x21, &ipv6), Some("[2001::]:9")),
            (version_2(0, 0x00, &[]), None),
            (version_2(0, 0x11, &ipv4), None),
        ] {
            let (heard, left) = heard(&announcement).await;
            assert_eq!(heard.unwrap().map(|client| client.to_string()).as_deref(), client);
            assert_eq!(left, REQUEST);
        }
    }

    #[tokio::test]
    async fn anything_else_is_no_announcement() {
        for bytes in [
            &b""[..],
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 4711 80\r\n",
            &[b'x'; 200],
            &version_2(1, 0x11, &[1, 2, 3]),
            &[SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF]].concat(),
        ] {
            heard(bytes).await.0.unwrap_err();
        }
    }
}
