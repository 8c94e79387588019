//! The one list of settings: everything that names a key, a default or a meaning comes from here.

/// The domain of a [`Key`]'s name; other domains have the same keys under their own name.
pub(super) const DEFAULT_DOMAIN: &str = "NATS";
/// What the keys of named stores begin with; no domain of connectors.
pub(super) const STORES: &str = "STORES";
/// What the keys of streams begin with; no domain either.
pub(super) const STREAMS: &str = "STREAMS";

/// One setting, as [`Settings::keys`](crate::Settings::keys) lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    name: &'static str,
    kind: &'static str,
    default: Option<&'static str>,
    unit: Option<&'static str>,
    meaning: &'static str,
    secret: bool,
}

impl Key {
    /// The full name in the default domain, for example `NATS.RECONNECT_WAIT`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name's last part, for example `RECONNECT_WAIT`.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// What a value is: `duration`, `boolean`, `path` ...
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The value that counts when there is none; `None` when the setting is then simply not set.
    #[must_use]
    pub fn default(&self) -> Option<&'static str> {
        self.default
    }

    /// What a number or duration measures, with its range.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        self.unit
    }

    /// What the setting does, in one sentence or two.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        self.meaning
    }

    /// Whether the value is a secret, which nothing prints.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    pub(super) const fn new(name: &'static str, kind: &'static str, meaning: &'static str) -> Self {
        Key { name, kind, default: None, unit: None, meaning, secret: false }
    }

    pub(super) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub(super) const fn unit_of(mut self, unit: &'static str) -> Self {
        self.unit = Some(unit);
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

pub(super) const TEXT: &str = "text";
/// The kind of settings that name a file.
pub(super) const PATH: &str = "path";
pub(super) const DURATION: &str = "duration";
pub(super) const BOOLEAN: &str = "boolean";
const ABOVE_ZERO: &str = "time with its unit (500ms, 2s, 1m30s), above zero";

/// Every setting, in the order in which reference.conf explains them.
pub(super) const KEYS: &[Key] = &[
    Key::new(
        "NATS.SERVER",
        "server list",
        "Servers of one cluster, separated by commas: nats://, tls://, ws://, wss:// or bare \
         host:port (port 4222 unless given; WebSocket servers are not mixed with others). \
         memory: serves the same API in this process, without network.",
    )
    .or("nats://127.0.0.1:4222"),
    Key::new(
        "NATS.NAME",
        TEXT,
        "Name of this client, as the server's monitoring and logs show it.",
    ),
    Key::new(
        "NATS.CREDENTIALS",
        PATH,
        "A .creds file (JWT and seed), read again at every connect. First of the ways to \
         authenticate; the first that is set wins.",
    ),
    Key::new(
        "NATS.NKEY_FILE",
        PATH,
        "A file with an NKey seed, read again at every connect. Second of the ways to authenticate.",
    ),
    Key::new("NATS.TOKEN", TEXT, "A token. Third of the ways to authenticate.").secret(),
    Key::new(
        "NATS.USERNAME",
        TEXT,
        "A user, together with NATS.PASSWORD. Fourth of the ways to authenticate; the last is \
         user:password@ or token@ in NATS.SERVER.",
    ),
    Key::new("NATS.PASSWORD", TEXT, "The password of NATS.USERNAME.").secret(),
    Key::new(
        "NATS.TLS_CERT",
        PATH,
        "The client's certificate chain in PEM, together with NATS.TLS_KEY, for mutual TLS.",
    ),
    Key::new("NATS.TLS_KEY", PATH, "The private key of NATS.TLS_CERT in PEM."),
    Key::new(
        "NATS.TLS_CA",
        PATH,
        "Certificate authorities in PEM to trust, in place of those of the system.",
    ),
    Key::new(
        "NATS.TLS_REQUIRED",
        BOOLEAN,
        "Refuse connections without TLS. Servers given as tls:// or wss:// always use it.",
    )
    .or("false"),
    Key::new(
        "NATS.TLS_FIRST",
        BOOLEAN,
        "Start TLS before the server says a word, for servers with handshake_first.",
    )
    .or("false"),
    Key::new(
        "NATS.CONNECT_TIMEOUT",
        DURATION,
        "Longest attempt to connect to one server, name lookup included.",
    )
    .or("5s")
    .unit_of(ABOVE_ZERO),
    Key::new(
        "NATS.RETRY_ON_INITIAL_CONNECT",
        BOOLEAN,
        "true: registering returns at once and connecting goes on behind it; false: a first \
         connect that fails is an error.",
    )
    .or("false"),
    Key::new(
        "NATS.MAX_RECONNECT",
        "integer",
        "Attempts to connect again before the connector is closed for good. The first connect is \
         not counted.",
    )
    .or("5")
    .unit_of("attempts in a row for each server listed; 0 never, -1 unlimited"),
    Key::new(
        "NATS.RECONNECT_WAIT",
        DURATION,
        "Pause before each attempt to connect again; some jitter is added.",
    )
    .or("2s")
    .unit_of(ABOVE_ZERO),
    Key::new(
        "NATS.RANDOMIZE",
        BOOLEAN,
        "Try the servers in random order, so that clients spread; false: in the order listed.",
    )
    .or("true"),
    Key::new(
        "NATS.PING_INTERVAL",
        DURATION,
        "Pause between pings; after two without answer the connection counts as lost.",
    )
    .or("20s")
    .unit_of(ABOVE_ZERO),
    Key::new(
        "NATS.REQUEST_TIMEOUT",
        DURATION,
        "Longest wait of every call on the network that names no timeout of its own.",
    )
    .or("10s")
    .unit_of(ABOVE_ZERO),
    Key::new(
        "NATS.WHEN_DISCONNECTED",
        "fail | wait",
        "What calls do while there is no connection: fail at once, or wait for it until their \
         deadline.",
    )
    .or("fail"),
    Key::new(
        "NATS.DRAIN_TIMEOUT",
        DURATION,
        "Longest drain at shutdown: running handlers finish and what they sent reaches the server.",
    )
    .or("30s")
    .unit_of(ABOVE_ZERO),
    Key::new(
        "NATS.HOOK_TIMEOUT",
        DURATION,
        "Longest run of all shutdown hooks together, before the drain.",
    )
    .or("10s")
    .unit_of(ABOVE_ZERO),
    Key::new(
        "NATS.SUBSCRIPTION_CAPACITY",
        "integer",
        "Messages that wait for the handler of one subscription; further ones are dropped and \
         counted.",
    )
    .or("65536")
    .unit_of("messages, 1 to 100000000"),
    Key::new(
        "NATS.INBOX_PREFIX",
        TEXT,
        "Subject prefix of replies, when permissions ask for another than _INBOX.",
    ),
    Key::new(
        "NATS.JETSTREAM_DOMAIN",
        TEXT,
        "JetStream domain, for example that of a leaf node. Not together with \
         NATS.JETSTREAM_PREFIX.",
    ),
    Key::new(
        "NATS.JETSTREAM_PREFIX",
        TEXT,
        "Subject prefix of the JetStream API when another account exports it, instead of $JS.API.",
    ),
    Key::new(
        "NATS.TOPIC_PREFIX",
        TEXT,
        "Put before every topic as it is, so end it with a dot; taken off received ones.",
    ),
    Key::new(
        "NATS.KEY_PREFIX",
        TEXT,
        "Namespace of every key in a bucket, taken off again from listed ones.",
    ),
    Key::new(
        "NATS.BUCKET_PREFIX",
        TEXT,
        "Put before every bucket name as it is: letters, digits, _ and - only.",
    ),
    Key::new("NATS.DEFAULT_BUCKET", TEXT, "The bucket of key-value calls that name none.")
        .or("default"),
    Key::new(
        "NATS.KEY_CODEC",
        "escape | path | raw",
        "How keys are written in new buckets: escape (any key), path (colons become dots, for \
         filters), raw (as they are, for buckets of other clients).",
    )
    .or("escape"),
    Key::new(
        "NATS.SERIALIZER",
        "json | messagepack | text",
        "How values become bytes where a call names no other serializer.",
    )
    .or("json"),
    Key::new(
        "NATS.CONTEXT",
        TEXT,
        "A context of the nats command line, by name or absolute path. It fills servers, \
         authentication, TLS, inbox prefix and JetStream domain or prefix where no setting does.",
    ),
];

/// The key of a short name such as `SERVER`.
pub(super) fn find(keys: &'static [Key], short_name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.short_name() == short_name)
}

/// What other tools call some settings.
const ALIASES: &[(&str, &str)] = &[
    ("URL", "SERVER"),
    ("URLS", "SERVER"),
    ("USER", "USERNAME"),
    ("PASS", "PASSWORD"),
    ("CREDS", "CREDENTIALS"),
    ("NKEY", "NKEY_FILE"),
    ("CERT", "TLS_CERT"),
    ("KEY", "TLS_KEY"),
    ("CA", "TLS_CA"),
    ("API_PREFIX", "JETSTREAM_PREFIX"),
    ("DOMAIN", "JETSTREAM_DOMAIN"),
    ("TYPE", "DRIVER"),
    ("ADDRESS", "ADDR"),
    ("HOST", "ADDR"),
    ("DATABASE", "DB"),
];

/// The key that was probably meant by a short name that is none.
pub(super) fn nearest(keys: &'static [Key], short_name: &str) -> Option<&'static Key> {
    let meant = ALIASES.iter().find(|(alias, _)| *alias == short_name);
    if let Some(key) = meant.and_then(|(_, meant)| find(keys, meant)) {
        return Some(key);
    }
    let distance = |key: &&Key| strsim::osa_distance(short_name, key.short_name());
    keys.iter().min_by_key(distance).filter(|key| {
        // A third of the letters wrong is another word, not a slip.
        distance(key) * 3 <= short_name.len().max(3)
    })
}
