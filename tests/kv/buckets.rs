//! Making, changing and finding buckets.

use std::time::{Duration, SystemTime};

use futures::future;
use nats_connector::kv::{BucketConfig, KeyCodec, Storage};
use nats_connector::{Connector, ErrorKind};
use serde_json::{Value, json};
use testkit::{Server, Version, require, size};

use super::{api, connect, delete_stream, stream};

/// Asserts that a stream's config has what `expected` says.
#[track_caller]
fn assert_config(stream: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        let found = &stream["config"][name];
        assert_eq!(found, value, "{name} of {stream}");
    }
}

const SECOND: u64 = 1_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_write_makes_a_bucket_that_keeps_last_values() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv();
    assert_eq!(kv.get::<u32>("key").await.unwrap(), None);
    assert_eq!(kv.replace("key", &1).await.unwrap(), None);
    kv.delete("key").await.unwrap();
    assert_eq!(stream(&connector, "default").await["error"]["err_code"], 10059);

    assert_eq!(kv.set("key", &1).await.unwrap(), 1);
    let expected = json!({
        "subjects": ["$KV.default.>"], "max_msgs_per_subject": 1, "discard": "new",
        "storage": "file", "num_replicas": 1, "max_age": 0, "max_bytes": -1, "max_msg_size": -1,
        "allow_rollup_hdrs": true, "deny_delete": true, "deny_purge": false, "allow_direct": true,
        "allow_msg_ttl": true, "subject_delete_marker_ttl": SECOND, "duplicate_window": 120 * SECOND,
    });
    let made = stream(&connector, "default").await;
    assert_config(&made, &expected);
    assert_eq!(made["config"]["metadata"]["nats-connector.key-codec"], "escape");
}

#[tokio::test(flavor = "multi_thread")]
async fn create_bucket_makes_and_changes() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let config = BucketConfig::new("b")
        .ttl(Duration::from_secs(60))
        .replicas(1)
        .storage(Storage::Memory)
        .history(5)
        .max_value_size(1000)
        .max_bytes(1_000_000)
        .description("first")
        .compression(true)
        .key_codec(KeyCodec::Path);
    connector.kv().create_bucket(config.clone()).await.unwrap();
    let expected = json!({
        "max_age": 60 * SECOND, "num_replicas": 1, "storage": "memory", "max_msgs_per_subject": 5,
        "max_msg_size": 1000, "max_bytes": 1_000_000, "description": "first", "compression": "s2",
        "duplicate_window": 60 * SECOND, "allow_direct": true, "allow_msg_ttl": true,
    });
    assert_config(&stream(&connector, "b").await, &expected);
    let made = stream(&connector, "b").await;
    connector.kv().create_bucket(config).await.unwrap();
    assert_eq!(stream(&connector, "b").await["config"], made["config"]);

    let change = BucketConfig::new("b")
        .ttl(Duration::ZERO)
        .history(2)
        .max_bytes(0)
        .compression(false)
        .description("second");
    connector.kv().create_bucket(change).await.unwrap();
    let expected = json!({
        "max_age": 0, "storage": "memory", "max_msgs_per_subject": 2, "max_msg_size": 1000,
        "max_bytes": -1, "description": "second", "compression": "none",
    });
    let changed = stream(&connector, "b").await;
    assert_config(&changed, &expected);
    assert_eq!(changed["config"]["metadata"]["nats-connector.key-codec"], "path");

    let moved = BucketConfig::new("b").storage(Storage::File);
    let error = connector.kv().create_bucket(moved).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("storage"), "{error}");
    let replicated = BucketConfig::new("more").replicas(3);
    let error = connector.kv().create_bucket(replicated).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_others_stay_when_a_bucket_is_changed() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let theirs = async_nats::jetstream::kv::Config {
        bucket: "theirs".to_owned(),
        description: "of another client".to_owned(),
        history: 7,
        republish: Some(async_nats::jetstream::stream::Republish {
            source: "$KV.theirs.>".to_owned(),
            destination: "copies.>".to_owned(),
            headers_only: false,
        }),
        ..Default::default()
    };
    connector.jetstream().unwrap().create_key_value(theirs).await.unwrap();
    let before = stream(&connector, "theirs").await;
    let change = BucketConfig::new("theirs").max_value_size(100);
    let bucket = connector.kv().create_bucket(change).await.unwrap();
    let mut expected = before["config"].clone();
    expected["max_msg_size"] = json!(100);
    assert_eq!(stream(&connector, "theirs").await["config"], expected);
    assert_eq!(bucket.set_raw("k", vec![0; 101]).await.unwrap_err().kind(), ErrorKind::TooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_deleted_elsewhere_is_found_again_or_made_anew() {
    let server = Server::builder().jetstream().start().await;
    let (connector, other) = (connect(&server).await, connect(&server).await);
    let config = BucketConfig::new("b").history(3).description("mine");
    let kv = connector.kv().create_bucket(config).await.unwrap();
    let more = BucketConfig::new("b").max_value_size(100);
    connector.kv().create_bucket(more).await.unwrap();
    kv.set("key", &1).await.unwrap();

    // Gone: reads miss and make nothing, writes make it with this process's config.
    delete_stream(&other, "b").await;
    assert_eq!(kv.get::<u32>("key").await.unwrap(), None);
    assert!(!kv.exists("key").await.unwrap());
    assert_eq!(kv.replace("key", &2).await.unwrap(), None);
    kv.delete("key").await.unwrap();
    assert_eq!(stream(&other, "b").await["error"]["err_code"], 10059);
    // Its revisions are not asserted: a server may go on where the deleted stream ended.
    kv.set("key", &3).await.unwrap();
    let expected = json!({
        "max_msgs_per_subject": 3, "description": "mine", "max_msg_size": 100
    });
    assert_config(&stream(&other, "b").await, &expected);
    assert_eq!(kv.get::<u32>("key").await.unwrap(), Some(3));

    // Gone again: a write alone notices too.
    delete_stream(&other, "b").await;
    kv.set("key", &4).await.unwrap();
    assert_config(&stream(&other, "b").await, &expected);
    assert_eq!(kv.get::<u32>("key").await.unwrap(), Some(4));

    // Deleted and made by others: theirs is used, also with fewer options than ours had.
    delete_stream(&other, "b").await;
    let theirs = json!({
        "name": "KV_b", "subjects": ["$KV.b.>"], "max_msgs_per_subject": 1, "discard": "new",
        "storage": "file", "allow_rollup_hdrs": true, "deny_delete": true,
    });
    api(&other, "STREAM.CREATE.KV_b", theirs).await;
    kv.set("key", &5).await.unwrap();
    assert_eq!(kv.get::<u32>("key").await.unwrap(), Some(5));
    assert!(kv.replace("key", &6).await.unwrap().is_some());
    kv.delete("key").await.unwrap();
    assert_eq!(kv.get::<u32>("key").await.unwrap(), None);
    assert_config(&stream(&other, "b").await, &json!({ "max_msgs_per_subject": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_finds_out_that_a_bucket_lost_its_markers_lifetime() {
    let server = Server::builder().jetstream().start().await;
    let (connector, other) = (connect(&server).await, connect(&server).await);
    let kv = connector.kv().bucket("b");
    kv.set("key", &1).await.unwrap();
    kv.delete("key").await.unwrap();
    delete_stream(&other, "b").await;
    let plain = async_nats::jetstream::kv::Config { bucket: "b".to_owned(), ..Default::default() };
    other.jetstream().unwrap().create_key_value(plain).await.unwrap();
    other.kv().bucket("b").set("key", &2).await.unwrap();
    kv.delete("key").await.unwrap();
    assert_eq!(kv.get::<u32>("key").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_make_one_bucket_one_made_it() {
    for version in [Version::V2_15, Version::V2_10] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connectors = future::join_all((0..4).map(|_| connect(&server))).await;
        for round in 0..5 {
            let config = BucketConfig::new(format!("b{round}")).history(2);
            let make = |connector: &Connector| connector.kv().get_or_create_bucket(config.clone());
            let made = future::try_join_all(connectors.iter().map(make)).await.unwrap();
            assert_eq!(made.iter().filter(|provisioned| provisioned.made).count(), 1);
            assert!(made.iter().all(|provisioned| provisioned.differences.is_empty()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_there_stays_and_its_differences_are_told() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv();
    let config = BucketConfig::new("b").history(2).description("first");
    kv.create_bucket(config).await.unwrap();
    let before = stream(&connector, "b").await;
    let other = BucketConfig::new("b").history(7).ttl(Duration::from_secs(60)).replicas(1);
    let found = kv.get_or_create_bucket(other.max_bytes(5000)).await.unwrap();
    assert!(!found.made);
    let told: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
    let expected =
        ["ttl is none, not 1m", "history is 2, not 7", "max_bytes is no limit, not 5000 bytes"];
    assert_eq!(told, expected);
    assert_eq!(stream(&connector, "b").await["config"], before["config"]);
    // What is there is not refused for what the server could not make.
    assert!(!kv.get_or_create_bucket(BucketConfig::new("b").replicas(3)).await.unwrap().made);
    let error = kv.get_or_create_bucket(BucketConfig::new("c").replicas(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_what_the_server_has_now() {
    for version in [Version::V2_15, Version::V2_10, Version::Debian29] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let (connector, other) = (connect(&server).await, connect(&server).await);
        let kv = connector.kv().bucket("b");
        assert_eq!(kv.bucket_status().await.unwrap(), None);
        assert!(connector.kv().bind_bucket("b").await.unwrap_err().is_not_found());
        let config = BucketConfig::new("b")
            .ttl(Duration::from_secs(60))
            .replicas(1)
            .storage(Storage::Memory)
            .history(5)
            .max_value_size(1000)
            .max_bytes(1_000_000)
            .description("first");
        let begun = SystemTime::now();
        connector.kv().create_bucket(config.clone()).await.unwrap();
        let status = kv.bucket_status().await.unwrap().unwrap();
        let new = version == Version::V2_15;
        let told = config.compression(false).key_codec(KeyCodec::Escape);
        assert_eq!(status.config, told.per_key_ttl(new).transactions(new));
        assert_eq!((status.messages, status.bytes, status.revision), (0, 0, 0));
        let created = status.created.unwrap();
        assert!(created + Duration::from_secs(1) > begun && created <= SystemTime::now());

        // Others write and change it.
        other.kv().bucket("b").set("key", &1).await.unwrap();
        other.kv().bucket("b").set("key", &2).await.unwrap();
        other.kv().create_bucket(BucketConfig::new("b").max_value_size(0)).await.unwrap();
        let status = kv.bucket_status().await.unwrap().unwrap();
        assert_eq!((status.messages, status.revision), (2, 2));
        assert!(status.bytes > 0);
        assert_eq!(status.created, Some(created));
        assert!(status.config.clone().max_value_size(0) == status.config);

        assert!(other.kv().delete_bucket("b").await.unwrap());
        assert!(!other.kv().delete_bucket("b").await.unwrap());
        assert_eq!(kv.bucket_status().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_bucket_is_forgotten_with_its_config() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let config = BucketConfig::new("b").history(3).storage(Storage::Memory);
    let kv = connector.kv().create_bucket(config).await.unwrap();
    kv.set("key", &1).await.unwrap();
    assert!(connector.kv().delete_bucket("b").await.unwrap());
    assert_eq!(kv.get::<u32>("key").await.unwrap(), None);
    kv.set("key", &2).await.unwrap();
    let status = kv.bucket_status().await.unwrap().unwrap();
    assert_eq!(status.config.clone().history(1).storage(Storage::File), status.config);
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_told_apart_from_other_streams_page_by_page() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    assert_eq!(connector.kv().buckets().await.unwrap(), [""; 0]);
    let other = json!({ "name": "ORDERS", "subjects": ["orders"], "storage": "memory" });
    api(&connector, "STREAM.CREATE.ORDERS", other).await;
    // The server gives 1,024 names at once.
    let count = size(1_100, 3_000);
    let names: Vec<usize> = (0..count).collect();
    for names in names.chunks(100) {
        let make = |n: &usize| {
            let config = BucketConfig::new(format!("dev_{n:04}")).storage(Storage::Memory);
            connector.kv().create_bucket(config).timeout(Duration::from_secs(60))
        };
        future::try_join_all(names.iter().map(make)).await.unwrap();
    }
    connector.kv().create_bucket(BucketConfig::new("prod")).await.unwrap();
    let mut expected: Vec<String> = (0..count).map(|n| format!("dev_{n:04}")).collect();
    expected.push("prod".to_owned());
    assert_eq!(connector.kv().buckets().await.unwrap(), expected);
    let dev = connector.kv().with_bucket_prefix("dev_").buckets().await.unwrap();
    assert_eq!(dev.len(), count);
    assert_eq!(dev[7], "0007");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_writes_at_once_make_one_bucket() {
    let server = Server::builder().jetstream().start().await;
    let (one, two) = (connect(&server).await, connect(&server).await);
    let writes = (0..40).map(|n| {
        let kv = if n % 2 == 0 { one.kv() } else { two.kv() };
        kv.bucket("new").set(format!("key:{n}"), &n)
    });
    let mut revisions = future::try_join_all(writes).await.unwrap();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=40).collect::<Vec<_>>());

    // Reads of a bucket that is not there, at once, all miss.
    let reads = (0..40).map(|n| one.kv().bucket("none").get_raw(format!("key:{n}")));
    assert!(future::try_join_all(reads).await.unwrap().iter().all(Option::is_none));
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_of_two_processes_all_succeed() {
    let server = Server::builder().jetstream().start().await;
    let (one, two) = (connect(&server).await, connect(&server).await);
    one.kv().set("counter", &0).await.unwrap();
    let replaces = (0..20).map(|n| {
        let kv = if n % 2 == 0 { one.kv() } else { two.kv() };
        tokio::spawn(kv.replace("counter", &n))
    });
    for replaced in future::join_all(replaces).await {
        assert!(replaced.unwrap().unwrap().is_some());
    }
    let state = stream(&one, "default").await["state"].clone();
    assert_eq!(state["last_seq"], 21, "each replace stored one message: {state}");
}
