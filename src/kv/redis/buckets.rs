//! Buckets: a hash of options each, and whatever keys begin with their name.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures::TryStreamExt;
use tokio::time::Instant;

use super::names::{BUCKETS, Names};
use super::pool::{Effect, Pool};
use super::scan::{self, Kind, Scan};
use super::script::{self, Arguments};
use super::{MAX_VALUE_SIZE, reply};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::Filter;
use crate::kv::{BucketConfig, BucketStatus, Key};

/// How many keys one command is about.
const BATCH: usize = 500;

/// The largest value of a bucket.
pub(super) async fn max_value_size(pool: &Pool, names: &Names, deadline: Instant) -> Result<usize> {
    let mut command = ::redis::cmd("HGET");
    command.arg(names.options()).arg("max_value_size");
    let answer = pool.request(&command, Effect::Read, deadline).await?;
    let set: Option<usize> = reply::text(&answer).and_then(|text| text.parse().ok());
    Ok(set.filter(|size| *size > 0).map_or(MAX_VALUE_SIZE, |size| size.min(MAX_VALUE_SIZE)))
}

/// The names of all buckets; the root bucket is always there.
pub(super) async fn list(pool: &Pool, root: &str, deadline: Instant) -> Result<Vec<String>> {
    let mut command = ::redis::cmd("SMEMBERS");
    let answer = pool.request(command.arg(BUCKETS), Effect::Read, deadline).await?;
    let mut names: Vec<String> =
        reply::array(answer)?.iter().filter_map(reply::text).filter(|name| name != root).collect();
    names.push(root.to_owned());
    Ok(names)
}

/// A bucket as it is now, its keys counted one by one.
pub(super) async fn status(
    pool: &Arc<Pool>,
    names: &Names,
    deadline: Instant,
) -> Result<Option<BucketStatus>> {
    let mut command = ::redis::cmd("HGETALL");
    let options = pool.request(command.arg(names.options()), Effect::Read, deadline).await?;
    let number = |name: &str| -> Option<u64> {
        reply::field(&options, name).and_then(reply::text).and_then(|text| text.parse().ok())
    };
    let created = number("created");
    if created.is_none() && !names.is_root() {
        return Ok(None);
    }
    let mut config = BucketConfig::new(names.bucket())
        .ttl(Duration::from_millis(number("ttl").unwrap_or(0)))
        .max_value_size(number("max_value_size").and_then(|n| n.try_into().ok()).unwrap_or(0))
        .history(1)
        .max_bytes(0)
        .compression(false)
        .per_key_ttl(true)
        .transactions(true);
    config.description = reply::field(&options, "description").and_then(reply::text);
    let mut status = BucketStatus::new(config);
    status.revision = number("revision").unwrap_or(0);
    status.created = created.map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
    let all = Filter { prefix: "", glob: None };
    let listed = scan::list(pool.clone(), names.clone(), all, deadline).await?;
    let mut batches = listed.try_chunks(BATCH);
    while let Some(batch) = batches.try_next().await.map_err(|error| error.1)? {
        let mut arguments = Arguments::default();
        for name in &batch {
            // A foreign key may be longer than one of ours; it counts without its size.
            if let Ok([stored, _]) = names.pair(Key::new("", name)) {
                arguments.key(stored);
            }
        }
        let bytes = script::SIZES.run(pool, &arguments, deadline).await?;
        status.messages += batch.len() as u64;
        status.bytes += reply::unsigned(&bytes)?;
    }
    Ok(Some(status))
}

/// Makes a bucket, or with `change` changes one; whether it made it.
pub(super) async fn make(
    pool: &Pool,
    names: &Names,
    config: &BucketConfig,
    change: bool,
    deadline: Instant,
) -> Result<bool> {
    check(config)?;
    if names.is_root() && !change {
        return Ok(false);
    }
    let mut arguments = Arguments::default();
    arguments.key(names.options());
    arguments.key(BUCKETS);
    arguments.value(names.bucket().to_owned());
    arguments.value(if change { "change" } else { "make" });
    let mut option = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            arguments.value(name);
            arguments.value(value);
        }
    };
    option("ttl", config.ttl.map(|ttl| ttl.as_millis().to_string()));
    option("max_value_size", config.max_value_size.map(|size| size.to_string()));
    option("description", config.description.clone());
    let made = script::BUCKET.run(pool, &arguments, deadline).await?;
    Ok(reply::integer(&made)? == 1)
}

/// Refuses what Redis cannot do for one bucket.
fn check(config: &BucketConfig) -> Result<()> {
    let replicas = "copies are kept by the servers that replicate the whole Redis server";
    let refused = [
        (config.replicas.is_some_and(|n| n > 1), "replicas", replicas),
        (
            config.storage.is_some(),
            "storage",
            "the Redis server decides where all its data is kept",
        ),
        (config.history.is_some_and(|n| n > 1), "history", "Redis keeps no earlier values"),
        (
            config.max_bytes.is_some_and(|n| n > 0),
            "max_bytes",
            "Redis limits the whole server (maxmemory), not a bucket",
        ),
        (config.compression == Some(true), "compression", "Redis does not compress values"),
        (config.key_codec.is_some(), "key_codec", "Redis stores any key as it is"),
        (config.per_key_ttl == Some(false), "per_key_ttl", "Redis has it in every bucket"),
        (config.transactions == Some(false), "transactions", "Redis has them in every bucket"),
    ];
    match refused.into_iter().find(|(asked, ..)| *asked) {
        None => Ok(()),
        Some((_, option, why)) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("a bucket in Redis cannot have the option {option}: {why}"),
        )),
    }
}

/// Deletes a bucket with all its keys, some at a time; whether there was one.
pub(super) async fn delete(pool: &Arc<Pool>, names: &Names, deadline: Instant) -> Result<bool> {
    if names.is_root() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the root bucket cannot be deleted: its keys are all plain ones of the database, \
             another program's too; delete keys or flush a prefix",
        ));
    }
    let mut command = ::redis::cmd("HEXISTS");
    command.arg(names.options()).arg("created");
    let exists = pool.request(&command, Effect::Read, deadline).await?;
    if reply::integer(&exists)? == 0 {
        return Ok(false);
    }
    for pattern in [names.pattern(&Filter { prefix: "", glob: None }), names.traces()] {
        let mut scan = Scan::start(pool.clone(), pattern, Kind::Any, deadline).await?;
        while let Some(keys) = scan.next().await? {
            for batch in keys.chunks(BATCH) {
                let mut command = ::redis::cmd("UNLINK");
                pool.request(command.arg(batch), Effect::Write, deadline).await?;
            }
        }
    }
    // Last: when this call ends early, the next one finds the bucket and goes on.
    let mut command = ::redis::cmd("SREM");
    command.arg(BUCKETS).arg(names.bucket());
    pool.request(&command, Effect::Write, deadline).await?;
    let mut command = ::redis::cmd("UNLINK");
    pool.request(command.arg(names.options()), Effect::Write, deadline).await?;
    Ok(true)
}
