//! The types of settings that are more than a text, number or duration.

use std::path::PathBuf;

use super::Secret;

/// How to authenticate: the first way that is set, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// No authentication.
    None,
    /// `NATS.CREDENTIALS`: a `.creds` file.
    Credentials(PathBuf),
    /// `NATS.NKEY_FILE`: a file with an NKey seed.
    NkeyFile(PathBuf),
    /// `NATS.TOKEN`, or `token@` in a server URL.
    Token(Secret),
    /// `NATS.USERNAME` and `NATS.PASSWORD`, or `user:password@` in a server URL.
    UserPassword {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
}

/// The TLS settings. Files are read when the connector connects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// `NATS.TLS_CERT`: the client's certificate chain in PEM; set if and only if `key` is.
    pub cert: Option<PathBuf>,
    /// `NATS.TLS_KEY`: the private key of `cert` in PEM.
    pub key: Option<PathBuf>,
    /// `NATS.TLS_CA`: authorities to trust in place of those of the system, in PEM.
    pub ca: Option<PathBuf>,
    /// `NATS.TLS_REQUIRED`, default `false`: refuse connections without TLS. Servers given as
    /// `tls://` or `wss://` always use it.
    pub required: bool,
    /// `NATS.TLS_FIRST`, default `false`: start TLS before the server's first message.
    pub first: bool,
}

/// `NATS.MAX_RECONNECT`: attempts in a row to connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxReconnect {
    /// `0`: a lost connection stays lost.
    Never,
    /// That many attempts for each server listed; at least 1.
    Attempts(u32),
    /// `-1`: no limit.
    Unlimited,
}

/// `NATS.WHEN_DISCONNECTED`: what calls do while there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhenDisconnected {
    /// Fail at once.
    Fail,
    /// Wait for the connection until the call's deadline.
    Wait,
}
