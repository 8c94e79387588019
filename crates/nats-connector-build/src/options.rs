//! The options of `natsmicro/options.proto` as the compiled files carry them.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use prost_types::Duration;

/// The file's text, built in so that nobody needs a copy.
pub(crate) const FILE: &str = include_str!("../proto/natsmicro/options.proto");
/// The name that it is imported by.
pub(crate) const FILE_NAME: &str = "natsmicro/options.proto";

/// The extensions' numbers, which are also their places in a file's positions.
pub(crate) const SERVICE: i32 = 50001;
pub(crate) const ENDPOINT: i32 = 50002;
pub(crate) const KV_STORE: i32 = 50003;
pub(crate) const OBJECT_STORE: i32 = 50004;
pub(crate) const STREAM: i32 = 50005;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ServiceOptions {
    #[prost(string, tag = "1")]
    pub(crate) subject_prefix: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "3")]
    pub(crate) version: String,
    #[prost(string, tag = "4")]
    pub(crate) description: String,
    #[prost(map = "string, string", tag = "5")]
    pub(crate) metadata: HashMap<String, String>,
    #[prost(message, optional, tag = "6")]
    pub(crate) timeout: Option<Duration>,
    #[prost(bool, tag = "7")]
    pub(crate) skip: bool,
    #[prost(bool, tag = "8")]
    pub(crate) json: bool,
    #[prost(string, repeated, tag = "9")]
    pub(crate) error_codes: Vec<String>,
    #[prost(string, tag = "100")]
    pub(crate) queue_group: String,
    #[prost(bool, tag = "101")]
    pub(crate) no_queue_group: bool,
    #[prost(int32, tag = "102")]
    pub(crate) concurrency: i32,
    #[prost(int32, tag = "103")]
    pub(crate) waiting: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EndpointOptions {
    #[prost(message, optional, tag = "1")]
    pub(crate) timeout: Option<Duration>,
    #[prost(bool, tag = "2")]
    pub(crate) skip: bool,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) metadata: HashMap<String, String>,
    #[prost(int32, tag = "100")]
    pub(crate) concurrency: i32,
    #[prost(int32, tag = "101")]
    pub(crate) waiting: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Storage {
    Unspecified = 0,
    File = 1,
    Memory = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Policy {
    Unspecified = 0,
    AfterReply = 1,
    BeforeReply = 2,
    Required = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KvStoreOptions {
    #[prost(string, tag = "1")]
    pub(crate) bucket: String,
    #[prost(string, tag = "2")]
    pub(crate) key_template: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) ttl: Option<Duration>,
    #[prost(string, tag = "4")]
    pub(crate) description: String,
    #[prost(int32, tag = "5")]
    pub(crate) max_history: i32,
    #[prost(bool, tag = "6")]
    pub(crate) client_only: bool,
    #[prost(int32, tag = "100")]
    pub(crate) replicas: i32,
    #[prost(enumeration = "Storage", tag = "101")]
    pub(crate) storage: i32,
    #[prost(int64, tag = "102")]
    pub(crate) max_bytes: i64,
    #[prost(int32, tag = "103")]
    pub(crate) max_value_size: i32,
    #[prost(bool, tag = "104")]
    pub(crate) compression: bool,
    #[prost(enumeration = "Policy", tag = "105")]
    pub(crate) policy: i32,
    #[prost(bool, tag = "106")]
    pub(crate) escape: bool,
    #[prost(bool, tag = "107")]
    pub(crate) receipt: bool,
    #[prost(message, optional, tag = "108")]
    pub(crate) write_timeout: Option<Duration>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ObjectStoreOptions {
    #[prost(string, tag = "1")]
    pub(crate) bucket: String,
    #[prost(string, tag = "2")]
    pub(crate) key_template: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) ttl: Option<Duration>,
    #[prost(string, tag = "4")]
    pub(crate) description: String,
    #[prost(bool, tag = "5")]
    pub(crate) client_only: bool,
    #[prost(int32, tag = "100")]
    pub(crate) replicas: i32,
    #[prost(enumeration = "Storage", tag = "101")]
    pub(crate) storage: i32,
    #[prost(int64, tag = "102")]
    pub(crate) max_bytes: i64,
    #[prost(int32, tag = "103")]
    pub(crate) max_chunk_size: i32,
    #[prost(bool, tag = "104")]
    pub(crate) compression: bool,
    #[prost(enumeration = "Policy", tag = "105")]
    pub(crate) policy: i32,
    #[prost(bool, tag = "106")]
    pub(crate) escape: bool,
    #[prost(bool, tag = "107")]
    pub(crate) receipt: bool,
    #[prost(message, optional, tag = "108")]
    pub(crate) write_timeout: Option<Duration>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StreamOptions {
    #[prost(int32, tag = "1")]
    pub(crate) max_inflight: i32,
    #[prost(bool, tag = "2")]
    pub(crate) ordered: bool,
}

/// One extension of the options of a service or method; `None` where it is not given.
///
/// # Errors
/// The extension is there under that name and of another shape: an options file of the user's own.
pub(crate) fn read<T: prost::Message + Default>(
    pool: &DescriptorPool,
    options: &DynamicMessage,
    name: &str,
) -> Result<Option<T>, String> {
    let Some(extension) = pool.get_extension_by_name(name) else { return Ok(None) };
    if !options.has_extension(&extension) {
        return Ok(None);
    }
    let shape = || format!("the option ({name}) is not the one of {FILE_NAME}; import that file");
    match options.get_extension(&extension).as_ref() {
        Value::Message(message) => message.transcode_to().map(Some).map_err(|_| shape()),
        _ => Err(shape()),
    }
}
