//! The first connect: one server after the other, each within its own time, and an error that
//! tells for each what went wrong.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ClientError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::time::timeout;

use super::auth;
use super::key_name;
use super::reconnect::{Next, Reconnect};
use super::requests::Requests;
use super::status::{Denied, RateLimit, Status};
use crate::error::{Error, ErrorKind, Result};
use crate::settings::{Auth, Settings};

/// What the callbacks of one connection share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) status: Arc<Status>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) reconnect: Arc<Reconnect>,
}

/// Connects to the first server that answers. Each attempt knows all servers and tries the one that
/// [`Reconnect`] names, so that none keeps the next from being tried.
pub(crate) async fn dial(shared: &Shared, on_event: OnEvent) -> Result<Client> {
    let settings = &shared.settings;
    let servers = settings.servers();
    if settings.retry_on_initial_connect() {
        return options(shared, on_event)
            .retry_on_initial_connect()
            .connect(servers)
            .await
            .map_err(|error| {
                failed(shared, &[("all servers".into(), Failure::of(&error, settings))])
            });
    }
    let mut failures = Vec::new();
    for _ in servers {
        let attempt = options(shared, on_event.clone()).connect(servers);
        let failure = match timeout(settings.connect_timeout(), attempt).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => Failure::of(&error, settings),
            Err(_) => Failure::TimedOut(settings.connect_timeout()),
        };
        let server = shared.reconnect.current().unwrap_or_default();
        tracing::debug!(%server, %failure, "cannot connect");
        failures.push((server, failure));
    }
    Err(failed(shared, &failures))
}

/// Called with each event of the connection, in order.
pub(crate) type OnEvent = Arc<dyn Fn(&Event) + Send + Sync>;

fn options(shared: &Shared, on_event: OnEvent) -> ConnectOptions {
    let settings = &shared.settings;
    let proving = shared.clone();
    let choosing = shared.clone();
    let limit = || RateLimit::new(Duration::from_secs(10));
    let limits = Limits { slow: limit(), errors: limit() };
    let listening = shared.clone();
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let shared = proving.clone();
        async move {
            if shared.status.is_closed() {
                return Err(async_nats::AuthError::new("the connector is closed"));
            }
            auth::prove(&shared.settings, &nonce).await.map_err(async_nats::AuthError::new)
        }
    })
    .connection_timeout(settings.connect_timeout())
    .request_timeout(Some(settings.request_timeout()))
    .ping_interval(settings.ping_interval())
    .subscription_capacity(settings.subscription_capacity())
    .max_reconnects(shared.reconnect.client_limit())
    .reconnect_to_server_callback(move |pool, info| {
        let reconnect = choosing.reconnect.clone();
        let next = reconnect.next(&pool, &info);
        async move {
            match next {
                Next::Try(server) => Some(server),
                Next::Never => std::future::pending().await,
            }
        }
    })
    .event_callback(move |event| {
        note(&listening, &limits, &event);
        on_event(&event);
        std::future::ready(())
    });
    if let Some(name) = settings.name() {
        options = options.name(name);
    }
    if let Some(prefix) = settings.inbox_prefix() {
        options = options.custom_inbox_prefix(prefix);
    }
    let tls = settings.tls();
    // What the cluster tells of its other servers has no scheme: they are held to that of the list.
    let all = |scheme| settings.servers().iter().all(|server| server.starts_with(scheme));
    options = options.require_tls(tls.required || all("tls:"));
    if all("ws") {
        options = options.ignore_discovered_servers();
    }
    if tls.first {
        options = options.tls_first();
    }
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    options
}

/// One line of each kind per interval, so that a flood of one does not hide the other.
struct Limits {
    slow: RateLimit,
    errors: RateLimit,
}

/// Turns the client's events into log lines, counters and the record of refused subjects.
fn note(shared: &Shared, limits: &Limits, event: &Event) {
    let status = &shared.status;
    match event {
        Event::Connected => {
            status.set_open(true);
            tracing::info!("connected to NATS");
        }
        Event::Disconnected => {
            status.set_open(false);
            if !status.is_draining() {
                tracing::warn!("connection to NATS lost, reconnecting");
            }
            shared.requests.permit();
            shared.requests.fail(None, |subject| {
                Error::new(
                    ErrorKind::Unavailable,
                    "the connection was lost while waiting; the call may have had its effect",
                )
                .with("subject", subject.as_str())
            });
        }
        Event::SlowConsumer(_) => {
            status.drop_message();
            if let Some(held_back) = limits.slow.pass() {
                tracing::warn!(
                    held_back,
                    "slow consumer: messages are dropped; make handlers faster, add \
                     .concurrency(n), or raise NATS.SUBSCRIPTION_CAPACITY"
                );
            }
        }
        Event::ServerError(error) => {
            let text = match error {
                ServerError::Other(text) => text.clone(),
                other => other.to_string(),
            };
            if let Some(denied) = Denied::parse(&text) {
                // A request tells its refusal itself; the next flush must not tell it again.
                let told = denied.publish
                    && shared.requests.fail(Some(&denied.subject), |_| denied.error());
                if !denied.publish && denied.subject == shared.requests.inbox() {
                    shared.requests.refuse();
                } else if !told {
                    status.deny(denied);
                }
            }
            status.set_last_error(text.as_str());
            if let Some(held_back) = limits.errors.pass() {
                tracing::warn!(held_back, error = %text, "the server reports an error");
            }
        }
        Event::ClientError(ClientError::MaxReconnects) => shared.reconnect.give_up(),
        // A failed attempt, of which the next one tells more.
        Event::ClientError(_) => {}
        Event::LameDuckMode => tracing::info!("the server shuts down soon, moving to another one"),
        Event::Closed => status.end(),
        Event::Draining => {}
    }
    status.touch();
}

fn uses_tls(settings: &Settings) -> bool {
    let tls = settings.tls();
    let by_scheme = |server: &String| server.starts_with("tls:") || server.starts_with("wss:");
    tls.required
        || tls.first
        || tls.ca.is_some()
        || tls.cert.is_some()
        || settings.servers().iter().any(by_scheme)
}

/// The client's words for [`Failure::Silent`].
const SILENT: &str = "expected INFO, got nothing";

/// Why one server could not be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    Refused,
    TimedOut(Duration),
    /// The server closed the connection before its first message.
    Silent,
    Unauthorized(String),
    Tls(String),
    Lookup(String),
    Other(String),
}

impl Failure {
    fn of(error: &async_nats::ConnectError, settings: &Settings) -> Failure {
        let cause = || error.source().map_or_else(|| error.to_string(), ToString::to_string);
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Failure::Unauthorized(cause())
            }
            ConnectErrorKind::TimedOut => Failure::TimedOut(settings.connect_timeout()),
            ConnectErrorKind::Tls => Failure::Tls(cause()),
            ConnectErrorKind::Dns => Failure::Lookup(cause()),
            _ => {
                if cause() == SILENT {
                    return Failure::Silent;
                }
                let mut source = error.source();
                while let Some(error) = source {
                    if let Some(ServerError::Other(text)) = error.downcast_ref()
                        && text.to_ascii_lowercase().contains("authentication")
                    {
                        return Failure::Unauthorized(text.clone());
                    }
                    if error.is::<async_nats::rustls::Error>() {
                        return Failure::Tls(error.to_string());
                    }
                    if let Some(io) = error.downcast_ref::<io::Error>() {
                        let inner = io.get_ref().and_then(|e| e.downcast_ref());
                        match (io.kind(), inner) {
                            (_, Some::<&async_nats::rustls::Error>(tls)) => {
                                return Failure::Tls(tls.to_string());
                            }
                            (io::ErrorKind::ConnectionRefused, _) => return Failure::Refused,
                            // With TLS it is a client certificate that is missing or not trusted.
                            (
                                io::ErrorKind::ConnectionReset
                                | io::ErrorKind::BrokenPipe
                                | io::ErrorKind::UnexpectedEof,
                                _,
                            ) if uses_tls(settings) => return Failure::Tls(io.to_string()),
                            _ => {}
                        }
                    }
                    source = error.source();
                }
                Failure::Other(cause())
            }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Refused => f.write_str("connection refused"),
            Failure::TimedOut(after) => {
                write!(f, "timed out after {}", humantime::format_duration(*after))
            }
            Failure::Silent => f.write_str("closed by the server before its first message"),
            Failure::Unauthorized(why) => write!(f, "unauthorized ({why})"),
            Failure::Tls(why) => write!(f, "TLS failed ({why})"),
            Failure::Lookup(why) => write!(f, "name lookup failed ({why})"),
            Failure::Other(why) => f.write_str(why),
        }
    }
}

/// The error of a first connect, with one piece of advice for the worst failure.
fn failed(shared: &Shared, failures: &[(String, Failure)]) -> Error {
    let settings = &shared.settings;
    let any = |test: fn(&Failure) -> bool| failures.iter().any(|(_, failure)| test(failure));
    let setting = |names: &[&str]| {
        names.iter().map(|name| key_name(settings, name)).collect::<Vec<_>>().join(", ")
    };
    let no_tls =
        |failure: &Failure| matches!(failure, Failure::Tls(why) if why.contains("corrupt"));
    let (kind, advice) = if any(|f| matches!(f, Failure::Unauthorized(_))) {
        let advice = match settings.auth() {
            Auth::None => {
                let names = setting(&["CREDENTIALS", "NKEY_FILE", "TOKEN", "USERNAME"]);
                format!("it asks who connects, and none of {names} is set")
            }
            Auth::Credentials(_) => format!("check the file in {}", setting(&["CREDENTIALS"])),
            Auth::NkeyFile(_) => format!("check the file in {}", setting(&["NKEY_FILE"])),
            Auth::Token(_) => format!("check the credentials in {}", setting(&["TOKEN", "SERVER"])),
            Auth::UserPassword { .. } => {
                let names = setting(&["USERNAME", "PASSWORD", "SERVER"]);
                format!("check the credentials in {names}")
            }
        };
        (ErrorKind::Unauthorized, advice)
    } else if failures.iter().any(|(_, failure)| no_tls(failure)) {
        let names = setting(&["TLS_REQUIRED", "TLS_FIRST", "SERVER"]);
        (ErrorKind::Unavailable, format!("the server answers without TLS; check {names}"))
    } else if any(|f| matches!(f, Failure::Tls(_))) {
        let names = setting(&["TLS_CA", "TLS_CERT", "TLS_KEY"]);
        (ErrorKind::Unavailable, format!("check the certificates in {names}"))
    } else if any(|f| matches!(f, Failure::Lookup(_))) {
        (ErrorKind::Unavailable, format!("check the host names in {}", setting(&["SERVER"])))
    } else if any(|f| matches!(f, Failure::TimedOut(_) | Failure::Silent)) {
        let hint = if settings.tls().first {
            format!("whether the server expects TLS first ({})", setting(&["TLS_FIRST"]))
        } else {
            format!(
                "the network, {}, and {} if the server expects TLS first",
                setting(&["CONNECT_TIMEOUT"]),
                setting(&["TLS_FIRST"])
            )
        };
        (ErrorKind::Unavailable, format!("check {hint}"))
    } else {
        let names = setting(&["SERVER"]);
        (ErrorKind::Unavailable, format!("start nats-server there or check {names}"))
    };
    let mut message = String::from("cannot connect: ");
    for (i, (server, failure)) in failures.iter().enumerate() {
        let _ = write!(message, "{}{server}: {failure}", if i == 0 { "" } else { "; " });
    }
    let _ = write!(message, "; {advice}");
    Error::new(kind, message)
}
