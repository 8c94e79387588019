//! Buckets, keys, counters.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use nats_connector::kv::{BucketConfig, NearCacheConfig};
use nats_connector::{Connector, Result};
use tokio::time::timeout;

use crate::{Feature, PATIENCE, told, told_value};

pub(crate) const FEATURES: &[(&str, Feature)] = &[
    ("KV: get, exists", |user, admin| {
        async move {
            admin.kv().bucket("users").set("user:1", &1).await?;
            let users = user.kv().bucket("users");
            let there = users.exists("user:1").await? && users.get("user:1").await? == Some(1);
            told(there.then_some(()))
        }
        .boxed()
    }),
    ("KV: set", |user, admin| {
        async move {
            make(&admin).await?;
            user.kv().bucket("users").set("user:1", &2).await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: replace", |user, admin| {
        async move {
            make(&admin).await?;
            told(user.kv().bucket("users").replace("user:1", &2).await?)?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: delete, purge", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            users.delete("user:1").await?;
            users.purge("user:1").await?;
            stored(&admin, None).await
        }
        .boxed()
    }),
    ("KV: create, set with a lifetime", |user, admin| {
        async move {
            admin.kv().bucket("users").set("other", &1).await?;
            let users = user.kv().bucket("users");
            users.create("user:1", &2).ttl(PATIENCE * 12).await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: take, update, increment", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            told((users.increment("user:1", 1).await? == 2).then_some(()))?;
            users.update("user:1", |value: Option<u32>| value.map(|value| value + 1)).await?;
            told((users.take("user:1").await? == Some(3)).then_some(()))
        }
        .boxed()
    }),
    ("KV: get_many", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            let values: Vec<Option<u32>> = users.get_many(["user:1", "none"]).await?.all()?;
            told((values == [Some(1), None]).then_some(()))
        }
        .boxed()
    }),
    ("KV: keys, history", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            let keys = users.keys().await?;
            let history = users.history("user:1").await?;
            told((keys == ["user:1"] && history.len() == 1).then_some(()))
        }
        .boxed()
    }),
    ("KV: watch", |user, admin| {
        async move {
            make(&admin).await?;
            let mut watch = user.kv().bucket("users").watch("user:*").await?;
            for expected in ["user:1", "Current", "user:2"] {
                let event = timeout(PATIENCE, watch.next()).await.ok().flatten();
                let event = told_value(event)??;
                told((event.key().unwrap_or("Current") == expected).then_some(()))?;
                if expected == "Current" {
                    admin.kv().bucket("users").set("user:2", &1).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }),
    ("KV: near cache", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            let near = users.near_cache(NearCacheConfig::new().max_entries(1)).await?;
            let current = async {
                while !near.near_cache_stats().is_some_and(|stats| stats.current) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            told(timeout(PATIENCE, current).await.ok())?;
            told((near.get("user:1").await? == Some(1)).then_some(()))?;
            told((near.get::<u32>("none").await?.is_none()).then_some(()))
        }
        .boxed()
    }),
    ("KV: lock, guarded write", |user, admin| {
        async move {
            make(&admin).await?;
            let lock = user.kv().bucket("users").lock("one").await?;
            lock.set("user:1", &2).await?;
            lock.release().await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: transaction", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bucket("users");
            users.transaction().set("user:1", &2).set("user:2", &2).await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: bind_bucket, bucket_status", |user, admin| {
        async move {
            make(&admin).await?;
            let users = user.kv().bind_bucket("users").await?;
            told(users.bucket_status().await?)
        }
        .boxed()
    }),
    ("KV: buckets", |user, admin| {
        async move {
            make(&admin).await?;
            told((user.kv().buckets().await? == ["users"]).then_some(()))
        }
        .boxed()
    }),
    ("KV: delete_bucket", |user, admin| {
        async move {
            make(&admin).await?;
            told(user.kv().delete_bucket("users").await?.then_some(()))
        }
        .boxed()
    }),
    ("Counters", |user, _| {
        async move {
            let hits = user.counters("hits");
            let sum = hits.increment("page", 2).await?;
            told((hits.get("page").await? == Some(sum)).then_some(()))
        }
        .boxed()
    }),
    ("KV: a first write that makes the bucket", |user, admin| {
        async move {
            user.kv().bucket("users").set("user:1", &2).await?;
            stored(&admin, Some(2)).await
        }
        .boxed()
    }),
    ("KV: create_bucket, new", |user, _| {
        async move { user.kv().create_bucket(BucketConfig::new("users").history(3)).await.map(drop) }
            .boxed()
    }),
    ("KV: create_bucket, change", |user, admin| {
        async move {
            make(&admin).await?;
            user.kv().create_bucket(BucketConfig::new("users").history(3)).await.map(drop)
        }
        .boxed()
    }),
];

async fn make(admin: &Connector) -> Result<()> {
    admin.kv().bucket("users").set("user:1", &1).await.map(drop)
}

async fn stored(admin: &Connector, value: Option<u32>) -> Result<()> {
    told((admin.kv().bucket("users").get("user:1").await? == value).then_some(()))
}
