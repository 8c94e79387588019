//! Objects and their buckets.

use futures::{FutureExt, StreamExt, TryStreamExt};
use nats_connector::objects::{BucketConfig, Event, Objects};
use nats_connector::{Connector, Result};
use tokio::time::timeout;

use crate::{Feature, PATIENCE, told, told_value};

pub(crate) const FEATURES: &[(&str, Feature)] = &[
    ("Objects: put", |user, admin| {
        async move {
            let there = files(&admin).await?;
            user.objects().bucket("files").put_bytes("new", "bytes").await?;
            told(there.get_bytes("new").consistent().await?)
        }
        .boxed()
    }),
    ("Objects: put over another, delete", |user, admin| {
        async move {
            files(&admin).await?;
            let files = user.objects().bucket("files");
            files.put_bytes("small", "other").await?;
            told(files.delete("small").await?.then_some(()))
        }
        .boxed()
    }),
    ("Objects: info, exists", |user, admin| {
        async move {
            files(&admin).await?;
            told(user.objects().bucket("files").info("small").await?)
        }
        .boxed()
    }),
    ("Objects: get", |user, admin| {
        async move {
            files(&admin).await?;
            let large = user.objects().bucket("files").get_bytes("large").await?;
            told(large.filter(|bytes| bytes.len() == LARGE))
        }
        .boxed()
    }),
    ("Objects: list", |user, admin| {
        async move {
            files(&admin).await?;
            let listed = user.objects().bucket("files").list().await?;
            let listed: Vec<_> = listed.try_collect().await?;
            told((listed.len() == 2).then_some(()))
        }
        .boxed()
    }),
    ("Objects: watch", |user, admin| {
        async move {
            let there = files(&admin).await?;
            let mut watch = user.objects().bucket("files").watch().await?;
            loop {
                let event = timeout(PATIENCE, watch.next()).await.ok().flatten();
                match told_value(event)?? {
                    Event::Current => drop(there.put_bytes("new", "bytes").await?),
                    event if event.name() == Some("new") => return Ok(()),
                    _ => {}
                }
            }
        }
        .boxed()
    }),
    ("Objects: update, rename, link", |user, admin| {
        async move {
            files(&admin).await?;
            let files = user.objects().bucket("files");
            told(files.update("small").description("told").await?)?;
            told(files.rename("small", "renamed").await?)?;
            files.link("link", "renamed").await.map(drop)
        }
        .boxed()
    }),
    ("Objects: bind_bucket, bucket_status", |user, admin| {
        async move {
            files(&admin).await?;
            let files = user.objects().bind_bucket("files").await?;
            told(files.bucket_status().await?)
        }
        .boxed()
    }),
    ("Objects: buckets", |user, admin| {
        async move {
            files(&admin).await?;
            told((user.objects().buckets().await? == ["files"]).then_some(()))
        }
        .boxed()
    }),
    ("Objects: create_bucket, new", |user, _| {
        async move { user.objects().create_bucket("files").await.map(drop) }.boxed()
    }),
    ("Objects: create_bucket, change", |user, admin| {
        async move {
            files(&admin).await?;
            let config = BucketConfig::new("files").description("told");
            user.objects().create_bucket(config).await.map(drop)
        }
        .boxed()
    }),
    ("Objects: delete_bucket", |user, admin| {
        async move {
            files(&admin).await?;
            told(user.objects().delete_bucket("files").await?.then_some(()))
        }
        .boxed()
    }),
];

/// More than one chunk.
const LARGE: usize = 300_000;

/// A bucket with two objects.
async fn files(admin: &Connector) -> Result<Objects> {
    let files = admin.objects().create_bucket("files").await?;
    files.put_bytes("small", "bytes").await?;
    files.put_bytes("large", vec![7; LARGE]).await?;
    Ok(files)
}
