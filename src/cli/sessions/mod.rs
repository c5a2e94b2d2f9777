//! `bits-gateway sessions`: what is in the stores, or what a running gateway says of them.

mod gateway;
mod stores;
mod table;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use url::Url;

use super::{Configured, UNAVAILABLE, USAGE, block_on, say};
use crate::admin::line;
use crate::bits::SessionId;
use crate::cleanup::Told;
use crate::config::Loaded;
use crate::units::parse_duration;
use crate::upload::{Detail, Filter, Overview, Standing};

/// Exit code when there is no such session.
const NOT_FOUND: u8 = 1;

#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// List sessions: those that have not ended, unless asked for others
    List {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        which: Which,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show everything about one session
    Show {
        /// The session, with or without braces
        #[arg(value_name = "ID", value_parser = session_id)]
        id: SessionId,
        #[command(flatten)]
        place: Where,
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// End sessions as their clients could; files that are published stay
    ///
    /// Exit codes: 0 all of them have ended, 1 no such session, 69 trouble, or a file is just being published: ask again later.
    Cancel {
        /// The sessions, with or without braces
        #[arg(value_name = "ID", required = true, value_parser = session_id)]
        ids: Vec<SessionId>,
        #[command(flatten)]
        place: Where,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Sweep now: end silent sessions, and remove what nobody needs any more
    ///
    /// Safe at any time and beside gateways that run. It ends what is past its time-out, and nothing that is younger than an hour.
    Sweep {
        #[command(flatten)]
        place: Where,
        /// Only say what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Where the sessions are.
#[derive(Args, Clone, Debug)]
pub(super) struct Where {
    /// The configuration file that names the stores; without it, the one that the environment variable BITS_GATEWAY_CONFIG names, if
    /// any
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store of the one route: s3://bucket/prefix, gs://…, az://…, file:///directory or a path
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Only the store of this route, by its path, after its host if it has one: /uploads/, files.example.com/uploads/
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Ask the gateway whose admin listener is there, instead of the stores: http://127.0.0.1:9090. Its token, if it wants one, is
    /// server.admin_token of the configuration
    #[arg(long, value_name = "URL", value_parser = admin_url)]
    admin: Option<Url>,
}

/// Which sessions are listed.
#[derive(Args, Clone, Debug)]
pub(super) struct Which {
    /// Only those whose key begins like this
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Only those in one of these phases: open, expiring, publishing, published, closed; newer, unreadable, orphaned
    #[arg(long, value_name = "PHASE", value_delimiter = ',')]
    phase: Vec<Standing>,
    /// Also those that have ended
    #[arg(long)]
    all: bool,
    /// Only those without progress for at least this long: 2d, 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    silent_for: Option<Duration>,
    /// Only those with progress within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    active_within: Option<Duration>,
    /// No more than this many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
}

impl Which {
    fn filter(self, route: Option<String>) -> Filter {
        Filter {
            route,
            prefix: self.prefix,
            standings: self.phase,
            all: self.all,
            silent_for: self.silent_for,
            active_within: self.active_within,
            limit: self.limit,
        }
    }
}

fn session_id(text: &str) -> Result<SessionId, String> {
    text.parse()
        .map_err(|_| "not a session id, such as 11111111-2222-4333-8444-555555555555".to_owned())
}

fn admin_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() && url.query().is_none() => Ok(url),
        _ => Err("not the URL of an admin listener, such as http://127.0.0.1:9090".to_owned()),
    }
}

/// Why something was not done: the exit code, and a sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Failure {
    code: u8,
    why: String,
}

impl Failure {
    fn unavailable(why: impl ToString) -> Self {
        Self {
            code: UNAVAILABLE,
            why: why.to_string(),
        }
    }

    fn not_found(id: SessionId) -> Self {
        Self {
            code: NOT_FOUND,
            why: format!("there is no session {}", id.as_key()),
        }
    }
}

/// Whom to ask.
enum Source {
    Stores(stores::Stores),
    Gateway(gateway::Gateway),
}

impl Source {
    async fn list(&self, filter: Filter) -> Result<BoxStream<'static, Result<Overview, Failure>>, Failure> {
        match self {
            Self::Stores(stores) => Ok(stores.list(filter)),
            Self::Gateway(gateway) => gateway.list(&filter).await,
        }
    }

    async fn show(&self, id: SessionId) -> Result<Detail, Failure> {
        match self {
            Self::Stores(stores) => stores.show(id).await,
            Self::Gateway(gateway) => gateway.show(id).await,
        }
    }

    async fn cancel(&self, id: SessionId) -> Result<Overview, Failure> {
        match self {
            Self::Stores(stores) => stores.cancel(id).await,
            Self::Gateway(gateway) => gateway.cancel(id).await,
        }
    }

    async fn sweep(&self, dry_run: bool) -> Result<BoxStream<'static, Result<Told, Failure>>, Failure> {
        match self {
            Self::Stores(stores) => Ok(stores.sweep(dry_run).await),
            Self::Gateway(gateway) => gateway.sweep(dry_run).await,
        }
    }
}

/// Does what the command says.
pub(super) fn run(command: SessionsCommand) -> ExitCode {
    let place = match &command {
        SessionsCommand::List { place, .. }
        | SessionsCommand::Show { place, .. }
        | SessionsCommand::Cancel { place, .. }
        | SessionsCommand::Sweep { place, .. } => place.clone(),
    };
    if let (SessionsCommand::Sweep { .. }, Some(_), Some(_)) = (&command, &place.admin, &place.route) {
        say("a gateway sweeps all of its stores: leave --route out\n");
        return ExitCode::from(USAGE);
    }
    let configured = Configured {
        config: place.config.clone(),
        listen: Vec::new(),
        admin_listen: None,
        store: place.store.clone(),
    };
    let loaded = match configured.load() {
        Ok(loaded) => loaded,
        Err(code) => return ExitCode::from(code),
    };
    block_on(async {
        let mut worst = Worst::default();
        match source(&place, &loaded, &mut worst) {
            Ok(source) => carry_out(command, &source, place.route, &mut worst).await,
            Err(failure) => worst.tell(failure),
        }
        ExitCode::from(worst.0)
    })
}

fn source(place: &Where, loaded: &Loaded, worst: &mut Worst) -> Result<Source, Failure> {
    let routes = &loaded.settings.routes;
    if let Some(url) = &place.admin {
        let token = loaded.settings.server.admin_token.clone();
        return Ok(Source::Gateway(gateway::Gateway::new(url.clone(), token)?));
    }
    if let Some(route) = &place.route
        && !routes.iter().any(|known| known.gateway.name() == *route)
    {
        let known: Vec<_> = routes.iter().map(|route| route.gateway.name()).collect();
        return Err(Failure {
            code: USAGE,
            why: format!("there is no route {route:?}, but {}", known.join(", ")),
        });
    }
    let (stores, failures) = stores::Stores::open(&loaded.settings, place.route.as_deref());
    failures.into_iter().for_each(|failure| worst.tell(failure));
    Ok(Source::Stores(stores))
}

async fn carry_out(command: SessionsCommand, source: &Source, route: Option<String>, worst: &mut Worst) {
    let mut page = Page::default();
    let done = match command {
        SessionsCommand::List { which, json, .. } => list(source, which.filter(route), json, &mut page).await,
        SessionsCommand::Show { id, json, .. } => source.show(id).await.map(|detail| {
            page.put(&if json { line(&detail) } else { table::detail(&detail) });
        }),
        SessionsCommand::Cancel { ids, json, .. } => {
            for id in ids {
                match source.cancel(id).await {
                    Ok(overview) => page.put(&told(&overview, json, table::cancelled)),
                    Err(failure) => worst.tell(failure),
                }
            }
            Ok(())
        }
        SessionsCommand::Sweep { dry_run, json, .. } => sweep(source, dry_run, json, &mut page, worst).await,
    };
    if let Err(failure) = done {
        worst.tell(failure);
    }
}

async fn list(source: &Source, filter: Filter, json: bool, page: &mut Page) -> Result<(), Failure> {
    let mut sessions = source.list(filter).await?;
    if !json {
        page.put(&table::header());
    }
    while !page.is_closed
        && let Some(overview) = sessions.next().await
    {
        page.put(&told(&overview?, json, table::row));
    }
    Ok(())
}

async fn sweep(source: &Source, dry_run: bool, json: bool, page: &mut Page, worst: &mut Worst) -> Result<(), Failure> {
    let mut lines = source.sweep(dry_run).await?;
    // To its end, also when nobody reads: half a sweep helps nobody.
    while let Some(found) = lines.next().await {
        let found = found?;
        page.put(&told(&found, json, |found| table::swept(found, dry_run)));
        if let Told::Failed { store, why } = found {
            worst.tell(Failure::unavailable(format!("{store} was not swept to its end: {why}")));
        }
    }
    Ok(())
}

fn told<T: Serialize>(value: &T, json: bool, for_people: impl FnOnce(&T) -> String) -> String {
    if json { line(value) } else { for_people(value) }
}

/// The worst that happened so far, as an exit code.
#[derive(Default)]
struct Worst(u8);

impl Worst {
    fn tell(&mut self, failure: Failure) {
        say(&format!("{}\n", failure.why));
        self.0 = self.0.max(failure.code);
    }
}

/// Standard output.
#[derive(Default)]
struct Page {
    /// A reader that went away, as `head` does, has what it wanted.
    is_closed: bool,
}

impl Page {
    fn put(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) => self.is_closed |= error.kind() == ErrorKind::BrokenPipe,
        }
    }
}
