//! Key-value: requests to the store, near caches, locks.

use std::time::Duration;

use nats_connector::Connector;
use nats_connector::kv::{BucketConfig, Kv, NearCacheConfig};
use testkit::eventually;

use super::{PATIENCE, Recorded, connectors};

/// A bucket that is there, with per-key lifetimes.
async fn bucket(connector: &Connector) -> Kv {
    connector.kv().create_bucket(BucketConfig::new("users")).await.unwrap().clone()
}

/// What a request to the store moves, with what more does, in order.
fn one(operation: &str, more: &[&str]) -> Vec<String> {
    let of = format!("{{bucket=users,operation={operation}}} 1");
    let mut moved =
        vec![format!("kv_operation_duration_seconds{of}"), format!("kv_operations_total{of}")];
    moved.extend(more.iter().map(|it| (*it).to_owned()));
    moved.sort();
    moved
}

#[tokio::test]
async fn requests_to_the_store_are_counted_by_what_they_are() {
    let recorded = Recorded::begin();
    let (_server, connectors) = connectors().await;
    for (driver, connector) in connectors {
        let kv = bucket(&connector).await;
        recorded.skip();
        let expect = |expected: Vec<String>| {
            assert_eq!(recorded.moved(driver, "NATS"), expected, "{driver}");
        };
        let hit = "kv_hits_total{bucket=users} 1";
        let miss = "kv_misses_total{bucket=users} 1";
        let conflict = "kv_conflicts_total{bucket=users} 1";

        assert_eq!(kv.get::<u32>("ada").await.unwrap(), None);
        expect(one("get", &[miss]));
        let revision = kv.set("ada", &1).await.unwrap();
        expect(one("put", &[]));
        assert!(kv.exists("ada").consistent().await.unwrap());
        expect(one("get", &[hit]));
        // What is read is no value of this type: the store did its part.
        kv.get::<String>("ada").await.unwrap_err();
        expect(one("get", &[hit]));
        kv.set("ada", &2).if_revision(revision + 9).await.unwrap_err();
        expect(one("put", &[conflict]));
        kv.history("ada").await.unwrap();
        expect(one("history", &[]));

        let found = kv.get_many::<u32>(["ada", "bob", "eve"]).await.unwrap().found().unwrap();
        assert_eq!(found.len(), 1);
        let size = "kv_batch_size{bucket=users,operation=get_many} 1";
        let misses = "kv_misses_total{bucket=users} 2";
        expect(one("get_many", &[hit, misses, size]));

        kv.transaction().set("a", &1).set("b", &2).await.unwrap();
        let size = "kv_batch_size{bucket=users,operation=transaction} 1";
        expect(one("transaction", &[size]));

        kv.delete("ada").await.unwrap();
        expect(one("delete", &[]));
        kv.purge("a").await.unwrap();
        expect(one("purge", &[]));

        // Refused before anything is asked.
        kv.set("", &1).await.unwrap_err();
        expect(vec![]);
        let large = vec![0_u8; 2 * 1024 * 1024];
        kv.set_raw("large", large).await.unwrap_err();
        let failed = "kv_failures_total{bucket=users,operation=put,error=too_large} 1";
        expect(one("put", &[failed]));

        connector.drain().await;
        recorded.skip();
        kv.get::<u32>("ada").await.unwrap_err();
        expect(one("get", &["kv_failures_total{bucket=users,operation=get,error=closed} 1"]));
    }
}

#[tokio::test]
async fn a_near_cache_tells_what_it_answers_and_what_it_holds() {
    let recorded = Recorded::begin();
    let (_server, connectors) = connectors().await;
    for (driver, connector) in connectors {
        let kv = bucket(&connector).await;
        let near = kv.near_cache(NearCacheConfig::new().max_entries(2)).await.unwrap();
        let stats = || near.near_cache_stats().unwrap();
        eventually(PATIENCE, || async { stats().current }).await;
        recorded.skip();
        for key in ["a", "b"] {
            near.set(key, &1).await.unwrap();
        }
        eventually(PATIENCE, || async { stats().updates == 2 }).await;
        near.get::<u32>("a").await.unwrap();
        near.get::<u32>("b").await.unwrap();
        let bytes = stats().bytes;
        let moved: Vec<_> = recorded.moved(driver, "NATS");
        let of_near = |moved: &[String]| -> Vec<String> {
            moved.iter().filter(|it| it.starts_with("near_cache")).cloned().collect()
        };
        let expected = [
            format!("near_cache_bytes{{bucket=users}} {bytes}"),
            "near_cache_entries{bucket=users} 2".to_owned(),
            "near_cache_hits_total{bucket=users} 2".to_owned(),
            "near_cache_updates_total{bucket=users} 2".to_owned(),
        ];
        assert_eq!(of_near(&moved), expected, "{driver}");
        // Hits ask nothing of the store.
        assert!(!moved.iter().any(|it| it.contains("operation=get")), "{driver} {moved:?}");

        // One more makes room for itself, and a miss goes to the store.
        assert_eq!(near.get::<u32>("c").await.unwrap(), None);
        let moved = recorded.moved(driver, "NATS");
        assert!(moved.contains(&"near_cache_misses_total{bucket=users} 1".to_owned()), "{moved:?}");
        let evicted = "near_cache_evictions_total{bucket=users} 1".to_owned();
        assert!(moved.contains(&evicted), "{driver} {moved:?}");
        let asked = "kv_operations_total{bucket=users,operation=get} 1".to_owned();
        assert!(moved.contains(&asked), "{driver} {moved:?}");
        assert!(!moved.iter().any(|it| it.contains("bypassed")), "{driver} {moved:?}");
        assert!(!moved.iter().any(|it| it.contains("entries")), "{driver} {moved:?}");

        // What is gone takes no room.
        let bytes = stats().bytes;
        drop(near);
        let gone = [
            format!("near_cache_bytes{{bucket=users}} -{bytes}"),
            "near_cache_entries{bucket=users} -2".to_owned(),
        ];
        assert_eq!(of_near(&recorded.moved(driver, "NATS")), gone, "{driver}");
    }
}

#[tokio::test]
async fn reads_past_a_near_cache_that_lags_are_told_apart() {
    let recorded = Recorded::begin();
    let (mut server, [_, (_, connector)]) = connectors().await;
    let near = bucket(&connector).await.near_cache(NearCacheConfig::new()).await.unwrap();
    near.set("a", &1).await.unwrap();
    let is_current = |current: bool| {
        let near = near.clone();
        move || {
            let stats = near.near_cache_stats().unwrap();
            async move { stats.current == current }
        }
    };
    eventually(PATIENCE, is_current(true)).await;
    server.kill().await;
    eventually(PATIENCE, is_current(false)).await;
    recorded.skip();
    near.get::<u32>("a").timeout(Duration::from_millis(50)).await.unwrap_err();
    let moved = recorded.moved("nats", "NATS");
    for name in ["bypassed", "misses"] {
        let expected = format!("near_cache_{name}_total{{bucket=users}} 1");
        assert!(moved.contains(&expected), "{moved:?}");
    }
}

#[tokio::test]
async fn locks_are_counted_while_they_are_held() {
    let recorded = Recorded::begin();
    let (_server, connectors) = connectors().await;
    for (driver, connector) in connectors {
        let kv = bucket(&connector).await;
        recorded.skip();
        let of_locks = || -> Vec<String> {
            let moved = recorded.moved(driver, "NATS");
            moved.into_iter().filter(|it| it.starts_with("lock")).collect()
        };
        let lock = kv.lock("reports").await.unwrap();
        let taken = [
            "lock_wait_seconds{bucket=users} 1",
            "locks_acquired_total{bucket=users} 1",
            "locks_held{bucket=users} 1",
        ];
        assert_eq!(of_locks(), taken, "{driver}");
        kv.lock("reports").no_wait().await.unwrap_err();
        assert_eq!(of_locks(), ["locks_refused_total{bucket=users} 1"], "{driver}");
        lock.release().await.unwrap();
        assert_eq!(of_locks(), ["locks_held{bucket=users} -1"], "{driver}");

        let lock = kv.lock("reports").await.unwrap();
        assert_eq!(of_locks(), taken, "{driver}");
        kv.delete("lock:reports").await.unwrap();
        lock.set("reports:last", &1).await.unwrap_err();
        lock.lost().await;
        let mut lost = Vec::new();
        let told = || {
            lost.extend(of_locks());
            let both = lost.len() == 2;
            async move { both }
        };
        eventually(PATIENCE, told).await;
        assert_eq!(lost, ["locks_held{bucket=users} -1", "locks_lost_total{bucket=users} 1"]);
    }
}
