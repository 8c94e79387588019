//! Making a connection: name lookup, TCP, TLS, login, and whether the server will do.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::config::{Checked, TlsFiles, bad};
use super::line::{Line, Question};
use super::reply;
use crate::error::{Error, ErrorKind, Result};

/// The oldest server that has what the scripts need: `SET` with an absolute expiry.
const OLDEST: (u32, u32) = (6, 2);

/// Makes connections to one server.
#[derive(Debug)]
pub(super) struct Dialer {
    config: Checked,
    /// The address for messages.
    server: String,
}

impl Dialer {
    pub(super) fn new(config: Checked) -> Self {
        let host = &config.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Dialer { server: format!("{host}:{}", config.port), config }
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// A new connection, logged in, on a server that will do. Ends by the deadline and within the
    /// connect timeout.
    pub(super) async fn dial(&self, deadline: Instant) -> Result<Line> {
        let begun = Instant::now();
        let deadline = deadline.min(begun + self.config.connect_timeout);
        let connected = match timeout_at(deadline, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => {
                let waited = Duration::from_millis(
                    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                );
                let waited = humantime::format_duration(waited);
                Err(unavailable(format!(
                    "cannot connect: no answer within {waited}; check the network and whether the \
                     server expects TLS"
                )))
            }
        };
        connected.map_err(|error| error.with("server", &self.server))
    }

    async fn connect(&self) -> Result<Line> {
        let stream = self.open().await?;
        let Some(files) = &self.config.tls else { return self.login(stream).await };
        let connector = TlsConnector::from(Arc::new(tls_config(files).await?));
        let name = ServerName::try_from(self.config.host.clone())
            .map_err(|_| bad("addr: the host is no name that a certificate can have".to_owned()))?;
        let stream = connector.connect(name, stream).await.map_err(|error| handshake(&error))?;
        // Boxed: the state of TLS is large.
        Box::pin(self.login(Box::new(stream))).await
    }

    async fn open(&self) -> Result<TcpStream> {
        let (host, port) = (self.config.host.as_str(), self.config.port);
        let addresses = lookup_host((host, port)).await.map_err(|error| {
            unavailable("cannot connect: name lookup failed; check the host of the address")
                .with_source(error)
        })?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // A request waits for nothing else to be sent; where this fails it is slower.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        let error = unavailable("cannot connect; start Redis there or check the address");
        Err(match last {
            Some(cause) => error.with_source(cause),
            None => unavailable("cannot connect: the host has no address"),
        })
    }

    async fn login<S>(&self, stream: S) -> Result<Line>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut info = RedisConnectionInfo::default()
            .set_db(i64::from(self.config.db))
            .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        if let Some(username) = &self.config.username {
            info = info.set_username(username);
        }
        if let Some(password) = &self.config.password {
            info = info.set_password(password.expose());
        }
        // Every call has a deadline of its own.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, work) = made.map_err(|error| self.refused(&error))?;
        let line = Line::start(connection, work, &self.server);
        let mut hello = ::redis::cmd("HELLO");
        let answer =
            line.ask(Question::One(hello.arg(2))).await.map_err(|error| self.refused(&error))?;
        check_server(&answer)?;
        Ok(line)
    }

    /// What the server's answer to the login means.
    fn refused(&self, error: &RedisError) -> Error {
        if error.kind() == ::redis::ErrorKind::AuthenticationFailed {
            return Error::new(
                ErrorKind::Unauthorized,
                "the server refuses the login; check username and password",
            );
        }
        match error.code() {
            Some("ERR") if reply::says(error, "unknown command") => too_old("older than 6.0"),
            // The client tells what the server said of SELECT, without its code.
            _ if error.code() == Some("NOAUTH")
                || reply::says(error, "Authentication required") =>
            {
                Error::new(
                    ErrorKind::Unauthorized,
                    "the server asks who connects; set a password, and a username for an ACL user",
                )
            }
            Some("ERR") if reply::says(error, "permission") => reply::refused(error),
            Some("ERR") if reply::says(error, "switch database") => Error::new(
                ErrorKind::InvalidSettings,
                format!("db: the server refuses database {}", self.config.db),
            )
            .with_source(error.clone()),
            Some(_) => reply::refused(error),
            None if self.config.tls.is_some() => unavailable(
                "cannot connect: the server ended the connection; check whether it asks for a \
                 certificate (tls_cert, tls_key)",
            )
            .with_source(error.clone()),
            None => unavailable(
                "cannot connect: the server ended the connection; check that it is Redis, and \
                 whether it expects TLS",
            )
            .with_source(error.clone()),
        }
    }
}

fn unavailable(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

fn too_old(version: &str) -> Error {
    let (major, minor) = OLDEST;
    Error::new(
        ErrorKind::Unsupported,
        format!("the Redis server is {version}; {major}.{minor} or newer is needed"),
    )
}

/// Checks what the server says of itself, as pairs of name and value.
fn check_server(answer: &Value) -> Result<()> {
    let field = |name: &str| reply::field(answer, name).and_then(reply::text);
    if field("mode").as_deref() == Some("cluster") {
        return Err(reply::cluster());
    }
    let version = field("version").unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST => Err(too_old(&version)),
        // A server that numbers itself in another way is taken to be able.
        _ => Ok(()),
    }
}

/// What a failed TLS handshake means.
fn handshake(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(_)) => unavailable(
            "cannot connect: the server answers without TLS; check the address and the tls options",
        ),
        Some(cause) => unavailable(
            "cannot connect: TLS failed; check the certificates in tls_ca, tls_cert, tls_key",
        )
        .with_source(cause.clone()),
        None => unavailable("cannot connect: TLS failed; check whether the server expects TLS")
            .with_source(io::Error::new(error.kind(), error.to_string())),
    }
}

/// Reads the files anew for each connection, so that rotating them needs no restart.
async fn tls_config(files: &TlsFiles) -> Result<ClientConfig> {
    let mut trusted = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates("tls_ca", path).await? {
                trusted
                    .add(certificate)
                    .map_err(|_| bad_file("tls_ca", path, "a certificate is no CA's"))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs().certs;
            if trusted.add_parsable_certificates(system).0 == 0 {
                return Err(bad("tls_ca: not set, and the system has no certificates".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Other, "TLS cannot be set up").with_source(error))?
        .with_root_certificates(trusted);
    let Some((cert, key)) = &files.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("tls_cert", cert).await?;
    let text = read("tls_key", key).await?;
    let private = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| bad_file("tls_key", key, "no private key found; expected PEM"))?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|_| bad_file("tls_key", key, "the key does not belong to tls_cert"))
}

async fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(option, path).await?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found =
        found.map_err(|_| bad_file(option, path, "a certificate is damaged; expected PEM"))?;
    if found.is_empty() {
        return Err(bad_file(option, path, "no certificate found; expected PEM"));
    }
    Ok(found)
}

async fn read(option: &str, path: &Path) -> Result<Vec<u8>> {
    tokio::fs::read(path).await.map_err(|error| {
        bad_file(option, path, "the file cannot be read; check path and permissions")
            .with_source(error)
    })
}

fn bad_file(option: &str, path: &Path, what: &str) -> Error {
    bad(format!("{option}: {}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(pairs: &[(&str, &str)]) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        Value::Array(pairs.iter().flat_map(|(name, value)| [text(name), text(value)]).collect())
    }

    #[test]
    fn old_servers_and_clusters_are_refused() {
        let of =
            |version, mode| hello(&[("server", "redis"), ("version", version), ("mode", mode)]);
        for version in ["6.2.0", "6.10.1", "7.0.0", "8.0.1-rc1", "255.255.255", "unstable", ""] {
            check_server(&of(version, "standalone")).unwrap();
        }
        for version in ["6.0.16", "5.9", "6.1.240"] {
            let error = check_server(&of(version, "standalone")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("6.2 or newer"), "{error}");
        }
        let error = check_server(&of("7.2.4", "cluster")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
