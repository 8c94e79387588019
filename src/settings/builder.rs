//! Puts settings together from their sources.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::keys::{self, DEFAULT_DOMAIN};
use super::parse::{self, Value, Values};
use super::source::{Origin, normal};
use super::{
    Effective, Inner, KeyCodec, MaxReconnect, Settings, Tls, WhenDisconnected, auth, server,
};
use crate::error::{Error, ErrorKind, Result};

/// Builds [`Settings`] from the sources that it is told, and no others.
#[derive(Clone)]
#[must_use = "call .build()"]
pub struct SettingsBuilder {
    domain: String,
    code: Vec<(String, String)>,
}

impl SettingsBuilder {
    pub(super) fn new() -> Self {
        SettingsBuilder { domain: DEFAULT_DOMAIN.to_owned(), code: Vec::new() }
    }

    /// Sets one value in code, which wins over every other source. The key is the full name, for
    /// example `NATS.SERVER`. The value is taken literally: `${` has no meaning in it.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and literals read best by value")]
    pub fn set(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.code.push((key.into(), value.to_string()));
        self
    }

    /// Checks everything and makes the settings.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidSettings`], naming every wrong setting with its source and what is
    /// expected.
    pub fn build(self) -> Result<Settings> {
        let mut values = Values::new(self.domain.clone());
        for (key, text) in self.code {
            let normal = normal(&key);
            let short = normal.strip_prefix(&format!("{}_", self.domain)).unwrap_or_default();
            match keys::KEYS.iter().find(|known| known.short_name() == short) {
                Some(known) => values.insert(known, Value { text, origin: Origin::Code }),
                None => values.problem(format!("{key} from {}: no such setting", Origin::Code)),
            }
        }
        let mut warnings = Vec::new();
        let effective = effective(&mut values, &mut warnings);
        let problems = values.into_problems();
        match problems.as_slice() {
            [] => {}
            [one] => return Err(Error::new(ErrorKind::InvalidSettings, one.clone())),
            many => {
                let message = format!("{} settings are wrong: {}", many.len(), many.join("; "));
                return Err(Error::new(ErrorKind::InvalidSettings, message));
            }
        }
        Ok(Settings(Arc::new(Inner { domain: self.domain, effective, warnings })))
    }
}

impl fmt::Debug for SettingsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingsBuilder").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// Reads every setting into its type. What is wrong becomes a problem of `values`.
fn effective(values: &mut Values, warnings: &mut Vec<String>) -> Effective {
    const SUBJECT: &str = "a subject without wildcards, white space and empty parts; expected for \
                           example app or app.orders";
    const BUCKET: &str = "made of letters, digits, _ and - only";
    const NAME: &str = "a text on one line";

    let servers = match values.get("SERVER") {
        Some(Value { text, origin }) => server::parse(text)
            .map_err(|why| format!("{} from {origin}: {why}", values.full_name("SERVER"))),
        None => server::parse(keys::find("SERVER").and_then(|key| key.default()).unwrap_or("")),
    };
    let servers = servers.unwrap_or_else(|problem| {
        values.problem(problem);
        server::Servers::none()
    });
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
            .checked("TOPIC_PREFIX", SUBJECT, parse::is_subject)
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
