//! The Redis key-value driver (feature `redis`).
//!
//! - Values are plain strings under plain names, as any Redis client reads and writes them: a prefix
//!   is joined by `:`, so `myapp` stores `myapp:user:123`. One bucket, the root bucket (`default`),
//!   has no mark of its own; another one's keys are `@bucket:user:123`.
//! - Beside each value there is a trace with its revision and digest, written by the same script and
//!   with the same expiry. A value that another program stored has none that fits; it gets a new
//!   revision when it is read, so a compare-and-set that stood on the old one fails.
//! - Revisions are microseconds of the server's clock that never go back, so none is given twice, also
//!   when a bucket or the whole database was emptied. Deletes leave a trace for a minute.
//! - Every write is one script: nothing comes between its steps.
//! - Lifetimes are the server's, by its clock. A bucket's own is given to each value as it is written.
//! - A write whose connection is lost before the answer ends with `Timeout`: nobody knows.

mod buckets;
mod config;
mod dial;
mod line;
mod names;
mod pool;
mod read;
mod reply;
mod scan;
mod script;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;

pub use self::config::RedisConfig;
use self::dial::Dialer;
use self::names::{BUCKETS, Names};
use self::pool::Pool;
use self::script::Arguments;
use super::driver::{
    Capabilities, Change, Condition, Consistency, Driver, Expiry, Filter, Found, Signal, Update,
    Write,
};
use super::{BucketConfig, BucketStatus, Key};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};

/// The longest string that Redis holds unless it is told otherwise.
const MAX_VALUE_SIZE: usize = 512 * 1024 * 1024;

/// How many keys are read together: far less work than a millisecond, so that others get their turn.
const KEYS_AT_ONCE: usize = 64;
/// How many such reads are under way for one call.
const READS_AT_ONCE: usize = 4;

/// A key-value store in Redis 6.2 or newer; see [`kv`](crate::kv). Cheap to clone; clones share
/// connections, which end with the last one.
///
/// It has compare-and-set, lifetimes, fencing and transactions, and no watch, history or media types:
/// values are read with the handle's own serializer. Redis Cluster is not supported.
///
/// Listing goes through all keys of the database, a part at a time; so do a bucket's status and its
/// deletion, and with the status `bind_bucket`. The root bucket is always there and cannot be
/// deleted.
///
/// ```no_run
/// use nats_connector::kv::{Kv, RedisConfig, RedisDriver};
///
/// # async fn example() -> nats_connector::Result<()> {
/// let driver = RedisDriver::connect(RedisConfig::new("localhost:6379")).await?;
/// let kv = Kv::new(driver).with_prefix("myapp");
/// kv.set("user:123", &"Ada").await?; // SET myapp:user:123 "\"Ada\""
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RedisDriver {
    pool: Arc<Pool>,
    root: Arc<str>,
}

impl RedisDriver {
    /// Connects, which proves address, login and server; the other connections of the pool are made
    /// when they are first needed. Ends within the connect timeout.
    ///
    /// When the connection is lost later, calls fail with `Unavailable` until it can be made again,
    /// which each of them tries.
    ///
    /// # Errors
    ///
    /// `InvalidSettings` for a wrong option or file, `Unauthorized`, `Unavailable`, and
    /// `Unsupported` for a server older than 6.2 and for Redis Cluster.
    pub async fn connect(config: RedisConfig) -> Result<Self> {
        let config = config.checked()?;
        let (size, root) = (config.pool_size, config.root_bucket.as_str().into());
        let deadline = after(config.connect_timeout);
        let pool = Pool::connect(Dialer::new(config), size, deadline).await;
        let pool = pool.map_err(|error| error.operation("connect to Redis"))?;
        Ok(RedisDriver { pool: Arc::new(pool), root })
    }

    /// Ends the driver and all its clones: calls under way get their answers, later ones fail with
    /// `Closed`.
    pub fn close(&self) {
        self.pool.close();
    }

    fn names(&self, bucket: &str) -> Names {
        Names::new(bucket, &self.root)
    }

    async fn read(
        &self,
        names: &Names,
        keys: &[[String; 2]],
        deadline: Instant,
    ) -> Result<Vec<Result<Found>>> {
        read::read(&self.pool, &names.options(), keys, deadline).await
    }

    /// Reads some of the keys of a call; each has its own result.
    async fn read_some(
        &self,
        bucket: &str,
        keys: &[Key<'_>],
        deadline: Instant,
    ) -> Vec<Result<Found>> {
        let names = self.names(bucket);
        let pairs: Vec<Result<[String; 2]>> = keys.iter().map(|key| names.pair(*key)).collect();
        let good: Vec<[String; 2]> =
            pairs.iter().filter_map(|pair| pair.as_ref().ok()).cloned().collect();
        let mut found = match good.is_empty() {
            true => Ok(Vec::new().into_iter()),
            false => self.read(&names, &good, deadline).await.map(Vec::into_iter),
        };
        let each = |pair: Result<[String; 2]>| {
            pair.and_then(|_| match &mut found {
                Ok(found) => found.next().unwrap_or_else(|| Err(reply::unexpected())),
                // One error for all of them: what is asked together fails together.
                Err(error) => {
                    let again = Error::new(error.kind(), error.message().to_owned());
                    Err(again.with("server", self.pool.server()))
                }
            })
        };
        pairs.into_iter().map(each).collect()
    }

    async fn change(
        &self,
        bucket: &str,
        writes: Vec<Write<'_>>,
        deadline: Instant,
    ) -> Result<Vec<u64>> {
        let names = self.names(bucket);
        let mut arguments = Arguments::default();
        arguments.key(names.options());
        arguments.key(BUCKETS);
        arguments.value(names.bucket().to_owned());
        let mut steps = Vec::with_capacity(writes.len());
        let mut step = |key: Key<'_>, name: &'static str, expected: Option<u64>, life, value| {
            arguments.keys.extend(names.pair(key)?);
            arguments.value(name);
            arguments.value(expected.map_or(String::new(), |revision| revision.to_string()));
            arguments.value(lifetime(life));
            arguments.value(value);
            steps.push((key.name().to_owned(), name));
            Ok(())
        };
        let count = writes.len();
        for Write { key, change, condition } in writes {
            let expected = match condition {
                Condition::Always => None,
                Condition::Revision(revision) => Some(revision),
                Condition::Held { lock, revision } => {
                    step(lock, CHECK, Some(revision), Expiry::Never, Bytes::new())?;
                    None
                }
            };
            match change {
                Change::Put(value, expiry) => {
                    check_size(value.bytes.len(), MAX_VALUE_SIZE)?;
                    step(key, "put", expected, expiry, value.bytes)?;
                }
                Change::Delete | Change::Purge => {
                    step(key, "delete", expected, Expiry::Never, Bytes::new())?;
                }
            }
        }
        let answer = script::WRITE.run(&self.pool, &arguments, deadline).await?;
        let numbers: Vec<u64> =
            reply::array(answer)?.iter().map(reply::unsigned).collect::<Result<_>>()?;
        match numbers.split_first() {
            Some((0, revisions)) if revisions.len() == count => Ok(revisions.to_vec()),
            Some((refusal @ 1.., [number, limit])) => {
                let index = usize::try_from(*number).unwrap_or_default().saturating_sub(1);
                let size = arguments.values.get(4 + 4 * index).map_or(0, Bytes::len);
                let Some((key, name)) = steps.into_iter().nth(index) else {
                    return Err(reply::unexpected());
                };
                let error = match refusal {
                    1 if name == CHECK => Error::new(
                        ErrorKind::Conflict,
                        "the lock is no longer held with this revision",
                    ),
                    1 => Error::new(ErrorKind::Conflict, "the key has another revision"),
                    2 => too_large(size, usize::try_from(*limit).unwrap_or(MAX_VALUE_SIZE)),
                    _ => reply::wrong_type(),
                };
                Err(error.with("key", key))
            }
            _ => Err(reply::unexpected()),
        }
    }
}

/// The step that makes sure of a lock.
const CHECK: &str = "check";

/// A lifetime as the scripts take it.
fn lifetime(expiry: Expiry) -> String {
    match expiry {
        Expiry::Never => String::new(),
        Expiry::In(length) => format!("+{}", length.as_millis()),
        // The last moment at which it is there is before `at`, so a fraction is cut off.
        Expiry::At(at) => at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string(),
    }
}

fn check_size(size: usize, limit: usize) -> Result<()> {
    if size > limit { Err(too_large(size, limit)) } else { Ok(()) }
}

fn too_large(size: usize, limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the value has {size} bytes; the limit is {limit} (max_value_size)"),
    )
}

fn unsupported<'a, T: Send + 'a>(message: &'static str) -> BoxFuture<'a, Result<T>> {
    Box::pin(future::ready(Err(Error::new(ErrorKind::Unsupported, message))))
}

impl Driver for RedisDriver {
    fn name(&self) -> &str {
        "redis"
    }

    fn capabilities<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Capabilities>> {
        Box::pin(async move {
            let size = buckets::max_value_size(&self.pool, &self.names(bucket), deadline).await?;
            let capabilities = Capabilities::basic(size).with_compare_and_set(true).with_ttl(true);
            Ok(capabilities.with_fencing(true).with_transactions(true))
        })
    }

    fn whole_name<'a>(&self, _bucket: &str, key: Key<'a>) -> Option<Cow<'a, str>> {
        let name = names::joined(key).ok()?;
        Some(if key.prefix().is_empty() { Cow::Borrowed(key.name()) } else { Cow::Owned(name) })
    }

    fn get<'a>(
        &'a self,
        bucket: &'a str,
        key: Key<'a>,
        _consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Found>> {
        Box::pin(async move {
            let names = self.names(bucket);
            let pair = names.pair(key)?;
            let mut found = self.read(&names, &[pair], deadline).await?;
            found.pop().unwrap_or_else(|| Err(reply::unexpected()))
        })
    }

    fn get_many<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [Key<'a>],
        _consistency: Consistency,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Result<Found>>> {
        Box::pin(async move {
            let parts: Vec<_> = keys
                .chunks(KEYS_AT_ONCE)
                .map(|keys| self.read_some(bucket, keys, deadline))
                .collect();
            stream::iter(parts).buffered(READS_AT_ONCE).flat_map(stream::iter).collect().await
        })
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        write: Write<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let mut revisions = self.change(bucket, vec![write], deadline).await?;
            revisions.pop().ok_or_else(reply::unexpected)
        })
    }

    fn transaction<'a>(
        &'a self,
        bucket: &'a str,
        writes: Vec<Write<'a>>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u64>>> {
        Box::pin(self.change(bucket, writes, deadline))
    }

    fn list<'a>(
        &'a self,
        bucket: &'a str,
        filter: Filter<'a>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<String>>>> {
        Box::pin(scan::list(self.pool.clone(), self.names(bucket), filter, deadline))
    }

    fn watch<'a>(
        &'a self,
        _bucket: &'a str,
        _filter: Filter<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Signal>>>> {
        unsupported("Redis cannot tell changes without gaps; watch a bucket in NATS")
    }

    fn history<'a>(
        &'a self,
        _bucket: &'a str,
        _key: Key<'a>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Update>>> {
        unsupported("Redis keeps no earlier values; use a bucket with history in NATS")
    }

    fn buckets<'a>(&'a self, deadline: Instant) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(buckets::list(&self.pool, &self.root, deadline))
    }

    fn bucket_status<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<BucketStatus>>> {
        Box::pin(async move { buckets::status(&self.pool, &self.names(bucket), deadline).await })
    }

    fn make_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            buckets::make(&self.pool, &self.names(&config.name), config, false, deadline).await
        })
    }

    fn create_bucket<'a>(
        &'a self,
        config: &'a BucketConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let names = self.names(&config.name);
            buckets::make(&self.pool, &names, config, true, deadline).await.map(drop)
        })
    }

    fn delete_bucket<'a>(
        &'a self,
        bucket: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { buckets::delete(&self.pool, &self.names(bucket), deadline).await })
    }
}
