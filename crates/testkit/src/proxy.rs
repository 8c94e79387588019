//! A TCP proxy on loopback that makes the network bad.

mod connection;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc as tasks, watch};

use crate::server::loopback;

/// TCP between clients and one address. Everything can be switched while connections are open.
///
/// It runs on a thread of its own, so a busy test does not add to its delays. Drop ends it and
/// closes its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    door: tasks::UnboundedSender<(Door, mpsc::Sender<()>)>,
    counters: Arc<Counters>,
    runtime: Option<Runtime>,
}

/// What the connections obey.
#[derive(Clone, Copy, Debug)]
struct State {
    target: SocketAddr,
    /// One way: client to server, server to client.
    delays: [Duration; 2],
    black_hole: bool,
    /// How often [`Proxy::cut`] was called; a connection ends when this changes.
    cuts: u64,
}

#[derive(Clone, Copy, Debug)]
enum Door {
    Open,
    Closed,
}

#[derive(Debug, Default)]
struct Counters {
    /// Client to server, server to client.
    bytes: [AtomicU64; 2],
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Panics
    ///
    /// When no port can be opened.
    #[must_use]
    pub fn start(target: SocketAddr) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()
            .expect("a thread");
        let listener = std::net::TcpListener::bind(loopback(0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener).expect("the runtime has a reactor")
        };
        let state = State { target, delays: [Duration::ZERO; 2], black_hole: false, cuts: 0 };
        let (state, watched) = watch::channel(state);
        let (door, orders) = tasks::unbounded_channel();
        let counters = Arc::new(Counters::default());
        runtime.spawn(accept(listener, orders, watched, counters.clone()));
        Proxy { address, state, door, counters, runtime: Some(runtime) }
    }

    /// Where clients connect: `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where new connections are forwarded from now on.
    pub fn set_target(&self, target: SocketAddr) {
        self.state.send_modify(|state| state.target = target);
    }

    /// Delays what arrives from now on, each way. The throughput stays as it is.
    pub fn set_delay(&self, each_way: Duration) {
        self.set_delays(each_way, each_way);
    }

    /// [`Proxy::set_delay`] with different delays towards and from the server.
    pub fn set_delays(&self, to_server: Duration, to_client: Duration) {
        self.state.send_modify(|state| state.delays = [to_server, to_client]);
    }

    /// Resets every open connection, a moment after the call. New ones are welcome.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Forwards nothing more, in silence: open connections stay open, new ones are accepted.
    /// What was on its way is kept for [`Proxy::resume`], as TCP does when a network heals.
    pub fn black_hole(&self) {
        self.state.send_modify(|state| state.black_hole = true);
    }

    /// Refuses new connections. Open ones stay.
    pub fn refuse(&self) {
        self.set_door(Door::Closed);
    }

    /// Ends [`Proxy::black_hole`] and [`Proxy::refuse`]. Delays stay.
    pub fn resume(&self) {
        self.set_door(Door::Open);
        self.state.send_modify(|state| state.black_hole = false);
    }

    /// Bytes forwarded from clients to the server.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.counters.bytes[connection::TO_SERVER].load(Ordering::Relaxed)
    }

    /// Bytes forwarded from the server to clients.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.counters.bytes[connection::TO_CLIENT].load(Ordering::Relaxed)
    }

    /// Connections accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.counters.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.counters.open.load(Ordering::Relaxed)
    }

    /// Returns when the listener has done it, which takes it no longer than a bind.
    fn set_door(&self, door: Door) {
        let (done, wait) = mpsc::channel();
        self.door.send((door, done)).expect("the proxy lives as long as this value");
        wait.recv().expect("the proxy opens its port again");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime waits, which asynchronous code must not.
            runtime.shutdown_background();
        }
    }
}

type Orders = tasks::UnboundedReceiver<(Door, mpsc::Sender<()>)>;

/// Owns the listener: refusing means that there is none.
async fn accept(
    listener: TcpListener,
    mut orders: Orders,
    state: watch::Receiver<State>,
    counters: Arc<Counters>,
) {
    let address = listener.local_addr().expect("a bound listener has an address");
    let mut listener = Some(listener);
    loop {
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => {
                let Some((door, done)) = order else { return };
                match door {
                    Door::Closed => listener = None,
                    Door::Open if listener.is_some() => {}
                    Door::Open => {
                        listener = Some(TcpListener::bind(address).await.expect("the port is still free"));
                    }
                }
                // Nobody waits for it when the caller's thread panicked.
                let _ = done.send(());
            }
            accepted = next => {
                // A client that is gone before it was accepted is not a connection.
                let Ok((client, _)) = accepted else { continue };
                counters.accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection::run(client, state.clone(), counters.clone()));
            }
        }
    }
}
