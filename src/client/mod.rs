//! A BITS upload client that behaves as Windows does: the command `bits-gateway upload`, and what the tests and benches drive.
//!
//! The rules are [`machine`]'s, a pure state machine; [`Upload`] carries them out over connections of its own, because the
//! requests shall look like those of Windows and no answer shall be lost. [`raw`] sends literal bytes, for tests of what no
//! well-behaved client does.
//!
//! Windows leaves these to its caller or to WinHTTP, and this client does not do them: proxies, authentication, fetching the
//! reply of a server application.

mod authority;
mod command;
mod event;
mod failed;
mod head;
pub mod machine;
mod progress;
pub mod raw;
mod reply;
mod run;
mod sizes;
mod source;
mod state;
mod stream;
mod tls;
mod told;
mod transport;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use authority::Authority;
pub use command::{Arguments, command};
pub use event::{Event, Failure, Refusal, Trouble};
pub use failed::Failed;
pub use machine::{Outgoing, Patience};
pub use sizes::{LEAST, MOST, Sizes};
pub use source::{Identity, Pattern, Source, SourceError};
pub use state::StateError;
pub use tls::{Trust, TrustError};
pub use told::Told;
pub use wire::Answer;

/// An upload of one file to one URL.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Where the file goes: `http` or `https`.
    pub url: Url,
    /// What to upload.
    pub source: Source,
    /// How.
    pub options: Options,
}

/// How an upload is made. The defaults are those of Windows, but for the time that it is tried: Windows tries again after 10
/// minutes, for 14 days.
#[derive(Clone, Debug)]
pub struct Options {
    /// How large the fragments are.
    pub sizes: Sizes,
    /// The same seed gives the same sizes and waits; without one each run has its own.
    pub seed: Option<u64>,
    /// What happens after trouble that may pass. The default waits 5 s, then twice as long each time up to 10 minutes, and gives up
    /// after an hour without progress.
    pub patience: Patience,
    /// How long connecting, or sending a piece of at most 256 KiB, may take. Windows: 2 minutes (MC-BUP 3.1.2).
    pub send_timeout: Duration,
    /// How long the answer may take after the last byte was sent. Windows: 5 minutes (MC-BUP 3.1.2).
    pub response_timeout: Duration,
    /// PEM file of the certificate authorities to believe, instead of those of the machine.
    pub ca_file: Option<PathBuf>,
    /// Where the session is remembered, so that a later run goes on with it; without one it is not.
    pub state: Option<PathBuf>,
    /// Where the reply of the server application goes, if there is one: it is fetched before the session is closed.
    pub reply: Option<PathBuf>,
    /// The value of `User-Agent`.
    pub user_agent: String,
    /// The value of `Content-Name`; without one the name of the file.
    pub content_name: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sizes: Sizes::default(),
            seed: None,
            patience: Patience {
                retry_delay: Duration::from_secs(5),
                longest_delay: Duration::from_secs(600),
                give_up_after: Duration::from_secs(3_600),
            },
            send_timeout: Duration::from_secs(120),
            response_timeout: Duration::from_secs(300),
            ca_file: None,
            state: None,
            reply: None,
            user_agent: "Microsoft BITS/7.8 (bits-gateway upload)".to_owned(),
            content_name: None,
        }
    }
}

/// An upload that is through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Done {
    /// The session that was closed.
    pub session: String,
    /// Whether it was begun by an earlier run.
    pub resumed: bool,
    /// Size of the file in bytes.
    pub total: u64,
    /// Fragments that were answered in this run.
    pub fragments: u64,
    /// Bytes of the bodies of those fragments, more than the file has when some were sent twice.
    pub bytes: u64,
    /// The `BITS-Reply-URL` of the last fragment. A reply that the server kept is gone: the session is closed.
    pub reply_url: Option<String>,
    /// Bytes of the reply that was fetched, where [`Options::reply`] asked for it and there was one.
    pub reply_size: Option<u64>,
}

impl Upload {
    /// An upload with the default options.
    pub fn new(url: Url, source: Source) -> Self {
        Self {
            url,
            source,
            options: Options::default(),
        }
    }

    /// Uploads, and tells `events` what happens.
    ///
    /// # Errors
    /// When the upload can't be done, or was not done within the patience that the options ask for.
    pub async fn run(&self, events: impl FnMut(Event)) -> Result<Done, Failed> {
        run::run(self, events).await
    }
}
