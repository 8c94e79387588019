//! Writes on a condition: what the key's revision is, or that a lock is still held.

use std::time::{Duration, SystemTime};

use futures::future;
use nats_connector::kv::driver::{Change, Condition, Consistency, Expiry, Found, Value, Write};
use nats_connector::kv::{BucketConfig, Key, Kv};
use nats_connector::{ErrorKind, Result};
use testkit::{Server, Version, eventually, require};
use tokio::time::Instant;

use super::{connect, stream};

const SECOND: Duration = Duration::from_secs(1);

fn key(name: &str) -> Key<'_> {
    Key::new("", name)
}

fn value(expiry: Expiry) -> Change {
    Change::Put(Value::new("1".into()), expiry)
}

async fn write(kv: &Kv, name: &str, change: Change, condition: Condition<'_>) -> Result<u64> {
    let bucket = "b";
    let write = Write { key: key(name), change, condition };
    kv.driver().unwrap().write(bucket, write, Instant::now() + SECOND * 10).await
}

fn conflict<T: std::fmt::Debug>(step: &str, result: Result<T>) {
    match result {
        Err(error) if error.is_conflict() => {}
        other => panic!("{step}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_on_a_revision() {
    let versions = [Version::V2_15, Version::V2_12, Version::V2_11, Version::V2_10];
    for version in versions.into_iter().chain([Version::Debian29]) {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        for history in [1, 5] {
            let connector = connect(&server).await;
            let config = BucketConfig::new("b").history(history);
            let kv = connector.kv().create_bucket(config).await.unwrap();
            on_a_revision(&kv).await;
            assert!(kv.delete_bucket("b").await.unwrap());
        }
    }
}

async fn on_a_revision(kv: &Kv) {
    let all = || [value(Expiry::Never), Change::Delete, Change::Purge];
    for change in all() {
        let name = format!("{change:?}");
        let name = name.as_str();
        conflict("no trace", write(kv, name, change.clone(), Condition::Revision(7)).await);
        let first = kv.set(name, &1).await.unwrap();
        conflict("a value", write(kv, name, change.clone(), Condition::Revision(0)).await);
        let second = kv.set(name, &2).await.unwrap();
        conflict("earlier", write(kv, name, change.clone(), Condition::Revision(first)).await);
        conflict("later", write(kv, name, change.clone(), Condition::Revision(second + 9)).await);
        assert_eq!(kv.get::<u32>(name).await.unwrap(), Some(2));
        let third = write(kv, name, change.clone(), Condition::Revision(second)).await.unwrap();
        assert!(third > second);
        let is_there = matches!(change, Change::Put(..));
        assert_eq!(kv.exists(name).consistent().await.unwrap(), is_there, "{change:?}");
        // What ended a value has a revision, too.
        conflict("ended", write(kv, name, value(Expiry::Never), Condition::Revision(second)).await);
        let fourth = write(kv, name, value(Expiry::Never), Condition::Revision(third)).await;
        assert!(fourth.unwrap() > third);
        assert!(kv.exists(name).consistent().await.unwrap());
    }
    // Nothing to take away, and nothing left behind.
    let messages = || async { kv.bucket_status().await.unwrap().unwrap().messages };
    let before = messages().await;
    for change in [Change::Delete, Change::Purge] {
        assert_eq!(write(kv, "none", change, Condition::Revision(0)).await.unwrap(), 0);
    }
    assert_eq!(messages().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_the_history_away() {
    for version in [Version::V2_15, Version::V2_11, Version::V2_10, Version::Debian29] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let config = BucketConfig::new("b").history(5);
        let kv = connector.kv().create_bucket(config).await.unwrap();
        for n in 0..4 {
            kv.set("key", &n).await.unwrap();
        }
        kv.delete("key").await.unwrap();
        assert_eq!(stream(&connector, "b").await["state"]["messages"], 5);
        kv.purge("key").await.unwrap();
        assert_eq!(stream(&connector, "b").await["state"]["messages"], 1);
        assert_eq!(kv.get::<u32>("key").await.unwrap(), None);
        let context = connector.jetstream().unwrap();
        let stream = context.get_stream("KV_b").await.unwrap();
        let marker = stream.get_last_raw_message_by_subject("$KV.b.key").await.unwrap();
        let header = |name: &str| marker.headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(header("KV-Operation").as_deref(), Some("PURGE"));
        let goes = version == Version::V2_15 || version == Version::V2_11;
        assert_eq!(header("Nats-TTL").as_deref(), goes.then_some("60"), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_a_lock_guards() {
    let versions = [Version::V2_15, Version::V2_12, Version::V2_11];
    let runs = versions.into_iter().filter(|version| require(*version));
    let runs = runs.flat_map(|version| [(version, 1), (version, 5)]);
    future::join_all(runs.map(|(version, history)| async move {
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let kv = connector.kv().bucket("b");
        assert!(kv.capabilities().await.unwrap().fencing);
        let held = Condition::Held { lock: key("lock"), revision: 1 };
        conflict("no bucket", write(&kv, "key", value(Expiry::Never), held).await);
        assert_eq!(stream(&connector, "b").await["error"]["err_code"], 10059);
        let config = BucketConfig::new("b").history(history);
        let kv = connector.kv().create_bucket(config).await.unwrap();
        guarded(&kv).await;
    }))
    .await;
}

async fn guarded(kv: &Kv) {
    let all = || [value(Expiry::Never), value(Expiry::In(SECOND)), Change::Delete, Change::Purge];
    let held = |revision| Condition::Held { lock: key("lock"), revision };
    for change in all() {
        conflict("never held", write(kv, "key", change, held(1)).await);
    }
    let revision = kv.set("lock", &"me").ttl(SECOND * 60).await.unwrap();
    for change in all() {
        kv.set("key", &0).await.unwrap();
        let written = write(kv, "key", change.clone(), held(revision)).await.unwrap();
        assert!(written > revision);
        let is_there = matches!(change, Change::Put(..));
        assert_eq!(kv.exists("key").consistent().await.unwrap(), is_there, "{change:?}");
    }
    // Renewed: the newest revision counts.
    assert!(kv.touch("lock", SECOND * 60).await.unwrap());
    conflict("renewed", write(kv, "key", value(Expiry::Never), held(revision)).await);
    let revision = kv.entry_raw("lock").await.unwrap().unwrap().revision;
    write(kv, "key", value(Expiry::Never), held(revision)).await.unwrap();
    // Given up: neither its last revision nor that of its end.
    kv.delete("lock").await.unwrap();
    for revision in [revision, revision + 2] {
        conflict("given up", write(kv, "key", value(Expiry::Never), held(revision)).await);
    }
    // Passed: from the moment on that the server takes it away, and after its marker is gone.
    let at = SystemTime::now() + Duration::from_millis(200);
    let revision = write(kv, "lock", value(Expiry::At(at)), Condition::Always).await.unwrap();
    let driver = kv.driver().unwrap();
    eventually(SECOND * 30, || async {
        let deadline = Instant::now() + SECOND * 10;
        let found = driver.get("b", key("lock"), Consistency::Stored, deadline).await.unwrap();
        matches!(found, Found::Nothing { .. })
    })
    .await;
    let before = kv.entry_raw("key").await.unwrap();
    for _ in 0..15 {
        for change in all() {
            conflict("passed", write(kv, "key", change, held(revision)).await);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(kv.entry_raw("key").await.unwrap(), before);
}

/// Old servers take no notice of such a condition, so it must not be sent.
#[tokio::test(flavor = "multi_thread")]
async fn servers_without_fencing_refuse_it() {
    for version in [Version::V2_10, Version::Debian29] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let kv = connect(&server).await.kv().bucket("b");
        let revision = kv.set("lock", &1).await.unwrap();
        assert!(!kv.capabilities().await.unwrap().fencing);
        for change in [value(Expiry::Never), Change::Delete, Change::Purge] {
            let held = Condition::Held { lock: key("lock"), revision };
            let error = write(&kv, "key", change, held).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("fencing needs nats-server 2.11"), "{error}");
        }
        assert_eq!(kv.bucket_status().await.unwrap().unwrap().revision, revision);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_revision_is_told_in_the_same_words() {
    let server = Server::builder().jetstream().start().await;
    for kv in [connect(&server).await.kv(), Kv::memory()] {
        kv.set("key", &1).await.unwrap();
        let error = kv.set("key", &2).if_revision(7).await.unwrap_err();
        assert!(error.is_conflict(), "{error}");
        assert!(error.to_string().contains("the key has another revision"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_do_not_show_values() {
    let server = Server::builder().jetstream().max_payload(2048).start().await;
    let kv = connect(&server).await.kv();
    kv.create_bucket(BucketConfig::new("b").max_value_size(100)).await.unwrap();
    let kv = kv.bucket("b");
    kv.set_raw("key", "hunter2").await.unwrap();
    let errors = [
        kv.create("key", &"hunter2").await.map(drop),
        kv.set_raw("key", "hunter2").if_revision(7).await.map(drop),
        kv.set_raw("key", "hunter2".repeat(20)).await.map(drop),
        kv.set_raw("key", "hunter2".repeat(500)).await.map(drop),
        kv.get::<u32>("key").await.map(drop),
        write(&kv, "key", value(Expiry::Never), Condition::Revision(9)).await.map(drop),
    ];
    for error in errors {
        let error = error.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
