//! Many keys at once: each has its own result, whatever the server can and whatever is lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future;
use nats_connector::kv::driver::{Consistency, Found};
use nats_connector::kv::{BucketConfig, Key, Kv};
use nats_connector::{Connector, ErrorKind, Result, Settings};
use serde_json::{Value, json};
use testkit::{Permissions, Proxy, Server, Version, require, size};
use tokio::time::Instant;

use super::{api, connect, connect_with};

/// The values of some keys, as the driver gives them.
async fn read(
    kv: &Kv,
    bucket: &str,
    keys: &[&str],
    consistency: Consistency,
) -> Vec<Result<Found>> {
    let keys: Vec<Key<'_>> = keys.iter().map(|name| Key::new("", name)).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    kv.driver().unwrap().get_many(bucket, &keys, consistency, deadline).await
}

fn value(found: &Result<Found>) -> Option<&[u8]> {
    match found {
        Ok(Found::Value(entry)) => Some(&entry.value.bytes),
        Ok(Found::Nothing { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_has_its_own_result_on_every_server() {
    future::join_all(
        [Version::V2_15, Version::V2_12, Version::V2_11, Version::V2_10, Version::Debian29]
            .into_iter()
            .filter(|version| require(*version))
            .map(own_results),
    )
    .await;
}

async fn own_results(version: Version) {
    let server = Server::builder().version(version).jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    // Of a missing bucket all is missing, and it stays missing.
    let found = read(&kv, "b", &["a", "b"], Consistency::Any).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Found::Nothing { revision: 0 }))));
    assert_eq!(super::stream(&connector, "b").await["error"]["err_code"], 10059);

    kv.set_raw("a", "1").await.unwrap();
    kv.set_raw("empty", "").await.unwrap();
    kv.set_raw("user:1 \"quoted\"", "q").await.unwrap();
    kv.set_raw("gone", "x").await.unwrap();
    kv.delete("gone").await.unwrap();
    let long = "k".repeat(2000);
    let keys = ["missing", "user:1 \"quoted\"", "a", "", "gone", "empty", "a", &long];
    for consistency in [Consistency::Any, Consistency::Latest] {
        let found = read(&kv, "b", &keys, consistency).await;
        assert_eq!(found.len(), keys.len());
        assert_eq!(value(&found[0]), None);
        assert_eq!(value(&found[1]), Some(&b"q"[..]));
        assert_eq!(value(&found[2]), Some(&b"1"[..]));
        assert_eq!(found[3].as_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(matches!(found[4], Ok(Found::Nothing { revision: 5 })), "{:?}", found[4]);
        assert_eq!(value(&found[5]), Some(&b""[..]));
        assert_eq!(value(&found[6]), Some(&b"1"[..]));
        assert_eq!(found[7].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    }
    // What only misses.
    let found = read(&kv, "b", &["x", "y"], Consistency::Any).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Found::Nothing { revision: 0 }))));
}

/// How many messages a connection has sent.
fn sent(connector: &Connector) -> u64 {
    connector.client().unwrap().statistics().out_messages.load(Ordering::Relaxed)
}

/// Sets `key:0` to `key:<n>`, each to its own name.
async fn fill(kv: &Kv, count: usize) {
    let all: Vec<usize> = (0..count).collect();
    for some in all.chunks(500) {
        let set = |n: &usize| kv.set_raw(format!("key:{n}"), format!("value {n}"));
        future::try_join_all(some.iter().map(set)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_keys_than_one_request_can_ask_for() {
    for version in [Version::V2_15, Version::V2_11] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let kv = connector.kv().bucket("b");
        let count = size(2_500, 20_000);
        fill(&kv, count).await;
        // Every second key is there.
        let names: Vec<String> = (0..count * 2).map(|n| format!("key:{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let before = sent(&connector);
        let found = read(&kv, "b", &names, Consistency::Any).await;
        let requests = sent(&connector) - before;
        for (n, found) in found.iter().enumerate() {
            let expected = (n < count).then(|| format!("value {n}"));
            assert_eq!(value(found), expected.as_deref().map(str::as_bytes), "key {n}");
        }
        assert!(requests < count as u64 / 100, "{requests} messages for {} keys", names.len());
    }
}

/// Answers of a size above which a server would give up the connection if it had to keep them all.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_come_in_parts() {
    for version in [Version::V2_15, Version::V2_11] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let memory = BucketConfig::new("b").storage(nats_connector::kv::Storage::Memory);
        let kv = connector.kv().create_bucket(memory).await.unwrap();
        let count = size(120, 1000);
        let large = |n: usize| Bytes::from(vec![n as u8; 200_000]);
        for n in 0..count {
            kv.set_raw(format!("key:{n}"), large(n)).await.unwrap();
        }
        let names: Vec<String> = (0..count).map(|n| format!("key:{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let before = sent(&connector);
        let found = read(&kv, "b", &names, Consistency::Any).await;
        let requests = sent(&connector) - before;
        for (n, found) in found.iter().enumerate() {
            assert!(value(found) == Some(&*large(n)), "key {n} has another value");
        }
        let answers = count as u64 / 20;
        assert!((answers..answers * 3).contains(&requests), "{requests} requests");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_permission_for_many_keys_reads_them_one_by_one() {
    let reads = ["$JS.API.DIRECT.GET.KV_b.>"];
    let reader = Permissions::default().publish(&reads).subscribe(&["_INBOX.>"]);
    let server = Server::builder()
        .jetstream()
        .user("admin", "a")
        .user_with("reader", "r", &reader)
        .start()
        .await;
    let admin = [("NATS.USERNAME", "admin"), ("NATS.PASSWORD", "a")];
    let admin = connect_with(&server, &admin).await;
    fill(&admin.kv().bucket("b"), 20).await;
    let reader = [("NATS.USERNAME", "reader"), ("NATS.PASSWORD", "r")];
    let reader = connect_with(&server, &reader).await;
    let names: Vec<String> = (0..40).map(|n| format!("key:{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..2 {
        let found = read(&reader.kv(), "b", &names, Consistency::Any).await;
        for (n, found) in found.iter().enumerate() {
            let expected = (n < 20).then(|| format!("value {n}"));
            assert_eq!(value(found), expected.as_deref().map(str::as_bytes), "key {n}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_without_direct_reads_and_deleted_ones() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let config = json!({
        "name": "KV_old", "subjects": ["$KV.old.>"], "max_msgs_per_subject": 1, "discard": "new",
        "storage": "file", "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": false,
    });
    api(&connector, "STREAM.CREATE.KV_old", config).await;
    let kv = connector.kv().bucket("old");
    fill(&kv, 3).await;
    let found = read(&kv, "old", &["key:2", "none", "key:0"], Consistency::Any).await;
    let values: Vec<_> = found.iter().map(value).collect();
    assert_eq!(values, [Some(&b"value 2"[..]), None, Some(&b"value 0"[..])]);

    let kv = connector.kv().bucket("b");
    fill(&kv, 3).await;
    api(&connector, "STREAM.DELETE.KV_b", Value::Null).await;
    let found = read(&kv, "b", &["key:0", "key:1"], Consistency::Any).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Found::Nothing { revision: 0 }))));
}

/// Whatever part of an answer a cut takes away, what is left is never taken for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_makes_no_misses() {
    let server = Server::builder().jetstream().start().await;
    let kv = connect(&server).await.kv().bucket("b");
    let count = 2_000;
    fill(&kv, count).await;
    let proxy = Proxy::start(server.address());
    let settings = [
        ("NATS.RECONNECT_WAIT", "1ms"),
        ("NATS.MAX_RECONNECT", "-1"),
        ("NATS.WHEN_DISCONNECTED", "wait"),
    ];
    let mut builder = Settings::builder().set("NATS.SERVER", proxy.url());
    for (key, value) in settings {
        builder = builder.set(key, value);
    }
    let connector = Connector::connect(&builder.build().unwrap()).await.unwrap();
    let kv = connector.kv().bucket("b");
    let names: Vec<String> = (0..count).map(|n| format!("key:{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cutting = tokio::spawn(async move {
        for n in 0..size(15, 200) {
            // Each time at another point of the calls under way.
            tokio::time::sleep(Duration::from_micros(3_000 + n * 1_700 % 11_000)).await;
            proxy.cut();
        }
        proxy
    });
    while !cutting.is_finished() {
        let found = read(&kv, "b", &names, Consistency::Any).await;
        for (n, found) in found.into_iter().enumerate() {
            if let Ok(found) = found {
                let bytes = found.entry().map(|entry| entry.value.bytes);
                assert_eq!(bytes, Some(Bytes::from(format!("value {n}"))), "key {n}");
            }
        }
    }
    let _proxy = cutting.await.unwrap();
    // And it works again.
    let found = read(&kv, "b", &names, Consistency::Any).await;
    assert!(found.iter().all(|found| value(found).is_some()));
}
