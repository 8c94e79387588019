//! Servers that are killed, connections that are cut, leaders that go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nats_connector::pubsub::{PublishReport, Way};
use nats_connector::{Connector, ErrorKind, Result};
use testkit::{Cluster, Proxy, Server, eventually, size};
use tokio::task::JoinHandle;

use crate::{
    PATIENCE, assert_each_once, batched, connect, connect_to, jetstream, make, numbers, stored,
};

/// A run under way, and how much of it is done.
struct Running {
    run: JoinHandle<Result<PublishReport>>,
    done: Arc<AtomicU64>,
}

impl Running {
    /// Publishes numbers at a pace that leaves time for something to happen in the middle.
    fn start(connector: &Connector, topic: &'static str, count: u64, way: Way, ids: bool) -> Self {
        let pubsub = connector.pubsub();
        let done = Arc::new(AtomicU64::new(0));
        let seen = done.clone();
        let mut call = pubsub.publish_many(numbers(&pubsub, topic, 0..count)).each(move |_, _| {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        if ids {
            call = call.message_ids("run");
        }
        if way == Way::Window {
            call = call.without_fast_ingest();
        }
        Running { run: tokio::spawn(call), done }
    }

    async fn reach(&self, count: u64) {
        eventually(PATIENCE, || async { self.done.load(Ordering::Relaxed) >= count }).await;
        assert!(!self.run.is_finished(), "the run ended before anything happened");
    }

    async fn end(self) -> PublishReport {
        tokio::time::timeout(PATIENCE * 2, self.run).await.expect("it ends").unwrap().unwrap()
    }
}

/// Enough that the run lasts while a server is killed.
fn many() -> u64 {
    size(60_000, 100_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_ids_a_killed_server_costs_nothing() {
    for way in [Way::Window, Way::FastIngest] {
        let mut server = jetstream().await;
        let connector = connect(&server).await;
        make(&connector, batched("kill")).await;
        let kills = size(2, 5);
        let count = many() * kills / 2;
        let running = Running::start(&connector, "kill.a", count, way, true);
        for kill in 1..=kills {
            running.reach(kill * count / (kills + 4)).await;
            server.kill().await;
            server.restart().await;
        }
        let report = running.end().await;
        assert!(report.is_complete(), "{way}: {report:?}");
        assert_eq!((report.stored + report.duplicates, report.way), (count, way));
        let stream = connector.jetstream().unwrap().get_stream("kill").await.unwrap();
        assert_each_once(stored(&stream).await, count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ids_what_is_in_doubt_is_told_and_nothing_is_sent_twice() {
    for way in [Way::Window, Way::FastIngest] {
        let mut server = jetstream().await;
        let connector = connect(&server).await;
        make(&connector, batched("kill")).await;
        let count = many();
        let running = Running::start(&connector, "kill.a", count, way, false);
        running.reach(count / 5).await;
        server.kill().await;
        server.restart().await;
        let report = running.end().await;
        assert_eq!(report.stored + report.failed, count);
        assert!(report.failed <= 1_000 && report.stopped.is_none(), "{way}: {report:?}");
        let stream = connector.jetstream().unwrap().get_stream("kill").await.unwrap();
        let mut found = stored(&stream).await;
        found.sort_unstable();
        let all = found.len();
        found.dedup();
        assert_eq!(found.len(), all, "{way}: something is stored twice");
        for n in (0..count).filter(|n| found.binary_search(n).is_err()) {
            let told = report.failures.iter().find(|it| it.index == n);
            let told = told.unwrap_or_else(|| panic!("{way}: {n} is lost and nobody told"));
            assert!(told.may_be_stored && told.error.to_string().contains("may be stored"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_ids_a_cut_connection_costs_nothing() {
    for way in [Way::Window, Way::FastIngest] {
        let server = jetstream().await;
        let proxy = Proxy::start(server.address());
        let connector = connect_to(&proxy.url(), &[]).await;
        make(&connector, batched("cut")).await;
        let count = many();
        let running = Running::start(&connector, "cut.a", count, way, true);
        for cut in 1..=3 {
            running.reach(cut * count / 6).await;
            proxy.cut();
        }
        let report = running.end().await;
        assert!(report.is_complete() && report.way == way, "{way}: {report:?}");
        let stream = connector.jetstream().unwrap().get_stream("cut").await.unwrap();
        assert_each_once(stored(&stream).await, count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_ever_in_a_silent_network() {
    let server = jetstream().await;
    let proxy = Proxy::start(server.address());
    let connector = connect_to(&proxy.url(), &[("NATS.REQUEST_TIMEOUT", "1s")]).await;
    make(&connector, batched("hole")).await;
    for (way, ids) in [(Way::Window, false), (Way::FastIngest, false), (Way::FastIngest, true)] {
        proxy.resume();
        eventually(PATIENCE, || async { connector.pubsub().flush().await.is_ok() }).await;
        let running = Running::start(&connector, "hole.a", many() + 100_000, way, ids);
        running.reach(5_000).await;
        proxy.black_hole();
        let pubsub = connector.pubsub();
        let begun = std::time::Instant::now();
        // Its messages end by their time limit, one window after the other.
        running.reach(running.done.load(Ordering::Relaxed) + 1_500).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}", begun.elapsed());
        running.run.abort();
        drop(pubsub);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_for_good_ends_the_run() {
    let mut server = jetstream().await;
    let settings = [("NATS.MAX_RECONNECT", "2"), ("NATS.RECONNECT_WAIT", "100ms")];
    let connector = connect_to(&server.url(), &settings).await;
    make(&connector, batched("gone")).await;
    let running = Running::start(&connector, "gone.a", u64::MAX, Way::FastIngest, true);
    running.reach(5_000).await;
    server.kill().await;
    let report = running.end().await;
    let stopped = report.stopped.as_ref().unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Closed, "{stopped}");
    assert!(report.stored >= 5_000 && report.failed <= 1_000, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_ids_a_lost_leader_costs_nothing() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let connector = connect_to(&cluster.url(), &[("NATS.REQUEST_TIMEOUT", "30s")]).await;
    for way in [Way::Window, Way::FastIngest] {
        let (name, topic) = match way {
            Way::Window => ("window", "window.a"),
            _ => ("fast", "fast.a"),
        };
        let mut config = batched(name);
        config.num_replicas = 3;
        let stream = make(&connector, config).await;
        let count = size(30_000, 100_000);
        let running = Running::start(&connector, topic, count, way, true);
        running.reach(count / 5).await;
        let leader = stream.get_info().await.unwrap().cluster.unwrap().leader.unwrap();
        cluster.node_named(&leader).kill().await;
        let report = running.end().await;
        assert!(report.is_complete(), "{way}: {report:?}");
        assert_eq!((report.stored + report.duplicates, report.way), (count, way));
        assert_each_once(stored(&stream).await, count);
        cluster.node_named(&leader).restart().await;
        cluster.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ids_a_lost_leader_loses_nothing_in_silence() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let connector = connect_to(&cluster.url(), &[("NATS.REQUEST_TIMEOUT", "30s")]).await;
    let mut config = batched("fast");
    config.num_replicas = 3;
    let stream = make(&connector, config).await;
    let count = size(30_000, 100_000);
    let running = Running::start(&connector, "fast.a", count, Way::FastIngest, false);
    running.reach(count / 5).await;
    let leader = stream.get_info().await.unwrap().cluster.unwrap().leader.unwrap();
    cluster.node_named(&leader).kill().await;
    let report = running.end().await;
    assert_eq!(report.stored + report.failed, count);
    let mut found = stored(&stream).await;
    found.sort_unstable();
    let all = found.len();
    found.dedup();
    assert_eq!(found.len(), all, "something is stored twice");
    let lost = (0..count).filter(|n| found.binary_search(n).is_err());
    let lost: Vec<u64> =
        lost.filter(|n| !report.failures.iter().any(|it| it.index == *n)).collect();
    assert!(lost.is_empty(), "{} are lost and nobody told: {:?}", lost.len(), &lost[..5]);
}
