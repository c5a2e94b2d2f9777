//! The least that a server can do: it reads what comes, 64 KiB at a time, counts it, and says yes.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::role::{TALLY, attend, runtime};
use super::yes::{Head, yes};

const AT_ONCE: usize = 64 * 1024;

pub(crate) fn serve() -> io::Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        attend(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(converse(stream));
        }
    })
}

async fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; AT_ONCE];
    let mut filled = 0;
    loop {
        let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else {
            let length = stream.read(&mut buffer[filled..]).await?;
            if length == 0 {
                return Ok(());
            }
            filled += length;
            continue;
        };
        let head = Head::parse(&buffer[..end + 4]);
        let (mut at, mut from) = (end + 4, head.from);
        let mut missing = head.length;
        loop {
            let length = (filled - at).min(usize::try_from(missing).unwrap_or(usize::MAX));
            TALLY.look(from, &buffer[at..at + length]);
            (at, from, missing) = (at + length, from + length as u64, missing - length as u64);
            if missing == 0 {
                break;
            }
            filled = stream.read(&mut buffer).await?;
            at = 0;
            if filled == 0 {
                return Ok(());
            }
        }
        TALLY.count(head.length);
        buffer.copy_within(at..filled, 0);
        filled -= at;
        let fields = yes(&head).into_iter();
        let fields: String = fields.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
}
