//! A running nats-server.

pub(crate) mod builder;
pub(crate) mod config;
pub(crate) mod monitor;
pub(crate) mod process;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::fetch;
use crate::wait::poll_until;
use builder::ServerBuilder;
use process::Process;

/// How long a server may take to start or to stop on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The ports that the server chose. A restart asks for the same ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ports {
    pub(crate) client: Option<u16>,
    pub(crate) monitor: Option<u16>,
    pub(crate) websocket: Option<u16>,
    pub(crate) leaf: Option<u16>,
}

/// A nats-server on loopback with its own ports and folder, ended on drop.
#[derive(Debug)]
pub struct Server {
    spec: Arc<ServerBuilder>,
    ports: Ports,
    // Before the folder: dropped in this order, so that nothing writes to a deleted folder.
    process: Option<Process>,
    folder: Arc<TempDir>,
}

impl Server {
    /// A plain 2.15; every other kind is a method of the builder.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// What clients connect to: `nats://127.0.0.1:port`, `tls://` if the server wants TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.spec.tls.is_some() { "tls" } else { "nats" };
        format!("{scheme}://{}", self.address())
    }

    /// The client address, as [`crate::Proxy::start`] takes it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        loopback(self.port())
    }

    /// The client port, the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.client.expect("known since the start")
    }

    /// `ws://127.0.0.1:port`.
    ///
    /// # Panics
    ///
    /// When the server was built without [`ServerBuilder::websocket`].
    #[must_use]
    pub fn websocket_url(&self) -> String {
        format!("ws://{}", loopback(self.ports.websocket.expect("built with websocket()")))
    }

    /// Where the monitor's pages are: `http://127.0.0.1:port`.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://{}", self.monitor_address())
    }

    /// The server's name, unique in this process.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The process id.
    ///
    /// # Panics
    ///
    /// When the server was killed or stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// Whether the process lives. A lame duck ends by itself.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.exited().is_none())
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

    /// Starts again on the same ports with the same store; kills it first if it still runs.
    ///
    /// # Panics
    ///
    /// When the server does not start; the message ends with its log.
    pub async fn restart(&mut self) {
        self.kill().await;
        let (spec, folder, ports) = (self.spec.clone(), self.folder.clone(), self.ports);
        let (process, ports) = blocking(move || relaunch(&spec, folder.path(), ports)).await;
        self.process = Some(process);
        self.ports = ports;
    }

    /// Enters lame duck mode: tells clients to go, closes them bit by bit, then exits.
    /// See [`ServerBuilder::lame_duck`] for how fast.
    pub fn lame_duck(&self) {
        self.running().signal("USR2");
    }

    /// `/varz` of the monitor: general figures.
    pub async fn varz(&self) -> Value {
        self.monitor("/varz").await
    }

    /// `/connz` of the monitor: the connections with their subscriptions.
    pub async fn connz(&self) -> Value {
        self.monitor("/connz?subs=1").await
    }

    /// `/subsz` of the monitor: subscription figures.
    pub async fn subsz(&self) -> Value {
        self.monitor("/subsz").await
    }

    /// Any page of the monitor, such as `/jsz?streams=1`.
    ///
    /// # Panics
    ///
    /// When the server does not answer with JSON within ten seconds.
    pub async fn monitor(&self, page: &str) -> Value {
        let (address, page) = (self.monitor_address(), page.to_owned());
        blocking(move || match monitor::get(address, &page) {
            Ok(value) => value,
            Err(error) => panic!("monitor {address}{page}: {error}"),
        })
        .await
    }

    pub(crate) fn monitor_address(&self) -> SocketAddr {
        loopback(self.ports.monitor.expect("known since the start"))
    }

    pub(crate) fn leaf_address(&self) -> SocketAddr {
        loopback(self.ports.leaf.expect("the hub was built with leaf_nodes()"))
    }

    pub(crate) fn has_jetstream(&self) -> bool {
        self.spec.jetstream.is_some()
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("the server was killed or stopped")
    }

    fn start(spec: ServerBuilder) -> Server {
        let version = spec.version;
        Server::try_start(spec).unwrap_or_else(|error| panic!("{version} did not start: {error}"))
    }

    pub(crate) fn try_start(spec: ServerBuilder) -> Result<Server, String> {
        let folder = tempfile::Builder::new().prefix("nats-server-").tempdir().expect("a folder");
        let (process, ports) =
            launch(&spec, folder.path(), Ports { client: spec.port, ..Ports::default() })?;
        Ok(Server { spec: Arc::new(spec), ports, folder: Arc::new(folder), process: Some(process) })
    }
}

/// Runs blocking code for an async caller; its panic is the caller's panic.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// [`launch`] on the ports of an earlier start, which others can have taken for a moment.
fn relaunch(spec: &ServerBuilder, folder: &Path, ports: Ports) -> (Process, Ports) {
    let mut outcome = Err(String::new());
    poll_until(DEADLINE, || {
        outcome = launch(spec, folder, ports);
        outcome.as_ref().err().is_none_or(|error| !error.contains("address already in use"))
    });
    outcome.unwrap_or_else(|error| panic!("{} did not start again: {error}", spec.version))
}

/// Starts a process in `folder` and returns when it answers.
fn launch(spec: &ServerBuilder, folder: &Path, ports: Ports) -> Result<(Process, Ports), String> {
    let binary = match &spec.binary {
        Some(binary) => binary.clone(),
        None => fetch::binary(spec.version).map_err(|missing| missing.to_string())?,
    };
    let config = folder.join("server.conf");
    fs::write(&config, config::render(spec, folder, ports)).map_err(|e| e.to_string())?;
    for stale in ports_files(folder) {
        fs::remove_file(stale).map_err(|e| e.to_string())?;
    }
    let logged_before = read_log(folder).len();
    let (config, folder_text) = (config.to_string_lossy(), folder.to_string_lossy());
    let args = ["--config", &config, "--ports_file_dir", &folder_text];
    let mut process =
        Process::spawn(&binary, &args, &log_file(folder)).map_err(|e| format!("sh: {e}"))?;

    let mut found = None;
    let mut exit = None;
    poll_until(DEADLINE, || {
        exit = process.exited();
        found = read_ports(folder, logged_before).filter(|ports| spec.is_ready(*ports));
        exit.is_some() || found.is_some()
    });
    match (found, exit) {
        (Some(ports), None) => Ok((process, ports)),
        (_, exit) => {
            let end = exit.map_or("it does not answer".to_owned(), |status| status.to_string());
            Err(format!("{end}; its log:\n{}", &read_log(folder)[logged_before..]))
        }
    }
}

/// Reads the ports that the server has opened, once all of them are known.
fn read_ports(folder: &Path, logged_before: usize) -> Option<Ports> {
    let file = ports_files(folder).pop()?;
    // Incomplete JSON is a file that is still being written.
    let listed: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let port = |name: &str| listed[name][0].as_str().and_then(port_of);
    let ports = Ports {
        client: port("nats"),
        monitor: port("monitoring"),
        websocket: port("websocket"),
        leaf: leaf_port(&read_log(folder)[logged_before..]),
    };
    TcpStream::connect(loopback(ports.client?)).ok()?;
    Some(ports)
}

/// The leaf node port is in the log only.
fn leaf_port(log: &str) -> Option<u16> {
    let line = log.lines().find(|line| line.contains("Listening for leafnode connections on"))?;
    port_of(line)
}

fn port_of(text: &str) -> Option<u16> {
    text.rsplit(':').next()?.trim().parse().ok()
}

fn ports_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "ports"))
        .collect()
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

fn read_log(folder: &Path) -> String {
    fs::read(log_file(folder))
        .map(|log| String::from_utf8_lossy(&log).into_owned())
        .unwrap_or_default()
}
