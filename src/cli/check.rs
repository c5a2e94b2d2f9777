//! `bits-gateway check`.

use std::process::ExitCode;

use super::{CONFIG, UNAVAILABLE, block_on, out, say};
use crate::app::exit;
use crate::config::{Loaded, Route};
use crate::metrics::Metrics;
use crate::store::{ProbeError, Store};
use crate::upload::Coordination;

/// Says what the configuration serves, and with `live` whether each store is fit for it.
pub(super) fn check(loaded: &Loaded, live: bool) -> ExitCode {
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}\n"));
    }
    block_on(check_routes(loaded, live))
}

async fn check_routes(loaded: &Loaded, live: bool) -> ExitCode {
    let mut worst = None;
    for (index, route) in loaded.settings.routes.iter().enumerate() {
        let named = format!("{} -> {}", route.gateway.path, route.store.url);
        let fit = if live {
            try_store(route).await
        } else {
            open_store(route)
        };
        match fit {
            Ok(found) => {
                out(&format!("ok: {named}{found}\n"));
            }
            Err((code, reason)) => {
                let key = format!("routes[{index}].store");
                let place = loaded
                    .places
                    .get(&key)
                    .map(|place| format!("{place}: "))
                    .unwrap_or_default();
                say(&format!("{place}{key}: {reason}\n"));
                // What somebody has to change outweighs what may pass.
                worst = worst.max(Some(code));
            }
        }
    }
    worst.map_or(ExitCode::SUCCESS, ExitCode::from)
}

/// Whether the options of a remote store make sense to it; nobody is asked. A directory is left alone: opening one makes it.
fn open_store(route: &Route) -> Result<String, (u8, String)> {
    let url = &route.store.url;
    if url.contains("://") && !url.starts_with("file:") {
        open(route)?;
    }
    Ok(String::new())
}

/// What the store was found to do, when that is enough.
async fn try_store(route: &Route) -> Result<String, (u8, String)> {
    let shared = route.upload.coordination == Coordination::Shared;
    let about = |error: ProbeError| format!("{}: {error}", route.store.url);
    let found = open(route)?.probe().await;
    let found = found.map_err(|unclear| (UNAVAILABLE, about(unclear)))?;
    match found.suffice(shared) {
        Ok(()) => Ok(format!(": {found}")),
        Err(lacks) => Err((CONFIG, format!("{} (found: {found})", about(lacks)))),
    }
}

fn open(route: &Route) -> Result<Store, (u8, String)> {
    Store::open(&route.store, &Metrics::new([])).map_err(|error| (exit::of(&error), error.to_string()))
}
