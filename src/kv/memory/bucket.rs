//! One bucket in memory.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::MAX_PAYLOAD;
use super::log::{Content, End, Log};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::driver::{
    Capabilities, Change, Condition, Expiry, Filter, Found, Update, Value, Write,
};
use crate::kv::{BucketConfig, BucketStatus, Key, KeyCodec, Storage};

/// What a nats-server adds to each message in a file: lengths, sequence, time, checksum.
const RECORD: usize = 34;

/// How long the end of a value leaves a trace, where no history keeps it.
const TRACE: Expiry = Expiry::In(Duration::from_secs(60));

/// A bucket: its options, every one of them set, and its messages.
pub(super) struct Bucket {
    /// Tells it from every other bucket of its store, also from one of the same name.
    pub(super) id: u64,
    config: BucketConfig,
    codec: KeyCodec,
    created: SystemTime,
    pub(super) log: Log,
    changed: watch::Sender<()>,
}

/// A change that may take place.
struct Planned {
    key: String,
    content: Content,
    size: usize,
    end: Option<End>,
    keep: usize,
}

impl Bucket {
    pub(super) fn new(config: &BucketConfig, id: u64, codec: KeyCodec) -> Result<Self> {
        check_replicas(config)?;
        let defaults = BucketConfig::new(&config.name)
            .ttl(Duration::ZERO)
            .replicas(1)
            .storage(Storage::default())
            .history(1)
            .max_value_size(0)
            .max_bytes(0)
            .description("")
            .compression(false)
            .key_codec(codec)
            .per_key_ttl(true)
            .transactions(true);
        let mut bucket = Bucket {
            id,
            config: defaults,
            codec,
            created: SystemTime::now(),
            log: Log::default(),
            changed: watch::Sender::new(()),
        };
        bucket.set(config);
        Ok(bucket)
    }

    /// Changes what `change` sets.
    pub(super) fn change(&mut self, change: &BucketConfig) -> Result<()> {
        self.expire();
        check_replicas(change)?;
        let refuse = |what| Err(Error::new(ErrorKind::InvalidInput, what));
        if change.storage.is_some() && change.storage != self.config.storage {
            return refuse("the storage of a bucket that is there cannot change");
        }
        if change.per_key_ttl == Some(false) && self.config.per_key_ttl == Some(true) {
            return refuse("lifetimes of keys, once there, cannot be switched off");
        }
        if change.key_codec.is_some_and(|codec| codec != self.codec) && self.log.len() > 0 {
            return refuse("the key codec of a bucket that holds keys cannot change")
                .map_err(|error| error.with("key_codec", self.codec.as_str()));
        }
        self.set(change);
        self.changed.send_replace(());
        Ok(())
    }

    fn set(&mut self, change: &BucketConfig) {
        self.config = self.config.merged(change);
        self.codec = self.config.key_codec.unwrap_or(self.codec);
        self.log.ttl = self.config.ttl.filter(|ttl| !ttl.is_zero());
        self.log.trim_all(self.history());
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities::full(self.max_size())
            .with_ttl(self.config.per_key_ttl == Some(true))
            .with_transactions(self.config.transactions == Some(true))
    }

    pub(super) fn status(&mut self) -> BucketStatus {
        self.expire();
        let mut status = BucketStatus::new(self.config.clone());
        status.messages = self.log.len() as u64;
        status.bytes = self.log.bytes() as u64;
        status.revision = self.log.revision();
        status.created = Some(self.created);
        status
    }

    pub(super) fn codec(&self) -> KeyCodec {
        self.codec
    }

    /// Tells when something has changed, and that the bucket is gone by its end.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn get(&mut self, key: Key<'_>) -> Result<Found> {
        let key = self.encode(key)?;
        self.expire();
        Ok(self.log.found(&key))
    }

    pub(super) fn history_of(&mut self, key: Key<'_>) -> Result<Vec<Update>> {
        let stored = self.encode(key)?;
        self.expire();
        let update =
            |(revision, message)| self.log.update(key.name().to_owned(), revision, message);
        Ok(self.log.of_key(&stored).map(update).collect())
    }

    /// Up to `limit` names with a value, from behind the stored key `after`, and where to go on.
    pub(super) fn list(
        &mut self,
        filter: Filter<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<String>)> {
        self.expire();
        let space = self.space(filter.prefix)?;
        let mut names = Vec::new();
        for (key, message) in self.log.keys(&space, after) {
            if let Some(name) = self.name(key, &space, filter).filter(|_| message.is_value()) {
                names.push(name);
                if names.len() == limit {
                    return Ok((names, Some(key.as_ref().to_owned())));
                }
            }
        }
        Ok((names, None))
    }

    /// What every stored key under `prefix` begins with.
    pub(super) fn space(&self, prefix: &str) -> Result<String> {
        if prefix.is_empty() {
            return Ok(String::new());
        }
        let mut space = self.encode(Key::new("", prefix))?;
        space.push('.');
        Ok(space)
    }

    /// The name of a stored key in the space of a filter, if it fits that.
    pub(super) fn name(&self, stored: &str, space: &str, filter: Filter<'_>) -> Option<String> {
        let name = stored.strip_prefix(space).filter(|name| !name.is_empty())?;
        let name = self.codec.decode(name);
        filter.glob.is_none_or(|glob| glob.matches(&name)).then(|| name.into_owned())
    }

    /// Whether a key has a value.
    pub(super) fn holds(&self, key: Key<'_>) -> bool {
        self.encode(key).is_ok_and(|key| self.found_value(&key))
    }

    /// Makes all changes or none. A delete of nothing is no change and gives 0.
    pub(super) fn write(&mut self, writes: Vec<Write<'_>>) -> Result<Vec<u64>> {
        self.expire();
        let planned = writes.into_iter().map(|write| self.plan(write));
        let planned = planned.collect::<Result<Vec<Option<Planned>>>>()?;
        self.check_room(&planned)?;
        let revisions = planned.into_iter().map(|planned| match planned {
            None => 0,
            Some(Planned { key, content, size, end, keep }) => {
                self.log.push(&key, content, size, end, keep)
            }
        });
        let revisions = revisions.collect();
        // A value that is to end in the past has ended.
        self.expire();
        self.changed.send_replace(());
        Ok(revisions)
    }

    fn plan(&self, write: Write<'_>) -> Result<Option<Planned>> {
        let key = self.encode(write.key)?;
        self.check(&key, write.condition)?;
        let (content, expiry, erases) = match write.change {
            Change::Put(value, expiry) => {
                self.check_value(&value, expiry)?;
                // What has a lifetime erases what is older: else that would come back.
                (Content::Value(value), expiry, expiry != Expiry::Never)
            }
            Change::Delete if self.found_value(&key) => {
                let trace = if self.history() > 1 { Expiry::Never } else { TRACE };
                (Content::Deleted, trace, false)
            }
            Change::Purge if self.found_value(&key) || self.keeps_history(&key) => {
                (Content::Purged, TRACE, true)
            }
            Change::Delete | Change::Purge => return Ok(None),
        };
        let keep = if erases { 1 } else { self.history() };
        let size = RECORD + "$KV..".len() + self.config.name.len() + key.len();
        let size = size + content_size(&content);
        Ok(Some(Planned { key, content, size, end: End::of(expiry), keep }))
    }

    fn found_value(&self, key: &str) -> bool {
        self.log.last(key).is_some_and(|(_, message)| message.is_value())
    }

    /// Whether a key without a value has more than a trace that goes by itself.
    fn keeps_history(&self, key: &str) -> bool {
        self.log.count(key) > 1 || self.log.last(key).is_some_and(|(_, last)| !last.has_end())
    }

    fn check(&self, key: &str, condition: Condition<'_>) -> Result<()> {
        let holds = match condition {
            Condition::Always => true,
            Condition::Revision(revision) => {
                self.log.last(key).map_or(0, |(last, _)| last) == revision
            }
            Condition::Held { lock, revision } => {
                let last = self.encode(lock)?;
                let last = self.log.last(&last);
                last.is_some_and(|(last, message)| last == revision && message.is_value())
            }
        };
        if holds {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            match condition {
                Condition::Held { .. } => "the lock is no longer held under this revision",
                _ => "the key has another revision",
            },
        ))
    }

    fn check_value(&self, value: &Value, expiry: Expiry) -> Result<()> {
        if expiry != Expiry::Never && self.config.per_key_ttl != Some(true) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this bucket was made without lifetimes of keys; switch them on with \
                 create_bucket and per_key_ttl(true)",
            ));
        }
        let (size, limit) = (value_size(value), self.max_size());
        if size <= limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!("the value with its headers has {size} bytes; the limit is {limit}"),
        ))
    }

    /// A full bucket still takes values that push larger ones of their keys out, and always what
    /// takes a value away.
    fn check_room(&self, planned: &[Option<Planned>]) -> Result<()> {
        let Some(max_bytes @ 1..) = self.config.max_bytes else { return Ok(()) };
        let is_value = |it: &&Planned| matches!(it.content, Content::Value(_));
        let added: usize = planned.iter().flatten().filter(is_value).map(|it| it.size).sum();
        let pushed_out = planned.iter().flatten().map(|it| self.log.pushed_out(&it.key, it.keep));
        let full = (self.log.bytes() + added) as u64 >= max_bytes;
        if added == 0 || !full || pushed_out.sum::<usize>() > added {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!("the bucket is full: it may hold {max_bytes} bytes (max_bytes)"),
        ))
    }

    /// Takes out what has ended. Every operation begins with it.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        while let Some(ended) = self.log.remove_ended(now) {
            if let Some(key) = ended {
                self.log.push(&key, Content::Expired, RECORD + key.len(), End::of(TRACE), 1);
                self.changed.send_replace(());
            }
        }
    }

    fn encode(&self, key: Key<'_>) -> Result<String> {
        let mut stored = String::new();
        self.codec.encode(key, &mut stored)?;
        Ok(stored)
    }

    /// The largest value with its headers, in bytes.
    fn max_size(&self) -> usize {
        match self.config.max_value_size {
            None | Some(0) => MAX_PAYLOAD,
            Some(bytes) => bytes.min(MAX_PAYLOAD),
        }
    }

    fn history(&self) -> usize {
        usize::from(self.config.history.unwrap_or(1))
    }
}

fn content_size(content: &Content) -> usize {
    match content {
        Content::Value(value) => value_size(value),
        Content::Deleted | Content::Purged | Content::Expired => "KV-Operation: DEL".len(),
    }
}

/// The bytes of a value with its headers, as they are sent.
fn value_size(value: &Value) -> usize {
    let header = |text: &String| "NATS/1.0\r\nContent-Type: \r\n\r\n".len() + text.len();
    value.bytes.len() + value.content_type.as_ref().map_or(0, header)
}

fn check_replicas(config: &BucketConfig) -> Result<()> {
    match config.replicas {
        None | Some(1) => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "more than one replica needs a cluster; this store is a single process",
        )),
    }
}
