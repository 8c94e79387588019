//! A service as its file describes it, checked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::template::Template;

#[derive(Debug)]
pub(crate) struct Service {
    /// With the package, as in the file.
    pub(crate) full_name: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) prefix: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) json: bool,
    pub(crate) queue_group: QueueGroup,
    pub(crate) concurrency: Option<u64>,
    pub(crate) waiting: Option<u64>,
    pub(crate) error_codes: Vec<String>,
    /// Without those to be skipped.
    pub(crate) methods: Vec<Method>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum QueueGroup {
    Default,
    Named(String),
    Off,
}

#[derive(Debug)]
pub(crate) struct Method {
    /// As in the file.
    pub(crate) proto_name: String,
    /// As in subjects.
    pub(crate) name: String,
    /// The request's type with its package.
    pub(crate) request: String,
    pub(crate) response: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) concurrency: Option<u64>,
    pub(crate) waiting: Option<u64>,
    pub(crate) max_inflight: Option<u64>,
    pub(crate) kv: Option<Store>,
    pub(crate) objects: Option<Store>,
}

/// Where the responses of a method are kept.
#[derive(Debug, PartialEq)]
pub(crate) struct Store {
    pub(crate) bucket: String,
    pub(crate) key: Template,
    pub(crate) escape: bool,
    pub(crate) policy: Option<&'static str>,
    pub(crate) client_only: bool,
    pub(crate) receipt: bool,
    pub(crate) write_timeout: Option<Duration>,
    /// What the bucket's configuration says: methods and their arguments.
    pub(crate) settings: Vec<(&'static str, Setting)>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Setting {
    Text(String),
    Number(u64),
    Time(Duration),
    On,
    /// A variant of `kv::Storage`.
    Storage(&'static str),
}
