//! The one list of all metrics.

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// The kind in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric as it is told to the recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// The unit as the facade names it: `seconds`, `bytes`, `count`.
    pub unit: &'static str,
    /// The names of its labels, in their order.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub meaning: &'static str,
}

const DRIVER: &[&str] = &["driver", "connector"];
const STATE: &[&str] = &["driver", "connector", "state"];
const DELIVERY: &[&str] = &["driver", "connector", "delivery"];
const DELIVERY_ERROR: &[&str] = &["driver", "connector", "delivery", "error"];
const ERROR: &[&str] = &["driver", "connector", "error"];
const SUBSCRIPTION: &[&str] = &["driver", "connector", "topic", "stream", "durable"];
const DURABLE: &[&str] = SUBSCRIPTION;
const CAUSE: &[&str] = &["driver", "connector", "topic", "stream", "durable", "cause"];
const BUCKET: &[&str] = &["driver", "connector", "bucket"];
const OPERATION: &[&str] = &["driver", "connector", "bucket", "operation"];
const OPERATION_ERROR: &[&str] = &["driver", "connector", "bucket", "operation", "error"];

/// Each metric under a name of this module, and all of them.
macro_rules! list {
    ($($id:ident = $kind:ident $name:literal $unit:literal $labels:ident $meaning:literal;)*) => {
        $(pub(super) const $id: Metric = Metric {
            name: concat!("nats_connector_", $name),
            kind: Kind::$kind,
            unit: $unit,
            labels: $labels,
            meaning: $meaning,
        };)*

        /// Every metric of this library.
        #[must_use]
        pub fn all() -> &'static [Metric] {
            &[$($id),*]
        }
    };
}

list! {
    CONNECTIONS = Gauge "connections" "count" STATE
        "connectors in this state: connecting, connected, disconnected, draining or closed";
    RECONNECTS = Counter "reconnects_total" "count" DRIVER
        "connects after the first one";
    ROUND_TRIP = Gauge "round_trip_seconds" "seconds" DRIVER
        "the last round trip that a health check made";
    DROPPED = Counter "messages_dropped_total" "count" DRIVER
        "messages dropped because a subscription was too slow";
    DRAIN_DURATION = Histogram "drain_duration_seconds" "seconds" DRIVER
        "how long a drain took";
    DRAIN_ABANDONED = Counter "drain_abandoned_total" "count" DRIVER
        "handlers that a drain gave up at its deadline";

    PUBLISHED = Counter "messages_published_total" "count" DELIVERY
        "messages handed to the connection (core) or acknowledged by a stream (acked)";
    PUBLISH_FAILURES = Counter "publish_failures_total" "count" DELIVERY_ERROR
        "messages that were not, by kind of error";
    ACK_DURATION = Histogram "publish_ack_duration_seconds" "seconds" DRIVER
        "how long a stream took to acknowledge a message, tries included";
    REQUESTS = Counter "requests_total" "count" DRIVER
        "requests that were answered";
    REQUEST_FAILURES = Counter "request_failures_total" "count" ERROR
        "requests that were not, by kind of error: timeouts as timed_out, nobody there as no_responders";
    REQUEST_DURATION = Histogram "request_duration_seconds" "seconds" DRIVER
        "how long an answer took";

    RECEIVED = Counter "messages_received_total" "count" SUBSCRIPTION
        "messages taken from a subscription, each delivery of a durable one";
    HANDLED = Counter "messages_handled_total" "count" SUBSCRIPTION
        "messages whose handler ended well";
    FAILED = Counter "messages_failed_total" "count" CAUSE
        "messages whose handler gave an error or panicked";
    IN_FLIGHT = Gauge "messages_in_flight" "count" SUBSCRIPTION
        "messages that handlers are at work on";
    HANDLER_DURATION = Histogram "handler_duration_seconds" "seconds" SUBSCRIPTION
        "how long a handler took for a message";
    REDELIVERED = Counter "messages_redelivered_total" "count" DURABLE
        "deliveries that were not the first of their message";
    RETRIED = Counter "messages_retried_total" "count" DURABLE
        "deliveries after which the message was to come again";
    REJECTED = Counter "messages_rejected_total" "count" DURABLE
        "messages that their handler rejected or could not decode";
    DEAD_LETTERED = Counter "messages_dead_lettered_total" "count" DURABLE
        "dead letters that a stream has stored";
    NOT_STORED = Counter "dead_letters_not_stored_total" "count" DURABLE
        "dead letters that no stream stored, by tries";
    LET_GO = Counter "messages_let_go_total" "count" DURABLE
        "messages whose handlers took so long that they were delivered again";
    UNSETTLED = Counter "messages_unsettled_total" "count" DURABLE
        "messages whose settlement could not be sent";
    CONSUMER_REMADE = Counter "consumer_remade_total" "count" DURABLE
        "times that the consumer was gone and was made again";
    CONSUMER_RESTARTS = Counter "consumer_restarts_total" "count" DURABLE
        "requests for messages that had to be begun anew";

    KV_OPERATIONS = Counter "kv_operations_total" "count" OPERATION
        "requests to the store that ended: get, get_many, put, delete, purge, transaction or history";
    KV_FAILURES = Counter "kv_failures_total" "count" OPERATION_ERROR
        "those that failed, but for conflicts, by kind of error";
    KV_DURATION = Histogram "kv_operation_duration_seconds" "seconds" OPERATION
        "how long they took";
    KV_BATCH_SIZE = Histogram "kv_batch_size" "count" OPERATION
        "keys of one get_many or transaction";
    KV_HITS = Counter "kv_hits_total" "count" BUCKET
        "keys read from the store that had a value";
    KV_MISSES = Counter "kv_misses_total" "count" BUCKET
        "keys read from the store that had none";
    KV_CONFLICTS = Counter "kv_conflicts_total" "count" BUCKET
        "writes whose condition did not hold, each try of a compare-and-set loop";

    NEAR_HITS = Counter "near_cache_hits_total" "count" BUCKET
        "reads answered from memory";
    NEAR_MISSES = Counter "near_cache_misses_total" "count" BUCKET
        "reads that went to the store";
    NEAR_BYPASSED = Counter "near_cache_bypassed_total" "count" BUCKET
        "those misses that went to the store because the watch had not caught up";
    NEAR_UPDATES = Counter "near_cache_updates_total" "count" BUCKET
        "changes that the watch told";
    NEAR_EVICTIONS = Counter "near_cache_evictions_total" "count" BUCKET
        "entries that had to make room";
    NEAR_ENTRIES = Gauge "near_cache_entries" "count" BUCKET
        "entries in memory";
    NEAR_BYTES = Gauge "near_cache_bytes" "bytes" BUCKET
        "what they take, as the cache's bounds count";

    LOCKS_ACQUIRED = Counter "locks_acquired_total" "count" BUCKET
        "locks taken";
    LOCKS_REFUSED = Counter "locks_refused_total" "count" BUCKET
        "locks not taken because another one held them";
    LOCKS_LOST = Counter "locks_lost_total" "count" BUCKET
        "locks lost while they were held";
    LOCKS_HELD = Gauge "locks_held" "count" BUCKET
        "locks that this process holds";
    LOCK_WAIT = Histogram "lock_wait_seconds" "seconds" BUCKET
        "how long it took until a lock was taken";
}
