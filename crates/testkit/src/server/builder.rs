//! What a server can be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::certificates::{Authority, Certificate};
use crate::operator::Operator;
use crate::server::config::{Permissions, quote};
use crate::server::{Ports, Server, blocking, monitor};
use crate::version::Version;

/// What a [`Server`] is to be.
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    pub(super) version: Version,
    pub(super) binary: Option<PathBuf>,
    pub(super) port: Option<u16>,
    pub(super) name: String,
    pub(super) jetstream: Option<JetStream>,
    pub(super) users: Vec<String>,
    pub(super) websocket: bool,
    pub(super) leaf_nodes: bool,
    pub(super) leaf_of: Option<Hub>,
    pub(super) tls: Option<Tls>,
    /// Config text that needs no port or folder.
    pub(super) settings: String,
}

#[derive(Clone, Debug)]
pub(super) struct JetStream {
    pub(super) domain: Option<String>,
}

/// Where the hub of a leaf node is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hub {
    pub(super) address: SocketAddr,
    monitor: SocketAddr,
}

#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) certificate: Certificate,
    pub(super) client_authority: Option<PathBuf>,
    pub(super) first: bool,
}

impl Default for ServerBuilder {
    fn default() -> ServerBuilder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ServerBuilder {
            version: Version::default(),
            binary: None,
            port: None,
            name,
            jetstream: None,
            users: Vec::new(),
            websocket: false,
            leaf_nodes: false,
            leaf_of: None,
            tls: None,
            settings: String::new(),
        }
    }
}

impl ServerBuilder {
    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    ///
    /// When the binary is missing or the server does not start within a minute; the message ends
    /// with its log.
    pub async fn start(self) -> Server {
        blocking(move || Server::start(self)).await
    }

    /// [`ServerBuilder::start`] for code without a runtime.
    ///
    /// # Panics
    ///
    /// As [`ServerBuilder::start`].
    #[must_use]
    pub fn start_blocking(self) -> Server {
        Server::start(self)
    }

    /// Another version than 2.15. Ask [`crate::require`] first.
    #[must_use]
    pub fn version(mut self, version: Version) -> ServerBuilder {
        self.version = version;
        self
    }

    /// This binary, whatever its version is.
    #[must_use]
    pub fn binary(mut self, binary: PathBuf) -> ServerBuilder {
        self.binary = Some(binary);
        self
    }

    /// This client port. Tests leave the choice to the server, so that they cannot collide.
    #[must_use]
    pub fn port(mut self, port: u16) -> ServerBuilder {
        self.port = Some(port);
        self
    }

    /// With JetStream; the store is kept over restarts.
    #[must_use]
    pub fn jetstream(mut self) -> ServerBuilder {
        self.jetstream = Some(JetStream { domain: None });
        self
    }

    /// With JetStream in a domain.
    #[must_use]
    pub fn jetstream_domain(mut self, domain: &str) -> ServerBuilder {
        self.jetstream = Some(JetStream { domain: Some(domain.to_owned()) });
        self
    }

    /// Lets in this user, with all permissions. May be called for several users.
    #[must_use]
    pub fn user(self, name: &str, password: &str) -> ServerBuilder {
        self.user_with(name, password, &Permissions::default())
    }

    /// Lets in this user, with these permissions. May be called for several users.
    #[must_use]
    pub fn user_with(mut self, name: &str, password: &str, may: &Permissions) -> ServerBuilder {
        let (name, password) = (quote(name), quote(password));
        self.users.push(format!("user: {name}, password: {password}{}", may.render()));
        self
    }

    /// Lets in the owner of this NKey: the public key of a user, `U...`.
    #[must_use]
    pub fn nkey(mut self, public_key: &str) -> ServerBuilder {
        self.users.push(format!("nkey: {}", quote(public_key)));
        self
    }

    /// Lets in whoever knows this token. Not together with users.
    #[must_use]
    pub fn token(self, token: &str) -> ServerBuilder {
        let token = quote(token);
        self.config(&format!("authorization {{ token: {token} }}"))
    }

    /// Trusts this operator: lets in the users that its account has signed.
    #[must_use]
    pub fn operator(self, operator: &Operator) -> ServerBuilder {
        self.config(&operator.render())
    }

    /// Wants TLS and shows this certificate.
    #[must_use]
    pub fn tls(mut self, certificate: &Certificate) -> ServerBuilder {
        let certificate = certificate.clone();
        self.tls = Some(Tls { certificate, client_authority: None, first: false });
        self
    }

    /// Also wants a client certificate of this authority.
    ///
    /// # Panics
    ///
    /// Without [`ServerBuilder::tls`] before it.
    #[must_use]
    pub fn client_certificates(mut self, authority: &Authority) -> ServerBuilder {
        self.tls.as_mut().expect("tls() comes first").client_authority = Some(authority.file());
        self
    }

    /// Wants the TLS handshake before anything else is sent. Since 2.10.
    ///
    /// # Panics
    ///
    /// Without [`ServerBuilder::tls`] before it.
    #[must_use]
    pub fn tls_first(mut self) -> ServerBuilder {
        self.tls.as_mut().expect("tls() comes first").first = true;
        self
    }

    /// The largest payload in bytes; the server's default is 1 MiB.
    #[must_use]
    pub fn max_payload(self, bytes: usize) -> ServerBuilder {
        self.config(&format!("max_payload: {bytes}"))
    }

    /// How long a lame duck lives, at least 30 s, and how long it waits before it closes the
    /// first client. The server's defaults are 2 min and 10 s.
    #[must_use]
    pub fn lame_duck(self, duration: Duration, grace_period: Duration) -> ServerBuilder {
        let (duration, grace) = (duration.as_millis(), grace_period.as_millis());
        self.config(&format!(
            "lame_duck_duration: \"{duration}ms\"\nlame_duck_grace_period: \"{grace}ms\""
        ))
    }

    /// With a WebSocket listener, without TLS.
    #[must_use]
    pub fn websocket(mut self) -> ServerBuilder {
        self.websocket = true;
        self
    }

    /// Accepts leaf nodes.
    #[must_use]
    pub fn leaf_nodes(mut self) -> ServerBuilder {
        self.leaf_nodes = true;
        self
    }

    /// Is a leaf node of `hub`, which was built with [`ServerBuilder::leaf_nodes`]. The start
    /// waits until the two are connected and the hub knows the leaf's JetStream domain, if any.
    #[must_use]
    pub fn leaf_of(mut self, hub: &Server) -> ServerBuilder {
        self.leaf_of = Some(Hub { address: hub.leaf_address(), monitor: hub.monitor_address() });
        self
    }

    /// Any other config text, on lines of its own.
    #[must_use]
    pub fn config(mut self, text: &str) -> ServerBuilder {
        self.settings.push_str(text);
        self.settings.push('\n');
        self
    }

    /// Is the node `index` of a cluster whose nodes accept routes on these ports.
    pub(crate) fn clustered(mut self, index: usize, ports: &[u16]) -> ServerBuilder {
        let routes: Vec<_> =
            ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        self.name = format!("{}-{index}", self.name);
        self.config(&format!(
            "cluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [{}] }}",
            ports[index],
            routes.join(", ")
        ))
    }

    /// Whether what the listeners alone do not tell is there too.
    pub(crate) fn is_ready(&self, ports: Ports) -> bool {
        (!self.leaf_nodes || ports.leaf.is_some())
            && self.leaf_of.is_none_or(|hub| self.is_known_to(hub).unwrap_or(false))
    }

    fn is_known_to(&self, hub: Hub) -> Option<bool> {
        let leafz = monitor::get(hub.monitor, "/leafz?subs=1").ok()?;
        let leafs = leafz["leafs"].as_array()?;
        let subjects = &leafs.iter().find(|leaf| leaf["name"] == self.name)?["subscriptions_list"];
        let domain = self.jetstream.as_ref().and_then(|it| it.domain.as_ref());
        let api = domain.map(|domain| serde_json::json!(format!("$JS.{domain}.API.INFO")));
        Some(api.is_none_or(|api| subjects.as_array().is_some_and(|all| all.contains(&api))))
    }
}
