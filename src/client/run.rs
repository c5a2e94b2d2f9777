//! The loop around the machine: send what it asks for, tell it what came, remember what a later run needs.

use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::authority::Authority;
use super::event::Event;
use super::head::{Letterhead, content_name};
use super::machine::{Machine, Memory, Outgoing, Then};
use super::source::{Opened, SourceError};
use super::state::StateFile;
use super::tls::Trust;
use super::told::Told;
use super::transport::{Body, Broken, Transport};
use super::{Done, Failed, Upload};
use crate::clock::{self, Clock, SystemClock};

/// Carries out `upload`.
pub(super) async fn run(upload: &Upload, mut events: impl FnMut(Event)) -> Result<Done, Failed> {
    let options = &upload.options;
    let origin = origin(&upload.url)?;
    let trust = match upload.url.scheme() {
        "https" => Some(Trust::load(options.ca_file.as_deref())?),
        _ => None,
    };
    let mut source = upload.source.open().await?;
    let total = source.identity().size;
    let state = options
        .state
        .as_deref()
        .map(|path| StateFile::new(path, upload.url.as_str()));
    let mut saved = match &state {
        Some(state) => remembered(state, &source).await?,
        None => None,
    };
    let letterhead = Letterhead {
        target: target(&upload.url),
        agent: options.user_agent.clone(),
        name: options.content_name.as_deref().or(source.name()).and_then(content_name),
        total,
    };
    let mut transport = Transport {
        trust,
        send_timeout: options.send_timeout,
        response_timeout: options.response_timeout,
        idle: None,
    };
    let started = Instant::now();
    let seed = options.seed.unwrap_or_else(random_seed);
    let mut machine = Machine::new(
        total,
        options.sizes,
        options.patience,
        seed,
        saved.clone(),
        started.elapsed(),
    );
    let mut done = Done {
        session: String::new(),
        resumed: saved.is_some(),
        total,
        fragments: 0,
        bytes: 0,
        reply_url: None,
    };
    if let Some(memory) = &saved {
        events(Event::Resumed {
            session: memory.session.clone(),
            offset: memory.offset,
        });
    }

    loop {
        let request = machine.request();
        let (from, to) = match request.packet {
            Outgoing::Fragment { from, to, .. } => (from, to),
            _ => (0, 0),
        };
        if to > from {
            source.unchanged().await?;
        }
        let host = match request.host {
            Some(host) => host.or_port(upload.url.port()),
            None => origin.clone(),
        };
        let head = letterhead.head(&request.packet, &host.to_string());
        let packet = request.packet.kind();
        events(Event::Sending(request.packet));

        let mut body = Body {
            source: &mut source,
            from,
            to,
        };
        let exchange = transport
            .exchange(&host, &head, &mut body, &mut |offset| events(Event::Sent { offset }))
            .await;
        let heard = match exchange {
            Ok(answer) => Ok(Told::read(&answer, SystemClock.now())),
            Err(Broken::Transport(text)) => Err(text),
            Err(Broken::Untrusted(reason)) => {
                return Err(Failed::Untrusted {
                    host: host.to_string(),
                    reason,
                });
            }
            Err(Broken::Source(error)) => return Err(error.into()),
        };
        if let Ok(told) = &heard {
            events(Event::Answered {
                packet,
                status: told.status,
            });
            if to > from || total == 0 && packet == crate::bits::PacketKind::Fragment {
                done.fragments += 1;
                done.bytes += to - from;
                done.reply_url = told.reply_url.clone().or(done.reply_url);
            }
        }

        let step = machine.heard(heard, started.elapsed());
        if let Some(memory) = machine.memory()
            && saved.as_ref() != Some(&memory)
        {
            // Before anything is done that only makes sense with it.
            if let Some(state) = &state {
                state.save(&memory, source.identity()).await?;
            }
            saved = Some(memory);
        }
        events(step.event);
        match step.then {
            Then::Send => {}
            Then::Wait(delay) => back_off(delay).await,
            Then::Done => break,
            Then::Fail(failure) => return Err(failure.into()),
        }
    }
    if let Some(state) = &state {
        state.remove().await?;
    }
    done.session = saved.map(|memory| memory.session).unwrap_or_default();
    Ok(done)
}

#[expect(
    clippy::disallowed_methods,
    reason = "back-off: nothing tells when the server is well again"
)]
async fn back_off(delay: Duration) {
    tokio::time::sleep(delay).await;
}

/// What an earlier run left, as long as it was about the same file.
async fn remembered(state: &StateFile, source: &Opened) -> Result<Option<Memory>, Failed> {
    match state.load().await? {
        None => Ok(None),
        Some((memory, file)) if file == source.identity() => Ok(Some(memory)),
        Some(_) => Err(SourceError::Changed.into()),
    }
}

fn origin(url: &Url) -> Result<Authority, Failed> {
    let refuse = |why: &str| Failed::Usage(format!("{url} can't be uploaded to: {why}"));
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("only http and https are spoken"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("credentials in the URL are not supported"));
    }
    let host = url
        .host_str()
        .and_then(Authority::parse)
        .ok_or_else(|| refuse("its host is none"))?;
    Ok(host.or_port(url.port()))
}

/// Path and query: what stands in the request line.
fn target(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

fn random_seed() -> u64 {
    let (high, low) = clock::random_id().as_u64_pair();
    high ^ low
}
