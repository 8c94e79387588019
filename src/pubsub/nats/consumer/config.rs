//! A consumer at the server: asked for, made, compared, changed.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::connector::Link;
use crate::difference::{Difference, Differences};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::{self, nanos};
use crate::pubsub::driver::{ConsumerConfig, Start};

const CONSUMER_NOT_FOUND: u64 = 10014;
/// There is one of this name, with other options; servers have two numbers for it.
const NAME_IN_USE: [u64; 2] = [10013, 10148];

/// Servers before this one drop all filters where there are several, and have no word for "only
/// create".
const SEVERAL_FILTERS: (u64, u64, u64) = (2, 10, 0);

/// A consumer as the server tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) config: Map<String, Value>,
    #[serde(default)]
    ack_floor: Floor,
    #[serde(default)]
    pub(super) paused: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Floor {
    #[serde(default)]
    stream_seq: u64,
}

impl Info {
    /// The last sequence of the stream up to which all is settled.
    pub(super) fn floor(&self) -> u64 {
        self.ack_floor.stream_seq
    }

    fn text(&self, field: &str) -> &str {
        self.config.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, field: &str) -> i64 {
        self.config.get(field).and_then(Value::as_i64).unwrap_or(0)
    }

    /// A limit of the consumer, where it has one.
    pub(super) fn limit(&self, field: &str) -> Option<usize> {
        usize::try_from(self.number(field)).ok().filter(|limit| *limit > 0)
    }

    /// How long it waits for a word about a message; of several waits the shortest.
    pub(super) fn ack_wait(&self) -> Duration {
        let backoff = self.config.get("backoff").and_then(Value::as_array);
        let shortest = backoff.into_iter().flatten().filter_map(Value::as_u64).min();
        let nanos = shortest.or_else(|| u64::try_from(self.number("ack_wait")).ok());
        Duration::from_nanos(nanos.unwrap_or_default())
    }

    fn filters(&self) -> Vec<String> {
        let several = self.config.get("filter_subjects").and_then(Value::as_array);
        let mut filters: Vec<String> = match several {
            Some(several) if !several.is_empty() => {
                several.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => match self.text("filter_subject") {
                "" => vec![ALL.to_owned()],
                filter => vec![filter.to_owned()],
            },
        };
        filters.sort_unstable();
        filters
    }

    /// Refuses a consumer that no durable subscription can use.
    pub(super) fn check(&self, config: &ConsumerConfig) -> Result<()> {
        let wrong = if !self.text("deliver_subject").is_empty() {
            "is a push consumer, and a pull consumer is needed"
        } else if self.text("ack_policy") != "explicit" {
            "does not want each message acknowledged (ack_policy is not explicit)"
        } else if !matches!(self.text("priority_policy"), "" | "none") {
            "has priority groups, which are not supported"
        } else if self.config.get("headers_only").and_then(Value::as_bool) == Some(true) {
            "delivers no payloads (headers_only)"
        } else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::Conflict,
            format!("the consumer that is there {wrong}; use another name, or delete it"),
        )
        .with("consumer", config.name.as_str())
        .with("stream", config.stream.as_str()))
    }

    /// Refuses a consumer that stops delivering by itself: what it gives up is lost silently.
    pub(super) fn check_deliveries(&self, config: &ConsumerConfig) -> Result<()> {
        let Some(limit) = self.limit("max_deliver") else { return Ok(()) };
        let message = format!(
            "the consumer that is there gives messages up after {limit} deliveries (max_deliver), \
             before they are handled or dead letters; change it by .overwrite(), or use another name"
        );
        Err(Error::new(ErrorKind::Conflict, message)
            .with("consumer", config.name.as_str())
            .with("stream", config.stream.as_str()))
    }

    /// What is not as it was asked for, of what the name does not stand for.
    pub(super) fn differences(&self, config: &ConsumerConfig) -> Vec<Difference> {
        let text = |wait| humantime::format_duration(wait).to_string();
        let mut wanted = config.filters.clone();
        wanted.sort_unstable();
        let deliver = match self.number("max_deliver") {
            ..=0 => UNLIMITED.to_owned(),
            limit => limit.to_string(),
        };
        let in_flight = match self.number("max_ack_pending") {
            ..=0 => UNLIMITED.to_owned(),
            limit => limit.to_string(),
        };
        let mut differences = Differences::default();
        let mut compare = |option, wanted: String, found: String| {
            differences.compare(option, Some(wanted), Some(found));
        };
        compare("filters", wanted.join(" "), self.filters().join(" "));
        compare("ack_wait", text(config.ack_wait), text(self.ack_wait()));
        compare("max_in_flight", config.max_in_flight.to_string(), in_flight);
        compare("max_deliver", UNLIMITED.to_owned(), deliver);
        differences.into_vec()
    }
}

const UNLIMITED: &str = "unlimited";
/// The filter of all messages, which is told by telling none.
const ALL: &str = ">";

/// Whether it says that there is no such consumer, or no such stream.
pub(super) fn is_missing(error: &Error) -> bool {
    error.is_not_found() || jetstream::has_code(error, CONSUMER_NOT_FOUND)
}

/// Asks for a consumer; `None` when the server says that there is none. Without the stream it is
/// `NotFound`.
pub(super) async fn info(
    link: &Link,
    config: &ConsumerConfig,
    deadline: Instant,
) -> Result<Option<Info>> {
    let subject = format!("CONSUMER.INFO.{}.{}", config.stream, config.name);
    match jetstream::ask(link, &subject, Bytes::new(), deadline).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if jetstream::has_code(&error, CONSUMER_NOT_FOUND) => Ok(None),
        Err(error) => Err(refused(error, config)),
    }
}

/// Makes a consumer that begins at `start`; `None` when there is one by now.
pub(super) async fn create(
    link: &Link,
    config: &ConsumerConfig,
    start: Start,
    deadline: Instant,
) -> Result<Option<Info>> {
    let several = several_filters(link, config, deadline).await?;
    let mut body = Map::new();
    body.insert("ack_policy".to_owned(), json!("explicit"));
    body.insert("replay_policy".to_owned(), json!("instant"));
    match start {
        Start::All => body.insert("deliver_policy".to_owned(), json!("all")),
        Start::New => body.insert("deliver_policy".to_owned(), json!("new")),
        Start::Sequence(sequence) => {
            body.insert("opt_start_seq".to_owned(), json!(sequence.max(1)));
            body.insert("deliver_policy".to_owned(), json!("by_start_sequence"))
        }
        Start::Time(time) => {
            body.insert("opt_start_time".to_owned(), json!(rfc3339(time)));
            body.insert("deliver_policy".to_owned(), json!("by_start_time"))
        }
    };
    fill(&mut body, config);
    match apply(link, config, &body, several.then_some("create"), deadline).await {
        Ok(made) => {
            // A server of a domain may be older than the one that was asked for its version.
            let mut wanted = config.filters.clone();
            wanted.sort_unstable();
            if made.filters() != wanted {
                super::delete(link, &config.stream, &config.name, deadline).await?;
                return Err(no_filters("an older one"));
            }
            Ok(Some(made))
        }
        Err(error) if NAME_IN_USE.iter().any(|code| jetstream::has_code(&error, *code)) => Ok(None),
        Err(error) => Err(refused(error, config)),
    }
}

/// Changes what was found to what is asked for, and keeps the rest.
pub(super) async fn update(
    link: &Link,
    config: &ConsumerConfig,
    found: &Info,
    deadline: Instant,
) -> Result<Info> {
    let several = several_filters(link, config, deadline).await?;
    let mut body = found.config.clone();
    fill(&mut body, config);
    apply(link, config, &body, several.then_some("update"), deadline)
        .await
        .map_err(|error| refused(error, config))
}

fn fill(body: &mut Map<String, Value>, config: &ConsumerConfig) {
    body.insert("durable_name".to_owned(), json!(config.name));
    body.insert("name".to_owned(), json!(config.name));
    body.insert("ack_wait".to_owned(), json!(nanos(config.ack_wait)));
    body.insert("max_ack_pending".to_owned(), json!(config.max_in_flight));
    body.insert("max_deliver".to_owned(), json!(-1));
    body.remove("filter_subject");
    body.remove("filter_subjects");
    match config.filters.as_slice() {
        [] => {}
        [all] if all == ALL => {}
        [filter] => drop(body.insert("filter_subject".to_owned(), json!(filter))),
        filters => drop(body.insert("filter_subjects".to_owned(), json!(filters))),
    }
}

/// Makes or changes a consumer. Doing the same twice does no more, so it may be asked again. Old
/// servers have one word for both, under a subject of its own.
async fn apply(
    link: &Link,
    config: &ConsumerConfig,
    body: &Map<String, Value>,
    action: Option<&str>,
    deadline: Instant,
) -> Result<Info> {
    let ConsumerConfig { stream, name, .. } = config;
    let mut request = json!({ "stream_name": stream, "config": body });
    let subject = match action {
        Some(action) => {
            request["action"] = json!(action);
            // With one filter it is part of the call's subject, so that it can be permitted by it.
            match body.get("filter_subject").and_then(Value::as_str) {
                Some(filter) => format!("CONSUMER.CREATE.{stream}.{name}.{filter}"),
                None => format!("CONSUMER.CREATE.{stream}.{name}"),
            }
        }
        None => format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"),
    };
    jetstream::ask(link, &subject, jetstream::body(&request), deadline).await
}

/// Whether the server takes several filters, and actions. Refuses those that it does not take.
async fn several_filters(link: &Link, config: &ConsumerConfig, deadline: Instant) -> Result<bool> {
    let capabilities = link.capabilities(deadline).await?;
    let several = capabilities.version() >= SEVERAL_FILTERS;
    if !several && config.filters.len() > 1 {
        return Err(no_filters(capabilities.server_version()));
    }
    Ok(several)
}

fn no_filters(connected: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "several filters need nats-server 2.10 or newer; connected to {connected}; use one \
             consumer for each"
        ),
    )
}

/// The server's refusal, with what it is about.
fn refused(error: Error, config: &ConsumerConfig) -> Error {
    // Everything that it says of a consumer's options comes as a bad request.
    const ABOUT_OPTIONS: &[u64] = &[
        10012, 10081, 10088, 10092, 10093, 10094, 10095, 10098, 10099, 10100, 10101, 10109, 10116,
        10136, 10137, 10138, 10139,
    ];
    let error = if ABOUT_OPTIONS.iter().any(|code| jetstream::has_code(&error, *code)) {
        let message = format!("the server refuses the consumer: {}", error.message());
        Error::new(ErrorKind::InvalidInput, message)
    } else if error.is_not_found() {
        Error::new(ErrorKind::NotFound, "there is no such stream")
    } else {
        error
    };
    error.with("stream", config.stream.as_str()).with("consumer", config.name.as_str())
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}
