//! What services say of themselves, as the NATS micro protocol (ADR-32) writes it.
//!
//! Reading is lenient: of other implementations some leave members out, or write `null`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::server::{Inner, Running};

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServicePing {
    /// The service's name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// What tells this instance from others of the service.
    #[serde(default, deserialize_with = "lenient")]
    pub id: String,
    /// Its version.
    #[serde(default, deserialize_with = "lenient")]
    pub version: String,
    /// What else it says of itself.
    #[serde(default, deserialize_with = "lenient")]
    pub metadata: BTreeMap<String, String>,
    #[serde(rename = "type", default, deserialize_with = "lenient")]
    kind: String,
}

/// What a service does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// The service's name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// What tells this instance from others of the service.
    #[serde(default, deserialize_with = "lenient")]
    pub id: String,
    /// Its version.
    #[serde(default, deserialize_with = "lenient")]
    pub version: String,
    /// What else it says of itself.
    #[serde(default, deserialize_with = "lenient")]
    pub metadata: BTreeMap<String, String>,
    #[serde(rename = "type", default, deserialize_with = "lenient")]
    kind: String,
    /// What it is for.
    #[serde(default, deserialize_with = "lenient")]
    pub description: String,
    /// Its endpoints.
    #[serde(default, deserialize_with = "lenient")]
    pub endpoints: Vec<EndpointInfo>,
}

/// An endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndpointInfo {
    /// Its name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// The full subject that it answers.
    #[serde(default, deserialize_with = "lenient")]
    pub subject: String,
    /// Its queue group; empty when it has none.
    #[serde(default, deserialize_with = "lenient")]
    pub queue_group: String,
    /// What else is said of it.
    #[serde(default, deserialize_with = "lenient")]
    pub metadata: BTreeMap<String, String>,
}

/// What a service has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceStats {
    /// The service's name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// What tells this instance from others of the service.
    #[serde(default, deserialize_with = "lenient")]
    pub id: String,
    /// Its version.
    #[serde(default, deserialize_with = "lenient")]
    pub version: String,
    /// What else it says of itself.
    #[serde(default, deserialize_with = "lenient")]
    pub metadata: BTreeMap<String, String>,
    #[serde(rename = "type", default, deserialize_with = "lenient")]
    kind: String,
    /// When it started, if it says so.
    #[serde(default, with = "moment")]
    pub started: Option<SystemTime>,
    /// Its endpoints.
    #[serde(default, deserialize_with = "lenient")]
    pub endpoints: Vec<EndpointStats>,
}

/// What an endpoint has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// The full subject that it answers.
    #[serde(default, deserialize_with = "lenient")]
    pub subject: String,
    /// Its queue group; empty when it has none.
    #[serde(default, deserialize_with = "lenient")]
    pub queue_group: String,
    /// Calls that have ended, those that were refused among them.
    #[serde(default, deserialize_with = "lenient")]
    pub num_requests: u64,
    /// Those of them that ended with an error.
    #[serde(default, deserialize_with = "lenient")]
    pub num_errors: u64,
    /// The last error, as `CODE:description`; empty when there was none.
    #[serde(default, deserialize_with = "lenient")]
    pub last_error: String,
    /// The time that all of them took, without waiting for a place and for the answer to be sent.
    #[serde(default, with = "nanos")]
    pub processing_time: Duration,
    /// The same for one of them.
    #[serde(default, with = "nanos")]
    pub average_processing_time: Duration,
    /// Counts of the implementation. Ours: `refused`, `timeouts`, `panics`, `unanswered`, `streams`,
    /// and where responses are kept `kept` with `stored`, `failed` (`refused` of them were not tried),
    /// `pending`, `last_error` and `stores`.
    #[serde(default)]
    pub data: Value,
}

impl ServicePing {
    pub(super) fn of(service: &Inner) -> Self {
        let config = &service.config;
        ServicePing {
            name: config.name.clone(),
            id: service.id.clone(),
            version: config.version.clone(),
            metadata: config.metadata.clone(),
            kind: "io.nats.micro.v1.ping_response".to_owned(),
        }
    }
}

impl ServiceInfo {
    pub(super) fn of(service: &Inner) -> Self {
        let config = &service.config;
        let endpoint = |endpoint: &std::sync::Arc<Running>| EndpointInfo {
            name: endpoint.about.method.clone(),
            subject: endpoint.subject.to_string(),
            queue_group: endpoint.queue.clone().unwrap_or_default(),
            metadata: endpoint.metadata.clone(),
        };
        ServiceInfo {
            name: config.name.clone(),
            id: service.id.clone(),
            version: config.version.clone(),
            metadata: config.metadata.clone(),
            kind: "io.nats.micro.v1.info_response".to_owned(),
            description: config.description.clone(),
            endpoints: service.endpoints.iter().map(endpoint).collect(),
        }
    }
}

impl ServiceStats {
    pub(super) fn of(service: &Inner) -> Self {
        let config = &service.config;
        ServiceStats {
            name: config.name.clone(),
            id: service.id.clone(),
            version: config.version.clone(),
            metadata: config.metadata.clone(),
            kind: "io.nats.micro.v1.stats_response".to_owned(),
            started: Some(service.started),
            endpoints: service.endpoints.iter().map(|it| EndpointStats::of(it)).collect(),
        }
    }
}

impl EndpointStats {
    fn of(endpoint: &Running) -> Self {
        let counts = endpoint.counters.counts();
        let mut data = counts.data;
        if let Some(kept) = endpoint.keeper.to_json(&endpoint.about.method, &endpoint.kept) {
            data["kept"] = kept;
        }
        let calls = u32::try_from(counts.requests).unwrap_or(u32::MAX).max(1);
        EndpointStats {
            name: endpoint.about.method.clone(),
            subject: endpoint.subject.to_string(),
            queue_group: endpoint.queue.clone().unwrap_or_default(),
            num_requests: counts.requests,
            num_errors: counts.errors,
            last_error: counts.last_error,
            processing_time: counts.time,
            average_processing_time: counts.time / calls,
            data,
        }
    }
}

/// `null` as nothing.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Durations as whole nanoseconds.
mod nanos {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        // Some write averages with a fraction.
        let nanos = Option::<f64>::deserialize(from)?.unwrap_or_default();
        Ok(Duration::try_from_secs_f64(nanos / 1e9).unwrap_or_default())
    }
}

/// Moments as RFC 3339 has them, in microseconds: the most that nats-py reads.
mod moment {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        moment: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match moment {
            Some(moment) => to.collect_str(&humantime::format_rfc3339_micros(*moment)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        Ok(text.and_then(|text| humantime::parse_rfc3339_weak(&text).ok()))
    }
}
