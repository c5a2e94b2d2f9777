//! `bits-gateway check`.

use std::process::ExitCode;

use super::{CONFIG, UNAVAILABLE, block_on, out, say};
use crate::config::{Loaded, Route};
use crate::metrics::Metrics;
use crate::store::{ProbeError, Store};
use crate::upload::Coordination;

/// Says what the configuration serves, and with `live` whether each store is fit for it.
pub(super) fn check(loaded: &Loaded, live: bool) -> ExitCode {
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}\n"));
    }
    if live {
        block_on(check_stores(&loaded.settings.routes))
    } else {
        out(&listing(&loaded.settings.routes))
    }
}

fn listing(routes: &[Route]) -> String {
    let line = |route: &Route| format!("ok: {} -> {}\n", route.gateway.path, route.store.url);
    routes.iter().map(line).collect()
}

async fn check_stores(routes: &[Route]) -> ExitCode {
    let mut worst = None;
    for route in routes {
        let named = format!("{} -> {}", route.gateway.path, route.store.url);
        match check_store(route).await {
            Ok(found) => {
                out(&format!("ok: {named}: {found}\n"));
            }
            Err((code, reason)) => {
                say(&format!("{named}: {reason}\n"));
                // What an admin has to change outweighs what may pass.
                worst = worst.max(Some(code));
            }
        }
    }
    worst.map_or(ExitCode::SUCCESS, ExitCode::from)
}

async fn check_store(route: &Route) -> Result<String, (u8, String)> {
    let store = Store::open(&route.store, &Metrics::new([])).map_err(|error| (CONFIG, error.to_string()))?;
    let shared = route.upload.coordination == Coordination::Shared;
    let found = match store.probe().await {
        Ok(found) => found,
        Err(unclear @ ProbeError::Unclear(_)) => return Err((UNAVAILABLE, unclear.to_string())),
        Err(lacks @ ProbeError::Lacks { .. }) => return Err((CONFIG, lacks.to_string())),
    };
    match found.suffice(shared) {
        Ok(()) => Ok(found.to_string()),
        Err(lacks) => Err((CONFIG, lacks.to_string())),
    }
}
