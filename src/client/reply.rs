//! The reply of a server application: fetched before the session is closed, because the server deletes it then (MC-BUP 3.2.5.2.7).

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT_ENCODING, ETAG, IF_RANGE, RANGE};
use reqwest::{Certificate, Client, redirect};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use url::Url;

use super::run::back_off;
use super::{Failed, Options};

/// How long the server may be silent in the middle of a reply.
const SILENCE: Duration = Duration::from_secs(120);

/// Fetches the reply at `url`, as the server wrote it, into the file `into`; gives back its size in bytes. What is fetched so far is kept
/// beside it, and a connection that breaks goes on where it broke.
pub(super) async fn fetch(url: &str, base: &Url, into: &Path, options: &Options) -> Result<u64, Failed> {
    // Old servers write a path of Windows, relative to the directory of the upload (MC-BUP 4.2).
    let joined = base.join(&url.replace('\\', "/"));
    let url = joined.map_err(|error| final_failure(url, error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(final_failure(url.as_str(), "only http and https are spoken".to_owned()));
    }
    let client = client(&url, options)?;
    let part = beside(into);
    let mut file = File::create(&part).await.map_err(|error| unwritten(&part, &error))?;
    let mut fetching = Fetching {
        client,
        url,
        have: 0,
        etag: None,
    };
    let patience = options.patience;
    let (mut progress, mut delay) = (Instant::now(), patience.retry_delay);
    loop {
        let before = fetching.have;
        match fetching.attempt(&part, &mut file).await {
            Ok(()) => break,
            Err(Broke::Final(failed)) => return Err(failed),
            Err(Broke::Passing(why)) => {
                if fetching.have > before {
                    (progress, delay) = (Instant::now(), patience.retry_delay);
                }
                if progress.elapsed() + delay > patience.give_up_after {
                    return Err(Failed::Reply {
                        url: fetching.url.to_string(),
                        why,
                        passes: true,
                    });
                }
                back_off(delay).await;
                delay = (delay * 2).min(patience.longest_delay);
            }
        }
    }
    file.sync_all().await.map_err(|error| unwritten(&part, &error))?;
    drop(file);
    tokio::fs::rename(&part, into)
        .await
        .map_err(|error| unwritten(into, &error))?;
    Ok(fetching.have)
}

/// Why an attempt did not bring the rest.
enum Broke {
    Passing(String),
    Final(Failed),
}

struct Fetching {
    client: Client,
    url: Url,
    /// Bytes in the file.
    have: u64,
    /// What they are part of.
    etag: Option<http::HeaderValue>,
}

impl Fetching {
    /// Asks for what is missing, and appends it.
    async fn attempt(&mut self, part: &Path, file: &mut File) -> Result<(), Broke> {
        let mut request = self.client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(etag) = self.etag.as_ref().filter(|_| self.have > 0) {
            request = request
                .header(RANGE, format!("bytes={}-", self.have))
                .header(IF_RANGE, etag.clone());
        }
        let mut answer = request.send().await.map_err(|error| Broke::Passing(told(&error)))?;
        let status = answer.status();
        match status {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => {
                // From the beginning: also when there is another reply by now.
                self.have = 0;
                *file = start_again(part).await?;
            }
            _ if status.is_server_error() || matches!(status.as_u16(), 408 | 409) => {
                return Err(Broke::Passing(format!("HTTP {status}")));
            }
            _ => return Err(Broke::Final(final_failure(self.url.as_str(), format!("HTTP {status}")))),
        }
        self.etag = answer.headers().get(ETAG).cloned();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    file.write_all(&chunk)
                        .await
                        .map_err(|error| Broke::Final(unwritten(part, &error)))?;
                    self.have += chunk.len() as u64;
                }
                Ok(None) => {
                    return file
                        .flush()
                        .await
                        .map_err(|error| Broke::Final(unwritten(part, &error)));
                }
                Err(error) => {
                    // What was taken over from the network is in the file before more is asked for.
                    file.flush()
                        .await
                        .map_err(|error| Broke::Final(unwritten(part, &error)))?;
                    return Err(Broke::Passing(told(&error)));
                }
            }
        }
    }
}

async fn start_again(part: &Path) -> Result<File, Broke> {
    let opened = OpenOptions::new().write(true).truncate(true).open(part).await;
    opened.map_err(|error| Broke::Final(unwritten(part, &error)))
}

fn client(url: &Url, options: &Options) -> Result<Client, Failed> {
    // Whoever installed a provider before us is right too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .http1_only()
        .no_proxy()
        .user_agent(&options.user_agent)
        .connect_timeout(options.send_timeout)
        .read_timeout(SILENCE)
        .redirect(redirect::Policy::none());
    if let Some(path) = &options.ca_file {
        let found = std::fs::read(path).map_err(|error| error.to_string());
        let found = found.and_then(|pem| Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string()));
        let found = found.map_err(|why| Failed::Usage(format!("{}: {why}", path.display())))?;
        builder = builder.tls_certs_only(found);
    } else if url.scheme() == "http" {
        // The certificates of the machine may be broken: only who needs them depends on that.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| Failed::Usage(told(&error)))
}

/// The innermost reason, without the URL that is told beside it.
fn told(error: &reqwest::Error) -> String {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = cause.to_string();
        source = cause.source();
    }
    why
}

fn beside(file: &Path) -> PathBuf {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

fn final_failure(url: &str, why: String) -> Failed {
    Failed::Reply {
        url: url.to_owned(),
        why,
        passes: false,
    }
}

fn unwritten(file: &Path, error: &std::io::Error) -> Failed {
    Failed::Unwritten {
        path: file.to_owned(),
        why: error.to_string(),
    }
}
