//! Watches: what is there, what happens, and nothing missed or told twice, whatever the network does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use futures::StreamExt;
use nats_connector::kv::{BucketConfig, Event, Kv, Watcher};
use nats_connector::{Connector, ErrorKind, Serializer, Settings};
use serde_json::json;
use testkit::{Cluster, Permissions, Proxy, Server, Version, eventually, require, size};
use tokio::time::timeout;

use super::{api, connect, connect_with, delete_stream};

const LIMIT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

async fn event(watcher: &mut Watcher) -> Event {
    timeout(LIMIT, watcher.next()).await.expect("an event in time").expect("no end").unwrap()
}

fn short(event: &Event) -> String {
    match event {
        Event::Put(record) => format!("{}={}", record.key, record.decode::<i64>().unwrap()),
        Event::Deleted { key, .. } => format!("{key} deleted"),
        Event::Purged { key, .. } => format!("{key} purged"),
        Event::Expired { key, .. } => format!("{key} expired"),
        other => format!("{other:?}"),
    }
}

/// The next `n` events, in short.
async fn told(watcher: &mut Watcher, n: usize) -> Vec<String> {
    let mut events = Vec::new();
    for _ in 0..n {
        events.push(short(&event(watcher).await));
    }
    events
}

/// All until everything that was there is told.
async fn initial(watcher: &mut Watcher) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        match event(watcher).await {
            Event::Current => return events,
            other => events.push(short(&other)),
        }
    }
}

/// Reads on until the watch has caught up again, with what is told until then.
async fn until_current(watcher: &mut Watcher) -> Vec<String> {
    let mut events = Vec::new();
    let begun = Instant::now();
    while !watcher.is_current() {
        assert!(begun.elapsed() < LIMIT, "not current: {events:?}");
        if let Ok(next) = timeout(Duration::from_millis(50), watcher.next()).await {
            events.push(short(&next.expect("no end").unwrap()));
        }
    }
    events
}

/// Reads until the watch knows that it lags.
async fn until_lagging(watcher: &mut Watcher) {
    let begun = Instant::now();
    while watcher.is_current() {
        assert!(begun.elapsed() < LIMIT, "never lagging");
        if let Ok(next) = timeout(Duration::from_millis(50), watcher.next()).await {
            panic!("{next:?}");
        }
    }
}

async fn consumers(connector: &Connector, bucket: &str) -> u64 {
    let names = api(connector, &format!("CONSUMER.NAMES.KV_{bucket}"), json!({})).await;
    names["total"].as_u64().unwrap_or_default()
}

async fn through(proxy: &Proxy) -> Connector {
    let settings = Settings::builder()
        .set("NATS.SERVER", proxy.url())
        .set("NATS.MAX_RECONNECT", "-1")
        .set("NATS.RECONNECT_WAIT", "50ms")
        .set("NATS.CONNECT_TIMEOUT", "1s");
    Connector::connect(&settings.build().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_then_changes() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    for kv in [connector.kv(), Kv::memory()] {
        let kv = kv.bucket("b").with_prefix("app");
        // Also for a bucket that the watch makes.
        let mut empty = kv.clone().with_prefix("none").watch_all().await.unwrap();
        assert!(!empty.is_current());
        assert!(matches!(event(&mut empty).await, Event::Current));
        assert!(empty.is_current());

        kv.set("user:1", &1).await.unwrap();
        kv.set("user:2", &2).await.unwrap();
        kv.set("order:1", &3).await.unwrap();
        kv.set("gone", &4).await.unwrap();
        kv.delete("gone").await.unwrap();
        kv.clone().with_prefix("ap").set("user:9", &9).await.unwrap();

        let mut all = kv.watch_all().await.unwrap();
        let mut users = kv.watch("user:*").await.unwrap();
        let mut one = kv.watch("user:2").await.unwrap();
        let mut changes = kv.watch("*").updates_only().await.unwrap();
        assert_eq!(initial(&mut all).await, ["user:1=1", "user:2=2", "order:1=3"]);
        assert_eq!(initial(&mut users).await, ["user:1=1", "user:2=2"]);
        assert_eq!(initial(&mut one).await, ["user:2=2"]);
        assert_eq!(initial(&mut changes).await, Vec::<String>::new());

        let revision = kv.set("user:2", &20).await.unwrap();
        kv.delete("user:1").await.unwrap();
        kv.set("order:2", &5).ttl(SECOND).await.unwrap();
        kv.purge("order:1").await.unwrap();
        let Event::Put(record) = event(&mut one).await else { panic!("no value") };
        assert_eq!((record.key.as_str(), record.revision), ("user:2", revision));
        assert!(record.created.is_some() && record.expires.is_none());
        let expected =
            ["user:2=20", "user:1 deleted", "order:2=5", "order:1 purged", "order:2 expired"];
        // Read at the same time: not every store keeps for a slow reader what has ended since.
        let read_all = async {
            let mut revisions = vec![revision - 1];
            for expected in expected {
                let event = event(&mut all).await;
                assert_eq!(short(&event), expected);
                revisions.push(event.revision().unwrap());
            }
            assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
        };
        let (events, ()) = tokio::join!(told(&mut changes, 5), read_all);
        assert_eq!(events, expected);
        assert_eq!(told(&mut users, 2).await, expected[..2]);

        kv.clone().with_serializer(Serializer::message_pack()).set("user:3", &-7).await.unwrap();
        assert_eq!(told(&mut users, 1).await, ["user:3=-7"]);
        kv.set_raw("user:4", "no number").await.unwrap();
        let Event::Put(record) = event(&mut users).await else { panic!("no value") };
        let error = record.decode::<u32>().unwrap_err();
        assert_eq!((error.kind(), error.context("key")), (ErrorKind::Decode, Some("user:4")));
        let error = kv.watch("[").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_watch_leaves_nothing() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    let mut first = kv.watch_all().await.unwrap();
    let second = kv.watch("x").await.unwrap();
    assert_eq!(initial(&mut first).await, Vec::<String>::new());
    assert_eq!(consumers(&connector, "b").await, 2);
    drop((first, second));
    eventually(LIMIT, || async { consumers(&connector, "b").await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_watches() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let other = connect(&server).await;
    let mut watcher = connector.kv().bucket("b").watch_all().await.unwrap();
    initial(&mut watcher).await;
    let reader = tokio::spawn(async move {
        let end = watcher.next().await;
        (end.is_none(), watcher.next().await.is_none())
    });
    let report = timeout(LIMIT, connector.drain()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(timeout(LIMIT, reader).await.unwrap().unwrap(), (true, true));
    eventually(LIMIT, || async { consumers(&other, "b").await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_any_size_come_through() {
    let server = Server::builder().jetstream().max_payload(8 * 1024 * 1024).start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    let sizes = [6_000_000, 1, 700_000, 0, 3_000_000, 7_000_000, 2_500_000, 10];
    for (n, size) in sizes.iter().enumerate() {
        kv.set_raw(n.to_string(), vec![b'x'; *size]).await.unwrap();
    }
    let mut watcher = kv.watch_all().await.unwrap();
    for size in sizes {
        let Event::Put(record) = event(&mut watcher).await else { panic!("no value") };
        assert_eq!(record.value.len(), size);
    }
    assert!(matches!(event(&mut watcher).await, Event::Current));
    kv.set_raw("last", vec![b'x'; 6_500_000]).await.unwrap();
    assert_eq!(event(&mut watcher).await.key(), Some("last"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_permission_is_told_which() {
    let inbox = ["_INBOX.>"];
    let asks = ["$JS.API.INFO", "$JS.API.STREAM.INFO.KV_b"];
    let makes = "$JS.API.CONSUMER.CREATE.KV_b.>";
    let pulls = "$JS.API.CONSUMER.MSG.NEXT.KV_b.>";
    let deletes = "$JS.API.CONSUMER.DELETE.KV_b.>";
    let none = Permissions::default().publish(&asks).subscribe(&inbox);
    let makes_only = Permissions::default().publish(&[asks[0], asks[1], makes]).subscribe(&inbox);
    let all = [asks[0], asks[1], makes, pulls, deletes];
    let all = Permissions::default().publish(&all).subscribe(&inbox);
    let server = Server::builder()
        .jetstream()
        .user("admin", "p")
        .user_with("none", "p", &none)
        .user_with("makes", "p", &makes_only)
        .user_with("all", "p", &all)
        .start()
        .await;
    let as_user = async |user: &str| {
        let settings = [("NATS.USERNAME", user), ("NATS.PASSWORD", "p")];
        connect_with(&server, &settings).await
    };
    as_user("admin").await.kv().bucket("b").set("user:1", &1).await.unwrap();
    for (user, subject) in [("none", "CONSUMER.CREATE.KV_b"), ("makes", "CONSUMER.MSG.NEXT.KV_b")] {
        let kv = as_user(user).await.kv().bucket("b");
        let watch = kv.watch_all().await.map(drop);
        let keys = kv.keys().await.map(drop);
        let history = kv.history("user:1").await.map(drop);
        for refused in [watch, keys, history] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthorized, "{user}: {error}");
            assert!(error.to_string().contains(subject), "{user}: {error}");
        }
    }
    let kv = as_user("all").await.kv().bucket("b");
    let mut watcher = kv.watch_all().await.unwrap();
    assert_eq!(initial(&mut watcher).await, ["user:1=1"]);
    assert_eq!(kv.keys().await.unwrap(), ["user:1"]);
    assert_eq!(kv.history("user:1").await.unwrap().len(), 1);
}

/// Writers that go on, whatever happens, until they are stopped. Nothing is deleted, and every value
/// is kept, so the bucket's revisions are exactly their writes.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<BTreeMap<u64, (String, i64)>>>,
}

impl Writers {
    fn start(kv: &Kv) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let tasks = (0..4).map(|writer: i64| {
            let (kv, stop, count) = (kv.clone(), stop.clone(), count.clone());
            tokio::spawn(async move {
                let mut written = BTreeMap::new();
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, value) = (format!("w{writer}:{}", n / 60), writer * 1_000_000 + n);
                    // After an error it may have been stored or not.
                    let set = kv.set(key.clone(), &value).timeout(Duration::from_millis(500)).await;
                    match set {
                        Ok(revision) => {
                            written.insert(revision, (key, value));
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                written
            })
        });
        let tasks = tasks.collect();
        Writers { stop, written: count, tasks }
    }

    /// Waits until so many more writes were acknowledged.
    async fn write_on(&self, more: usize) {
        let before = self.written.load(Ordering::Relaxed);
        let on = || async { self.written.load(Ordering::Relaxed) >= before + more };
        eventually(LIMIT, on).await;
    }

    /// What was surely written, by revision.
    async fn stop(self) -> BTreeMap<u64, (String, i64)> {
        eventually(LIMIT, || async { self.written.load(Ordering::Relaxed) > 50 }).await;
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        all
    }
}

/// Reads a watch to the end of what was written: every revision once, in order, as it was written.
async fn check_replay(mut watcher: Watcher, writers: Writers, kv: &Kv) {
    let reader = tokio::spawn(async move {
        let mut events = Vec::new();
        loop {
            match timeout(LIMIT, watcher.next()).await.expect("an event in time") {
                Some(Ok(Event::Put(record))) if record.key == "end" => break,
                Some(Ok(Event::Put(record))) => {
                    events.push((record.revision, (record.key.clone(), record.decode().unwrap())));
                }
                Some(Ok(Event::Current)) => {}
                other => panic!("{other:?}"),
            }
        }
        events
    });
    let written = writers.stop().await;
    // Writes that were given up may still be on their way.
    eventually(LIMIT, || async { kv.set("end", &0).await.is_ok() }).await;
    let events: Vec<(u64, (String, i64))> = timeout(LIMIT, reader).await.unwrap().unwrap();
    let revisions: Vec<u64> = events.iter().map(|(revision, _)| *revision).collect();
    let expected: Vec<u64> = (1..=events.len() as u64).collect();
    assert_eq!(revisions, expected, "every revision once, in order");
    let told: BTreeMap<u64, (String, i64)> = events.into_iter().collect();
    for (revision, write) in &written {
        assert_eq!(told.get(revision), Some(write), "revision {revision}");
    }
}

async fn kept(connector: &Connector, replicas: usize) -> Kv {
    let config = BucketConfig::new("b").history(64).replicas(replicas);
    connector.kv().create_bucket(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_while_the_server_is_killed() {
    let mut server = Server::builder().jetstream().start().await;
    let settings = [("NATS.MAX_RECONNECT", "-1"), ("NATS.RECONNECT_WAIT", "50ms")];
    let connector = connect_with(&server, &settings).await;
    let kv = kept(&connector, 1).await;
    let watcher = kv.watch_all().await.unwrap();
    let writers = Writers::start(&kv);
    for _ in 0..size(2, 10) {
        writers.write_on(100).await;
        server.kill().await;
        server.restart().await;
        writers.write_on(100).await;
    }
    check_replay(watcher, writers, &kv).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_on_a_bad_network() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let direct = connect(&server).await;
    let kv = kept(&direct, 1).await;
    let watching = through(&proxy).await;
    let mut watcher = watching.kv().bucket("b").watch_all().await.unwrap();
    initial(&mut watcher).await;
    let writers = Writers::start(&kv);
    let reader = tokio::spawn(async move {
        for _ in 0..size(3, 20) {
            tokio::time::sleep(Duration::from_millis(300)).await;
            proxy.cut();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.black_hole();
        // The silence is noticed by the watch, the connection's own check takes minutes.
        tokio::time::sleep(4 * SECOND).await;
        proxy.cut();
        proxy.resume();
        proxy
    });
    let _proxy = reader.await.unwrap();
    check_replay(watcher, writers, &kv).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_link_is_noticed_and_what_vanished_meanwhile_is_told() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let direct = connect(&server).await;
    let kv = direct.kv().bucket("b").with_prefix("p");
    for n in 0..5 {
        kv.set(format!("stays:{n}"), &n).await.unwrap();
    }
    kv.set("deleted", &1).await.unwrap();
    kv.set("again", &1).await.unwrap();
    let watching = through(&proxy).await;
    let mut watcher = watching.kv().bucket("b").with_prefix("p").watch_all().await.unwrap();
    initial(&mut watcher).await;
    kv.set("brief", &1).ttl(2 * SECOND).await.unwrap();
    assert_eq!(told(&mut watcher, 1).await, ["brief=1"]);

    proxy.black_hole();
    let silent = Instant::now();
    until_lagging(&mut watcher).await;
    assert!(silent.elapsed() < 20 * SECOND, "noticed after {:?}", silent.elapsed());
    // A marker that is gone before the watch is back.
    let mut marker = HeaderMap::new();
    marker.insert("KV-Operation", "DEL");
    marker.insert("Nats-TTL", "1");
    let client = direct.jetstream().unwrap();
    for key in ["deleted", "again"] {
        let subject = format!("$KV.b.p.{key}");
        let ack = client.publish_with_headers(subject, marker.clone(), "".into()).await.unwrap();
        ack.await.unwrap();
    }
    let messages = async || super::stream(&direct, "b").await["state"]["messages"].clone();
    eventually(LIMIT, || async { messages().await == 5 }).await;
    kv.set("again", &2).await.unwrap();
    kv.set("new", &3).await.unwrap();
    proxy.cut();
    proxy.resume();
    let mut events = until_current(&mut watcher).await;
    events.sort_unstable();
    assert_eq!(events, ["again=2", "brief expired", "deleted deleted", "new=3"]);
    kv.set("new", &4).await.unwrap();
    assert_eq!(told(&mut watcher, 1).await, ["new=4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_misses_no_end() {
    let server = Server::builder().jetstream().start().await;
    let settings = [("NATS.SUBSCRIPTION_CAPACITY", "8")];
    let connector = connect_with(&server, &settings).await;
    let kv = connector.kv().bucket("b");
    for n in 0..20 {
        kv.set(format!("stays:{n:02}"), &n).await.unwrap();
    }
    for n in 0..3 {
        kv.set(format!("brief:{n}"), &n).ttl(SECOND).await.unwrap();
    }
    let mut watcher = kv.watch_all().await.unwrap();
    assert_eq!(told(&mut watcher, 1).await, ["stays:00=0"]);
    // The values end, and their markers, before the reader comes to them.
    let messages = async || super::stream(&connector, "b").await["state"]["messages"].clone();
    eventually(LIMIT, || async { messages().await == 20 }).await;
    let mut live: BTreeMap<String, ()> = BTreeMap::new();
    loop {
        match event(&mut watcher).await {
            Event::Put(record) => drop(live.insert(record.key, ())),
            Event::Current => break,
            other => drop(live.remove(other.key().unwrap())),
        }
    }
    assert_eq!(live.len(), 19, "{live:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_made_anew_is_told_anew() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    for n in 0..10 {
        kv.set("a", &n).await.unwrap();
    }
    kv.set("b", &1).await.unwrap();
    let mut watcher = kv.watch_all().await.unwrap();
    assert_eq!(initial(&mut watcher).await, ["a=9", "b=1"]);
    delete_stream(&connector, "b").await;
    // For a while there is no bucket.
    let mut gone = told(&mut watcher, 2).await;
    gone.sort_unstable();
    assert_eq!(gone, ["a deleted", "b deleted"]);
    assert!(!watcher.is_current());
    kv.set("a", &20).await.unwrap();
    assert_eq!(until_current(&mut watcher).await, ["a=20"]);

    // Made anew at once.
    delete_stream(&connector, "b").await;
    kv.set("c", &30).await.unwrap();
    let mut events = told(&mut watcher, 2).await;
    events.sort_unstable();
    assert_eq!(events, ["a deleted", "c=30"]);
    until_current(&mut watcher).await;
    kv.set("c", &31).await.unwrap();
    assert_eq!(told(&mut watcher, 1).await, ["c=31"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lifetimes_that_an_old_server_does_not_tell_are_told() {
    if !require(Version::V2_10) {
        return;
    }
    let server = Server::builder().version(Version::V2_10).jetstream().start().await;
    let connector = connect(&server).await;
    let config = BucketConfig::new("b").ttl(2 * SECOND);
    let kv = connector.kv().create_bucket(config).await.unwrap();
    kv.set("a", &1).await.unwrap();
    let mut watcher = kv.watch_all().await.unwrap();
    assert_eq!(initial(&mut watcher).await, ["a=1"]);
    kv.set("b", &2).await.unwrap();
    kv.set("c", &3).await.unwrap();
    kv.delete("c").await.unwrap();
    let expected = ["b=2", "c=3", "c deleted", "a expired", "b expired"];
    assert_eq!(told(&mut watcher, 5).await, expected);
    kv.set("a", &4).await.unwrap();
    assert_eq!(told(&mut watcher, 2).await, ["a=4", "a expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_when_leaders_die() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let url = cluster.url();
    let settings = Settings::builder()
        .set("NATS.SERVER", url)
        .set("NATS.MAX_RECONNECT", "-1")
        .set("NATS.RECONNECT_WAIT", "50ms");
    let connector = Connector::connect(&settings.build().unwrap()).await.unwrap();
    let kv = kept(&connector, 3).await;
    // What was acknowledged is there, whatever copy serves the watch.
    for n in 0..10 {
        let revision = kv.set("a", &n).await.unwrap();
        let mut watcher = kv.watch_all().await.unwrap();
        let Event::Put(record) = event(&mut watcher).await else { panic!("{n} is missing") };
        assert_eq!(record.revision, revision);
    }
    kv.bucket("other").set("a", &1).await.unwrap();
    delete_stream(&connector, "b").await;
    eventually(LIMIT, || async {
        let config = BucketConfig::new("b").history(64).replicas(3);
        connector.kv().create_bucket(config).await.is_ok()
    })
    .await;
    let watcher = kv.watch_all().await.unwrap();
    let writers = Writers::start(&kv);
    for _ in 0..size(1, 6) {
        tokio::time::sleep(SECOND).await;
        let leader = super::leader(&connector, "b").await;
        cluster.node_named(&leader).kill().await;
        tokio::time::sleep(3 * SECOND).await;
        cluster.node_named(&leader).restart().await;
        cluster.ready().await;
    }
    check_replay(watcher, writers, &kv).await;
}
