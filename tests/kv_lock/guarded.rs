//! Writes that only the holder can make.

use std::time::Duration;

use nats_connector::kv::driver::{Change, Condition, Expiry, Value, Write};
use nats_connector::kv::{Key, Kv};
use nats_connector::{ErrorKind, Result};
use testkit::{Proxy, eventually};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{LEASE, LIMIT, connect_to, handles};

#[tokio::test(flavor = "multi_thread")]
async fn guarded_writes_are_writes() {
    let (_server, [kv]) = handles().await;
    for kv in [kv, Kv::memory().with_prefix("app")] {
        let lock = kv.lock("job").await.unwrap();
        let revision = lock.set("key", &1).await.unwrap();
        assert_eq!(kv.entry::<u32>("key").await.unwrap().unwrap().revision, revision);
        lock.set_raw("raw", "text").ttl(Duration::from_secs(60)).await.unwrap();
        let entry = kv.entry_raw("raw").await.unwrap().unwrap();
        assert_eq!((&entry.value[..], entry.expires.is_some()), (&b"text"[..], true));
        lock.delete("key").await.unwrap();
        lock.delete("key").await.unwrap();
        assert!(!kv.exists("key").consistent().await.unwrap());
        lock.release().await.unwrap();
        for error in [
            lock.set("key", &1).await.unwrap_err(),
            lock.set_raw("key", "1").await.unwrap_err(),
            lock.delete("raw").await.unwrap_err(),
        ] {
            assert!(error.is_conflict(), "{error}");
            assert_eq!(error.context("lock"), Some("job"));
        }
        assert!(!kv.exists("key").consistent().await.unwrap());
        assert!(kv.exists("raw").consistent().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guarded_writes_and_renewals_do_not_meet() {
    let (_server, [kv]) = handles().await;
    let lock = std::sync::Arc::new(kv.lock("job").lease(LEASE * 2).await.unwrap());
    let first = lock.fence();
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let lock = lock.clone();
        writers.spawn(async move {
            let (mut fence, mut renewals, mut writes) = (first, 0, 0_u64);
            while renewals < 4 {
                lock.set(format!("key{n}"), &writes).await.unwrap();
                writes += 1;
                renewals += u32::from(std::mem::replace(&mut fence, lock.fence()) < lock.fence());
            }
            writes
        });
    }
    let writes: u64 = writers.join_all().await.into_iter().sum();
    assert!(writes > 8);
    assert!(lock.is_held());
}

/// A write under the lock `job` as its holder of then would make it.
async fn write_as_holder(kv: &Kv, revision: u64) -> Result<u64> {
    let lock = Key::new("", "lock:job");
    let write = Write {
        key: Key::new("", "key"),
        change: Change::Put(Value::new("stale".into()), Expiry::Never),
        condition: Condition::Held { lock, revision },
    };
    kv.driver().unwrap().write("default", write, Instant::now() + LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_refuses_a_holder_whose_lease_has_passed() {
    let (server, [kv]) = handles().await;
    let connector = super::connect(&server).await;
    let revision = kv.set("lock:job", "holder").ttl(LEASE).await.unwrap();
    write_as_holder(&kv, revision).await.unwrap();
    let stream = connector.jetstream().unwrap().get_stream("KV_default").await.unwrap();
    let last = async || stream.get_last_raw_message_by_subject("$KV.default.lock=3Ajob").await;
    // It has expired, and its marker stands.
    eventually(LIMIT, || async { last().await.is_ok_and(|it| it.sequence != revision) }).await;
    assert!(write_as_holder(&kv, revision).await.unwrap_err().is_conflict());
    // The marker is gone as well.
    eventually(LIMIT, || async { last().await.is_err() }).await;
    assert!(write_as_holder(&kv, revision).await.unwrap_err().is_conflict());
    // Another one holds it.
    let _lock = kv.lock("job").await.unwrap();
    assert!(write_as_holder(&kv, revision).await.unwrap_err().is_conflict());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_late_is_refused_by_the_server() {
    let (server, [kv]) = handles().await;
    let proxy = Proxy::start(server.address());
    let slow = connect_to(&proxy.url()).await.kv();
    let lock = slow.lock("job").lease(LEASE).await.unwrap();
    lock.set("key", "mine").await.unwrap();
    // What is sent from now on arrives after the lease.
    proxy.set_delays(LEASE * 3 / 2, Duration::ZERO);
    assert!(lock.is_held());
    let late = tokio::spawn(lock.set("key", "stale").timeout(LIMIT));
    let next = kv.lock("job").timeout(LIMIT).await.unwrap();
    next.set("key", "next").await.unwrap();
    let error = late.await.unwrap().unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert_eq!(kv.get::<String>("key").await.unwrap().as_deref(), Some("next"));
    assert!(next.is_held() && !lock.is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_lock_is_no_key_to_write() {
    let (_server, [kv]) = handles().await;
    for kv in [kv, Kv::memory().with_prefix("app")] {
        let lock = kv.lock("job").await.unwrap();
        for error in [
            lock.set("lock:job", &1).await.unwrap_err(),
            lock.set_raw("lock:job", "1").await.unwrap_err(),
            lock.delete("lock:job").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert_eq!(error.context("key"), Some("lock:job"));
        }
        lock.set("lock:other", &1).await.unwrap();
        assert!(lock.is_held());
        lock.release().await.unwrap();
    }
}
