//! What a service is called, where it is reached, and what it says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

/// A service as both of its sides know it.
///
/// ```
/// use nats_connector::rpc::ServiceConfig;
///
/// let orders = ServiceConfig::new("orders").version("1.2.0").prefix("api.v1.orders");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a configuration does nothing until it is given to a call"]
pub struct ServiceConfig {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) prefix: String,
    pub(crate) timeout: Option<Duration>,
}

impl ServiceConfig {
    /// The service `name` (letters, digits, `_` and `-`) of version 1.0.0, reached under its name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        ServiceConfig {
            prefix: name.clone(),
            name,
            version: "1.0.0".to_owned(),
            description: String::new(),
            metadata: BTreeMap::new(),
            timeout: None,
        }
    }

    /// The version, a semantic one. Default `1.0.0`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// What the service is for. Default: nothing.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Adds to what the service says of itself.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// What goes before the names of its methods, joined by a dot; empty: nothing. Default: the
    /// service's name.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Limits each call of a method that has no limit of its own: at the service its handler, at a
    /// client the whole call. Zero: no limit at the service, and the handle's own at a client, which
    /// is the default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = (!timeout.is_zero()).then_some(timeout);
        self
    }
}
