//! The metrics of the gateway. Label values come only from closed sets and configured names.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::name::Name;

/// Upper bounds of the duration histograms, in seconds.
const SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// A label value that is a configured name, or absent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameLabel(pub Option<Name>);

/// A label value from a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StaticLabel(pub &'static str);

/// The labels of `claviger_requests_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// The route's prefix; `-` if no route matched.
    pub route: TextLabel,
    /// The consumer's name; `-` if none was authenticated.
    pub consumer: NameLabel,
    /// The method; `other` if it is not a well-known one.
    pub method: StaticLabel,
    /// The status of the response.
    pub code: u16,
}

/// A label value that is configured text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TextLabel(pub Arc<str>);

/// The single label `reason`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A code or reason from a closed set.
    pub reason: StaticLabel,
}

/// The single label `upstream`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Upstream {
    /// The upstream's name.
    pub upstream: NameLabel,
}

/// The single label `sink`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Sink {
    /// The sink's name.
    pub sink: NameLabel,
}

/// The labels `upstream` and `endpoint`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Endpoint {
    /// The upstream's name.
    pub upstream: NameLabel,
    /// The endpoint's origin.
    pub endpoint: TextLabel,
}

/// The single label `credential`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Credential {
    /// The credential's name.
    pub credential: NameLabel,
}

/// The labels `upstream` and `credential`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamCredential {
    /// The upstream's name.
    pub upstream: NameLabel,
    /// The credential's name.
    pub credential: NameLabel,
}

/// The metric series that the last call of a connection used. Most calls use the same series, so the next call is
/// counted without building and hashing its labels.
#[derive(Debug, Default)]
pub struct CachedSeries {
    requests: RefCell<Option<(Request, Counter)>>,
    upstream: RefCell<Option<(Name, Histogram)>>,
}

/// All metrics, with the registry that encodes them.
pub struct Metrics {
    /// Number of calls, by route, consumer, method and status.
    pub requests: Family<Request, Counter>,
    /// Seconds from a complete request head to the outcome.
    pub request_duration: Histogram,
    /// Seconds from sending a request to the head of the upstream's response.
    pub upstream_duration: Family<Upstream, Histogram, fn() -> Histogram>,
    /// Whether each endpoint responds: 1 or 0; absent while unknown.
    pub endpoint_up: Family<Endpoint, Gauge>,
    /// Calls in flight at each endpoint of an upstream that has several.
    pub endpoint_in_flight: Family<Endpoint, Gauge>,
    /// Number of 401 responses to the gateway's own credential.
    pub upstream_auth_failures: Family<UpstreamCredential, Counter>,
    /// Whether logins with each credential are suspended, since the upstream rejected them: 1 or 0.
    pub login_held: Family<UpstreamCredential, Gauge>,
    /// Seconds since the current version of each credential was created or written.
    pub credential_age: Family<Credential, Gauge>,
    /// Number of failed authentication attempts, by reason.
    pub inbound_auth_failures: Family<Reason, Counter>,
    /// Number of refused calls, by reason.
    pub denied: Family<Reason, Counter>,
    /// Seconds until an intent was durable.
    pub audit_commit: Histogram,
    /// Number of events that are not yet durable.
    pub audit_lag: Gauge,
    /// Number of lost call events. Always zero: without a record there is no call.
    pub audit_dropped: Counter,
    /// Whether each sink accepts events: 1 or 0.
    pub sink_up: Family<Sink, Gauge>,
    /// Number of events on the trail that each sink has not yet accepted.
    pub sink_behind: Family<Sink, Gauge>,
    /// Time of the last successful reload, in seconds since 1970.
    pub last_reload: Gauge,
    /// Number of open consumer connections.
    pub connections: Gauge<i64, AtomicI64>,
    /// Maximum number of consumer connections.
    pub connections_limit: Gauge<i64, AtomicI64>,
    /// Number of consumer connections that were closed for lack of room: at once, or before one of their requests was
    /// authenticated.
    pub connections_refused: Family<Reason, Counter>,
    /// Number of calls in flight.
    pub in_flight: Gauge<i64, AtomicI64>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            requests: Family::default(),
            request_duration: histogram(),
            upstream_duration: Family::new_with_constructor(histogram),
            endpoint_up: Family::default(),
            endpoint_in_flight: Family::default(),
            upstream_auth_failures: Family::default(),
            login_held: Family::default(),
            credential_age: Family::default(),
            inbound_auth_failures: Family::default(),
            denied: Family::default(),
            audit_commit: histogram(),
            audit_lag: Gauge::default(),
            audit_dropped: Counter::default(),
            sink_up: Family::default(),
            sink_behind: Family::default(),
            last_reload: Gauge::default(),
            connections: Gauge::default(),
            connections_limit: Gauge::default(),
            connections_refused: Family::default(),
            in_flight: Gauge::default(),
            registry: Registry::with_prefix("claviger"),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// Counts a call that got a response with the status `code`.
    pub fn count_request(
        &self,
        recent: &CachedSeries,
        (route, consumer): (&Arc<str>, Option<&Name>),
        method: &str,
        code: u16,
    ) {
        let method = method_label(method);
        let mut last = recent.requests.borrow_mut();
        let same = |(labels, _): &&mut (Request, Counter)| {
            labels.code == code
                && labels.method == method
                && labels.route.0 == *route
                && labels.consumer.0.as_ref() == consumer
        };
        if let Some((_, counter)) = last.as_mut().filter(same) {
            counter.inc();
            return;
        }
        let (route, consumer) = (TextLabel(Arc::clone(route)), NameLabel(consumer.copied()));
        let labels = Request { route, consumer, method, code };
        let counter = self.requests.get_or_create_owned(&labels);
        counter.inc();
        *last = Some((labels, counter));
    }

    /// Records the response time of the upstream called `name`, in seconds.
    pub fn observe_upstream(&self, recent: &CachedSeries, name: &Name, seconds: f64) {
        let mut last = recent.upstream.borrow_mut();
        if let Some((_, histogram)) = last.as_ref().filter(|(last, _)| last == name) {
            histogram.observe(seconds);
            return;
        }
        let labels = Upstream { upstream: NameLabel(Some(*name)) };
        let histogram = self.upstream_duration.get_or_create_owned(&labels);
        histogram.observe(seconds);
        *last = Some((*name, histogram));
    }

    /// Returns the metrics in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        text::encode(&mut out, &self.registry).unwrap_or_default();
        out
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Calls", self.requests.clone());
        registry.register("request_duration_seconds", "Whole calls", self.request_duration.clone());
        registry.register(
            "upstream_duration_seconds",
            "Upstream answer heads",
            self.upstream_duration.clone(),
        );
        registry.register("endpoint_up", "Whether the endpoint answers", self.endpoint_up.clone());
        registry.register("endpoint_in_flight", "Calls in flight", self.endpoint_in_flight.clone());
        registry.register(
            "upstream_auth_failures",
            "Answers 401 to the gateway's credential",
            self.upstream_auth_failures.clone(),
        );
        registry.register(
            "login_held",
            "Whether no login is tried, since the upstream refused it",
            self.login_held.clone(),
        );
        registry.register("credential_age_seconds", "Since the version in use", self.credential_age.clone());
        registry.register("inbound_auth_failures", "Failed attempts", self.inbound_auth_failures.clone());
        registry.register("denied", "Refused calls", self.denied.clone());
        registry.register(
            "audit_commit_seconds",
            "Time until an intent is durable",
            self.audit_commit.clone(),
        );
        registry.register("audit_lag_events", "Events not yet durable", self.audit_lag.clone());
        registry.register("audit_dropped", "Events of calls that were lost", self.audit_dropped.clone());
        registry.register("audit_sink_up", "Whether the sink takes events", self.sink_up.clone());
        registry.register("audit_sink_behind_events", "Events not taken yet", self.sink_behind.clone());
        registry.register(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration was last taken",
            self.last_reload.clone(),
        );
        registry.register("connections", "Consumers' connections", self.connections.clone());
        registry.register(
            "connections_limit",
            "How many connections there may be",
            self.connections_limit.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed for want of room",
            self.connections_refused.clone(),
        );
        registry.register("in_flight", "Calls in flight", self.in_flight.clone());
    }
}

/// Returns the label of a method: its name if it is well-known, otherwise `other`.
#[must_use]
pub fn method_label(method: &str) -> StaticLabel {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    StaticLabel(KNOWN.iter().find(|known| **known == method).copied().unwrap_or("other"))
}

impl EncodeLabelValue for NameLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.as_ref().map_or("-", Name::as_str).encode(encoder)
    }
}

impl EncodeLabelValue for StaticLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

impl EncodeLabelValue for TextLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.as_ref().encode(encoder)
    }
}
