//! Many keys in one call, and many callers of one key, beside what the raw client's users write.

use std::collections::HashMap;

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use nats_connector::kv::Kv;

use super::{Order, Sides, compare, many};

/// Increments of one key by 64 tasks: one compare-and-set loop each, and combined.
pub(super) async fn increments(sides: &Sides) {
    const TASKS: usize = 64;
    const N: usize = TASKS * 40;
    let bucket = sides.connector.kv().bucket("bench_ours");
    compare(
        format!("kv increment, {TASKS} at once"),
        || {
            let sides = sides.clone();
            many(TASKS, N, move || {
                let sides = sides.clone();
                async move { increment(&sides.raw_kv).await }
            })
        },
        || {
            let bucket = bucket.clone();
            many(TASKS, N, move || {
                let bucket = bucket.clone();
                async move {
                    bucket.increment("count", 1).await.unwrap();
                }
            })
        },
    )
    .await;
    let ours = bucket.get_raw("count").consistent().await.unwrap();
    assert_eq!(ours, sides.raw_kv.get("count").await.unwrap(), "both sides counted the same");
}

/// A compare-and-set loop, as it is written with the raw client.
async fn increment(kv: &kv::Store) {
    loop {
        let entry = kv.entry("count").await.unwrap();
        let (count, revision) = entry.map_or((0, 0), |entry| {
            (serde_json::from_slice::<i64>(&entry.value).unwrap(), entry.revision)
        });
        let value = Bytes::from(serde_json::to_vec(&(count + 1)).unwrap());
        match kv.update("count", value, revision).await {
            Ok(_) => return,
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads and writes of many keys.
pub(super) async fn batches(sides: &Sides) {
    let order = Order::of(128);
    let bucket = sides.connector.kv().bucket("bench_ours").with_prefix("many");
    let raw_keys = |n: usize| (0..n).map(|n| format!("many.key-{n}")).collect::<Vec<_>>();
    let keys = |n: usize| (0..n).map(|n| format!("key-{n}")).collect::<Vec<_>>();
    let (raw_all, all) = (raw_keys(10_000), keys(10_000));
    set_raw(sides.raw_kv.clone(), order.clone(), raw_all.clone()).await;
    set_ours(bucket.clone(), order.clone(), all.clone()).await;
    compare(
        "kv set_many 10000, raw 256 at once".to_owned(),
        || set_raw(sides.raw_kv.clone(), order.clone(), raw_all.clone()),
        || set_ours(bucket.clone(), order.clone(), all.clone()),
    )
    .await;
    for (beside, concurrent) in [("one by one", 1), ("256 at once", 256)] {
        let (raw_keys, keys) = (&raw_all[..1000], &all[..1000]);
        compare(
            format!("kv get_many 1000, raw {beside}"),
            || {
                let (sides, keys) = (sides.clone(), raw_keys.to_vec());
                async move {
                    let gets = stream::iter(keys).map(|key| sides.raw_kv.get(key));
                    let gets = gets.buffer_unordered(concurrent);
                    gets.for_each(|value| async move { Order::decode(&value.unwrap().unwrap()) })
                        .await;
                }
            },
            || {
                let (bucket, keys) = (bucket.clone(), keys.to_vec());
                async move {
                    let orders = bucket.get_many::<Order>(keys).await.unwrap().all().unwrap();
                    assert!(orders.iter().all(Option::is_some));
                }
            },
        )
        .await;
    }
    all_values(sides, &bucket).await;
}

async fn set_raw(kv: kv::Store, order: Order, keys: Vec<String>) {
    let puts = stream::iter(keys).map(|key| kv.put(key, order.raw()));
    puts.buffer_unordered(256).try_for_each(|_| async { Ok(()) }).await.unwrap();
}

async fn set_ours(bucket: Kv, order: Order, keys: Vec<String>) {
    let pairs = keys.iter().map(|key| (key, &order));
    bucket.set_many(pairs).await.unwrap().all().unwrap();
}

/// Every value of a bucket: the raw client lists the keys and gets one after the other.
async fn all_values(sides: &Sides, bucket: &Kv) {
    let raw_kv = sides.raw_kv.clone();
    // The raw client lists whole buckets; what others put there is not in the comparison.
    for key in ["order", "count"] {
        raw_kv.purge(key).await.unwrap();
    }
    compare(
        "kv get_all 10000, raw keys and gets".to_owned(),
        || {
            let kv = raw_kv.clone();
            async move {
                let keys: Vec<String> = kv.keys().await.unwrap().try_collect().await.unwrap();
                let mut values = HashMap::with_capacity(keys.len());
                for key in keys {
                    let value = kv.get(&key).await.unwrap().unwrap();
                    let order: Order = serde_json::from_slice(&value).unwrap();
                    values.insert(key, order);
                }
                assert_eq!(values.len(), 10_000);
            }
        },
        || {
            let bucket = bucket.clone();
            async move {
                let values = bucket.get_all::<Order>().await.unwrap();
                assert_eq!(values.len(), 10_000);
            }
        },
    )
    .await;
}
