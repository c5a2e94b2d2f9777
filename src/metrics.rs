//! Every metric: its name, its help, its labels, its buckets. Nobody else spells a metric's name.
//!
//! Names begin with `bitsgw_` (the linter of Prometheus takes the word `bits` for a unit) and use base units. Every label is an
//! enum, or the path of a configured route: nothing that a client sends becomes a label. Label sets that alerts need exist from
//! the start, so that a first event is a step from 0 and not the birth of a series.

mod labels;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{AtomicU64, Collector, GenericGauge};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

pub use labels::{
    CleanupOutcome, DownloadOutcome, EventFailure, MemoryWait, Notified, PacketOutcome, Rejection, SessionEnd,
    StoreOperation, StoreOutcome,
};

use crate::bits::{ErrorContext, Hresult, PacketKind};
use crate::session::EventKind;
use crate::telemetry;

/// A gauge of bytes; sizes don't fit the signed integers of the usual one.
type ByteGauge = GenericGauge<AtomicU64>;

/// Buckets of packet and store durations, in seconds: a fragment of 13 MB over a poor line takes a minute.
const DURATIONS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Buckets of the time that server applications take, in seconds: up to the time that a client waits.
const NOTIFICATIONS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 120.0, 300.0];

/// Buckets of sizes, in bytes: powers of 4 from 4 KiB to 1 TiB.
fn sizes() -> Vec<f64> {
    (0..15).map(|power| 4096.0 * 4f64.powi(power)).collect()
}

/// Every metric of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    ready: IntGauge,
    draining: IntGauge,
    panics: IntCounter,
    connections_active: IntGauge,
    connections_accepted: IntCounter,
    connections_rejected: IntCounterVec,
    packets: IntCounterVec,
    packet_duration: HistogramVec,
    packets_in_flight: IntGauge,
    errors: IntCounterVec,
    received: IntCounterVec,
    duplicate: IntCounter,
    fragment_size: Histogram,
    sessions_created: IntCounterVec,
    sessions_ended: IntCounterVec,
    notifications: IntCounterVec,
    notification_duration: Histogram,
    events_delivered: IntCounterVec,
    events_failed: IntCounterVec,
    events_dropped: IntCounterVec,
    events_pending: IntGaugeVec,
    buffer_used: ByteGauge,
    buffer_limit: ByteGauge,
    memory_waits: IntCounterVec,
    memory_wait_duration: Histogram,
    storage_up: IntGaugeVec,
    storage_requests: IntCounterVec,
    storage_duration: HistogramVec,
    downloads: IntCounterVec,
    sent: IntCounterVec,
    cleanup_runs: IntCounterVec,
    cleanup_last_success: IntGauge,
}

impl Metrics {
    /// The metrics of a process that serves these routes, all of them 0.
    pub fn new<'r>(routes: impl IntoIterator<Item = &'r str>) -> Self {
        let names = Names(Registry::new());
        let inner = Inner {
            ready: names.gauge("ready", "1 while /readyz answers 200."),
            draining: names.gauge("draining", "1 from the first SIGTERM on."),
            panics: names.counter(
                "panics_total",
                "Panics of any thread. Each one is a bug: please report its log line.",
            ),
            connections_active: names.gauge("connections_active", "Open connections of clients."),
            connections_accepted: names.counter(
                "connections_accepted_total",
                "Connections of clients that were accepted.",
            ),
            connections_rejected: names.counters(
                "connections_rejected_total",
                "Connections that were closed before their first request was served.",
                &["reason"],
            ),
            packets: names.counters(
                "packets_total",
                "BITS packets that were answered, or whose client went away before.",
                &["packet", "outcome"],
            ),
            packet_duration: names.histograms(
                "packet_duration_seconds",
                "Time from the head of a packet to its answer, the client's sending of the body included.",
                &["packet"],
                DURATIONS.to_vec(),
            ),
            packets_in_flight: names.gauge("packets_in_flight", "BITS packets that are being served."),
            errors: names.counters(
                "errors_total",
                "Answers with an error code, by the code as the client sees it.",
                &["hresult", "context"],
            ),
            received: names.counters(
                "received_bytes_total",
                "Bytes of fragments that were read, those that were not needed included.",
                &["route"],
            ),
            duplicate: names.counter(
                "duplicate_bytes_total",
                "Bytes of fragments that were stored already: clients on poor lines send them again.",
            ),
            fragment_size: names.histogram(
                "fragment_size_bytes",
                "Sizes of fragments, as their heads tell.",
                sizes(),
            ),
            sessions_created: names.counters("sessions_created_total", "Upload sessions that were begun.", &["route"]),
            sessions_ended: names.counters(
                "sessions_ended_total",
                "Upload sessions that ended, by how.",
                &["route", "reason"],
            ),
            notifications: names.counters(
                "notifications_total",
                "Finished uploads that a server application was told of, by what came of it.",
                &["route", "outcome"],
            ),
            notification_duration: names.histogram(
                "notification_duration_seconds",
                "Time from the first byte to a server application to the last one of its answer.",
                NOTIFICATIONS.to_vec(),
            ),
            events_delivered: names.counters(
                "events_delivered_total",
                "Events that an endpoint took.",
                &["route", "event"],
            ),
            events_failed: names.counters(
                "event_failures_total",
                "Requests that an endpoint did not take an event with, by why; each is repeated.",
                &["route", "reason"],
            ),
            events_dropped: names.counters(
                "events_dropped_total",
                "Events that nobody took for as long as events.max_age, and that are told no more.",
                &["route", "event"],
            ),
            events_pending: names.gauges(
                "events_pending",
                "Events that this replica is trying to deliver, and those that it found left in the store when it last looked.",
                &["route"],
            ),
            buffer_used: names.bytes("buffer_used_bytes", "Memory that bodies on their way hold."),
            buffer_limit: names.bytes("buffer_limit_bytes", "Memory that bodies may hold: limits.memory."),
            memory_waits: names.counters(
                "memory_waits_total",
                "Bodies that had to wait for memory, by whether they got it.",
                &["outcome"],
            ),
            memory_wait_duration: names.histogram(
                "memory_wait_duration_seconds",
                "How long bodies waited for memory.",
                DURATIONS.to_vec(),
            ),
            storage_up: names.gauges(
                "storage_up",
                "1 while the store of the route has passed its probe and its last request did not find it unavailable.",
                &["route"],
            ),
            storage_requests: names.counters(
                "storage_requests_total",
                "Requests to stores, repeated ones counted once.",
                &["operation", "outcome"],
            ),
            storage_duration: names.histograms(
                "storage_request_duration_seconds",
                "Time of requests to stores, repetitions included.",
                &["operation"],
                DURATIONS.to_vec(),
            ),
            downloads: names.counters(
                "download_requests_total",
                "GET and HEAD requests for files.",
                &["outcome"],
            ),
            sent: names.counters(
                "sent_bytes_total",
                "Bytes of files that were sent to clients.",
                &["route"],
            ),
            cleanup_runs: names.counters(
                "cleanup_runs_total",
                "Sweeps of this replica, one for each store and interval.",
                &["outcome"],
            ),
            cleanup_last_success: names.gauge(
                "cleanup_last_success_timestamp_seconds",
                "When this replica last came to the end of a sweep, or found that another one had swept; Unix time.",
            ),
            registry: names.finish(),
        };
        inner.create_label_sets(routes);
        Self(Arc::new(inner))
    }

    /// The text that Prometheus scrapes (format 0.0.4).
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Encoding to memory fails only for metrics without a name or a sample, which the registry does not hand out.
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics can't be encoded");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// `/readyz` now answers 200, or no longer does.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.set(ready.into());
    }

    /// The process is on its way out.
    pub fn set_draining(&self) {
        self.0.draining.set(1);
    }

    /// A thread panicked.
    pub fn panicked(&self) {
        self.0.panics.inc();
    }

    /// A client's connection was accepted; it counts as open until the guard is dropped.
    pub fn connection_opens(&self) -> InProgress {
        self.0.connections_accepted.inc();
        InProgress::begin(&self.0.connections_active)
    }

    /// A client's connection was closed before its first request was served.
    pub fn connection_rejected(&self, why: Rejection) {
        self.0.connections_rejected.with_label_values(&[why.as_str()]).inc();
    }

    /// A packet came in; it counts as in flight until the guard is dropped, by a panic too.
    pub fn packet_begins(&self) -> InProgress {
        InProgress::begin(&self.0.packets_in_flight)
    }

    /// A packet was answered after `took`, or its client went away.
    pub fn packet_ended(&self, kind: PacketKind, outcome: PacketOutcome, took: Duration) {
        let packet = labels::packet(kind);
        self.0.packets.with_label_values(&[packet, outcome.as_str()]).inc();
        self.0
            .packet_duration
            .with_label_values(&[packet])
            .observe(took.as_secs_f64());
    }

    /// An answer carried an error code.
    pub fn error_answered(&self, code: Hresult, context: ErrorContext) {
        let labels = [labels::hresult(code), labels::context(context)];
        self.0.errors.with_label_values(&labels).inc();
    }

    /// A fragment announced `bytes` bytes.
    pub fn fragment_announced(&self, bytes: u64) {
        // Rounding a size beyond 2^53 does not move it into another bucket that matters.
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes has wide buckets")]
        self.0.fragment_size.observe(bytes as f64);
    }

    /// Bytes of a fragment were read.
    pub fn received(&self, route: &str, bytes: u64) {
        self.0.received.with_label_values(&[route]).inc_by(bytes);
    }

    /// Bytes of a fragment were stored already.
    pub fn duplicate(&self, bytes: u64) {
        self.0.duplicate.inc_by(bytes);
    }

    /// A session was begun.
    pub fn session_created(&self, route: &str) {
        self.0.sessions_created.with_label_values(&[route]).inc();
    }

    /// A session ended.
    pub fn session_ended(&self, route: &str, how: SessionEnd) {
        self.0.sessions_ended.with_label_values(&[route, how.as_str()]).inc();
    }

    /// A server application was told of a finished upload.
    pub fn notified(&self, route: &str, outcome: Notified, took: Duration) {
        self.0.notifications.with_label_values(&[route, outcome.as_str()]).inc();
        self.0.notification_duration.observe(took.as_secs_f64());
    }

    /// An endpoint took an event.
    pub fn event_delivered(&self, route: &str, kind: EventKind) {
        self.0.events_delivered.with_label_values(&[route, kind.as_str()]).inc();
    }

    /// An endpoint did not take an event.
    pub fn event_failed(&self, route: &str, why: EventFailure) {
        self.0.events_failed.with_label_values(&[route, why.as_str()]).inc();
    }

    /// An event was given up.
    pub fn event_dropped(&self, route: &str, kind: EventKind) {
        self.0.events_dropped.with_label_values(&[route, kind.as_str()]).inc();
    }

    /// An event is to be delivered; it counts as pending until the guard is dropped.
    pub fn event_pends(&self, route: &str) -> InProgress {
        InProgress::begin(&self.0.events_pending.with_label_values(&[route]))
    }

    /// So many more events were found in the store of `route` than the last time, or fewer.
    pub fn events_left(&self, route: &str, more: i64) {
        self.0.events_pending.with_label_values(&[route]).add(more);
    }

    /// What bodies hold, and may hold, of the memory.
    pub fn set_buffer(&self, used: u64, limit: u64) {
        self.0.buffer_used.set(used);
        self.0.buffer_limit.set(limit);
    }

    /// A body had to wait for memory.
    pub fn memory_waited(&self, outcome: MemoryWait, took: Duration) {
        self.0.memory_waits.with_label_values(&[outcome.as_str()]).inc();
        self.0.memory_wait_duration.observe(took.as_secs_f64());
    }

    /// The store of `route` answers, or no longer does.
    pub fn set_storage_up(&self, route: &str, up: bool) {
        self.0.storage_up.with_label_values(&[route]).set(up.into());
    }

    /// A request to a store ended.
    pub fn store_request(&self, operation: StoreOperation, outcome: StoreOutcome, took: Duration) {
        let operation = operation.as_str();
        self.0
            .storage_requests
            .with_label_values(&[operation, outcome.as_str()])
            .inc();
        self.0
            .storage_duration
            .with_label_values(&[operation])
            .observe(took.as_secs_f64());
    }

    /// A GET or HEAD was answered.
    pub fn download_ended(&self, outcome: DownloadOutcome) {
        self.0.downloads.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Bytes of a file were sent.
    pub fn sent(&self, route: &str, bytes: u64) {
        self.0.sent.with_label_values(&[route]).inc_by(bytes);
    }

    /// A sweep ended, at `now` (Unix time in seconds).
    pub fn cleanup_ended(&self, outcome: CleanupOutcome, now: u64) {
        self.0.cleanup_runs.with_label_values(&[outcome.as_str()]).inc();
        if outcome != CleanupOutcome::Failed {
            self.0.cleanup_last_success.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
    }

    /// The reference of all metrics, as Markdown: `docs/metrics.md`.
    pub fn reference() -> String {
        let metrics = Self::new(["/"]);
        let mut rows = String::new();
        for family in metrics.0.registry.gather() {
            let labels = labels_of(&family);
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            rows.push_str(&format!(
                "| `{}` | {kind} | {labels} | {} |\n",
                family.name(),
                family.help()
            ));
        }
        format!("{REFERENCE_HEAD}{rows}")
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Something that is counted for as long as it lasts.
#[derive(Debug)]
#[must_use = "it is counted until this is dropped"]
pub struct InProgress(IntGauge);

impl InProgress {
    fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Inner {
    /// Begins the series that alerts and dashboards ask for.
    fn create_label_sets<'r>(&self, routes: impl IntoIterator<Item = &'r str>) {
        for why in Rejection::ALL {
            self.connections_rejected.with_label_values(&[why.as_str()]);
        }
        for packet in labels::PACKETS {
            self.packet_duration.with_label_values(&[packet]);
            for outcome in PacketOutcome::ALL {
                self.packets.with_label_values(&[packet, outcome.as_str()]);
            }
        }
        for code in labels::HRESULTS {
            for context in labels::CONTEXTS {
                self.errors.with_label_values(&[code, context]);
            }
        }
        for outcome in MemoryWait::ALL {
            self.memory_waits.with_label_values(&[outcome.as_str()]);
        }
        for operation in StoreOperation::ALL {
            self.storage_duration.with_label_values(&[operation.as_str()]);
            for outcome in StoreOutcome::ALL {
                self.storage_requests
                    .with_label_values(&[operation.as_str(), outcome.as_str()]);
            }
        }
        for outcome in DownloadOutcome::ALL {
            self.downloads.with_label_values(&[outcome.as_str()]);
        }
        for outcome in CleanupOutcome::ALL {
            self.cleanup_runs.with_label_values(&[outcome.as_str()]);
        }
        for route in routes {
            for counters in [&self.received, &self.sessions_created, &self.sent] {
                counters.with_label_values(&[route]);
            }
            self.storage_up.with_label_values(&[route]);
            for how in SessionEnd::ALL {
                self.sessions_ended.with_label_values(&[route, how.as_str()]);
            }
            self.events_pending.with_label_values(&[route]);
            for kind in EventKind::ALL {
                for counters in [&self.events_delivered, &self.events_dropped] {
                    counters.with_label_values(&[route, kind.as_str()]);
                }
            }
            for why in EventFailure::ALL {
                self.events_failed.with_label_values(&[route, why.as_str()]);
            }
            for outcome in Notified::ALL {
                self.notifications.with_label_values(&[route, outcome.as_str()]);
            }
        }
    }
}

/// Makes metrics and registers them.
///
/// Making one fails only when its name is not a name or is taken. Names are constants: the first test that makes the metrics
/// would see it.
struct Names(Registry);

/// Why making a metric can't fail.
const CONSTANT: &str = "the names of metrics are constants, and all different";

impl Names {
    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let made = made.expect(CONSTANT);
        self.0.register(Box::new(made.clone())).expect(CONSTANT);
        made
    }

    fn options(name: &str, help: &str) -> Opts {
        Opts::new(format!("bitsgw_{name}"), help)
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(Self::options(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Self::options(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(Self::options(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Self::options(name, help), labels))
    }

    fn bytes(&self, name: &str, help: &str) -> ByteGauge {
        self.register(ByteGauge::with_opts(Self::options(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
        let options = HistogramOpts::from(Self::options(name, help)).buckets(buckets);
        self.register(Histogram::with_opts(options))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: Vec<f64>) -> HistogramVec {
        let options = HistogramOpts::from(Self::options(name, help)).buckets(buckets);
        self.register(HistogramVec::new(options, labels))
    }

    /// Adds what is known without counting, and hands over the registry.
    fn finish(self) -> Registry {
        let build = self.gauges(
            "build_info",
            "1, with what was built as labels.",
            &["version", "revision"],
        );
        build
            .with_label_values(&[telemetry::VERSION, telemetry::REVISION])
            .set(1);
        #[cfg(target_os = "linux")]
        self.0
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect(CONSTANT);
        self.0
    }
}

/// The labels of a family with the values that exist from the start.
fn labels_of(family: &prometheus::proto::MetricFamily) -> String {
    let mut labels: Vec<(String, Vec<String>)> = Vec::new();
    for pair in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
        let value = pair.value().to_owned();
        match labels.iter_mut().find(|(name, _)| name == pair.name()) {
            Some((_, values)) if !values.contains(&value) => values.push(value),
            Some(_) => {}
            None => labels.push((pair.name().to_owned(), vec![value])),
        }
    }
    let show = |(name, values): (String, Vec<String>)| match name.as_str() {
        "route" => "`route`: the routes, by path, after the host where they have one".to_owned(),
        "version" | "revision" => format!("`{name}`"),
        _ => format!("`{name}`: {}", values.join(", ")),
    };
    labels.into_iter().map(show).collect::<Vec<_>>().join("; ")
}

const REFERENCE_HEAD: &str = "\
# Metrics

What `/metrics` on the admin listener tells. Generated from the program (`UPDATE_GOLDEN=1 cargo test --test config`); do not edit.

Names begin with `bitsgw_`, units are base units, and no label holds anything that a client sent. Every label set that exists from
the start is listed; a family of which no label set exists yet does not show up before its first event.

| name | type | labels | meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(metrics: &Metrics, begins: &str) -> String {
        let text = metrics.render();
        text.lines()
            .find(|line| line.starts_with(begins))
            .unwrap_or_default()
            .to_owned()
    }

    #[test]
    fn what_happened_is_told() {
        let metrics = Metrics::new(["/up/"]);
        metrics.packet_ended(PacketKind::Fragment, PacketOutcome::Ok, Duration::from_millis(30));
        metrics.error_answered(Hresult(0x8020_001F), ErrorContext::RemoteFile);
        metrics.error_answered(Hresult(0x8019_01F7), ErrorContext::RemoteApplication);
        metrics.received("/up/", 5_120);
        metrics.set_buffer(1, 2);
        for (begins, value) in [
            ("bitsgw_packets_total{outcome=\"ok\",packet=\"fragment\"}", "1"),
            (
                "bitsgw_packet_duration_seconds_bucket{packet=\"fragment\",le=\"0.025\"}",
                "0",
            ),
            (
                "bitsgw_packet_duration_seconds_bucket{packet=\"fragment\",le=\"0.05\"}",
                "1",
            ),
            ("bitsgw_errors_total{context=\"server\",hresult=\"0x8020001F\"}", "1"),
            ("bitsgw_errors_total{context=\"application\",hresult=\"other\"}", "1"),
            ("bitsgw_received_bytes_total{route=\"/up/\"}", "5120"),
            ("bitsgw_buffer_limit_bytes", "2"),
        ] {
            assert_eq!(line(&metrics, begins), format!("{begins} {value}"));
        }
    }

    #[test]
    fn what_is_in_progress_is_counted_until_it_ends_by_a_panic_too() {
        let metrics = Metrics::new([]);
        let packet = metrics.packet_begins();
        assert_eq!(line(&metrics, "bitsgw_packets_in_flight"), "bitsgw_packets_in_flight 1");
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _packet = packet;
            panic!("on purpose");
        }));
        assert!(ended.is_err());
        assert_eq!(line(&metrics, "bitsgw_packets_in_flight"), "bitsgw_packets_in_flight 0");
    }

    #[test]
    fn series_that_alerts_need_exist_before_their_first_event() {
        let metrics = Metrics::new(["/up/"]);
        for begins in [
            "bitsgw_packets_total{outcome=\"server_error\",packet=\"fragment\"}",
            "bitsgw_storage_requests_total{operation=\"put_part\",outcome=\"unavailable\"}",
            "bitsgw_sessions_ended_total{reason=\"expired\",route=\"/up/\"}",
            "bitsgw_memory_waits_total{outcome=\"exhausted\"}",
            "bitsgw_panics_total",
            "bitsgw_cleanup_runs_total{outcome=\"failed\"}",
        ] {
            assert_eq!(line(&metrics, begins), format!("{begins} 0"));
        }
    }

    #[test]
    fn a_scrape_of_three_routes_stays_small() {
        let routes = ["/a/", "/b/", "/c/"];
        let series = Metrics::new(routes)
            .render()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count();
        assert!(series < 800, "{series}");
    }

    #[test]
    fn a_failed_sweep_does_not_count_as_a_success() {
        let metrics = Metrics::new([]);
        metrics.cleanup_ended(CleanupOutcome::Swept, 1_000);
        metrics.cleanup_ended(CleanupOutcome::Failed, 2_000);
        let begins = "bitsgw_cleanup_last_success_timestamp_seconds";
        assert_eq!(line(&metrics, begins), format!("{begins} 1000"));
    }
}
