//! Nothing is lost or applied twice, whatever happens on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nats_connector::counters::{Counters, CountersConfig};
use nats_connector::{Connector, ErrorKind};
use testkit::{Cluster, Proxy, Server, eventually, size};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::connect_to;

/// Far above what a fault takes, and below what ids are remembered for.
const LIMIT: Duration = Duration::from_secs(50);

/// Tasks that add 1 to one key until they are stopped; the values they were given.
struct Writers {
    tasks: JoinSet<Vec<i64>>,
    stop: Arc<AtomicBool>,
}

impl Writers {
    fn start(stores: &[Counters], tasks: usize) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for n in 0..tasks {
            let (counters, stop) = (stores[n % stores.len()].clone(), stop.clone());
            running.spawn(async move {
                let mut values = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    values.push(counters.increment("key", 1).timeout(LIMIT).await.unwrap());
                    // Some at a time of their own, so that batches differ.
                    if n % 3 == 0 {
                        sleep(Duration::from_millis(n as u64 % 5)).await;
                    }
                }
                values
            });
        }
        Writers { tasks: running, stop }
    }

    /// Every value from 1 to the sum was given once, and each task saw its own grow.
    async fn check(self, counters: &Counters) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for values in self.tasks.join_all().await {
            assert!(values.is_sorted_by(|a, b| a < b));
            all.extend(values);
        }
        all.sort_unstable();
        let sum = counters.get("key").consistent().timeout(LIMIT).await.unwrap();
        assert_eq!(sum, Some(all.len() as i64), "lost or applied twice");
        assert!(all.iter().copied().eq(1..=all.len() as i64), "a value was given twice");
    }
}

/// Another add was made since `before`.
async fn goes_on(connector: &Connector, before: &mut i64) {
    let counters = connector.counters("hits");
    let mut now = *before;
    let deadline = Instant::now() + LIMIT;
    while now == *before {
        assert!(Instant::now() < deadline, "no add was made any more");
        sleep(Duration::from_millis(10)).await;
        if let Ok(value) = counters.get("key").consistent().timeout(Duration::from_secs(5)).await {
            now = value.unwrap_or(0);
        }
    }
    *before = now;
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_exact_while_links_are_cut_and_the_server_is_killed() {
    let mut server = Server::builder().jetstream().start().await;
    let proxies = [Proxy::start(server.address()), Proxy::start(server.address())];
    let connectors = [connect_to(&proxies[0].url()).await, connect_to(&proxies[1].url()).await];
    let observer = connect_to(&server.url()).await;
    let stores = connectors.clone().map(|connector| connector.counters("hits"));
    for proxy in &proxies {
        proxy.set_delay(Duration::from_millis(1));
    }
    let writers = Writers::start(&stores, 64);
    let mut seen = 0;
    for round in 0..size(4, 40) {
        for cut in 0..10 {
            goes_on(&observer, &mut seen).await;
            proxies[(round + cut) % 2].cut();
        }
        server.kill().await;
        server.restart().await;
        goes_on(&observer, &mut seen).await;
    }
    writers.check(&stores[0]).await;
    assert!(seen > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_exact_while_leaders_are_killed() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let config = CountersConfig::new("hits").replicas(3);
    let mut connectors = Vec::new();
    for _ in 0..2 {
        connectors.push(connect_to(&cluster.url()).await);
    }
    let observer = connect_to(&cluster.url()).await;
    let stores: Vec<_> = connectors.iter().map(|it| it.counters(config.clone())).collect();
    stores[0].increment("key", 0).timeout(LIMIT).await.unwrap();
    let writers = Writers::start(&stores, 64);
    let mut seen = 0;
    for _ in 0..size(2, 12) {
        goes_on(&observer, &mut seen).await;
        let leader = leader(&observer).await;
        let node = cluster.node_named(&leader);
        node.kill().await;
        goes_on(&observer, &mut seen).await;
        cluster.node_named(&leader).restart().await;
        cluster.ready().await;
    }
    writers.check(&stores[0]).await;
}

async fn leader(observer: &Connector) -> String {
    let mut leader = None;
    let context = observer.jetstream().unwrap();
    let deadline = Instant::now() + LIMIT;
    while leader.is_none() {
        assert!(Instant::now() < deadline, "no leader");
        if let Ok(stream) = context.get_stream("COUNTERS_hits").await {
            leader = stream.cached_info().cluster.as_ref().and_then(|it| it.leader.clone());
        }
    }
    leader.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_whose_answer_is_lost_counts_once_and_keeps_its_value() {
    let mut server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let (connector, other) = (connect_to(&proxy.url()).await, connect_to(&server.url()).await);
    let (here, there) = (connector.counters("hits"), other.counters("hits"));
    assert_eq!(here.increment("key", 1).await.unwrap(), 1);
    let mut sum = 1;
    for restart in [false, true] {
        // The add arrives, its answer does not.
        proxy.set_delays(Duration::ZERO, Duration::from_secs(3600));
        let add = tokio::spawn(here.increment("key", 10).timeout(LIMIT));
        let arrived = async || there.get("key").consistent().await.unwrap() == Some(sum + 10);
        eventually(LIMIT, arrived).await;
        for n in 1..=20 {
            let value = there.increment("key", 100).await.unwrap();
            assert_eq!(value, sum + 10 + n * 100);
        }
        if restart {
            // What it remembers it has from its disk.
            server.kill().await;
            server.restart().await;
        }
        proxy.set_delays(Duration::ZERO, Duration::ZERO);
        proxy.cut();
        assert_eq!(add.await.unwrap().unwrap(), sum + 10);
        sum += 2010;
        let read = there.get("key").consistent().timeout(LIMIT).await;
        assert_eq!(read.unwrap(), Some(sum));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_ends_adds_in_time() {
    let mut server = Server::builder().jetstream().start().await;
    let connector = connect_to(&server.url()).await;
    let hits = connector.counters("hits");
    hits.increment("key", 1).await.unwrap();
    server.kill().await;
    let (begun, limit) = (Instant::now(), Duration::from_millis(500));
    let error = hits.increment("key", 1).timeout(limit).await.unwrap_err();
    let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout];
    assert!(kinds.contains(&error.kind()), "{error}");
    // Sent before the end was noticed, it waits in the client for the next connection.
    let may_be_made = error.is_timeout();
    let error = hits.get("key").timeout(limit).await.unwrap_err();
    assert!(kinds.contains(&error.kind()), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    server.restart().await;
    let value = hits.increment("key", 1).timeout(LIMIT).await.unwrap();
    assert!(value == 2 || (value == 3 && may_be_made), "{value}");
}
