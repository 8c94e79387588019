//! Where a Redis server is, and how to be let in.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::config::check_bucket_name;
use crate::settings::Secret;

const DEFAULT_ADDRESS: &str = "localhost:6379";
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_POOL_SIZE: usize = 10;
/// More connections than a server takes by default help nobody.
const MAX_POOL_SIZE: usize = 10_000;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How an address is written.
const EXPECTED: &str =
    "expected for example localhost:6379, redis://host:6379 or rediss://host:6379";

/// A Redis server and how to connect to it. Its `Debug` form shows no password, also none that was
/// written into the address.
///
/// ```
/// use nats_connector::Secret;
/// use nats_connector::kv::RedisConfig;
///
/// let config = RedisConfig::new("localhost:6379").password(Secret::new("s3cr3t")).db(2);
/// config.check().unwrap();
/// assert!(!format!("{config:?}").contains("s3cr3t"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a configuration does nothing until a driver is connected with it"]
pub struct RedisConfig {
    address: std::result::Result<Address, &'static str>,
    username: Option<String>,
    password: Option<Secret>,
    db: Option<u32>,
    pool_size: usize,
    connect_timeout: Duration,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    root_bucket: String,
}

/// An address with what a URL says beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
    /// What the scheme says; a bare address leaves it to the other options.
    tls: Option<bool>,
    username: Option<String>,
    password: Option<Secret>,
    db: Option<u32>,
}

/// A configuration that was found right, with all its defaults.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) db: u32,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
    pub(super) tls: Option<TlsFiles>,
    pub(super) root_bucket: String,
}

/// The files of a connection with TLS; without a CA the system's certificates are trusted.
#[derive(Debug, Clone)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    /// Certificate and key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        RedisConfig::new(DEFAULT_ADDRESS)
    }
}

impl RedisConfig {
    /// A server at `address`: `host:port`, or a URL as `redis://user:password@host:port/db`, with
    /// the scheme `rediss` for TLS. Default `localhost:6379`. In a URL special characters of user
    /// and password are written as `%XX`.
    pub fn new(address: impl AsRef<str>) -> Self {
        RedisConfig {
            address: Address::parse(address.as_ref().trim()),
            username: None,
            password: None,
            db: None,
            pool_size: DEFAULT_POOL_SIZE,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            root_bucket: "default".to_owned(),
        }
    }

    /// The ACL user. Default: the server's user `default`.
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// The password. Default: none.
    pub fn password(mut self, password: Secret) -> Self {
        self.password = Some(password);
        self
    }

    /// The number of the database. Default 0.
    pub fn db(mut self, number: u32) -> Self {
        self.db = Some(number);
        self
    }

    /// How many connections there are at most; each takes any number of calls at once, and is made
    /// when it is first needed. Default 10.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// How long one try to connect may take, name lookup, TLS and login included. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects with TLS and trusts the certificates in this PEM file alone.
    pub fn tls_ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls_ca = Some(file.into());
        self
    }

    /// Connects with TLS and shows the certificate in this PEM file.
    pub fn tls_cert(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls_cert = Some(file.into());
        self
    }

    /// The private key of [`tls_cert`](Self::tls_cert), as PEM.
    pub fn tls_key(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls_key = Some(file.into());
        self
    }

    /// The bucket whose keys are stored under their plain names. Default `default`.
    pub fn root_bucket(mut self, name: impl Into<String>) -> Self {
        self.root_bucket = name.into();
        self
    }

    /// Checks what can be checked without a file or a server.
    ///
    /// # Errors
    ///
    /// `InvalidSettings`, naming the option.
    pub fn check(&self) -> Result<()> {
        self.checked().map(drop)
    }

    pub(super) fn checked(&self) -> Result<Checked> {
        let address =
            self.address.as_ref().map_err(|why| bad(format!("addr: {why}; {EXPECTED}")))?;
        let twice = |option: &str| {
            bad(format!("{option}: set, and in the address too; keep one of the two"))
        };
        if address.username.is_some() && self.username.is_some() {
            return Err(twice("username"));
        }
        if address.password.is_some() && self.password.is_some() {
            return Err(twice("password"));
        }
        if address.db.is_some() && self.db.is_some() {
            return Err(twice("db"));
        }
        let username = self.username.clone().or_else(|| address.username.clone());
        let password = self.password.clone().or_else(|| address.password.clone());
        if username.is_some() && password.is_none() {
            return Err(bad("username: set without a password".to_owned()));
        }
        if !(1..=MAX_POOL_SIZE).contains(&self.pool_size) {
            return Err(bad(format!("pool_size: expected 1 to {MAX_POOL_SIZE}")));
        }
        if self.connect_timeout.is_zero() {
            return Err(bad("connect_timeout: expected more than zero".to_owned()));
        }
        check_bucket_name(&self.root_bucket)
            .map_err(|error| bad(format!("root_bucket: {}", error.message())))?;
        Ok(Checked {
            host: address.host.clone(),
            port: address.port,
            username,
            password,
            db: self.db.or(address.db).unwrap_or(0),
            pool_size: self.pool_size,
            connect_timeout: self.connect_timeout,
            tls: self.tls(address.tls)?,
            root_bucket: self.root_bucket.clone(),
        })
    }

    fn tls(&self, by_scheme: Option<bool>) -> Result<Option<TlsFiles>> {
        let client = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(bad("tls_cert: set without a tls_key".to_owned())),
            (None, Some(_)) => return Err(bad("tls_key: set without a tls_cert".to_owned())),
        };
        let files = self.tls_ca.is_some() || client.is_some();
        if files && by_scheme == Some(false) {
            return Err(bad("addr: redis:// is without TLS, but files for TLS are set; write \
                            rediss:// or take them away"
                .to_owned()));
        }
        let on = by_scheme.unwrap_or(files);
        Ok(on.then(|| TlsFiles { ca: self.tls_ca.clone(), client }))
    }
}

/// An error in the configuration; the message begins with the option.
pub(super) fn bad(message: String) -> Error {
    Error::new(ErrorKind::InvalidSettings, message)
}

impl Address {
    /// Parses `host:port` or a URL. The error has no part of the text, which may hold a password.
    fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let (tls, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("redis") => (Some(false), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rediss") => (Some(true), rest),
            Some(_) => return Err("the scheme is neither redis nor rediss"),
        };
        let (userinfo, rest) = match rest.rsplit_once('@') {
            Some((userinfo, rest)) => (userinfo, rest),
            None => ("", rest),
        };
        let (host_port, db) = match rest.split_once('/') {
            None | Some((_, "")) => (rest.trim_end_matches('/'), None),
            Some((host_port, db)) => {
                let db = db.parse().map_err(|_| "the database after the / is no number")?;
                (host_port, Some(db))
            }
        };
        let (host, port) = split_port(host_port)?;
        let (username, password) = credentials(userinfo)?;
        Ok(Address { host, port, tls, username, password, db })
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn split_port(text: &str) -> std::result::Result<(String, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a [ is not closed")?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or("there is text after the ]")?),
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("it has no host");
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it has white space in it");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(port @ 1..) => port,
            _ => return Err("its port is not 1 to 65535"),
        },
    };
    Ok((host.to_owned(), port))
}

/// `user:password`, `:password` or nothing.
fn credentials(
    userinfo: &str,
) -> std::result::Result<(Option<String>, Option<Secret>), &'static str> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(String::from).map_err(|_| "its user or password is not UTF-8 once decoded")
    };
    if userinfo.is_empty() {
        return Ok((None, None));
    }
    let (username, password) = userinfo.split_once(':').ok_or("it has a user but no password")?;
    let username = Some(decoded(username)?).filter(|name| !name.is_empty());
    Ok((username, Some(Secret::new(decoded(password)?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let plain = |text: &str| {
            let config = RedisConfig::new(text).checked().unwrap();
            assert!(config.username.is_none() && config.password.is_none());
            (config.host, config.port, config.db, config.tls.is_some())
        };
        for (text, host, port, db, tls) in [
            ("localhost:6379", "localhost", 6379, 0, false),
            (" cache ", "cache", 6379, 0, false),
            ("redis://10.0.0.1:7000", "10.0.0.1", 7000, 0, false),
            ("rediss://cache.example/", "cache.example", 6379, 0, true),
            ("REDIS://cache:1/3", "cache", 1, 3, false),
            ("[::1]:7000", "::1", 7000, 0, false),
            ("rediss://[::1]/15", "::1", 6379, 15, true),
        ] {
            assert_eq!(plain(text), (host.to_owned(), port, db, tls), "{text}");
        }
        assert_eq!(plain("localhost:6379"), {
            let config = RedisConfig::default().checked().unwrap();
            (config.host, config.port, config.db, config.tls.is_some())
        });
    }

    #[test]
    fn userinfo_is_read_and_never_printed() {
        let config = RedisConfig::new("redis://ann:p%40ss%3aword@cache:7000/2");
        assert!(!format!("{config:?}").contains("p@ss:word"));
        assert!(!format!("{config:?}").contains("p%40ss"));
        let checked = config.checked().unwrap();
        assert_eq!(checked.username.as_deref(), Some("ann"));
        assert_eq!(checked.password.as_ref().map(Secret::expose), Some("p@ss:word"));
        assert_eq!((checked.host.as_str(), checked.port, checked.db), ("cache", 7000, 2));
        let checked = RedisConfig::new("redis://:only@cache").checked().unwrap();
        assert_eq!(checked.username, None);
        assert_eq!(checked.password.as_ref().map(Secret::expose), Some("only"));
    }

    #[test]
    fn what_is_wrong_is_named_and_not_quoted() {
        let new = RedisConfig::new;
        let secret = || Secret::new("s3cr3t");
        let wrong = [
            (new(""), "addr: it has no host"),
            (new("http://cache:80"), "neither redis nor rediss"),
            (new("redis://ann:s3cr3t@cache:0"), "port is not"),
            (new("redis://ann:s3cr3t@:1"), "no host"),
            (new("redis://s3cr3t@cache"), "no password"),
            (new("redis://:s3cr3t@cache/x"), "no number"),
            (new("redis://:s3cr3t@[::1"), "not closed"),
            (new("ca che:1"), "white space"),
            (new("redis://ann:s3cr3t@cache").username("bob"), "username: set, and in the address"),
            (new("redis://:s3cr3t@cache").password(secret()), "password: set, and"),
            (new("redis://cache/1").db(2), "db: set, and"),
            (new("cache").username("s3cr3t"), "without a password"),
            (new("cache").pool_size(0), "pool_size"),
            (new("cache").connect_timeout(Duration::ZERO), "connect_timeout"),
            (new("cache").tls_cert("c.pem"), "without a tls_key"),
            (new("cache").tls_key("k.pem"), "without a tls_cert"),
            (new("redis://cache").tls_ca("ca.pem"), "rediss://"),
            (new("cache").root_bucket("a b"), "root_bucket"),
        ];
        for (config, named) in wrong {
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSettings);
            assert!(error.to_string().contains(named), "{error}, not {named}");
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
        assert!(new("cache").tls_ca("ca.pem").checked().unwrap().tls.is_some());
    }
}
