//! Whether this process lives, has started, and wants requests.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One route's store, as the health pages see it. Whoever deals with the store writes to it.
#[derive(Clone, Debug)]
pub struct StoreHealth {
    /// The route.
    pub route: String,
    /// Set once the store has passed its probe.
    pub open: Arc<AtomicBool>,
    /// What went wrong last; `None` when the last thing went well.
    pub trouble: Arc<Mutex<Option<String>>>,
}

impl StoreHealth {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the health pages tell.
#[derive(Debug)]
pub struct Health {
    stores: Vec<StoreHealth>,
    draining: AtomicBool,
}

/// A page: whether all is well, and what there is to say.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Report {
    pub(super) well: bool,
    pub(super) text: String,
}

impl Health {
    /// Of a process that serves these stores.
    pub const fn new(stores: Vec<StoreHealth>) -> Self {
        Self {
            stores,
            draining: AtomicBool::new(false),
        }
    }

    /// From now on the process wants no new requests.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the process should be left alone: that it can answer is all it takes. Never looks at a store: to be restarted
    /// would not bring one back.
    pub(super) fn live(&self, verbose: bool) -> Report {
        let text = if verbose {
            "[+] the process answers\nlive\n"
        } else {
            "live\n"
        };
        Report {
            well: true,
            text: text.to_owned(),
        }
    }

    /// Whether every store has passed its probe. Stays so.
    pub(super) fn started(&self, verbose: bool) -> Report {
        let well = self.stores.iter().all(StoreHealth::is_open);
        self.report(well, verbose, if well { "started" } else { "starting" }, &[])
    }

    /// Whether the process wants requests: started, and not on its way out.
    pub(super) fn ready(&self, verbose: bool) -> Report {
        let draining = self.draining.load(Ordering::Acquire);
        let open = self.stores.iter().all(StoreHealth::is_open);
        let verdict = match (draining, open) {
            (true, _) => "draining",
            (false, true) => "ready",
            (false, false) => "starting",
        };
        self.report(open && !draining, verbose, verdict, &[(!draining, "not draining")])
    }

    fn report(&self, well: bool, verbose: bool, verdict: &str, more: &[(bool, &str)]) -> Report {
        let mut text = String::new();
        // Without being asked for more, a page says what is wrong and nothing else.
        for (good, line) in more.iter().filter(|(good, _)| verbose || !good) {
            line_of(&mut text, *good, line, None);
        }
        for store in self.stores.iter().filter(|store| verbose || !store.is_open()) {
            let name = format!("store of {}", store.route);
            line_of(&mut text, store.is_open(), &name, store.trouble().as_deref());
        }
        text.push_str(verdict);
        text.push('\n');
        Report { well, text }
    }
}

fn line_of(text: &mut String, good: bool, name: &str, trouble: Option<&str>) {
    let sign = if good { '+' } else { '-' };
    let trouble = trouble
        .map(|trouble| format!(": {}", trouble.escape_debug()))
        .unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "[{sign}] {name}{trouble}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(route: &str, open: bool, trouble: Option<&str>) -> StoreHealth {
        StoreHealth {
            route: route.to_owned(),
            open: Arc::new(AtomicBool::new(open)),
            trouble: Arc::new(Mutex::new(trouble.map(str::to_owned))),
        }
    }

    fn page(well: bool, text: &str) -> Report {
        Report {
            well,
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_process_is_ready_once_every_store_is_open() {
        let late = store("/b/", false, Some("cannot be reached"));
        let health = Health::new(vec![store("/a/", true, None), late.clone()]);
        assert_eq!(
            health.ready(false),
            page(false, "[-] store of /b/: cannot be reached\nstarting\n")
        );
        assert_eq!(
            health.started(false),
            page(false, "[-] store of /b/: cannot be reached\nstarting\n")
        );
        late.open.store(true, Ordering::Release);
        assert_eq!(health.ready(false), page(true, "ready\n"));
        assert_eq!(health.started(false), page(true, "started\n"));
    }

    #[test]
    fn a_draining_process_lives_and_has_started_but_is_not_ready() {
        let health = Health::new(vec![store("/", true, None)]);
        health.drain();
        assert_eq!(health.ready(false), page(false, "[-] not draining\ndraining\n"));
        assert!(health.started(false).well);
        assert!(health.live(false).well);
    }

    #[test]
    fn later_trouble_shows_only_to_those_who_ask() {
        let health = Health::new(vec![store("/", true, Some("timed out\nonce"))]);
        assert_eq!(health.ready(false), page(true, "ready\n"));
        assert_eq!(
            health.ready(true),
            page(true, "[+] not draining\n[+] store of /: timed out\\nonce\nready\n")
        );
    }

    #[test]
    fn life_needs_no_store() {
        let health = Health::new(vec![store("/", false, None)]);
        assert_eq!(health.live(false), page(true, "live\n"));
    }
}
