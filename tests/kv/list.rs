//! Listing keys: all of them, once, and no others.

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use nats_connector::ErrorKind;
use nats_connector::kv::{BucketConfig, Event, KeyCodec, Kv};
use testkit::{Server, Version, eventually, require, size};

use super::{api, connect, connect_with, delete_stream};

fn sorted(mut keys: Vec<String>) -> Vec<String> {
    keys.sort_unstable();
    keys
}

/// Stores many keys quickly.
async fn fill(kv: &Kv, keys: impl Iterator<Item = String>) {
    let sets = futures::stream::iter(keys).map(|key| kv.set_raw(key, "value"));
    sets.buffer_unordered(256).try_collect::<Vec<_>>().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_with_values_are_listed_and_no_others() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    assert_eq!(kv.keys().await.unwrap(), Vec::<String>::new());
    assert_eq!(kv.item_count().await.unwrap(), 0);
    // Nothing was made for that.
    assert_eq!(super::stream(&connector, "b").await["error"]["err_code"], 10059);

    let app = kv.clone().with_prefix("app");
    for key in ["user:1", "user:2", "user:1:name", "héllo", "*", "a.b", "gone", "purged"] {
        app.set(key, &1).await.unwrap();
    }
    kv.set("user:3", &1).await.unwrap();
    connector.kv().bucket("b").with_prefix("ap").set("x", &1).await.unwrap();
    app.delete("gone").await.unwrap();
    app.purge("purged").await.unwrap();
    app.set("brief", &1).ttl(Duration::from_secs(1)).await.unwrap();
    eventually(Duration::from_secs(30), || async { !app.exists("brief").await.unwrap() }).await;

    let all = ["*", "a.b", "héllo", "user:1", "user:1:name", "user:2"];
    assert_eq!(sorted(app.keys().await.unwrap()), all);
    assert_eq!(app.item_count().await.unwrap(), 6);
    assert_eq!(sorted(app.keys_matching("user:*").await.unwrap()), &all[3..]);
    assert_eq!(sorted(app.keys_matching("user:?").await.unwrap()), ["user:1", "user:2"]);
    assert_eq!(app.keys_matching("user:1").await.unwrap(), ["user:1"]);
    assert_eq!(app.keys_matching("\\*").await.unwrap(), ["*"]);
    assert_eq!(app.keys_matching("none").await.unwrap(), Vec::<String>::new());
    // The text of a prefix is no pattern.
    assert_eq!(app.clone().with_prefix("a*").item_count().await.unwrap(), 0);
    let whole = kv.keys().await.unwrap();
    assert_eq!(whole.len(), 8, "{whole:?}");
    let error = app.keys_matching("[a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    delete_stream(&connector, "b").await;
    assert_eq!(app.keys().await.unwrap(), Vec::<String>::new());
    assert_eq!(app.history("user:1").await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_filters_leaves_nothing_out() {
    for version in [Version::V2_15, Version::V2_10] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        for codec in [KeyCodec::Escape, KeyCodec::Path] {
            let separator = if codec == KeyCodec::Path { ":" } else { "." };
            let name = codec.as_str();
            let settings = [("NATS.KEY_CODEC", name)];
            let connector = connect_with(&server, &settings).await;
            let kv = connector.kv().bucket(name).with_prefix("p");
            let fits = ["user.", "user.1", "user.1.x", "user..", "user.=3A"];
            let fits = fits.map(|key| key.replace('.', separator));
            let others = ["user", "users.1", "x.user.1"].map(|key| key.replace('.', separator));
            fill(&kv, fits.iter().chain(&others).cloned()).await;
            let listed = kv.keys_matching(format!("user{separator}*")).await.unwrap();
            let mut expected = fits.to_vec();
            expected.sort_unstable();
            assert_eq!(sorted(listed), expected, "{name} {version:?}");
        }
        drop(connector);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_come_one_by_one() {
    let n = size(5_000, 100_000);
    let server = Server::builder().jetstream().start().await;
    let settings = [("NATS.SUBSCRIPTION_CAPACITY", "1000")];
    let connector = connect_with(&server, &settings).await;
    let kv = connector.kv().bucket("b");
    fill(&kv, (0..n).map(|n| format!("key:{n}"))).await;

    let mut listed = HashSet::new();
    let mut keys = kv.keys_matching("key:*").timeout(Duration::from_secs(60)).stream();
    while let Some(key) = keys.try_next().await.unwrap() {
        assert!(listed.insert(key), "each key comes once");
        // Written and deleted meanwhile, also what was listed already.
        if listed.len() % 500 == 0 {
            for n in [0, n / 2, n - 1] {
                kv.set_raw(format!("key:{n}"), "other").await.unwrap();
            }
            kv.set_raw(format!("other:{}", listed.len()), "new").await.unwrap();
        }
    }
    assert_eq!(listed.len(), n);
    drop(keys);
    assert_eq!(kv.keys_matching("key:*").timeout(Duration::from_secs(60)).await.unwrap().len(), n);
    eventually(Duration::from_secs(30), || async { consumers(&connector, "b").await == 0 }).await;
}

async fn consumers(connector: &nats_connector::Connector, bucket: &str) -> u64 {
    let call = format!("CONSUMER.NAMES.KV_{bucket}");
    api(connector, &call, serde_json::json!({})).await["total"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_ends_at_its_time_limit() {
    let mut server = Server::builder().jetstream().start().await;
    let connector = connect_with(&server, &[("NATS.MAX_RECONNECT", "-1")]).await;
    let kv = connector.kv().bucket("b");
    fill(&kv, (0..2_000).map(|n| n.to_string())).await;
    let mut keys = kv.keys().timeout(Duration::from_secs(1)).stream();
    keys.try_next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let ended = keys.try_collect::<Vec<_>>().await;
    // What had arrived may still come, an end without an error only when all had.
    if let Err(error) = &ended {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    server.kill().await;
    let error = kv.keys().timeout(Duration::from_millis(700)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
    server.restart().await;
    eventually(Duration::from_secs(20), || async {
        kv.item_count().await.is_ok_and(|n| n == 2_000)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_what_the_bucket_remembers() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().create_bucket(BucketConfig::new("b").history(3)).await.unwrap();
    let kv = kv.with_prefix("app");
    for value in 1..=3 {
        kv.set("a:b", &value).await.unwrap();
        kv.set("a:c", &value).await.unwrap();
    }
    kv.delete("a:b").await.unwrap();
    let told: Vec<String> = kv.history("a:b").await.unwrap().iter().map(short).collect();
    assert_eq!(told, ["a:b=2@3", "a:b=3@5", "a:b deleted@7"]);
    assert_eq!(kv.history("none").await.unwrap().len(), 0);
    kv.purge("a:b").await.unwrap();
    let told: Vec<String> = kv.history("a:b").await.unwrap().iter().map(short).collect();
    assert_eq!(told, ["a:b purged@8"]);
    let error = kv.history("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn short(event: &Event) -> String {
    match event {
        Event::Put(record) => {
            format!("{}={}@{}", record.key, record.decode::<u32>().unwrap(), record.revision)
        }
        Event::Deleted { key, revision } => format!("{key} deleted@{revision}"),
        Event::Purged { key, revision } => format!("{key} purged@{revision}"),
        Event::Expired { key, revision } => format!("{key} expired@{revision}"),
        other => format!("{other:?}"),
    }
}
