//! What the servers of this program have in common: they say where they are and what they took, and end with whoever started them.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::thread;

use super::process::MARK;
use crate::content::Tally;

/// What this process has taken.
pub(crate) static TALLY: Tally = Tally::new();

/// Tells the owner where to send to, and answers its questions from now on.
pub(crate) fn attend(address: SocketAddr) {
    eprintln!("{MARK}{address}");
    thread::spawn(|| {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "look" => TALLY.begin(true),
                "begin" => TALLY.begin(false),
                _ => {}
            }
            let (bytes, wrong) = TALLY.read();
            eprintln!("{MARK}{bytes} {wrong}");
        }
        // Nobody asks any more.
        std::process::exit(0);
    });
}

/// A runtime as the gateway has it.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(super::THREADS)
        .enable_all()
        .build()
}
