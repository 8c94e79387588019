//! A running redis-server.

mod tls;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use self::tls::TlsDoor;
use crate::Certificate;
use crate::fetch;
use crate::server::process::Process;
use crate::server::{blocking, loopback};
use crate::version::all_required;
use crate::wait::poll_until;

/// How long a server may take to start or to stop on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether a redis-server can be run here, for a test to return early when it cannot.
///
/// When it cannot, a message on standard error says how to get one.
///
/// # Panics
///
/// When `REQUIRE_ALL=1` is set: then nothing may be skipped.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
pub fn require_redis() -> bool {
    match fetch::redis() {
        Ok(_) => true,
        Err(missing) => {
            assert!(!all_required(), "REQUIRE_ALL=1, but redis-server is missing: {missing}");
            eprintln!("skipped, redis-server is missing: {missing}");
            false
        }
    }
}

/// What a [`Redis`] is to be.
#[derive(Clone, Debug, Default)]
pub struct RedisBuilder {
    lines: Vec<String>,
    tls: Option<Certificate>,
    tls_client_ca: Option<PathBuf>,
}

/// A redis-server on loopback with a port and a folder of its own, ended on drop. It writes all
/// changes to disk, so what was acknowledged is there again after a restart, also after a kill.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    // Before the folder: dropped in this order, so that nothing writes to a deleted folder.
    process: Option<Process>,
    door: Option<TlsDoor>,
    folder: Arc<TempDir>,
}

impl RedisBuilder {
    /// The password of the user `default`.
    #[must_use]
    pub fn password(self, password: &str) -> Self {
        self.set("requirepass", password)
    }

    /// An ACL user with a password and rules, such as `~app:* +@all`.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.lines.push(format!("user {name} on >{password} {rules}"));
        self
    }

    /// How many databases there are; 16 where it is not said.
    #[must_use]
    pub fn databases(self, count: u32) -> Self {
        self.set("databases", &count.to_string())
    }

    /// Any other line of the server's configuration.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.lines.push(format!("{name} {value}"));
        self
    }

    /// Lets clients in with TLS alone. The server need not be built with it: TLS ends in the test
    /// process.
    #[must_use]
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.tls = Some(certificate.clone());
        self
    }

    /// With [`tls`](Self::tls): lets in only clients with a certificate of the authority whose own
    /// certificate is in this file.
    #[must_use]
    pub fn tls_client_ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls_client_ca = Some(file.into());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it does not start; the message ends with its log.
    pub async fn start(self) -> Redis {
        blocking(move || self.start_blocking()).await
    }

    fn start_blocking(self) -> Redis {
        let folder = tempfile::Builder::new().prefix("redis-server-").tempdir().expect("a folder");
        let mut config = String::from("bind 127.0.0.1\nsave \"\"\nappendonly yes\n");
        for line in &self.lines {
            writeln!(config, "{line}").expect("a string takes it");
        }
        fs::write(folder.path().join("redis.conf"), config).expect("a file");
        let mut started = None;
        let mut why = String::new();
        // Another process may take the port between the choice and the start.
        poll_until(DEADLINE, || {
            let port = free_port();
            match launch(folder.path(), port) {
                Ok(process) => started = Some((process, port)),
                Err(error) => why = error,
            }
            started.is_some() || !port_is_taken(&why)
        });
        let Some((process, port)) = started else { panic!("redis-server did not start: {why}") };
        let door = self.tls.map(|certificate| {
            TlsDoor::open(&certificate, self.tls_client_ca.as_deref(), loopback(port))
        });
        Redis { port, process: Some(process), door, folder: Arc::new(folder) }
    }
}

impl Redis {
    /// A plain one; every other kind is a method of the builder.
    #[must_use]
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// What clients connect to: `redis://127.0.0.1:port`, `rediss://` if it wants TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.door.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address())
    }

    /// The client address, as [`crate::Proxy::start`] takes it; the same after a restart.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.door.as_ref().map_or_else(|| loopback(self.port), TlsDoor::address)
    }

    /// What the server logged so far, all starts together.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }

    /// SIGKILL: the server gets no chance to say goodbye. Nothing happens when it is gone.
    pub async fn kill(&mut self) {
        let process = self.process.take();
        blocking(move || drop(process)).await;
    }

    /// SIGTERM, then waits for the exit.
    ///
    /// # Panics
    ///
    /// When the server does not stop within a minute.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            blocking(move || process.stop(DEADLINE)).await;
        }
    }

    /// Starts again on the same port with the same data; kills it first if it still runs.
    ///
    /// # Panics
    ///
    /// When the server does not start; the message ends with its log.
    pub async fn restart(&mut self) {
        self.kill().await;
        let (folder, port) = (self.folder.clone(), self.port);
        let process = blocking(move || {
            let mut outcome = Err(String::new());
            // Others can have taken the port for a moment.
            poll_until(DEADLINE, || {
                outcome = launch(folder.path(), port);
                outcome.as_ref().err().is_none_or(|why| !port_is_taken(why))
            });
            outcome.unwrap_or_else(|why| panic!("redis-server did not start again: {why}"))
        })
        .await;
        self.process = Some(process);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(loopback(0)).expect("a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

fn port_is_taken(why: &str) -> bool {
    why.contains("Address already in use")
}

/// Starts a process in `folder` and returns when it answers.
fn launch(folder: &Path, port: u16) -> Result<Process, String> {
    let binary = fetch::redis().map_err(|missing| missing.to_string())?;
    let logged_before = read_log(folder).len();
    let (config, port_text) = (folder.join("redis.conf"), port.to_string());
    let (config, dir) = (config.to_string_lossy(), folder.to_string_lossy());
    let args = [&config, "--port", &port_text, "--dir", &dir];
    let mut process =
        Process::spawn(&binary, &args, &log_file(folder)).map_err(|e| format!("sh: {e}"))?;
    let (mut answers, mut exit) = (false, None);
    poll_until(DEADLINE, || {
        exit = process.exited();
        // Another's server may answer on a port that this one did not get.
        let ready = || read_log(folder)[logged_before..].contains("Ready to accept connections");
        answers = exit.is_none() && ready() && is_ready(port);
        answers || exit.is_some()
    });
    if answers && process.exited().is_none() {
        return Ok(process);
    }
    let end = exit.map_or("it does not answer".to_owned(), |status| status.to_string());
    Err(format!("{end}; its log:\n{}", &read_log(folder)[logged_before..]))
}

/// Whether the server answers and has loaded its data.
fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(loopback(port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(matches!(&answer, b"+PONG" | b"-NOAU"))
    };
    ask().unwrap_or(false)
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("redis.log")
}

fn read_log(folder: &Path) -> String {
    fs::read(log_file(folder))
        .map(|log| String::from_utf8_lossy(&log).into_owned())
        .unwrap_or_default()
}
