//! The sessions in the stores of a configuration, without any gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::super::{CONFIG, UNAVAILABLE, health};
use super::Failure;
use crate::bits::SessionId;
use crate::budget::Budget;
use crate::cleanup::{self, Told};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::store::{OpenError, Store};
use crate::upload::{Coordination, Detail, Filter, NotCancelled, Overview, Place, Register, Rules, Uploads};

/// Nothing here holds bytes of an upload.
const NO_MEMORY: u64 = 1 << 20;

/// The stores that could be opened.
pub(super) struct Stores {
    places: Vec<Arc<Place>>,
    rules: Vec<(String, Rules)>,
    register: Register,
}

impl Stores {
    /// Opens the stores of all routes, or of one. What can't be opened is told of and left out.
    pub(super) fn open(settings: &Settings, route: Option<&str>) -> (Self, Vec<Failure>) {
        let routes: Vec<_> = settings.routes.iter().map(|route| route.gateway.name()).collect();
        let metrics = Metrics::new(routes.iter().map(String::as_str));
        let mut failures: Vec<Failure> = Vec::new();
        let mut places = Vec::new();
        let wanted = settings
            .routes
            .iter()
            .filter(|known| route.is_none_or(|route| known.gateway.name() == route));
        for route in wanted {
            match Store::open_existing(&route.store, &metrics) {
                Ok(store) => places.push(Arc::new(Place {
                    route: route.gateway.name(),
                    store,
                    rules: route.upload.rules(),
                    // Nobody is told of a file by who only looks at sessions.
                    application: None,
                    events: None,
                })),
                Err(error) => {
                    let failure = failure(&error, settings.server.admin_listen);
                    // Routes may share a store, and its trouble.
                    if !failures.contains(&failure) {
                        failures.push(failure);
                    }
                }
            }
        }
        let rules = settings
            .routes
            .iter()
            .map(|route| (route.gateway.name(), route.upload.rules()));
        let budget = Budget::new(NO_MEMORY, Duration::ZERO);
        let uploads = Uploads::new(budget, Arc::new(SystemClock), metrics);
        let stores = Self {
            register: Register::new(uploads, places.clone()),
            rules: rules.collect(),
            places,
        };
        (stores, failures)
    }

    /// Finds out which stores hold no conditions, before anything is written on one. Only routes for one replica may lie on such.
    async fn prepare(&self) {
        for place in &self.places {
            if place.rules.coordination == Coordination::SingleReplica {
                // Trouble will be told by whatever comes next.
                let _ = place.store.probe().await;
            }
        }
    }

    pub(super) fn list(&self, filter: Filter) -> BoxStream<'static, Result<Overview, Failure>> {
        self.register
            .list(filter)
            .map(|overview| overview.map_err(Failure::unavailable))
            .boxed()
    }

    pub(super) async fn show(&self, id: SessionId) -> Result<Detail, Failure> {
        let shown = self.register.show(id).await.map_err(Failure::unavailable)?;
        shown.ok_or_else(|| Failure::not_found(id))
    }

    pub(super) async fn cancel(&self, id: SessionId) -> Result<Overview, Failure> {
        self.prepare().await;
        self.register.cancel(id).await.map_err(|refused| match refused {
            NotCancelled::NotFound => Failure::not_found(id),
            refused => Failure::unavailable(format!("{} was not cancelled: {refused}", id.as_key())),
        })
    }

    pub(super) async fn sweep(&self, dry_run: bool) -> BoxStream<'static, Result<Told, Failure>> {
        if !dry_run {
            self.prepare().await;
        }
        cleanup::at_once(&self.places, &self.rules, dry_run).map(Ok).boxed()
    }
}

fn failure(error: &OpenError, admin: SocketAddr) -> Failure {
    let ask = format!(
        "ask the gateway that has it: --admin http://{}",
        health::reachable(admin)
    );
    match error {
        OpenError::Settings { .. } => Failure {
            code: CONFIG,
            why: error.to_string(),
        },
        OpenError::InUse { url, .. } => Failure {
            code: UNAVAILABLE,
            why: format!("the store {url} is a directory on which a gateway works; {ask}"),
        },
        OpenError::Nothing { url, .. } if url.starts_with("memory:") => Failure {
            code: UNAVAILABLE,
            why: format!("{error}; {ask}"),
        },
        OpenError::Nothing { .. } => Failure {
            code: UNAVAILABLE,
            why: error.to_string(),
        },
    }
}
