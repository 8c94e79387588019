//! What a lock does in process and on a server alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nats_connector::kv::{BucketConfig, Kv};
use nats_connector::{Connector, ErrorKind};
use testkit::{eventually, size};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{LEASE, LIMIT, handles};

async fn is_a_lock(kv: &Kv, other: &Kv) {
    let lease = LEASE * 2;
    let lock = kv.lock("job").lease(lease).await.unwrap();
    assert!(lock.is_held());
    assert_eq!(lock.name(), "job");
    let error = other.lock("job").no_wait().await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert_eq!((error.context("lock"), error.context("key")), (Some("job"), Some("lock:job")));
    let begun = Instant::now();
    let limit = Duration::from_millis(300);
    let error = other.lock("job").timeout(limit).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert!(begun.elapsed() >= limit / 2 && begun.elapsed() < LIMIT);
    // Other locks, and those of other namespaces, are others.
    let fence = lock.fence();
    let another = other.lock("job 2").no_wait().await.unwrap();
    let scoped = other.clone().with_prefix("app").lock("job").no_wait().await.unwrap();
    scoped.release().await.unwrap();
    another.release().await.unwrap();

    // It outlives its lease while its holder lives.
    eventually(LIMIT, || async { lock.fence() > fence }).await;
    let fence = lock.fence();
    eventually(LIMIT, || async { lock.fence() > fence }).await;
    eventually(LIMIT, || async { begun.elapsed() > lease * 3 / 2 }).await;
    assert!(lock.is_held());
    assert!(other.lock("job").no_wait().await.unwrap_err().is_conflict());

    // Released, it can be taken at once, with a greater fence.
    let fence = lock.fence();
    lock.release().await.unwrap();
    lock.release().await.unwrap();
    assert!(!lock.is_held());
    timeout(LIMIT, lock.lost()).await.unwrap();
    let next = other.lock("job").no_wait().await.unwrap();
    assert!(next.fence() > fence);
    // The earlier guard gives nothing away any more.
    lock.release().await.unwrap();
    drop(lock);
    assert!(kv.lock("job").no_wait().await.unwrap_err().is_conflict());

    // Dropped, it is given back in the background; who waits gets it.
    let waiter = tokio::spawn(kv.lock("job"));
    drop(next);
    let lock = timeout(LIMIT, waiter).await.unwrap().unwrap().unwrap();

    // Deleted by somebody else, it is lost.
    other.delete("lock:job").await.unwrap();
    let taken = other.lock("job").await.unwrap();
    assert!(taken.is_held());
    let error = lock.set("key", &1).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert!(!lock.is_held());
    timeout(LIMIT, lock.lost()).await.unwrap();
    lock.release().await.unwrap();
    assert!(kv.lock("job").no_wait().await.unwrap_err().is_conflict());
    taken.release().await.unwrap();

    for (name, lease) in [("", LEASE), ("job", Duration::ZERO)] {
        let error = kv.lock(name).lease(lease).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_process() {
    let kv = Kv::memory();
    is_a_lock(&kv, &kv.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server() {
    let (_server, [one, two]) = handles().await;
    is_a_lock(&one, &two).await;
}

/// Contenders of several handles count together, by reads and writes that would lose counts if two
/// held the lock at once.
async fn never_two_holders(handles: &[Kv]) {
    let inside = Arc::new(AtomicUsize::new(0));
    let last_fence = Arc::new(AtomicU64::new(0));
    let rounds = size(2, 20);
    let mut contenders = JoinSet::new();
    for n in 0..64 {
        let (kv, inside, last_fence) =
            (handles[n % handles.len()].clone(), inside.clone(), last_fence.clone());
        contenders.spawn(async move {
            for _ in 0..rounds {
                let lock = kv.lock("count").await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                let fence = lock.fence();
                assert!(last_fence.swap(fence, Ordering::SeqCst) < fence, "the fence went back");
                let count: u32 = kv.get_or("total", 0).consistent().await.unwrap();
                lock.set("total", &(count + 1)).await.unwrap();
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "two holders");
                // One half leaves it to the drop.
                if n % 2 == 0 {
                    lock.release().await.unwrap();
                }
            }
        });
    }
    contenders.join_all().await;
    let total = handles[0].get::<u32>("total").consistent().await.unwrap();
    assert_eq!(total, Some(64 * rounds));
}

#[tokio::test(flavor = "multi_thread")]
async fn never_two_holders_in_process() {
    never_two_holders(&[Kv::memory().with_timeout(LIMIT)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_two_holders_on_a_server() {
    let (_server, handles) = handles::<2>().await;
    never_two_holders(&handles).await;
}

#[tokio::test]
async fn a_bucket_without_lifetimes_is_refused() {
    let kv = Kv::memory();
    let config = BucketConfig::new("plain").per_key_ttl(false);
    let plain = kv.create_bucket(config).await.unwrap();
    let error = plain.lock("job").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_gives_locks_back() {
    let connector = Connector::memory();
    let lock = connector.kv().lock("job").await.unwrap();
    let report = connector.drain().await;
    assert!(report.is_clean());
    assert!(!lock.is_held());
    timeout(LIMIT, lock.lost()).await.unwrap();
    assert_eq!(connector.kv().lock("job").await.unwrap_err().kind(), ErrorKind::Closed);

    let (_server, [kv]) = handles().await;
    let connector = super::connect(&_server).await;
    let lock = connector.kv().lock("job").await.unwrap();
    // A handler that runs while it drains still holds its own.
    let (begun, at_work) = tokio::sync::oneshot::channel();
    let begun = Arc::new(std::sync::Mutex::new(Some(begun)));
    let of_handler = connector.kv();
    connector
        .pubsub()
        .subscribe("work", move |_| {
            let (kv, begun) = (of_handler.clone(), begun.clone());
            async move {
                let lock = kv.lock("handler").await?;
                let begun = begun.lock().unwrap().take();
                begun.unwrap().send(()).unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
                lock.set("written", &1).await.map(drop)
            }
        })
        .await
        .unwrap();
    connector.pubsub().publish("work", &1).await.unwrap();
    at_work.await.unwrap();
    assert!(connector.drain().await.is_clean());
    assert!(!lock.is_held());
    kv.lock("job").no_wait().await.unwrap();
    kv.lock("handler").no_wait().await.unwrap();
    assert_eq!(kv.get("written").await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_lock_wrote_is_not_waited_for() {
    let (_server, [kv]) = handles().await;
    for kv in [kv, Kv::memory()] {
        for value in ["holder", "0123456789abcdef0123456789abcdeg"] {
            kv.set("lock:free", value).await.unwrap();
            for call in [kv.lock("free"), kv.lock("free").no_wait()] {
                let error = timeout(LIMIT / 2, call).await.unwrap().unwrap_err();
                assert!(error.is_conflict(), "{error}");
                assert!(error.to_string().contains("holds a value that is no lock"), "{error}");
            }
        }
        // What ends by itself is waited for, whoever wrote it.
        kv.set("lock:free", "holder").ttl(LEASE).await.unwrap();
        kv.lock("free").await.unwrap().release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_lease_and_lifetimes() {
    let (_server, [kv]) = handles().await;
    for kv in [kv, Kv::memory()] {
        let lock = kv.lock("job").lease(Duration::MAX).await.unwrap();
        assert!(lock.is_held());
        lock.set("guarded", &1).ttl(Duration::MAX).await.unwrap();
        let error = kv.lock("job").timeout(Duration::from_millis(200)).await.unwrap_err();
        assert!(error.is_conflict(), "{error}");
        lock.release().await.unwrap();
        kv.lock("job").no_wait().await.unwrap().release().await.unwrap();
        assert_eq!(kv.get::<u32>("guarded").await.unwrap(), Some(1));
    }
}
