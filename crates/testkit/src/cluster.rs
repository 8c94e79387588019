//! Three servers that are one.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::server::builder::ServerBuilder;
use crate::server::{Server, blocking, loopback, monitor};
use crate::wait::poll_until;

const NODES: usize = 3;

/// How long the nodes may take to agree on a leader on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// The route ports have to be known before the nodes start, so another process can take one.
const ATTEMPTS: usize = 5;

/// A cluster of three nodes.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts three nodes alike and waits until they are one cluster, with a leader and all
    /// replicas current if they have JetStream: streams of three replicas can be made at once.
    ///
    /// # Panics
    ///
    /// When a node does not start, or they do not agree within 90 s.
    pub async fn start(node: ServerBuilder) -> Cluster {
        let cluster = blocking(move || Cluster { nodes: start_nodes(&node) }).await;
        cluster.ready().await;
        cluster
    }

    /// The addresses of all nodes, separated by commas.
    #[must_use]
    pub fn url(&self) -> String {
        self.nodes.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The nodes, to kill and restart them.
    #[must_use]
    pub fn nodes_mut(&mut self) -> &mut [Server] {
        &mut self.nodes
    }

    /// The node of this name, such as the leader that a stream's info names.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn node_named(&mut self, name: &str) -> &mut Server {
        let node = self.nodes.iter_mut().find(|node| node.name() == name);
        node.unwrap_or_else(|| panic!("no node is named {name}"))
    }

    /// Waits until all three nodes are one cluster again.
    ///
    /// # Panics
    ///
    /// When they are not within 90 s.
    pub async fn ready(&self) {
        let nodes: Vec<_> = self.nodes.iter().map(Server::monitor_address).collect();
        let jetstream = self.nodes.iter().all(Server::has_jetstream);
        blocking(move || {
            let mut seen = Vec::new();
            let agree = poll_until(DEADLINE, || {
                let page = |page| {
                    let pages = nodes.iter().map(move |node| monitor::get(*node, page).ok());
                    pages.collect::<Option<Vec<Value>>>().unwrap_or_default()
                };
                seen = page("/routez");
                let mut ready = seen.len() == NODES && seen.iter().all(knows_the_others);
                if ready && jetstream {
                    seen = page("/jsz");
                    ready = have_a_leader(&seen);
                }
                ready
            });
            assert!(agree, "the nodes are no cluster after {DEADLINE:?}; they say {seen:#?}");
        })
        .await;
    }
}

/// A node has several routes to each other node.
fn knows_the_others(routez: &Value) -> bool {
    let routes = routez["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let remotes: BTreeSet<_> = routes.iter().filter_map(|it| it["remote_id"].as_str()).collect();
    remotes.len() == NODES - 1
}

/// All name one leader, and that one has two current followers.
fn have_a_leader(jsz: &[Value]) -> bool {
    let leaders: BTreeSet<_> = jsz
        .iter()
        .map(|node| node["meta_cluster"]["leader"].as_str().unwrap_or_default())
        .collect();
    let current = jsz.iter().any(|node| {
        let followers = node["meta_cluster"]["replicas"].as_array();
        followers.is_some_and(|them| {
            them.len() == NODES - 1 && them.iter().all(|it| it["current"] == true)
        })
    });
    leaders.len() == 1 && !leaders.contains("") && current
}

fn start_nodes(node: &ServerBuilder) -> Vec<Server> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match try_start_nodes(node) {
            Ok(nodes) => return nodes,
            Err(error) if attempts == ATTEMPTS => panic!("the cluster did not start: {error}"),
            Err(_) => {}
        }
    }
}

fn try_start_nodes(node: &ServerBuilder) -> Result<Vec<Server>, String> {
    let ports = free_ports();
    (0..NODES).map(|index| Server::try_start(node.clone().clustered(index, &ports))).collect()
}

/// Ports that were free a moment ago.
fn free_ports() -> Vec<u16> {
    let listen = |_| TcpListener::bind(loopback(0)).expect("a free port");
    let listeners: Vec<TcpListener> = (0..NODES).map(listen).collect();
    let port = |it: &TcpListener| it.local_addr().expect("a bound listener has an address").port();
    listeners.iter().map(port).collect()
}
