//! What calls do while Redis is away, and after.

use std::time::{Duration, Instant};

use nats_connector::ErrorKind;
use nats_connector::kv::{Kv, RedisConfig};
use testkit::{Proxy, Redis, eventually, require_redis};

use super::{LIMIT, ask, connect, other_program, start};

/// Everything fails in time with a kind that tells that nothing was found out.
async fn all_fail(kv: &Kv, kinds: &[ErrorKind]) {
    let check = |what: &str, kind: ErrorKind| assert!(kinds.contains(&kind), "{what}: {kind:?}");
    check("get", kv.get::<u32>("key").await.unwrap_err().kind());
    check("set", kv.set("key", &2).await.unwrap_err().kind());
    check("delete", kv.delete("key").await.unwrap_err().kind());
    check("keys", kv.keys().await.unwrap_err().kind());
    check("update", kv.update("key", |n: Option<u32>| n).await.unwrap_err().kind());
    check("status", kv.bucket_status().await.unwrap_err().kind());
    check("buckets", kv.buckets().await.unwrap_err().kind());
}

async fn is_back(kv: &Kv) {
    eventually(LIMIT, || async { kv.get::<u32>("key").await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_survived_with_data() {
    if !require_redis() {
        return;
    }
    let (mut server, kv) = start().await;
    let revision = kv.set("key", &1).await.unwrap();
    let other = kv.bucket("other");
    other.set("lived", &1).ttl(Duration::from_secs(3600)).await.unwrap();
    for kill in [false, true] {
        match kill {
            true => server.kill().await,
            false => server.stop().await,
        }
        let begun = Instant::now();
        eventually(LIMIT, || async {
            let error = kv.get::<u32>("key").await.unwrap_err();
            error.kind() == ErrorKind::Unavailable
        })
        .await;
        all_fail(&kv, &[ErrorKind::Unavailable]).await;
        assert!(begun.elapsed() < Duration::from_secs(9), "calls fail without waiting");
        server.restart().await;
        is_back(&kv).await;
        let entry = kv.entry::<u32>("key").await.unwrap().unwrap();
        assert_eq!((entry.value, entry.revision), (1, revision), "what was stored is as it was");
        assert!(other.entry::<u32>("lived").await.unwrap().unwrap().expires.is_some());
    }
    // The scripts are gone from the server's memory, which no call notices.
    let next = kv.set("key", &2).if_revision(revision).await.unwrap();
    assert!(next > revision);
}

/// What was acknowledged is there after a kill, and what failed with `Unavailable` is not.
#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load() {
    if !require_redis() {
        return;
    }
    let mut server = Redis::builder().start().await;
    let (_, kv) = connect(RedisConfig::new(server.url()).pool_size(4)).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let kv = kv.clone();
            tokio::spawn(async move {
                let (mut stored, mut failed, mut outages) = (Vec::new(), Vec::new(), 0);
                for n in 0..testkit::size(3_000, 30_000) {
                    let key = format!("{writer}:{n}");
                    match kv.set(&key, &n).timeout(Duration::from_secs(5)).await {
                        Ok(_) => stored.push(key),
                        Err(error) if error.kind() == ErrorKind::Unavailable => {
                            failed.push(key);
                            outages += 1;
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                        // Nobody knows of these.
                        Err(error) => assert!(error.is_timeout(), "{error}"),
                    }
                }
                (stored, failed, outages)
            })
        })
        .collect();
    for _ in 0..testkit::size(2, 10) {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.restart().await;
    }
    let (mut acknowledged, mut outages) = (0, 0);
    for writer in writers {
        let (stored, failed, met) = writer.await.unwrap();
        acknowledged += stored.len();
        outages += met;
        is_back(&kv).await;
        for (keys, there) in [(stored, true), (failed, false)] {
            let found = kv.get_many_raw(keys).timeout(LIMIT).await.unwrap();
            for (key, value) in found.iter() {
                let value = value.as_ref().unwrap();
                assert_eq!(value.is_some(), there, "{key}: acknowledged {there}");
            }
        }
    }
    assert!(acknowledged > 0 && outages > 0, "{acknowledged} stored, {outages} outages met");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_by_the_deadline() {
    if !require_redis() {
        return;
    }
    let (server, direct) = start().await;
    direct.set("key", &1).await.unwrap();
    let proxy = Proxy::start(server.address());
    let config = RedisConfig::new(proxy.address().to_string());
    let (_, kv) = connect(config.pool_size(1).connect_timeout(Duration::from_secs(1))).await;
    let kv = kv.with_timeout(Duration::from_millis(400));
    assert_eq!(kv.get("key").await.unwrap(), Some(1));

    proxy.black_hole();
    let begun = Instant::now();
    let error = kv.get::<u32>("key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "it was reached and does not answer: {error}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    all_fail(&kv, &[ErrorKind::Timeout, ErrorKind::Unavailable]).await;
    // The connection that answers nobody is given up; new ones cannot be made.
    eventually(LIMIT, || async {
        kv.get::<u32>("key").await.unwrap_err().kind() == ErrorKind::Unavailable
    })
    .await;
    let error = kv.set("key", &3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    proxy.resume();
    is_back(&kv).await;

    // Cut connections are made again.
    for _ in 0..3 {
        proxy.cut();
        eventually(LIMIT, || async { proxy.open() == 0 }).await;
        is_back(&kv).await;
        kv.set("key", &4).await.unwrap();
    }
    proxy.refuse();
    proxy.cut();
    eventually(LIMIT, || async {
        kv.get::<u32>("key").await.unwrap_err().kind() == ErrorKind::Unavailable
    })
    .await;
    proxy.resume();
    is_back(&kv).await;
}

/// A write whose answer is lost is told as one of which nobody knows; a read is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer() {
    if !require_redis() {
        return;
    }
    let (server, direct) = start().await;
    direct.set("read", &1).await.unwrap();
    let proxy = Proxy::start(server.address());
    let (_, kv) = connect(RedisConfig::new(proxy.address().to_string()).pool_size(1)).await;
    assert_eq!(kv.get("read").await.unwrap(), Some(1));
    // The server does it, and its answer is on the way for longer than the connection lives.
    proxy.set_delays(Duration::ZERO, Duration::from_secs(60));
    let write = tokio::spawn(kv.set("written", &1));
    eventually(LIMIT, || async { direct.exists("written").await.unwrap() }).await;
    proxy.set_delays(Duration::ZERO, Duration::ZERO);
    proxy.cut();
    let error = write.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("may be stored"), "{error}");

    is_back(&kv).await;
    let sent = proxy.bytes_to_server();
    proxy.set_delays(Duration::ZERO, Duration::from_secs(60));
    let read = tokio::spawn(kv.get::<u32>("read"));
    eventually(LIMIT, || async { proxy.bytes_to_server() > sent }).await;
    proxy.set_delays(Duration::ZERO, Duration::ZERO);
    proxy.cut();
    assert_eq!(read.await.unwrap().unwrap(), Some(1));
}

/// A server that takes no writes says why.
#[tokio::test]
async fn writes_refused() {
    if !require_redis() {
        return;
    }
    let (server, kv) = start().await;
    kv.set("key", &1).await.unwrap();
    let mut con = other_program(&server).await;
    let _: String = ask(&mut con, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = kv.set("key", &2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("maxmemory"), "{error}");
    assert_eq!(kv.get("key").await.unwrap(), Some(1), "reads go on");
    kv.delete("key").await.unwrap_or_else(|error| {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    });
    let _: String = ask(&mut con, &["CONFIG", "SET", "maxmemory", "0"]).await;
    kv.set("key", &2).await.unwrap();
    let _: String = ask(&mut con, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = kv.set("key", &3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("replica"), "{error}");
}
