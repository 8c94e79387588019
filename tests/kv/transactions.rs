//! Several keys written together or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures::future;
use nats_connector::kv::driver::{Change, Condition, Expiry, Value, Write};
use nats_connector::kv::{BucketConfig, Key, Kv};
use nats_connector::{ErrorKind, Result};
use testkit::{Cluster, Permissions, Server, Version, eventually, require, size};
use tokio::time::Instant;

use super::{connect, connect_with, kill_leader, stream};

fn put<'a>(key: &'a str, value: &'static str, condition: Condition<'a>) -> Write<'a> {
    let change = Change::Put(Value::new(value.into()), Expiry::Never);
    Write { key: Key::new("", key), change, condition }
}

fn delete<'a>(key: &'a str, condition: Condition<'a>) -> Write<'a> {
    Write { key: Key::new("", key), change: Change::Delete, condition }
}

async fn transact(kv: &Kv, bucket: &str, writes: Vec<Write<'_>>) -> Result<Vec<u64>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    kv.driver().unwrap().transaction(bucket, writes, deadline).await
}

async fn text(kv: &Kv, key: &str) -> Option<String> {
    let bytes = kv.get_raw(key).consistent().await.unwrap();
    bytes.map(|bytes| String::from_utf8(bytes.into()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_or_nothing() {
    for version in [Version::V2_15, Version::V2_12] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        for history in [1, 5] {
            let name = format!("b{history}");
            let config = BucketConfig::new(&name).history(history);
            let kv = connector.kv().create_bucket(config).await.unwrap();
            assert!(kv.capabilities().await.unwrap().transactions);
            conditions_hold_for_all(&kv, &name).await;
        }
        // A missing bucket is made, unless no key of a new one can meet the conditions.
        let kv = connector.kv();
        let refused = transact(&kv, "new", vec![put("a", "1", Condition::Revision(3))]).await;
        assert!(refused.unwrap_err().is_conflict());
        let nothing = vec![delete("a", Condition::Always), delete("b", Condition::Revision(0))];
        assert_eq!(transact(&kv, "new", nothing).await.unwrap(), [0, 0]);
        assert_eq!(stream(&connector, "new").await["error"]["err_code"], 10059);
        let first = vec![put("a", "1", Condition::Always), put("b", "2", Condition::Revision(0))];
        assert_eq!(transact(&kv, "new", first).await.unwrap(), [1, 2]);
        assert_eq!(transact(&kv, "new", Vec::new()).await.unwrap(), [0; 0]);
    }
}

async fn conditions_hold_for_all(kv: &Kv, name: &str) {
    let a = kv.set_raw("a", "a0").await.unwrap();
    let b = kv.set_raw("b", "b0").await.unwrap();
    let wrong = vec![
        put("a", "a1", Condition::Revision(a)),
        put("b", "b1", Condition::Revision(a)),
        put("c", "c1", Condition::Always),
    ];
    let before = kv.bucket_status().await.unwrap().unwrap();
    assert!(transact(kv, name, wrong).await.unwrap_err().is_conflict());
    let after = kv.bucket_status().await.unwrap().unwrap();
    assert_eq!((after.messages, after.revision), (before.messages, before.revision));
    assert_eq!(text(kv, "a").await.as_deref(), Some("a0"));

    let mut ending = put("d", "d1", Condition::Revision(0));
    ending.change = Change::Put(Value::new("d1".into()), Expiry::In(Duration::from_secs(1)));
    let mut over = put("e", "e1", Condition::Always);
    over.change = Change::Put(Value::new("e1".into()), Expiry::At(SystemTime::UNIX_EPOCH));
    kv.set_raw("e", "e0").await.unwrap();
    let right = vec![
        put("a", "a1", Condition::Revision(a)),
        delete("b", Condition::Revision(b)),
        put("c", "", Condition::Always),
        ending,
        over,
    ];
    let begun = Instant::now();
    let revisions = transact(kv, name, right).await.unwrap();
    assert_eq!(kv.entry_raw("a").await.unwrap().unwrap().revision, revisions[0]);
    assert_eq!(kv.entry_raw("c").await.unwrap().unwrap().revision, revisions[2]);
    assert_eq!(text(kv, "a").await.as_deref(), Some("a1"));
    assert_eq!(text(kv, "b").await, None);
    assert_eq!(text(kv, "c").await.as_deref(), Some(""));
    assert_eq!(text(kv, "e").await, None);
    let d = text(kv, "d").await;
    assert!(d.as_deref() == Some("d1") || begun.elapsed() > Duration::from_secs(1));
    kv.delete_if_revision("a", revisions[0]).await.unwrap();
    eventually(Duration::from_secs(30), || async { text(kv, "d").await.is_none() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_the_server_takes() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let kv = connector.kv().bucket("b");
    let names: Vec<String> = (0..1001).map(|n| format!("key:{n}")).collect();
    let writes = |count: usize| -> Vec<Write<'_>> {
        names[..count].iter().map(|name| put(name, "1", Condition::Revision(0))).collect()
    };
    for kv in [&kv, &Kv::memory()] {
        let mut all = kv.transaction();
        for name in &names {
            all = all.set(name, &1);
        }
        let refused = all.await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.to_string().contains("at most 1000 writes, this one 1001"), "{refused}");
    }
    assert_eq!(stream(&connector, "b").await["error"]["err_code"], 10059);
    let revisions = transact(&kv, "b", writes(1000)).await.unwrap();
    assert_eq!(revisions, (1..=1000).collect::<Vec<_>>());
    assert!(transact(&kv, "b", writes(1000)).await.unwrap_err().is_conflict());
    let lock = Condition::Held { lock: Key::new("", "key:1"), revision: 2 };
    let refused = transact(&kv, "b", vec![put("a", "1", lock)]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_is_refused_and_says_how_it_could() {
    for version in [Version::V2_11, Version::V2_10, Version::Debian29] {
        if !require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let kv = connector.kv().bucket("b");
        for _ in 0..2 {
            let writes = vec![put("a", "1", Condition::Always), put("b", "1", Condition::Always)];
            let refused = transact(&kv, "b", writes).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
            assert!(refused.to_string().contains("need nats-server 2.12"), "{refused}");
            assert!(!kv.capabilities().await.unwrap().transactions);
            assert_eq!(kv.get_raw("a").await.unwrap(), None);
            // The second time there is a bucket.
            kv.set("other", &1).await.unwrap();
        }
    }

    let server = Server::builder().jetstream().start().await;
    let (connector, admin) = (connect(&server).await, connect(&server).await);
    let without = BucketConfig::new("b").transactions(false);
    let kv = connector.kv().create_bucket(without).await.unwrap();
    assert!(!kv.capabilities().await.unwrap().transactions);
    let writes = || vec![put("a", "1", Condition::Always), put("b", "1", Condition::Always)];
    let refused = transact(&kv, "b", writes()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().contains("BucketConfig::transactions(true)"), "{refused}");
    // Switched on elsewhere: found out without a restart.
    admin.kv().create_bucket(BucketConfig::new("b").transactions(true)).await.unwrap();
    assert_eq!(transact(&kv, "b", writes()).await.unwrap(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_permitted_is_named_and_nothing_is_stored() {
    let publish = ["$JS.API.INFO", "$JS.API.STREAM.INFO.KV_b", "$KV.b.mine.>"];
    let user = Permissions::default().publish(&publish).subscribe(&["_INBOX.>"]);
    let server =
        Server::builder().jetstream().user("admin", "a").user_with("u", "u", &user).start().await;
    let admin = [("NATS.USERNAME", "admin"), ("NATS.PASSWORD", "a")];
    let admin = connect_with(&server, &admin).await;
    admin.kv().bucket("b").set("there", &1).await.unwrap();
    let user = [("NATS.USERNAME", "u"), ("NATS.PASSWORD", "u")];
    let user = connect_with(&server, &user).await;
    let keys = ["mine.1", "theirs", "mine.2"];
    for denied in [keys, ["mine.1", "mine.2", "theirs"]] {
        let writes = denied.iter().map(|key| put(key, "1", Condition::Always)).collect();
        let refused = transact(&user.kv(), "b", writes).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unauthorized, "{refused}");
        assert!(refused.to_string().contains("$KV.b.theirs"), "{refused}");
    }
    assert_eq!(stream(&admin, "b").await["state"]["messages"], 1);
}

/// Moves between accounts from several processes keep the sum, also while leaders change.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_transactions_keep_a_sum_in_a_cluster() {
    const ACCOUNTS: usize = 4;
    let mut cluster = Cluster::start(Server::builder().jetstream()).await;
    let settings = [("NATS.MAX_RECONNECT", "-1"), ("NATS.WHEN_DISCONNECTED", "wait")];
    let settings = settings.into_iter().fold(
        nats_connector::Settings::builder().set("NATS.SERVER", cluster.url()),
        |builder, (key, value)| builder.set(key, value),
    );
    let settings = settings.build().unwrap();
    let connect = || async { nats_connector::Connector::connect(&settings).await.unwrap() };
    let one = connect().await;
    let kv = one.kv().create_bucket(BucketConfig::new("b").replicas(3)).await.unwrap();
    for account in 0..ACCOUNTS {
        kv.set(format!("account:{account}"), &100).await.unwrap();
    }
    let moves = Arc::new(AtomicUsize::new(0));
    let movers: Vec<_> = future::join_all((0..4).map(|_| connect())).await;
    let moving: Vec<_> = movers
        .into_iter()
        .enumerate()
        .map(|(n, connector)| {
            let moves = moves.clone();
            tokio::spawn(async move {
                let kv = connector.kv().bucket("b");
                for turn in n.. {
                    if move_one(&kv, turn % ACCOUNTS, (turn * 7 + 1) % ACCOUNTS).await {
                        moves.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for _ in 0..size(2, 20) {
        let before = moves.load(Ordering::Relaxed);
        let go_on = || async { moves.load(Ordering::Relaxed) >= before + 20 };
        eventually(Duration::from_secs(60), go_on).await;
        kill_leader(&mut cluster, &one, "b").await;
    }
    for mover in moving {
        mover.abort();
        // A panic is one of the test's.
        assert!(mover.await.unwrap_err().is_cancelled());
    }
    // What was given up may still be under way: the accounts as they are between two moves.
    let read = || async {
        let account = |n| kv.entry::<i64>(format!("account:{n}")).consistent();
        future::try_join_all((0..ACCOUNTS).map(account)).await.unwrap()
    };
    let mut accounts = read().await;
    loop {
        let again = read().await;
        if again == accounts {
            break;
        }
        accounts = again;
    }
    let sum: i64 = accounts.into_iter().map(|account| account.unwrap().value).sum();
    assert_eq!(sum, 100 * ACCOUNTS as i64);
}

/// Moves one from an account to another; whether it is known to have been done.
async fn move_one(kv: &Kv, from: usize, to: usize) -> bool {
    if from == to {
        return false;
    }
    let limit = Duration::from_secs(2);
    let (from, to) = (format!("account:{from}"), format!("account:{to}"));
    let read = |key: &str| kv.entry::<i64>(key).consistent().timeout(limit);
    let (Ok(Some(a)), Ok(Some(b))) = (read(&from).await, read(&to).await) else { return false };
    let change = |value: i64| Change::Put(Value::new(value.to_string().into()), Expiry::Never);
    let write = |key, value, revision| Write {
        key: Key::new("", key),
        change: change(value),
        condition: Condition::Revision(revision),
    };
    let writes = vec![write(&from, a.value - 1, a.revision), write(&to, b.value + 1, b.revision)];
    let deadline = Instant::now() + limit;
    let done = kv.driver().unwrap().transaction("b", writes, deadline).await;
    match done {
        Ok(revisions) => {
            assert_eq!(revisions[1], revisions[0] + 1);
            true
        }
        Err(error) => {
            assert!(error.is_retryable(), "{error}");
            false
        }
    }
}
