//! Many at once on one key.

use std::collections::BTreeSet;

use nats_connector::kv::RedisConfig;
use testkit::{Redis, require_redis};

use super::{ask, connect, other_program};

/// 64 tasks on two drivers add one by compare-and-set; none is lost, none counts twice.
#[tokio::test(flavor = "multi_thread")]
async fn compare_and_set() {
    if !require_redis() {
        return;
    }
    let server = Redis::builder().start().await;
    let (_, one) = connect(RedisConfig::new(server.url())).await;
    let (_, two) = connect(RedisConfig::new(server.url()).pool_size(2)).await;
    let rounds = testkit::size(10, 200);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let kv = if task % 2 == 0 { one.clone() } else { two.clone() };
            let kv = kv.with_timeout(super::LIMIT);
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for _ in 0..rounds {
                    let entry = loop {
                        let entry = kv.entry::<u64>("sum").consistent().await.unwrap();
                        let (sum, revision) =
                            entry.map_or((0, 0), |entry| (entry.value, entry.revision));
                        match kv.set("sum", &(sum + 1)).if_revision(revision).await {
                            Ok(revision) => break revision,
                            Err(error) => assert!(error.is_conflict(), "{error}"),
                        }
                    };
                    revisions.push(entry);
                }
                revisions
            })
        })
        .collect();
    let mut revisions = BTreeSet::new();
    for task in tasks {
        let own = task.await.unwrap();
        assert!(own.is_sorted(), "revisions grow");
        revisions.extend(own);
    }
    assert_eq!(revisions.len(), 64 * rounds, "each write has a revision of its own");
    assert_eq!(one.get("sum").await.unwrap(), Some(64 * rounds as u64));
}

/// The portable counter, beside another program's INCR.
#[tokio::test(flavor = "multi_thread")]
async fn increments() {
    if !require_redis() {
        return;
    }
    let server = Redis::builder().start().await;
    let (_, kv) = connect(RedisConfig::new(server.url())).await;
    let rounds = testkit::size(20, 1000);
    let mut tasks: Vec<_> = (0..64)
        .map(|_| {
            let kv = kv.clone().with_timeout(super::LIMIT);
            tokio::spawn(async move {
                for _ in 0..rounds {
                    kv.increment("hits", 1).await.unwrap();
                }
            })
        })
        .collect();
    let mut con = other_program(&server).await;
    tasks.push(tokio::spawn(async move {
        for _ in 0..rounds {
            let _: i64 = ask(&mut con, &["INCR", "hits"]).await;
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(kv.get("hits").await.unwrap(), Some(65 * rounds));
}
