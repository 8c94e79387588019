//! What settings say, each in its own type.

use std::path::PathBuf;
use std::time::Duration;

use super::parse::{self, Value, Values};
use super::{Auth, KeyCodec, MaxReconnect, Tls, WhenDisconnected, auth, server};

/// What the settings say.
#[derive(Clone, PartialEq)]
pub(super) struct Effective {
    pub(super) memory: bool,
    pub(super) servers: Vec<String>,
    pub(super) auth: Auth,
    pub(super) tls: Tls,
    pub(super) name: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) retry_on_initial_connect: bool,
    pub(super) max_reconnect: MaxReconnect,
    pub(super) reconnect_wait: Duration,
    pub(super) randomize: bool,
    pub(super) ping_interval: Duration,
    pub(super) request_timeout: Duration,
    pub(super) when_disconnected: WhenDisconnected,
    pub(super) drain_timeout: Duration,
    pub(super) hook_timeout: Duration,
    pub(super) subscription_capacity: usize,
    pub(super) inbox_prefix: Option<String>,
    pub(super) jetstream_domain: Option<String>,
    pub(super) jetstream_prefix: Option<String>,
    pub(super) topic_prefix: String,
    pub(super) key_prefix: String,
    pub(super) bucket_prefix: String,
    pub(super) default_bucket: String,
    pub(super) key_codec: KeyCodec,
    pub(super) serializer: &'static str,
    pub(super) context: Option<String>,
}

impl Effective {
    /// Reads every setting into its type. What is wrong becomes a problem of `values`; what is
    /// ignored, a warning.
    pub(super) fn read(values: &mut Values, warnings: &mut Vec<String>) -> Self {
        const SUBJECT: &str = "a subject without wildcards, white space and empty parts; expected for \
                           example app or app.orders";
        const TOPIC_PREFIX: &str = "a subject without wildcards, white space and empty parts; \
                                    expected for example app. or app.orders.";
        const BUCKET: &str = "made of letters, digits, _ and - only";
        const NAME: &str = "a text on one line";

        let servers = match values.get("SERVER") {
            Some(Value { text, origin }) => server::parse(text)
                .map_err(|why| format!("{} from {origin}: {why}", values.full_name("SERVER"))),
            None => {
                server::parse(values.find("SERVER").and_then(|key| key.default()).unwrap_or(""))
            }
        };
        let servers = servers.unwrap_or_else(|problem| {
            values.problem(problem);
            server::Servers::none()
        });
        values.paths();
        let (auth, ignored) = auth::resolve(values, servers.auth.clone());
        warnings.extend(ignored);
        values.pair("TLS_CERT", "TLS_KEY");
        values.exclusive("JETSTREAM_DOMAIN", "JETSTREAM_PREFIX");
        let path = |values: &Values, key| values.get(key).map(|value| PathBuf::from(&value.text));
        Effective {
        memory: servers.memory,
        servers: servers.addresses,
        auth,
        tls: Tls {
            cert: path(values, "TLS_CERT"),
            key: path(values, "TLS_KEY"),
            ca: path(values, "TLS_CA"),
            required: values.boolean("TLS_REQUIRED"),
            first: values.boolean("TLS_FIRST"),
        },
        name: values.checked("NAME", NAME, |text| !text.chars().any(char::is_control)),
        connect_timeout: values.duration("CONNECT_TIMEOUT"),
        retry_on_initial_connect: values.boolean("RETRY_ON_INITIAL_CONNECT"),
        max_reconnect: values.read(
            "MAX_RECONNECT",
            "a number of attempts; expected -1 (unlimited), 0 (never) or for example 5",
            |text| match text.parse::<i64>().ok()? {
                -1 => Some(MaxReconnect::Unlimited),
                0 => Some(MaxReconnect::Never),
                n => u32::try_from(n).ok().map(MaxReconnect::Attempts),
            },
        ),
        reconnect_wait: values.duration("RECONNECT_WAIT"),
        randomize: values.boolean("RANDOMIZE"),
        ping_interval: values.duration("PING_INTERVAL"),
        request_timeout: values.duration("REQUEST_TIMEOUT"),
        when_disconnected: values.choice(
            "WHEN_DISCONNECTED",
            &[("fail", WhenDisconnected::Fail), ("wait", WhenDisconnected::Wait)],
        ),
        drain_timeout: values.duration("DRAIN_TIMEOUT"),
        hook_timeout: values.duration("HOOK_TIMEOUT"),
        subscription_capacity: values.read(
            "SUBSCRIPTION_CAPACITY",
            "a number of messages; expected 1 to 100000000",
            |text| text.parse().ok().filter(|n| (1..=100_000_000).contains(n)),
        ),
        inbox_prefix: values.checked("INBOX_PREFIX", SUBJECT, parse::is_subject),
        jetstream_domain: values.checked(
            "JETSTREAM_DOMAIN",
            "one part of a subject; expected for example hub, without dots, wildcards and white \
             space",
            parse::is_token,
        ),
        jetstream_prefix: values.checked("JETSTREAM_PREFIX", SUBJECT, parse::is_subject),
        topic_prefix: values
            .checked("TOPIC_PREFIX", TOPIC_PREFIX, parse::is_topic_prefix)
            .unwrap_or_default(),
        key_prefix: values.get("KEY_PREFIX").map(|value| value.text.clone()).unwrap_or_default(),
        bucket_prefix: values
            .checked("BUCKET_PREFIX", BUCKET, parse::is_bucket)
            .unwrap_or_default(),
        default_bucket: values
            .read("DEFAULT_BUCKET", BUCKET, |text| parse::is_bucket(text).then(|| text.to_owned())),
        key_codec: values.choice(
            "KEY_CODEC",
            &[("escape", KeyCodec::Escape), ("path", KeyCodec::Path), ("raw", KeyCodec::Raw)],
        ),
        serializer: values.choice(
            "SERIALIZER",
            &[("json", "json"), ("messagepack", "messagepack"), ("text", "text")],
        ),
        context: values.get("CONTEXT").map(|value| value.text.clone()),
    }
    }
}
