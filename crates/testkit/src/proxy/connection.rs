//! One connection through the proxy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Counters, State};

pub(super) const TO_SERVER: usize = 0;
pub(super) const TO_CLIENT: usize = 1;

/// The largest piece that travels as one.
const CHUNK: usize = 64 * 1024;
/// How many pieces can be on their way, in each direction; then the sender has to wait.
const IN_FLIGHT: usize = 1024;

/// A piece of the stream and when it may arrive.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

/// Forwards until an end closes, the server cannot be reached, or the connection is cut.
pub(super) async fn run(
    client: TcpStream,
    mut state: watch::Receiver<State>,
    counters: Arc<Counters>,
) {
    let _open = Open::count(counters.clone());
    let cuts = state.borrow_and_update().cuts;
    let mut watched = state.clone();
    let cut = watched.wait_for(|state| state.cuts != cuts);
    let mut ends = (client, None);
    tokio::select! {
        // An error of one end ends the other: both are reset below.
        result = forward(&mut ends, state, &counters) => if result.is_ok() { return },
        _ = cut => {}
    }
    let (client, server) = ends;
    for end in [Some(client), server].into_iter().flatten() {
        // Closing a socket without lingering sends a reset. It fails for a closed one only.
        let _ = end.set_zero_linger();
    }
}

async fn forward(
    (client, server): &mut (TcpStream, Option<TcpStream>),
    mut state: watch::Receiver<State>,
    counters: &Counters,
) -> io::Result<()> {
    forwarding(&mut state).await;
    let target = state.borrow().target;
    let server = server.insert(TcpStream::connect(target).await?);
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    tokio::try_join!(
        one_way(client_reads, server_writes, TO_SERVER, state.clone(), counters),
        one_way(server_reads, client_writes, TO_CLIENT, state, counters),
    )?;
    Ok(())
}

/// Reading does not wait for the delay of what was read before, so the throughput stays.
async fn one_way(
    source: ReadHalf<'_>,
    target: WriteHalf<'_>,
    direction: usize,
    state: watch::Receiver<State>,
    counters: &Counters,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::try_join!(
        receive(source, sender, direction, state.clone()),
        deliver(target, receiver, direction, state, counters),
    )?;
    Ok(())
}

async fn receive(
    mut source: ReadHalf<'_>,
    chunks: mpsc::Sender<Chunk>,
    direction: usize,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    loop {
        forwarding(&mut state).await;
        let mut bytes = Vec::with_capacity(CHUNK);
        let end = source.read_buf(&mut bytes).await? == 0;
        let due = Instant::now() + delay(&state, direction);
        // An empty chunk is the end of the stream, delayed as any other.
        if chunks.send(Chunk { due, bytes }).await.is_err() || end {
            return Ok(());
        }
    }
}

async fn deliver(
    mut target: WriteHalf<'_>,
    mut chunks: mpsc::Receiver<Chunk>,
    direction: usize,
    mut state: watch::Receiver<State>,
    counters: &Counters,
) -> io::Result<()> {
    while let Some(Chunk { due, bytes }) = chunks.recv().await {
        sleep_until(due).await;
        forwarding(&mut state).await;
        if bytes.is_empty() {
            return target.shutdown().await;
        }
        target.write_all(&bytes).await?;
        counters.bytes[direction].fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Waits while the proxy is a black hole.
async fn forwarding(state: &mut watch::Receiver<State>) {
    // An error says that the proxy is being dropped, which ends this task anyway.
    let _ = state.wait_for(|state| !state.black_hole).await;
}

fn delay(state: &watch::Receiver<State>, direction: usize) -> Duration {
    state.borrow().delays[direction]
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<Counters>);

impl Open {
    fn count(counters: Arc<Counters>) -> Open {
        counters.open.fetch_add(1, Ordering::Relaxed);
        Open(counters)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
