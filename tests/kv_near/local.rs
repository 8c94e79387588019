//! What a near cache does while all is well, on both drivers that tell changes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nats_connector::kv::{Kv, NearCacheConfig};
use nats_connector::{ErrorKind, Serializer};
use testkit::{Proxy, Server, eventually};

use super::{connect, until_current};

/// Runs `test` with two handles on one store of each kind: of this process, and of another.
async fn on_each<F: Future<Output = ()>>(test: impl Fn(Kv, Kv) -> F) {
    let memory = Kv::memory();
    test(memory.clone(), Kv::new(shared(&memory))).await;
    let server = Server::builder().jetstream().start().await;
    let (near, far) = (connect(&server.url()).await, connect(&server.url()).await);
    test(near.kv(), far.kv()).await;
}

/// The store of another handle under a driver of its own, as another process would have it.
fn shared(kv: &Kv) -> nats_connector::kv::MemoryDriver {
    let driver = kv.driver().unwrap();
    let driver: &dyn std::any::Any = &*driver;
    driver.downcast_ref::<nats_connector::kv::MemoryDriver>().unwrap().clone()
}

/// Another bucket for each test, since all drivers of a kind share a server here.
fn bucket(kv: &Kv) -> Kv {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    kv.bucket(format!("near{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn beside(kv: &Kv, bucket: &Kv) -> Kv {
    // The name of the bucket is in the handle's Debug form only.
    let text = format!("{bucket:?}");
    let name = text.split("bucket: Some(\"").nth(1).and_then(|rest| rest.split('"').next());
    kv.bucket(name.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_are_seen_at_once_and_those_of_others_soon() {
    on_each(|near, far| async move {
        let plain = bucket(&near);
        let far = beside(&far, &plain);
        plain.set("there:1", &1).await.unwrap();
        let near = plain.near_cache(NearCacheConfig::new()).await.unwrap();
        until_current(&near).await;
        for round in 0..100 {
            near.set("own", &round).await.unwrap();
            assert_eq!(near.get("own").await.unwrap(), Some(round));
            plain.set("own", &(round + 1000)).await.unwrap();
            assert_eq!(near.get("own").await.unwrap(), Some(round + 1000));
            near.delete("own").await.unwrap();
            assert_eq!(near.get::<u32>("own").await.unwrap(), None);
            assert_eq!(near.increment("count", 1).await.unwrap(), round + 1);
            assert_eq!(near.get("count").await.unwrap(), Some(round + 1));
        }
        far.set("there:1", &2).await.unwrap();
        far.set("new", &3).await.unwrap();
        let seen = || async {
            near.get("there:1").await.unwrap() == Some(2)
                && near.get("new").await.unwrap() == Some(3)
        };
        eventually(Duration::from_secs(10), seen).await;
        far.delete("new").await.unwrap();
        let gone = || async { !near.exists("new").await.unwrap() };
        eventually(Duration::from_secs(10), gone).await;
        far.set_raw("new", "null").await.unwrap();
        let back = || async { near.get::<Option<u8>>("new").await.unwrap() == Some(None) };
        eventually(Duration::from_secs(10), back).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_serializers_and_buckets_stay_apart() {
    on_each(|near, far| async move {
        let plain = bucket(&near);
        let far = beside(&far, &plain);
        let near = plain.near_cache(NearCacheConfig::new()).await.unwrap();
        until_current(&near).await;
        let app = near.clone().with_prefix("app two");
        let packed = app.clone().with_serializer(Serializer::message_pack());
        app.set("user:1", &1).await.unwrap();
        near.set("user:1", &2).await.unwrap();
        assert_eq!(app.get("user:1").await.unwrap(), Some(1));
        assert_eq!(near.get("user:1").await.unwrap(), Some(2));
        packed.set("user:2", &(1, "a")).await.unwrap();
        assert_eq!(app.get("user:2").await.unwrap(), Some((1, "a".to_owned())));
        far.clone().with_prefix("app two").set("user:1", &7).await.unwrap();
        let seen = || async { app.get("user:1").await.unwrap() == Some(7) };
        eventually(Duration::from_secs(10), seen).await;
        assert_eq!(near.get("user:1").await.unwrap(), Some(2));
        // Another bucket's handle has no part in it.
        assert!(near.bucket("other").near_cache_stats().is_none());
        assert_eq!(bucket(&near).get::<u32>("user:1").await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_ends_on_time_in_memory_too() {
    on_each(|near, far| async move {
        let plain = bucket(&near);
        let far = beside(&far, &plain);
        let near = plain.near_cache(NearCacheConfig::new()).await.unwrap();
        until_current(&near).await;
        let ttl = Duration::from_secs(1);
        far.set("far", &1).ttl(ttl).await.unwrap();
        near.set("own", &1).ttl(ttl).await.unwrap();
        let begun = std::time::Instant::now();
        let gone = || async {
            let asked = begun.elapsed();
            let gone = !near.exists("far").await.unwrap() && !near.exists("own").await.unwrap();
            assert!(gone || asked < ttl * 2, "kept for {asked:?}");
            gone
        };
        eventually(Duration::from_secs(30), gone).await;
        let (_, ends) = {
            near.set("own", &2).ttl(ttl * 60).await.unwrap();
            near.get_with_expiration::<u32>("own").await.unwrap().unwrap()
        };
        let left = ends.unwrap().duration_since(std::time::SystemTime::now()).unwrap();
        assert!(left > ttl * 50 && left <= ttl * 60, "{left:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_keys_take_no_network_call_and_one_watch_serves_all_handles() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let kv = connect(&proxy.url()).await.kv().bucket("b");
    for n in 0..100 {
        kv.set(format!("key:{n}"), &n).await.unwrap();
    }
    let mut handles = Vec::new();
    for _ in 0..10 {
        handles.push(kv.near_cache(NearCacheConfig::new()).await.unwrap());
    }
    until_current(&handles[0]).await;
    let client = connect(&server.url()).await.client().unwrap();
    let answer = client.request("$JS.API.CONSUMER.NAMES.KV_b", "".into()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["total"], 1, "{answer}");

    // A missing key is asked for once.
    assert_eq!(handles[0].get::<u32>("missing").await.unwrap(), None);
    let sent = proxy.bytes_to_server();
    for _ in 0..1_000 {
        for (n, near) in handles.iter().enumerate() {
            assert_eq!(near.get(format!("key:{n}")).await.unwrap(), Some(n));
        }
        assert!(!handles[3].exists("missing").await.unwrap());
    }
    // Less than one request, whatever the watch says meanwhile: its own are some hundred bytes.
    assert!(proxy.bytes_to_server() - sent < 20_000, "11,000 reads went to the server");
    let stats = handles[0].near_cache_stats().unwrap();
    assert!(stats.hits >= 11_000 && stats.misses <= 10, "{stats:?}");
    assert_eq!(stats.entries, 101);

    // With the last handle the watch ends.
    handles.clear();
    let ended = || async {
        let answer = client.request("$JS.API.CONSUMER.NAMES.KV_b", "".into()).await.unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer.payload).unwrap()["total"] == 0
    };
    eventually(Duration::from_secs(20), ended).await;
    assert_eq!(kv.get("key:1").await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_and_what_does_not_fit_is_read_from_the_store() {
    on_each(|near, _| async move {
        let plain = bucket(&near);
        let config = NearCacheConfig::new().max_entries(50).max_bytes(100_000);
        let near = plain.near_cache(config.clone()).await.unwrap();
        until_current(&near).await;
        for n in 0..500 {
            near.set_raw(format!("key:{n}"), vec![1; 1_000]).await.unwrap();
        }
        near.set_raw("large", vec![2; 200_000]).await.unwrap();
        let stats = near.near_cache_stats().unwrap();
        assert!(stats.entries == 50 && stats.bytes <= 100_000, "{stats:?}");
        assert!(stats.evictions >= 450, "{stats:?}");
        for n in 0..500 {
            assert_eq!(near.get_raw(format!("key:{n}")).await.unwrap().unwrap().len(), 1_000);
        }
        assert_eq!(near.get_raw("large").await.unwrap().unwrap().len(), 200_000);

        for (config, word) in [
            (config.clone().max_entries(51), "50 entries"),
            (NearCacheConfig::new().max_entries(0), "at least one"),
            (NearCacheConfig::new().max_bytes(0), "at least one"),
        ] {
            let error = plain.near_cache(config).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{error}");
        }
        drop(near);
        for round in 1..50 {
            // Other bounds, as soon as the last handle is gone.
            let one = plain.near_cache(NearCacheConfig::new().max_entries(round)).await.unwrap();
            one.set("key", &round).await.unwrap();
            assert_eq!(one.get("key").await.unwrap(), Some(round));
        }
        let one = plain.near_cache(NearCacheConfig::new().max_entries(1)).await.unwrap();
        until_current(&one).await;
        for _ in 0..5 {
            assert_eq!(one.get("key").await.unwrap(), Some(49));
        }
        let stats = one.near_cache_stats().unwrap();
        assert!(stats.entries == 1 && stats.hits >= 4, "{stats:?}");
    })
    .await;
}
