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

/// The labels of `claviger_requests_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// The route's prefix; `-` if no route matched.
    pub route: Arc<str>,
    /// The consumer's name; `-` if none was authenticated.
    pub consumer: NameLabel,
    /// The method; `other` if it is not a well-known one.
    pub method: &'static str,
    /// The status of the response.
    pub code: u16,
}

/// The single label `reason`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A code or reason from a closed set.
    pub reason: &'static str,
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
    pub endpoint: Arc<str>,
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

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $value:expr, $name:literal, $help:literal;)+) => {
        /// All metrics, with the registry that encodes them.
        pub struct Metrics {
            $($(#[doc = $doc])+ pub $field: $type,)+
            registry: Registry,
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("claviger");
                $(
                    let $field: $type = $value;
                    registry.register($name, $help, $field.clone());
                )+
                Self { $($field,)+ registry }
            }
        }
    };
}

metrics! {
    /// Number of calls, by route, consumer, method and status.
    requests: Family<Request, Counter> = Family::default(), "requests", "Calls";
    /// Seconds from a complete request head to the outcome.
    request_duration: Histogram = histogram(), "request_duration_seconds", "Whole calls";
    /// Seconds from sending a request to the head of the upstream's response.
    upstream_duration: Family<Upstream, Histogram, fn() -> Histogram> =
        Family::new_with_constructor(histogram), "upstream_duration_seconds", "Upstream answer heads";
    /// Whether each endpoint responds: 1 or 0; absent while unknown.
    endpoint_up: Family<Endpoint, Gauge> = Family::default(), "endpoint_up", "Whether the endpoint answers";
    /// Calls in flight at each endpoint of an upstream that has several.
    endpoint_in_flight: Family<Endpoint, Gauge> =
        Family::default(), "endpoint_in_flight", "Calls in flight";
    /// Number of 401 responses to the gateway's own credential.
    upstream_auth_failures: Family<UpstreamCredential, Counter> =
        Family::default(), "upstream_auth_failures", "Answers 401 to the gateway's credential";
    /// Whether logins with each credential are suspended, since the upstream rejected them: 1 or 0.
    login_held: Family<UpstreamCredential, Gauge> =
        Family::default(), "login_held", "Whether no login is tried, since the upstream refused it";
    /// Seconds since the current version of each credential was created or written.
    credential_age: Family<Credential, Gauge> =
        Family::default(), "credential_age_seconds", "Since the version in use";
    /// Number of failed authentication attempts, by reason.
    inbound_auth_failures: Family<Reason, Counter> =
        Family::default(), "inbound_auth_failures", "Failed attempts";
    /// Number of refused calls, by reason.
    denied: Family<Reason, Counter> = Family::default(), "denied", "Refused calls";
    /// Seconds until an intent was durable.
    audit_commit: Histogram = histogram(), "audit_commit_seconds", "Time until an intent is durable";
    /// Number of events that are not yet durable.
    audit_lag: Gauge = Gauge::default(), "audit_lag_events", "Events not yet durable";
    /// Number of lost call events. Always zero: without a record there is no call.
    audit_dropped: Counter = Counter::default(), "audit_dropped", "Events of calls that were lost";
    /// Whether each sink accepts events: 1 or 0.
    sink_up: Family<Sink, Gauge> = Family::default(), "audit_sink_up", "Whether the sink takes events";
    /// Number of events on the trail that each sink has not yet accepted.
    sink_behind: Family<Sink, Gauge> =
        Family::default(), "audit_sink_behind_events", "Events not taken yet";
    /// Time of the last successful reload, in seconds since 1970.
    last_reload: Gauge = Gauge::default(),
        "config_last_reload_success_timestamp_seconds", "When the configuration was last taken";
    /// Number of open consumer connections.
    connections: Gauge<i64, AtomicI64> = Gauge::default(), "connections", "Consumers' connections";
    /// Maximum number of consumer connections.
    connections_limit: Gauge<i64, AtomicI64> =
        Gauge::default(), "connections_limit", "How many connections there may be";
    /// Number of consumer connections that were closed for lack of room: at once, or before one of their
    /// requests was authenticated.
    connections_refused: Family<Reason, Counter> =
        Family::default(), "connections_refused", "Connections closed for want of room";
    /// Number of calls in flight.
    in_flight: Gauge<i64, AtomicI64> = Gauge::default(), "in_flight", "Calls in flight";
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
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
                && labels.route == *route
                && labels.consumer.0.as_ref() == consumer
        };
        if let Some((_, counter)) = last.as_mut().filter(same) {
            counter.inc();
            return;
        }
        let (route, consumer) = (Arc::clone(route), NameLabel(consumer.copied()));
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
}

/// Returns the label of a method: its name if it is well-known, otherwise `other`.
#[must_use]
pub fn method_label(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.iter().find(|known| **known == method).copied().unwrap_or("other")
}

impl EncodeLabelValue for NameLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.as_ref().map_or("-", Name::as_str).encode(encoder)
    }
}
