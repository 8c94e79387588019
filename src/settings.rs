//! Settings: every knob of a connector, from files, environment, arguments and code.

mod auth;
mod builder;
mod context;
mod effective;
mod expand;
mod format;
mod keys;
mod merge;
mod named;
mod parse;
mod reference;
mod secret;
mod server;
pub(crate) mod source;
pub(crate) mod stores;
pub(crate) mod streams;
mod table;
mod values;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::streams::StreamConfig;

pub use builder::SettingsBuilder;
use effective::Effective;
pub use format::Format;
pub use keys::Key;
pub use secret::Secret;
pub use table::Table;
pub use values::{Auth, MaxReconnect, Tls, WhenDisconnected};

pub use crate::kv::KeyCodec;

/// Every field of a store as a table in Markdown.
pub(crate) fn stores_markdown() -> String {
    reference::markdown(stores::FIELDS)
}

/// Every field of a stream as a table in Markdown.
pub(crate) fn streams_markdown() -> String {
    reference::markdown(streams::FIELDS)
}

/// The checked settings of one connector. Cheap to clone.
///
/// Two settings are equal when they say the same of the connector, wherever it was said;
/// [`streams`](Self::streams) are not compared.
#[derive(Clone)]
pub struct Settings(Arc<Inner>);

struct Inner {
    domain: String,
    effective: Effective,
    streams: Vec<StreamConfig>,
    table: Table,
    warnings: Vec<String>,
    /// No source has a setting of the domain.
    is_default: bool,
}

impl Settings {
    /// The settings of the domain `NATS` from the usual sources, each later one wins: defaults, the
    /// settings file ([`find_file`](SettingsBuilder::find_file) in the working directory), the
    /// environment and the arguments of the process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidSettings`](crate::ErrorKind::InvalidSettings), as
    /// [`SettingsBuilder::build`].
    pub fn load() -> Result<Self> {
        Settings::domain(keys::DEFAULT_DOMAIN)
    }

    /// As [`load`](Self::load), for a second connector with its own keys: `domain("AUDIT")` reads
    /// `AUDIT.SERVER`, `AUDIT_SERVER` and so on. The settings file is the same.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); also a name that cannot be a domain.
    pub fn domain(name: &str) -> Result<Self> {
        Settings::builder().domain(name).find_file("").env().args().build()
    }

    /// Settings from chosen sources; without any, all defaults.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nats_connector::Settings;
    ///
    /// let settings = Settings::builder()
    ///     .set("NATS.SERVER", "nats://a:4222,b")
    ///     .set("NATS.RECONNECT_WAIT", "500ms")
    ///     .build()?;
    /// assert_eq!(settings.servers(), ["nats://a:4222", "nats://b:4222"]);
    /// assert_eq!(settings.reconnect_wait(), Duration::from_millis(500));
    /// # Ok::<(), nats_connector::Error>(())
    /// ```
    pub fn builder() -> SettingsBuilder {
        SettingsBuilder::new()
    }

    /// Every setting there is.
    #[must_use]
    pub fn keys() -> &'static [Key] {
        keys::KEYS
    }

    /// `reference.conf`: a settings file that explains every setting, all of them commented out.
    #[must_use]
    pub fn reference_conf() -> String {
        reference::conf()
    }

    /// [`keys`](Self::keys) as a table in Markdown.
    #[must_use]
    pub fn keys_markdown() -> String {
        reference::markdown(keys::KEYS)
    }

    /// The effective value and the source of every setting, secrets redacted.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.0.table
    }

    /// The domain whose keys these settings were read from; `NATS` unless another was asked for.
    #[must_use]
    pub fn domain_name(&self) -> &str {
        &self.0.domain
    }

    /// The same settings for one of the servers alone, connecting without retries.
    pub(crate) fn for_probe(&self, server: &str) -> Settings {
        let mut effective = self.0.effective.clone();
        effective.servers = vec![server.to_owned()];
        effective.retry_on_initial_connect = false;
        Settings(Arc::new(Inner {
            domain: self.0.domain.clone(),
            effective,
            streams: Vec::new(),
            table: self.0.table.clone(),
            warnings: Vec::new(),
            is_default: self.0.is_default,
        }))
    }

    /// The streams that the settings describe, by name: `STREAMS.<NAME>.SUBJECTS` and so on,
    /// whichever the domain. [`Streams::apply`](crate::streams::Streams::apply) makes them.
    pub fn streams(&self) -> &[StreamConfig] {
        &self.0.streams
    }

    /// What deserves a look but is no error: ignored settings, unknown variables. The connector logs
    /// them once when it connects.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// `NATS.SERVER`: the servers of one cluster as `scheme://host:port`, without userinfo. Default
    /// `nats://127.0.0.1:4222`. Empty when [`is_memory`](Self::is_memory).
    #[must_use]
    pub fn servers(&self) -> &[String] {
        &self.0.effective.servers
    }

    /// `NATS.SERVER=memory:`: the API in this process, without network. Default false.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        self.0.effective.memory
    }

    /// How to authenticate: the first that is set of `NATS.CREDENTIALS`, `NATS.NKEY_FILE`,
    /// `NATS.TOKEN`, `NATS.USERNAME` with `NATS.PASSWORD`, and userinfo in `NATS.SERVER`. Default
    /// [`Auth::None`].
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.0.effective.auth
    }

    /// `NATS.TLS_CERT`, `NATS.TLS_KEY`, `NATS.TLS_CA`, `NATS.TLS_REQUIRED`, `NATS.TLS_FIRST`.
    /// Default: no files, not required, not first.
    #[must_use]
    pub fn tls(&self) -> &Tls {
        &self.0.effective.tls
    }

    /// `NATS.NAME`: the client's name as the server shows it. Default none.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.effective.name.as_deref()
    }

    /// `NATS.CONNECT_TIMEOUT`: longest attempt to connect to one server, name lookup included.
    /// Default 5 s.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.0.effective.connect_timeout
    }

    /// `NATS.RETRY_ON_INITIAL_CONNECT`: whether registering returns at once and connecting goes on
    /// behind it. Default false.
    #[must_use]
    pub fn retry_on_initial_connect(&self) -> bool {
        self.0.effective.retry_on_initial_connect
    }

    /// `NATS.MAX_RECONNECT`: attempts in a row, for each server listed, before the connector is
    /// closed for good. Default 5.
    #[must_use]
    pub fn max_reconnect(&self) -> MaxReconnect {
        self.0.effective.max_reconnect
    }

    /// `NATS.RECONNECT_WAIT`: pause before each attempt to connect again. Default 2 s.
    #[must_use]
    pub fn reconnect_wait(&self) -> Duration {
        self.0.effective.reconnect_wait
    }

    /// `NATS.RANDOMIZE`: whether servers are tried in random order. Default true.
    #[must_use]
    pub fn randomize(&self) -> bool {
        self.0.effective.randomize
    }

    /// `NATS.PING_INTERVAL`: pause between pings. Default 20 s.
    #[must_use]
    pub fn ping_interval(&self) -> Duration {
        self.0.effective.ping_interval
    }

    /// `NATS.REQUEST_TIMEOUT`: longest wait of a network call without a timeout of its own. Default
    /// 10 s.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.0.effective.request_timeout
    }

    /// `NATS.WHEN_DISCONNECTED`: what calls do while there is no connection. Default
    /// [`WhenDisconnected::Fail`].
    #[must_use]
    pub fn when_disconnected(&self) -> WhenDisconnected {
        self.0.effective.when_disconnected
    }

    /// `NATS.DRAIN_TIMEOUT`: longest drain at shutdown. Default 30 s.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.0.effective.drain_timeout
    }

    /// `NATS.HOOK_TIMEOUT`: longest run of all shutdown hooks together. Default 10 s.
    #[must_use]
    pub fn hook_timeout(&self) -> Duration {
        self.0.effective.hook_timeout
    }

    /// `NATS.SUBSCRIPTION_CAPACITY`: messages that wait for the handler of one subscription, 1 to
    /// 100,000,000. Default 65,536.
    #[must_use]
    pub fn subscription_capacity(&self) -> usize {
        self.0.effective.subscription_capacity
    }

    /// `NATS.INBOX_PREFIX`: subject prefix of replies. Default none, which is `_INBOX`.
    #[must_use]
    pub fn inbox_prefix(&self) -> Option<&str> {
        self.0.effective.inbox_prefix.as_deref()
    }

    /// `NATS.JETSTREAM_DOMAIN`. Default none; never set together with
    /// [`jetstream_prefix`](Self::jetstream_prefix).
    #[must_use]
    pub fn jetstream_domain(&self) -> Option<&str> {
        self.0.effective.jetstream_domain.as_deref()
    }

    /// `NATS.JETSTREAM_PREFIX`: subject prefix of the JetStream API. Default none, which is
    /// `$JS.API`.
    #[must_use]
    pub fn jetstream_prefix(&self) -> Option<&str> {
        self.0.effective.jetstream_prefix.as_deref()
    }

    /// `NATS.TOPIC_PREFIX`: put before every topic as it is, so it usually ends with a dot.
    /// Default empty.
    #[must_use]
    pub fn topic_prefix(&self) -> &str {
        &self.0.effective.topic_prefix
    }

    /// `NATS.KEY_PREFIX`: namespace of every key in a bucket. Default empty.
    #[must_use]
    pub fn key_prefix(&self) -> &str {
        &self.0.effective.key_prefix
    }

    /// `NATS.BUCKET_PREFIX`: put before every bucket name as it is. Default empty.
    #[must_use]
    pub fn bucket_prefix(&self) -> &str {
        &self.0.effective.bucket_prefix
    }

    /// `NATS.DEFAULT_BUCKET`: the bucket of calls that name none. Default `default`.
    #[must_use]
    pub fn default_bucket(&self) -> &str {
        &self.0.effective.default_bucket
    }

    /// `NATS.KEY_CODEC`: how keys are written in new buckets. Default [`KeyCodec::Escape`].
    #[must_use]
    pub fn key_codec(&self) -> KeyCodec {
        self.0.effective.key_codec
    }

    /// `NATS.SERIALIZER`: `json`, `messagepack` or `text`. Default `json`.
    #[must_use]
    pub fn serializer(&self) -> &'static str {
        self.0.effective.serializer
    }

    /// `NATS.CONTEXT`: the context of the `nats` command line that fills what no setting does.
    /// Default none.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.0.effective.context.as_deref()
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.0.effective == other.0.effective
    }
}

impl fmt::Debug for Settings {
    /// The effective values with their sources; secrets are `***`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settings").field(&self.0.table).finish()
    }
}
