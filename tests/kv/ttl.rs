//! Lifetimes of single values: they end in time, and nothing older comes back.

use std::time::{Duration, SystemTime};

use futures::future;
use nats_connector::kv::driver::{Change, Condition, Consistency, Expiry, Found, Value, Write};
use nats_connector::kv::{BucketConfig, Key, Kv};
use nats_connector::{Connector, ErrorKind, Result};
use testkit::{Server, Version, eventually, require, size};
use tokio::time::{Instant, sleep_until};

use super::{connect, stream};

/// The servers that have lifetimes of values.
const CAN: [Version; 3] = [Version::V2_15, Version::V2_12, Version::V2_11];
/// The servers that do not.
const CANNOT: [Version; 2] = [Version::V2_10, Version::Debian29];

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn values_end_in_time_and_nothing_older_comes_back() {
    let runs = CAN.into_iter().filter(|version| require(*version)).map(|version| async move {
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        future::join_all([1, 5].map(|history| all_ways_to_end(&connector, history))).await;
    });
    future::join_all(runs).await;
}

async fn all_ways_to_end(connector: &Connector, history: u8) {
    let config = BucketConfig::new(format!("b{history}")).history(history);
    let kv = connector.kv().create_bucket(config).await.unwrap();
    assert!(kv.capabilities().await.unwrap().ttl);
    let set = |key: &'static str, value: &'static str, seconds: u32| {
        kv.set_raw(key, value).ttl(seconds * SECOND)
    };
    let all = [
        "plain",
        "overwritten",
        "touched",
        "created",
        "replaced",
        "exact",
        "persisted",
        "cleared",
        "longer",
        "updated",
    ];
    for key in all {
        kv.set_raw(key, "old").await.unwrap();
    }
    kv.delete("created").await.unwrap();
    let begun = Instant::now();
    set("plain", "new", 2).await.unwrap();
    set("overwritten", "first", 1).await.unwrap();
    set("overwritten", "new", 2).await.unwrap();
    set("touched", "new", 1).await.unwrap();
    assert!(kv.touch("touched", 2 * SECOND).await.unwrap());
    kv.set_raw("created", "new").if_absent().ttl(2 * SECOND).await.unwrap();
    kv.replace("replaced", &1).ttl(2 * SECOND).await.unwrap().unwrap();
    set("updated", "1", 2).await.unwrap();
    kv.update("updated", |value: Option<u32>| value.map(|value| value + 1)).await.unwrap();
    let at = SystemTime::now() + SECOND * 3 / 2;
    set("exact", "new", 3600).await.unwrap();
    assert!(kv.expire("exact", at).await.unwrap());
    let ends = [
        ("plain", 2 * SECOND),
        ("overwritten", 2 * SECOND),
        ("touched", 2 * SECOND),
        ("created", 2 * SECOND),
        ("replaced", 2 * SECOND),
        ("updated", 2 * SECOND),
        ("exact", SECOND * 3 / 2),
    ];
    // What has no lifetime, or none any more.
    set("persisted", "new", 1).await.unwrap();
    assert!(kv.persist("persisted").await.unwrap());
    set("cleared", "first", 1).await.unwrap();
    kv.set_raw("cleared", "new").await.unwrap();
    set("longer", "new", 3600).await.unwrap();
    let set_after = begun.elapsed();

    let exact = kv.entry_raw("exact").await.unwrap().unwrap().expires.unwrap();
    let apart = exact.duration_since(at).unwrap_or_else(|earlier| earlier.duration());
    assert!(apart <= Duration::from_millis(2), "{exact:?} is not {at:?}");
    let (_, longer) = kv.get_raw_with_expiration("longer").await.unwrap().unwrap();
    let left = longer.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left <= 3600 * SECOND && left > 3590 * SECOND, "{left:?}");
    assert_eq!(kv.get_raw_with_expiration("persisted").await.unwrap().unwrap().1, None);
    assert_eq!(kv.get_raw_with_expiration("cleared").await.unwrap().unwrap().1, None);

    let gone = ends.map(|(key, after)| {
        let kv = kv.clone();
        async move {
            loop {
                let asked = begun.elapsed();
                let value = kv.get_raw(key).await.unwrap();
                let now = begun.elapsed();
                match value {
                    Some(value) => {
                        assert_ne!(value, "old", "{key} came back");
                        // As long as a second later is in time; the rest is a busy machine's.
                        assert!(asked < after + set_after + SECOND, "{key} is there at {asked:?}");
                    }
                    None => {
                        assert!(now >= after, "{key} is gone at {now:?}");
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    future::join_all(gone).await;
    // The server's own lifetimes and those of its markers are over, too.
    sleep_until(begun + set_after + SECOND * 7 / 2).await;
    for (key, _) in ends {
        for consistent in [false, true] {
            let read = kv.get_raw(key);
            let read = if consistent { read.consistent() } else { read };
            assert_eq!(read.await.unwrap(), None, "{key} came back");
        }
    }
    for key in ["persisted", "cleared", "longer"] {
        assert_eq!(kv.get_raw(key).await.unwrap().as_deref(), Some(&b"new"[..]), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_lifetimes_refuse_them_and_do_the_rest() {
    for version in CANNOT {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let kv = connector.kv().bucket("b");
        let refused = |result: Result<()>| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("needs nats-server 2.11"), "{error}");
        };
        refused(kv.set("key", &1).ttl(SECOND).await.map(drop));
        assert_eq!(stream(&connector, "b").await["error"]["err_code"], 10059);
        kv.set("key", &1).await.unwrap();
        let revision = kv.bucket_status().await.unwrap().unwrap().revision;
        refused(kv.set("key", &2).ttl(SECOND).await.map(drop));
        refused(kv.create("other", &2).ttl(SECOND).await.map(drop));
        refused(kv.replace("key", &2).ttl(SECOND).await.map(drop));
        refused(kv.touch("key", SECOND).await.map(drop));
        refused(kv.expire("key", SystemTime::now() + SECOND).await.map(drop));
        let option = BucketConfig::new("b").per_key_ttl(true);
        refused(connector.kv().create_bucket(option).await.map(drop));
        assert_eq!(kv.bucket_status().await.unwrap().unwrap().revision, revision);
        assert!(!kv.capabilities().await.unwrap().ttl);

        assert!(kv.persist("key").await.unwrap());
        kv.set("key", &2).ttl(Duration::ZERO).await.unwrap();
        let (value, expires) = kv.get_with_expiration::<u32>("key").await.unwrap().unwrap();
        assert_eq!((value, expires), (2, None));
        // The bucket's own lifetime is one that old servers know.
        let bucket = BucketConfig::new("short").ttl(SECOND);
        let kv = connector.kv().create_bucket(bucket).await.unwrap();
        kv.set("key", &1).await.unwrap();
        let (_, expires) = kv.get_with_expiration::<u32>("key").await.unwrap().unwrap();
        assert!(expires.unwrap() <= SystemTime::now() + SECOND);
        eventually(SECOND * 3, || async { kv.get::<u32>("key").await.unwrap().is_none() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_lifetimes_says_how_to_switch_them_on() {
    let server = Server::builder().jetstream().start().await;
    let (connector, admin) = (connect(&server).await, connect(&server).await);
    // As another client makes it.
    let theirs = async_nats::jetstream::kv::Config {
        bucket: "theirs".to_owned(),
        history: 3,
        ..Default::default()
    };
    connector.jetstream().unwrap().create_key_value(theirs).await.unwrap();
    let kv = connector.kv().bucket("theirs");
    kv.set("key", &1).await.unwrap();
    assert!(!kv.capabilities().await.unwrap().ttl);
    let error = kv.set("key", &2).ttl(SECOND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("BucketConfig::per_key_ttl(true)"), "{error}");
    assert_eq!(kv.bucket_status().await.unwrap().unwrap().messages, 1);

    // Switched on elsewhere: found out without a restart.
    let on = BucketConfig::new("theirs").per_key_ttl(true);
    admin.kv().create_bucket(on).await.unwrap();
    let made = stream(&connector, "theirs").await;
    assert_eq!(made["config"]["subject_delete_marker_ttl"], 1_000_000_000);
    assert_eq!(made["config"]["max_msgs_per_subject"], 3);
    kv.set("key", &2).ttl(SECOND).await.unwrap();
    assert!(kv.capabilities().await.unwrap().ttl);
    eventually(SECOND * 4, || async { kv.get::<u32>("key").await.unwrap().is_none() }).await;

    // It cannot be switched off again.
    let off = BucketConfig::new("theirs").per_key_ttl(false);
    let error = admin.kv().create_bucket(off).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let without = BucketConfig::new("without").per_key_ttl(false);
    let kv = admin.kv().create_bucket(without).await.unwrap();
    assert!(!kv.capabilities().await.unwrap().ttl);
}

/// A bucket whose server makes short lifetimes longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_lifetime_is_exact_where_the_server_raises_it() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let theirs = async_nats::jetstream::kv::Config {
        bucket: "b".to_owned(),
        history: 3,
        limit_markers: Some(SECOND * 5),
        ..Default::default()
    };
    connector.jetstream().unwrap().create_key_value(theirs).await.unwrap();
    let kv = connector.kv().bucket("b");
    kv.set("key", &1).ttl(SECOND).await.unwrap();
    let begun = Instant::now();
    eventually(SECOND * 30, || async {
        let asked = begun.elapsed();
        let gone = kv.get::<u32>("key").await.unwrap().is_none();
        assert!(gone || asked < SECOND * 2, "kept for {asked:?}");
        gone
    })
    .await;
}

/// From the end of a value on, and before the server takes it away, it is nothing with a revision.
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_value_is_nothing_that_a_create_can_follow() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    for history in [1, 5] {
        let name = format!("b{history}");
        let config = BucketConfig::new(&name).history(history);
        let kv = connector.kv().create_bucket(config).await.unwrap();
        let driver = kv.driver().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let write = |expiry, condition| {
            let change = Change::Put(Value::new("1".into()), expiry);
            let write = Write { key: Key::new("", "key"), change, condition };
            driver.write(&name, write, deadline)
        };
        let at = SystemTime::now() + Duration::from_millis(150);
        let revision = write(Expiry::At(at), Condition::Always).await.unwrap();
        eventually(SECOND * 30, || async {
            let asked = SystemTime::now();
            let gone = kv.get_raw("key").await.unwrap().is_none();
            assert!(gone || asked < at + SECOND, "it is there long after its end");
            gone
        })
        .await;
        assert!(SystemTime::now() >= at);
        let key = Key::new("", "key");
        for consistency in [Consistency::Any, Consistency::Latest] {
            let found = driver.get(&name, key, consistency, deadline).await.unwrap();
            assert_eq!(found, Found::Nothing { revision });
            let many = driver.get_many(&name, &[key, key], consistency, deadline).await;
            assert_eq!(many[0].as_ref().unwrap(), &Found::Nothing { revision });
        }
        kv.set_raw("key", "new").if_absent().await.unwrap();

        // A moment that has passed leaves no value, under every condition.
        let past = Expiry::At(SystemTime::now() - SECOND);
        let error = write(past, Condition::Revision(revision)).await.unwrap_err();
        assert!(error.is_conflict(), "{error}");
        assert_eq!(kv.get_raw("key").await.unwrap().as_deref(), Some(&b"new"[..]));
        write(past, Condition::Always).await.unwrap();
        assert_eq!(kv.get_raw("key").await.unwrap(), None);
        write(past, Condition::Always).await.unwrap();
        kv.set_raw("key", "newer").if_absent().await.unwrap();
        assert!(write(past, Condition::Revision(0)).await.unwrap_err().is_conflict());

        // The lifetime that the server had for the first value takes no later one away.
        tokio::time::sleep(SECOND * 2).await;
        assert_eq!(kv.get_raw("key").await.unwrap().as_deref(), Some(&b"newer"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rewriting_a_value_does_not_make_it_live_longer() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    kv.set("counter", &0).ttl(SECOND * 5).await.unwrap();
    let begun = Instant::now();
    let ends = kv.entry::<u32>("counter").await.unwrap().unwrap().expires.unwrap();
    let mut writes = 0;
    while begun.elapsed() < SECOND * 3 / 2 {
        kv.update("counter", |value: Option<u32>| value.map(|value| value + 1)).await.unwrap();
        let entry = kv.entry::<u32>("counter").await.unwrap().unwrap();
        assert!(entry.expires.unwrap() <= ends, "it lives longer after {writes} writes");
        writes += 1;
    }
    let lost = ends
        .duration_since(kv.entry::<u32>("counter").await.unwrap().unwrap().expires.unwrap())
        .unwrap();
    assert!(lost < Duration::from_millis(50), "{lost:?} after {writes} writes");
    eventually(SECOND * 30, || async { kv.get::<u32>("counter").await.unwrap().is_none() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_and_deletes_leave_no_growing_heap() {
    for version in [Version::V2_15, Version::V2_11, Version::V2_10] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        for history in [1, 5] {
            let config = BucketConfig::new(format!("b{history}")).history(history);
            let kv = connector.kv().create_bucket(config).await.unwrap();
            rounds(&kv, version, history).await;
        }
    }
}

async fn rounds(kv: &Kv, version: Version, history: u8) {
    let status = || async { kv.bucket_status().await.unwrap().unwrap() };
    for _ in 0..size(100, 1000) {
        kv.set("deleted", &1).await.unwrap();
        kv.delete("deleted").await.unwrap();
        kv.set("purged", &1).await.unwrap();
        kv.purge("purged").await.unwrap();
        kv.delete("missing").await.unwrap();
        kv.purge("missing").await.unwrap();
    }
    let left = status().await.messages;
    assert!(left <= u64::from(history) + 2, "{left} messages on {version}, history {history}");
    // What is left goes by itself where the server can, purged keys also where it keeps history.
    let markers = if history == 1 { &["deleted", "purged"][..] } else { &["purged"] };
    let stream = kv.bucket_status().await.unwrap().unwrap().config.name().to_owned();
    let deadline = Instant::now() + Duration::from_secs(10);
    for key in markers {
        let found = kv.driver().unwrap();
        let found = found.get(&stream, Key::new("", key), Consistency::Latest, deadline).await;
        assert!(matches!(found, Ok(Found::Nothing { revision: 1.. })), "{key}");
    }
}
