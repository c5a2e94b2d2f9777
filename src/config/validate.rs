//! What no single key can know: whether the settings hold together. Nothing is opened, nobody is asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::place::{Anchor, host_name, url_path};
use super::{Route, Settings};
use crate::notify::events::settings::Mode as EventMode;
use crate::notify::settings::Mode as NotifyMode;
use crate::store::Settings as StoreSettings;
use crate::telemetry;
use crate::units::knob::{Place, Problem};
use crate::units::{ByteSize, HttpOrigin};
use crate::upload::Settings as UploadSettings;

/// The parts that every store takes.
const PART_SIZES: std::ops::RangeInclusive<u64> = 5 << 20..=5 << 30;

/// Parts of one file, at most.
const MOST_PARTS: u64 = 10_000;

/// The smallest fragment of a client: a smaller limit would refuse it for ever (protocol digest, part 0).
const SMALLEST_FRAGMENT: u64 = 5 << 10;

/// A token that takes longer to guess than anybody has time.
const SHORTEST_TOKEN: usize = 16;

/// What IIS allows for a BITSHostId.
const LONGEST_HOST_ID: usize = 300;

/// How long a Windows client goes on trying to send before it gives up (MC-BUP 3.1.6).
const PATIENCE_OF_CLIENTS: Duration = Duration::from_secs(120);

/// Settles what defaults depend on, and returns what contradicts itself and what is probably not meant.
pub(super) fn settle(settings: &mut Settings, places: &BTreeMap<String, Place>) -> (Vec<Problem>, Vec<Problem>) {
    let mut check = Check {
        places,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    settle_defaults(settings, &check);
    check.server(settings);
    check.log(settings);
    for (index, route) in settings.routes.iter().enumerate() {
        check.route(index, route);
        check.memory(index, &route.upload, settings.limits.upload.memory.bytes());
        check.open_to_all(index, settings);
    }
    check.routes(&settings.routes);
    check.reach(&settings.routes);
    check.strangers(&settings.routes);
    (check.problems, check.warnings)
}

/// Defaults that follow another key.
fn settle_defaults(settings: &mut Settings, check: &Check<'_>) {
    let largest = (settings.limits.upload.memory.bytes() / 4).saturating_mul(MOST_PARTS);
    for (index, route) in settings.routes.iter_mut().enumerate() {
        if !check.is_given(&format!("routes[{index}].max_upload_size")) {
            let size = route.upload.max_upload_size.bytes().min(largest);
            route.upload.max_upload_size = ByteSize::new(size);
        }
        if !check.is_given(&format!("routes[{index}].closed_session_memory")) {
            route.upload.closed_session_memory = route.upload.session_timeout;
        }
        let prefix = route.store.reserved_prefix.trim_end_matches('/');
        route.store.reserved_prefix = format!("{prefix}/");
    }
}

struct Check<'a> {
    places: &'a BTreeMap<String, Place>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Check<'_> {
    fn is_given(&self, key: &str) -> bool {
        self.places.get(key).is_some_and(|place| *place != Place::Default)
    }

    /// Where to look for `key`: where it was given, else where the nearest section around it was.
    fn place_of(&self, key: &str) -> Place {
        let mut near = key;
        loop {
            if let Some(place) = self.places.get(near) {
                return place.clone();
            }
            match near.rfind(['.', '[']) {
                Some(end) => near = &near[..end],
                None => return Place::Default,
            }
        }
    }

    fn problem(&self, key: &str, reason: String) -> Problem {
        Problem {
            place: self.place_of(key),
            key: key.to_owned(),
            reason,
        }
    }

    fn report(&mut self, key: &str, reason: impl Into<String>) {
        let problem = self.problem(key, reason.into());
        self.problems.push(problem);
    }

    fn warn(&mut self, key: &str, reason: impl Into<String>) {
        let warning = self.problem(key, reason.into());
        self.warnings.push(warning);
    }

    /// Reports the first of `keys` that somebody gave, so that the error points at a line that exists.
    fn report_first_given(&mut self, keys: &[&str], reason: String) {
        let key = keys
            .iter()
            .find(|key| self.is_given(key))
            .or(keys.first())
            .copied()
            .unwrap_or_default();
        self.report(key, reason);
    }

    fn server(&mut self, settings: &Settings) {
        let server = &settings.server;
        if server.listen.is_empty() {
            self.report("server.listen", "names no address");
        }
        for (index, address) in server.listen.iter().enumerate() {
            if let Some(first) = server.listen[..index]
                .iter()
                .position(|other| collide(*other, *address))
            {
                let reason = format!("{address} is taken by {} already", server.listen[first]);
                self.report(&format!("server.listen[{index}]"), reason);
            }
            if collide(*address, server.admin_listen) {
                let keys = ["server.admin_listen", "server.listen"];
                self.report_first_given(
                    &keys,
                    format!("{} is taken by server.listen already", server.admin_listen),
                );
            }
        }
        for (key, span) in [
            ("server.header_timeout", server.header_timeout),
            ("server.keepalive_timeout", server.keepalive_timeout),
            ("server.read_timeout", server.read_timeout),
            ("server.write_timeout", server.write_timeout),
            ("cleanup.interval", settings.cleanup.interval),
            ("cleanup.events_interval", settings.cleanup.events_interval),
        ] {
            if span.is_zero() {
                self.report(key, "has to be longer than 0s");
            }
        }
        if server.read_timeout < PATIENCE_OF_CLIENTS && !server.read_timeout.is_zero() {
            let reason = "a Windows client is silent for up to two minutes, and sends again what is given up before";
            self.warn("server.read_timeout", reason);
        }
        if let Some(token) = &server.admin_token {
            let token = token.expose();
            if token.len() < SHORTEST_TOKEN {
                let reason = format!("has {} characters, at least {SHORTEST_TOKEN}", token.len());
                self.report("server.admin_token", reason);
            } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                self.report(
                    "server.admin_token",
                    "holds characters that no header can carry: letters, digits and signs of ASCII only",
                );
            }
        }
        if server.proxy_protocol && server.trusted_proxies.is_empty() {
            self.report(
                "server.proxy_protocol",
                "needs `trusted_proxies`: nobody else's announcement is believed",
            );
        }
        if server.threads > 1_024 {
            self.report("server.threads", "at most 1024; 0 means one for each core");
        }
        if server.drain_delay > server.grace_period {
            let keys = ["server.drain_delay", "server.grace_period"];
            self.report_first_given(
                &keys,
                "drain_delay is a part of grace_period and can't be longer".to_owned(),
            );
        }
        if settings.limits.gateway.connections == 0 {
            self.report("limits.connections", "has to be at least 1");
        }
    }

    fn log(&mut self, settings: &Settings) {
        if let Err(reason) = telemetry::check_level(&settings.log.level) {
            self.report("log.level", reason);
        }
    }

    fn route(&mut self, index: usize, route: &Route) {
        let key = |name: &str| format!("routes[{index}].{name}");
        if let Err(reason) = url_path(&route.gateway.path) {
            self.report(&key("path"), reason);
        }
        if let Some(Err(reason)) = route.gateway.host.as_deref().map(host_name) {
            self.report(&key("host"), reason);
        }
        if let Some(host_id) = &route.gateway.host_id {
            self.host_id(&key("host_id"), host_id);
        }
        let fallback = route.gateway.host_id_fallback_timeout;
        if fallback.subsec_nanos() != 0 || fallback.is_zero() || fallback.as_secs() >= u32::MAX.into() {
            self.report(
                &key("host_id_fallback_timeout"),
                "has to be whole seconds, from 1s to 49710d",
            );
        }
        self.places_of_files(index, route);
        let upload = &route.upload;
        let mut servers = route.gateway.upstream.iter().chain(&route.gateway.upstreams);
        if route.gateway.upstream_ca_file.is_some() && !servers.any(HttpOrigin::tls) {
            self.report(&key("upstream_ca_file"), "is not used: no server is reached by https");
        }
        if let Some(path) = &route.gateway.upstream_health_path {
            if !path.starts_with('/') || path.parse::<http::Uri>().is_err() {
                let reason = format!("{path:?} is not a path that begins with \"/\", as in a URL");
                self.report(&key("upstream_health_path"), reason);
            } else if route.gateway.upstream.is_none() && route.gateway.upstreams.is_empty() {
                self.warn(&key("upstream_health_path"), "is not used: there is no `upstream`");
            }
        }
        if upload.passes_packets_on() && route.gateway.upstream.is_none() && route.gateway.upstreams.is_empty() {
            self.report(&key("upload"), "\"proxy\" needs an `upstream`");
        }
        if upload.session_timeout.is_zero() {
            self.report(&key("session_timeout"), "has to be longer than 0s");
        } else if upload.closed_session_memory.is_zero() {
            self.report(&key("closed_session_memory"), "has to be longer than 0s");
        }
        if upload.max_upload_size.bytes() == 0 {
            self.report(
                &key("max_upload_size"),
                "has to be more than 0B; upload = false switches uploads off",
            );
        }
        if upload.max_fragment_size.bytes() < SMALLEST_FRAGMENT {
            let reason = "has to be at least 5KiB: clients don't send smaller fragments, and would never get through";
            self.report(&key("max_fragment_size"), reason);
        }
        if upload.leaves_parts_behind() && route.gateway.host_id.is_none() {
            let reason = "\"part\" needs coordination = \"single-replica\" or a host_id: two replicas in turn would never \
                          finish a part";
            self.report(&key("durability"), reason);
        }
        if upload.lacks_a_digest_for_the_sidecar() {
            self.report(&key("checksum_sidecar"), "needs checksum = \"sha256\"");
        } else if upload.checksum_sidecar && route.notify.mode != NotifyMode::Off {
            let reason =
                "is not for routes with a server application: their files appear when it says so, or not at all";
            self.report(&key("checksum_sidecar"), reason);
        }
        for (name, reason) in route.notify.problems() {
            self.report(&key(&format!("notify.{name}")), reason);
        }
        if route.notify.is_unused() {
            self.warn(
                &key("notify.url"),
                "is not used: notify.mode is \"off\", files go straight to their destination",
            );
        }
        for (name, reason) in route.events.problems() {
            self.report(&key(&format!("events.{name}")), reason);
        }
        if route.events.is_unused() {
            self.warn(
                &key("events.url"),
                "is not used: events.mode is \"off\", nobody is told of sessions",
            );
        }
        if route.events.mode != EventMode::Off && route.notify.mode != NotifyMode::Off {
            let reason = "a route with a server application has no events: the application is told of each file, and of nothing else";
            self.report(&key("events.mode"), reason);
        }
        if route.notify.mode == NotifyMode::Reference && route.store.url.starts_with("memory:") {
            let reason = "\"reference\" needs a store that others can read: a memory:/// is only within this process";
            self.report(&key("notify.mode"), reason);
        }
        if route
            .store
            .multipart_lifetime
            .is_some_and(|lifetime| lifetime < upload.session_timeout)
        {
            let reason = "the store deletes unfinished uploads before session_timeout: clients that pause for longer start \
                          from the first byte";
            self.warn(&key("multipart_lifetime"), reason);
        }
    }

    fn host_id(&mut self, key: &str, host_id: &str) {
        if host_id.chars().count() > LONGEST_HOST_ID {
            self.report(
                key,
                format!("has {} characters, at most {LONGEST_HOST_ID}", host_id.chars().count()),
            );
        } else if !host_id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
        {
            self.report(key, format!("{host_id:?} is not a host name or address"));
        }
    }

    fn places_of_files(&mut self, index: usize, route: &Route) {
        let store = Anchor::parse(&route.store.url);
        if let Err(reason) = &store {
            self.report(&format!("routes[{index}].store"), reason);
        }
        let key = format!("routes[{index}].staging");
        match route.store.staging.as_deref().map(Anchor::parse) {
            Some(Err(reason)) => self.report(&key, reason),
            Some(Ok(staging)) if store.as_ref().is_ok_and(|store| !store.same_kind(&staging)) => {
                self.report(
                    &key,
                    "has to be the same kind of store as `store`: sessions and files share its options",
                );
            }
            _ => {}
        }
        let prefix = &route.store.reserved_prefix;
        if !prefix
            .trim_end_matches('/')
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        {
            let reason = format!("{prefix:?} is not the name of a folder");
            self.report(&format!("routes[{index}].reserved_prefix"), reason);
        }
    }

    /// A part of the largest file is at most a quarter of the memory, so that a few uploads never block each other.
    fn memory(&mut self, index: usize, upload: &UploadSettings, memory: u64) {
        let [part_size, max_upload_size] =
            ["part_size", "max_upload_size"].map(|name| format!("routes[{index}].{name}"));
        let part = upload.part_size.bytes();
        if !PART_SIZES.contains(&part) {
            self.report(&part_size, format!("{} is outside of 5MiB to 5GiB", upload.part_size));
            return;
        }
        let share = ByteSize::new(memory / 4);
        if part > share.bytes() {
            let reason = format!(
                "a part of {} is more than a quarter of limits.memory ({share})",
                upload.part_size
            );
            self.report_first_given(&[&part_size, "limits.memory"], reason);
            return;
        }
        let raised = ByteSize::new(part.max(upload.max_upload_size.bytes().div_ceil(MOST_PARTS)));
        if raised.bytes() > *PART_SIZES.end() {
            let reason = format!(
                "needs parts of {raised}, and stores take at most 5GiB: at most {}",
                most(*PART_SIZES.end())
            );
            self.report(&max_upload_size, reason);
        } else if raised > share {
            let reason = format!(
                "needs parts of {raised}, which is more than a quarter of limits.memory ({share}): at most {}, or more memory",
                most(share.bytes())
            );
            self.report(&max_upload_size, reason);
        }
    }

    /// The route of nobody's making is made for a try on one's own machine.
    fn open_to_all(&mut self, index: usize, settings: &Settings) {
        let key = format!("routes[{index}].download");
        let reachable = settings.server.listen.iter().any(|address| !address.ip().is_loopback());
        let unmeant = self.places.get(&key) == Some(&Place::Default);
        if reachable && unmeant && settings.routes.get(index).is_some_and(|route| route.download.enabled) {
            let reason = "is on by default, and server.listen can be reached from other machines: whoever does may read every \
                          file; a [[routes]] of your own has it off";
            self.warn(&key, reason);
        }
    }

    fn routes(&mut self, routes: &[Route]) {
        if routes.is_empty() {
            self.report("routes", "there is none: nothing would be served");
        }
        let named = |route: &Route| {
            let path = route.gateway.path.trim_matches('/').to_owned();
            (path, route.gateway.bound_host())
        };
        for (index, route) in routes.iter().enumerate() {
            if let Some(first) = routes[..index].iter().position(|other| named(other) == named(route)) {
                let of_host = route
                    .gateway
                    .host
                    .as_deref()
                    .map(|host| format!(" of {host}"))
                    .unwrap_or_default();
                let reason = format!("{}{of_host} is taken by routes[{first}] already", route.gateway.path);
                self.report(&format!("routes[{index}].path"), reason);
            }
        }
    }

    /// No URL may lead to where sessions are kept, not even one of another route whose files lie around them. Keys with the
    /// default prefix or the route's own in them are refused by the store; any other prefix has to be out of reach.
    fn reach(&mut self, routes: &[Route]) {
        let usual = StoreSettings::default().reserved_prefix;
        for (index, route) in routes.iter().enumerate() {
            let Ok(sessions) = Anchor::of_sessions(&route.store) else {
                continue;
            };
            for (around, other) in routes.iter().enumerate() {
                let refused = [&usual, &other.store.reserved_prefix];
                if refused
                    .iter()
                    .any(|prefix| prefix.eq_ignore_ascii_case(&route.store.reserved_prefix))
                {
                    continue;
                }
                if Anchor::of_files(&other.store).is_ok_and(|files| sessions.lies_in(&files)) {
                    let reason = format!(
                        "URLs of routes[{around}] would lead to these sessions: use the same name there, or keep them out of \
                         its store"
                    );
                    self.report(&format!("routes[{index}].reserved_prefix"), reason);
                }
            }
        }
    }

    /// The sweep aborts uploads that no session names. It knows the sessions of its own route and of those that keep theirs in the same place.
    fn strangers(&mut self, routes: &[Route]) {
        let anchors = |route: &Route| {
            let files = Anchor::of_files(&route.store).ok()?;
            Some((files, Anchor::of_sessions(&route.store).ok()?))
        };
        let anchors: Vec<_> = routes.iter().map(anchors).collect();
        for (index, one) in anchors.iter().enumerate() {
            for (around, other) in anchors.iter().enumerate() {
                let (Some((files, sessions)), Some((others, theirs))) = (one, other) else {
                    continue;
                };
                let is_below = files.lies_in(others) && (files != others || index > around);
                if index != around && is_below && sessions != theirs {
                    let reason = format!(
                        "its files lie among those of routes[{around}], and its sessions elsewhere: where both write the same name, the \
                         sweep of one aborts uploads of the other that are older than a day; give both one `staging`"
                    );
                    self.warn(&format!("routes[{index}].store"), reason);
                }
            }
        }
    }
}

/// Whether the second of two listeners would find its address taken.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// The largest file of parts of this size.
fn most(part: u64) -> String {
    let size = part.saturating_mul(MOST_PARTS);
    format!("{}GiB", size >> 30)
}
