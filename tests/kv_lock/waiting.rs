//! Waiting for a lock: no polling, and woken by whatever ends it.

use std::time::Duration;

use nats_connector::ErrorKind;
use nats_connector::kv::{BucketConfig, Kv};
use testkit::{Server, Version, eventually, require};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{LIMIT, connect, handles};

#[tokio::test(flavor = "multi_thread")]
async fn waiting_takes_no_polling_and_a_release_hands_over() {
    let (server, [holder, one, two]) = handles().await;
    let lock = holder.lock("job").await.unwrap();
    let mut waiters = JoinSet::new();
    for kv in [&one, &one, &two, &two] {
        let waiting = kv.lock("job").timeout(LIMIT);
        // Each gives it back by dropping it.
        waiters.spawn(async move { assert!(waiting.await.unwrap().is_held()) });
    }
    let in_msgs = async || server.varz().await["in_msgs"].as_u64().unwrap();
    // Both connections watch, and nothing more is sent.
    eventually(LIMIT, || async { server.varz().await["subscriptions"].as_u64() >= Some(5) }).await;
    let mut before = in_msgs().await;
    let deadline = Instant::now() + LIMIT;
    loop {
        sleep(Duration::from_millis(300)).await;
        let now = in_msgs().await;
        if std::mem::replace(&mut before, now) == now {
            break;
        }
        assert!(Instant::now() < deadline, "it never gets quiet");
    }
    let window = Duration::from_secs(2);
    sleep(window).await;
    let sent = in_msgs().await - before;
    // A renewal of the holder may be among them.
    assert!(sent <= 3, "{sent} messages in {window:?}");

    let begun = Instant::now();
    lock.release().await.unwrap();
    timeout(LIMIT, waiters.join_all()).await.unwrap();
    // The lease is 30 s.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// A holder that is gone without a word: nobody renews its lock.
async fn an_end_frees(kv: &Kv) {
    kv.set("lock:job", "gone").ttl(Duration::from_secs(1)).await.unwrap();
    assert!(kv.lock("job").no_wait().await.unwrap_err().is_conflict());
    let lock = kv.lock("job").timeout(LIMIT).await.unwrap();
    assert!(lock.is_held());
    lock.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lease_frees_who_waits_with_and_without_a_marker() {
    an_end_frees(&Kv::memory()).await;
    let (server, [kv]) = handles().await;
    an_end_frees(&kv).await;

    let history = BucketConfig::new("history").history(5);
    an_end_frees(&kv.create_bucket(history).timeout(LIMIT).await.unwrap()).await;

    // A bucket that somebody made without markers for what expires.
    let connector = connect(&server).await;
    let stream = async_nats::jetstream::stream::Config {
        name: "KV_silent".to_owned(),
        subjects: vec!["$KV.silent.>".to_owned()],
        max_messages_per_subject: 1,
        allow_rollup: true,
        allow_direct: true,
        allow_message_ttl: true,
        ..Default::default()
    };
    connector.jetstream().unwrap().create_stream(stream).await.unwrap();
    an_end_frees(&kv.bucket("silent")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_gives_up_leaves_nothing() {
    let (_server, [holder, kv]) = handles().await;
    let lock = holder.lock("job").await.unwrap();
    let waiter = tokio::spawn(kv.lock("job"));
    sleep(Duration::from_millis(50)).await;
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    // Its turn is free again.
    let next = tokio::spawn(kv.lock("job"));
    lock.release().await.unwrap();
    timeout(LIMIT, next).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_in_a_try_leaves_no_lock() {
    let (_server, [kv, other]) = handles().await;
    // The bucket is there, so that a try is one request.
    kv.set("key", &1).await.unwrap();
    for n in 0..20 {
        let limit = Duration::from_micros(n * 50);
        let _ = timeout(limit, kv.lock("job")).await;
    }
    // Far below the lease of 30 s.
    let lock = other.lock("job").timeout(Duration::from_secs(20)).await.unwrap();
    lock.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_refused() {
    if !require(Version::V2_10) {
        return;
    }
    let server = Server::builder().version(Version::V2_10).jetstream().start().await;
    let error = connect(&server).await.kv().lock("job").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("nats-server 2.11"), "{error}");
}
