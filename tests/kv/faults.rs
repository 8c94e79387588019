//! An outage is an error, never a miss, and nothing hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, future};
use nats_connector::kv::{BucketConfig, Kv};
use nats_connector::{Connector, ErrorKind, Settings};
use serde::{Deserialize, Serialize};
use testkit::{Cluster, Proxy, Server, eventually, size};

use super::{connect, connect_with, kill_leader, stream};

/// A limit for calls that cannot succeed, and the slack that a busy machine may add.
const LIMIT: Duration = Duration::from_millis(700);
const SLACK: Duration = Duration::from_secs(10);

/// Every call ends in time with one of these kinds.
async fn all_fail(kv: &Kv, kinds: &[ErrorKind]) {
    let begun = Instant::now();
    let errors = [
        kv.get::<u32>("key").timeout(LIMIT).await.map(drop),
        kv.exists("key").timeout(LIMIT).await.map(drop),
        kv.set("key", &1).timeout(LIMIT).await.map(drop),
        kv.replace("key", &1).timeout(LIMIT).await.map(drop),
        kv.delete("key").timeout(LIMIT).await,
        kv.bucket("unknown").get_raw("key").timeout(LIMIT).await.map(drop),
        kv.create_bucket(BucketConfig::new("new")).timeout(LIMIT).await.map(drop),
    ];
    assert!(begun.elapsed() < LIMIT * 7 + SLACK, "took {:?}", begun.elapsed());
    for (n, error) in errors.into_iter().enumerate() {
        let error = error.expect_err("a call succeeded in an outage");
        assert!(kinds.contains(&error.kind()), "call {n}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_no_miss() {
    let mut server = Server::builder().jetstream().start().await;
    let connector = connect_with(&server, &[("NATS.MAX_RECONNECT", "-1")]).await;
    let kv = connector.kv();
    kv.set("key", &1).await.unwrap();
    server.kill().await;
    all_fail(&kv, &[ErrorKind::Unavailable, ErrorKind::Timeout]).await;
    server.restart().await;
    eventually(Duration::from_secs(20), || async {
        kv.get::<u32>("key").await.is_ok_and(|value| value == Some(1))
    })
    .await;
    kv.set("key", &2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_network_is_no_miss() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let settings = nats_connector::Settings::builder().set("NATS.SERVER", proxy.url());
    let settings = settings.build().unwrap();
    let connector = nats_connector::Connector::connect(&settings).await.unwrap();
    let kv = connector.kv();
    kv.set("key", &1).await.unwrap();
    proxy.black_hole();
    // A read has no effect that could be left open; a write has.
    let limit = Duration::from_millis(500);
    let read = kv.get::<u32>("key").timeout(limit).await.unwrap_err();
    let write = kv.set("key", &2).timeout(limit).await.unwrap_err();
    assert!(read.is_timeout() && !read.to_string().contains("effect"), "{read}");
    assert!(write.is_timeout() && write.to_string().contains("effect"), "{write}");
    all_fail(&kv, &[ErrorKind::Timeout, ErrorKind::Unavailable]).await;
}

/// What is asked again when no answer comes is answered by the first answer, however late.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_an_answer() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let settings = Settings::builder().set("NATS.SERVER", proxy.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let kv = connector.kv();
    kv.set("key", &1).await.unwrap();
    proxy.set_delays(Duration::ZERO, Duration::from_secs(5));
    let limit = Duration::from_secs(60);
    let found = kv.get::<u32>("key").consistent().timeout(limit).await.unwrap();
    assert_eq!(found, Some(1));
}

/// A server that ends takes with it what it was asked: here all questions of a kind are lost once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_question_is_asked_again() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    connector.kv().set("key", &1).await.unwrap();
    let client = connector.client().unwrap();
    let mut asked = client.subscribe("lossy.>").await.unwrap();
    client.flush().await.unwrap();
    let relay = tokio::spawn(async move {
        let mut lost = BTreeSet::new();
        while let Some(message) = asked.next().await {
            let call = message.subject.strip_prefix("lossy.").unwrap();
            let kind = call.split(".KV_").next().unwrap().to_owned();
            if kind != "CONSUMER.MSG.NEXT" && kind != "CONSUMER.DELETE" && lost.insert(kind) {
                continue;
            }
            let (to, reply) = (format!("$JS.API.{call}"), message.reply.unwrap());
            client.publish_with_reply(to, reply, message.payload).await.unwrap();
        }
    });
    let lossy = connect_with(&server, &[("NATS.JETSTREAM_PREFIX", "lossy")]).await.kv();
    let limit = Duration::from_secs(60);
    let begun = Instant::now();
    assert_eq!(lossy.keys().timeout(limit).await.unwrap(), ["key"]);
    connector.kv().bucket("doomed").set("key", &1).await.unwrap();
    assert!(lossy.delete_bucket("doomed").timeout(limit).await.unwrap());
    assert!(!lossy.delete_bucket("doomed").timeout(limit).await.unwrap());
    assert!(begun.elapsed() < limit / 2, "took {:?}", begun.elapsed());
    relay.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_no_miss() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    all_fail(&connector.kv(), &[ErrorKind::Unavailable]).await;
    let error = connector.kv().get_raw("key").await.unwrap_err();
    assert!(error.to_string().contains("JetStream does not answer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_the_keys_of_a_missing_bucket_is_told() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    kv.set("key", &1).await.unwrap();
    super::delete_stream(&connector, "b").await;
    let greedy = async_nats::jetstream::stream::Config {
        name: "GREEDY".to_owned(),
        subjects: vec!["$KV.>".to_owned()],
        ..Default::default()
    };
    // The server may still be busy with the deleted stream's files.
    let context = connector.jetstream().unwrap();
    eventually(Duration::from_secs(10), || async {
        context.create_stream(greedy.clone()).await.is_ok()
    })
    .await;
    let error = kv.set("key", &2).await.unwrap_err();
    assert_eq!(error.context("stream"), Some("GREEDY"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_replaces_apart_and_tells_the_loss_of_its_majority() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let connector = connect(&cluster.nodes()[0]).await;
    let config = BucketConfig::new("b").replicas(3);
    let kv = connector.kv().create_bucket(config).await.unwrap();
    kv.set("key", &0).await.unwrap();
    let replaces = (1..=20).map(|n| tokio::spawn(kv.replace("key", &n)));
    for replaced in future::join_all(replaces).await {
        assert!(replaced.unwrap().unwrap().is_some());
    }
    assert_eq!(stream(&connector, "b").await["state"]["last_seq"], 21);
    kv.delete("key").await.unwrap();
    assert_eq!(kv.replace("key", &1).await.unwrap(), None);
    kv.set("key", &1).await.unwrap();

    for node in &mut cluster.nodes_mut()[1..] {
        node.kill().await;
    }
    let begun = Instant::now();
    let outage = [ErrorKind::Unavailable, ErrorKind::Timeout];
    let error = kv.set("key", &2).timeout(LIMIT).await.unwrap_err();
    assert!(outage.contains(&error.kind()), "{error:?}");
    // The write before may still be on its way to the others, and is then in conflict with this one.
    let error = kv.replace("key", &2).timeout(LIMIT).await.unwrap_err();
    assert!(outage.contains(&error.kind()) || error.is_conflict(), "{error:?}");
    // A copy may still answer; a miss it is not.
    match kv.get::<u32>("key").timeout(LIMIT).await {
        Ok(value) => assert!(value.is_some()),
        Err(error) => assert!(outage.contains(&error.kind()), "{error:?}"),
    }
    assert!(begun.elapsed() < LIMIT * 3 + SLACK, "took {:?}", begun.elapsed());
}

/// A number that several clients count up, and who did it last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Count {
    count: u64,
    client: usize,
    turn: u64,
}

/// What a client knows of one of its updates.
#[derive(Debug)]
struct Tried {
    key: usize,
    value: Count,
    /// The revision, or `None` where the answer was lost.
    revision: Option<u64>,
}

const KEYS: usize = 3;

/// Counts one up; nothing where that was refused, which leaves no trace.
async fn count_up(kv: &Kv, key: usize, client: usize, turn: u64) -> Option<Tried> {
    let limit = Duration::from_secs(3);
    let name = format!("count:{key}");
    let outage = [ErrorKind::Unavailable, ErrorKind::Timeout];
    let begun = Instant::now();
    let in_time = |begun: Instant| {
        assert!(begun.elapsed() < limit + SLACK, "a call took {:?}", begun.elapsed());
    };
    let entry = kv.entry::<Count>(&name).consistent().timeout(limit).await;
    in_time(begun);
    let entry = match entry {
        Ok(entry) => entry.expect("the key is there"),
        Err(error) => {
            assert!(outage.contains(&error.kind()), "{error:?}");
            return None;
        }
    };
    let value = Count { count: entry.value.count + 1, client, turn };
    let begun = Instant::now();
    let written = kv.set(&name, &value).if_revision(entry.revision).timeout(limit).await;
    in_time(begun);
    let revision = match written {
        Ok(revision) => Some(revision),
        Err(error) if error.is_timeout() => None,
        Err(error) => {
            assert!(error.is_conflict() || outage.contains(&error.kind()), "{error:?}");
            return None;
        }
    };
    Some(Tried { key, value, revision })
}

/// A leader that ends takes no update with it that was acknowledged, none takes place twice, and
/// what was told to have failed has not taken place.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_leaders_loses_no_update() {
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let builder = Settings::builder().set("NATS.SERVER", cluster.url());
    let builder = builder.set("NATS.MAX_RECONNECT", "-1").set("NATS.RECONNECT_WAIT", "50ms");
    let settings = builder.build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let config = BucketConfig::new("b").replicas(3);
    let kv = connector.kv().create_bucket(config).await.unwrap();
    for key in 0..KEYS {
        let none = Count { count: 0, client: usize::MAX, turn: 0 };
        kv.set(format!("count:{key}"), &none).await.unwrap();
    }
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for client in 0..8 {
        let kv = Connector::connect(&settings).await.unwrap().kv().bucket("b");
        let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
        clients.push(tokio::spawn(async move {
            let mut tried = Vec::new();
            for turn in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let key = (turn as usize + client) % KEYS;
                match count_up(&kv, key, client, turn).await {
                    Some(update) => {
                        let known = u64::from(update.revision.is_some());
                        acknowledged.fetch_add(known, Ordering::Relaxed);
                        tried.push(update);
                    }
                    // While disconnected calls fail at once.
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
            tried
        }));
    }
    for _ in 0..size(2, 30) {
        let before = acknowledged.load(Ordering::Relaxed);
        eventually(Duration::from_secs(60), || async {
            acknowledged.load(Ordering::Relaxed) >= before + 200
        })
        .await;
        kill_leader(&mut cluster, &connector, "b").await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut tried = Vec::new();
    for client in clients {
        tried.extend(client.await.unwrap());
    }
    for key in 0..KEYS {
        check_updates(&kv, key, &tried).await;
    }
}

/// Holds what the clients were told about a key against what there is.
async fn check_updates(kv: &Kv, key: usize, tried: &[Tried]) {
    let mut known = BTreeMap::new();
    for update in tried.iter().filter(|update| update.key == key) {
        if let Some(revision) = update.revision {
            let twice = known.insert(revision, &update.value);
            assert_eq!(twice, None, "one revision for two updates");
        }
    }
    let counts: Vec<u64> = known.values().map(|value| value.count).collect();
    assert!(counts.is_sorted_by(|a, b| a < b), "an update was lost: {counts:?}");
    let lost = tried.iter().filter(|update| update.key == key && update.revision.is_none());
    let lost: Vec<&Count> = lost.map(|update| &update.value).collect();
    let name = format!("count:{key}");
    let last = kv.entry::<Count>(&name).consistent().timeout(Duration::from_secs(30)).await;
    let last = last.unwrap().expect("the key is there");
    // Each step was told to somebody, or its answer was lost.
    let steps: BTreeSet<u64> = counts.iter().copied().collect();
    for step in (1..=last.value.count).filter(|step| !steps.contains(step)) {
        assert!(lost.iter().any(|value| value.count == step), "nobody made step {step} of {name}");
    }
    if let Some((revision, value)) = known.last_key_value() {
        assert!(last.revision >= *revision, "{last:?} is older than {revision}");
        assert!(last.revision > *revision || last.value == **value, "{last:?} is not {value:?}");
    }
    assert!(last.value.count <= (counts.len() + lost.len()) as u64, "a step was made twice");
}
