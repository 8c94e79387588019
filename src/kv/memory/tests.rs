//! What only this driver promises.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::kv::Kv;
use crate::kv::driver::What;

const LIMIT: Duration = Duration::from_secs(10);

async fn next(signals: &mut BoxStream<'static, Result<Signal>>) -> Option<Result<Signal>> {
    timeout(LIMIT, signals.next()).await.unwrap()
}

async fn told(signals: &mut BoxStream<'static, Result<Signal>>) -> Signal {
    next(signals).await.unwrap().unwrap()
}

fn ended(signal: Signal) -> (String, What) {
    match signal {
        Signal::Update(update) => (update.key, update.what),
        other => panic!("{other:?} is no update"),
    }
}

async fn watch(driver: &MemoryDriver, bucket: &str) -> BoxStream<'static, Result<Signal>> {
    let filter = Filter { prefix: "", glob: None };
    driver.watch(bucket, filter, Instant::now() + LIMIT).await.unwrap()
}

#[tokio::test]
async fn a_reader_that_missed_a_trace_begins_anew() {
    let driver = MemoryDriver::new();
    let lifetime = Duration::from_secs(1);
    let kv = Kv::new(driver.clone());
    let kv = kv.create_bucket(BucketConfig::new("b").ttl(lifetime)).await.unwrap();
    kv.set("key", &1).await.unwrap();
    let mut signals = watch(&driver, "b").await;
    assert!(matches!(told(&mut signals).await, Signal::Update(_)));
    assert_eq!(told(&mut signals).await, Signal::Current);

    kv.delete("key").await.unwrap();
    let deadline = Instant::now() + LIMIT;
    while kv.bucket_status().await.unwrap().unwrap().messages > 0 {
        assert!(Instant::now() < deadline, "the trace stays");
        sleep(lifetime / 10).await;
    }
    assert_eq!(told(&mut signals).await, Signal::Reset);
    assert_eq!(ended(told(&mut signals).await), ("key".to_owned(), What::Deleted));
    assert_eq!(told(&mut signals).await, Signal::Current);
}

#[tokio::test]
async fn a_slow_reader_costs_nothing_and_misses_no_latest_change() {
    let driver = MemoryDriver::new();
    let kv = Kv::new(driver.clone()).bucket("b");
    let mut signals = watch(&driver, "b").await;
    assert_eq!(told(&mut signals).await, Signal::Current);
    for round in 0..1000 {
        kv.set(format!("key:{}", round % 7), &round).await.unwrap();
    }
    assert_eq!(kv.bucket_status().await.unwrap().unwrap().messages, 7);
    for _ in 0..7 {
        let (_, what) = ended(told(&mut signals).await);
        assert!(matches!(what, What::Put(entry) if entry.revision > 993));
    }
    assert!(timeout(Duration::from_millis(50), signals.next()).await.is_err());
}

#[tokio::test]
async fn closing_ends_watches_and_listings_with_an_error() {
    let driver = MemoryDriver::new();
    let mut signals = watch(&driver, "b").await;
    let mut elsewhere = watch(&driver, "gone").await;
    driver.delete_bucket("gone", Instant::now() + LIMIT).await.unwrap();
    for signals in [&mut signals, &mut elsewhere] {
        while timeout(Duration::from_millis(50), signals.next()).await.is_ok() {}
    }
    driver.close();
    for signals in [&mut signals, &mut elsewhere] {
        assert!(next(signals).await.unwrap().unwrap_err().is_closed());
        assert!(next(signals).await.is_none());
    }
}

#[tokio::test]
async fn traces_are_counted_and_go_with_their_keys_next_value() {
    let kv = Kv::memory().bucket("b");
    for round in 0..1000 {
        kv.set("key", &round).await.unwrap();
        kv.delete("key").await.unwrap();
    }
    assert_eq!(kv.bucket_status().await.unwrap().unwrap().messages, 1);
    for _ in 0..3 {
        kv.delete("never").await.unwrap();
        kv.purge("never").await.unwrap();
    }
    let status = kv.bucket_status().await.unwrap().unwrap();
    assert_eq!((status.messages, status.revision), (1, 2000), "deletes of nothing change nothing");
}

#[tokio::test]
async fn nothing_is_done_before_the_first_poll() {
    let driver = MemoryDriver::new();
    let config = BucketConfig::new("b");
    drop(driver.create_bucket(&config, Instant::now() + LIMIT));
    assert!(driver.buckets(Instant::now() + LIMIT).await.unwrap().is_empty());
}
