//! One bucket in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Storage;
use crate::objects::driver::Change;
use crate::objects::{BucketConfig, BucketStatus, Link, ObjectInfo};

/// What a nats-server keeps beside the bytes of each chunk in a file: lengths, sequence, time,
/// checksum, subject.
const RECORD: u64 = 64;

/// What it keeps of an object beside its bytes, names and metadata.
const META: u64 = 320;

/// How long a delete leaves a trace.
const TRACE: Duration = Duration::from_secs(60);

/// The bytes of an object.
pub(super) type Chunks = Vec<Bytes>;

/// What a chunk takes of a bucket's room.
pub(super) fn chunk_size(chunk: &Bytes) -> u64 {
    RECORD + chunk.len() as u64
}

/// An object or a link.
pub(super) struct Object {
    pub(super) info: ObjectInfo,
    pub(super) chunks: Arc<Chunks>,
    /// When its bytes were complete.
    stored: Instant,
}

impl Object {
    pub(super) fn new(info: ObjectInfo, chunks: Chunks) -> Self {
        Object { info, chunks: Arc::new(chunks), stored: Instant::now() }
    }

    /// What it takes of the bucket's room.
    fn size(&self) -> u64 {
        self.meta_size() + self.chunks.iter().map(chunk_size).sum::<u64>()
    }

    fn meta_size(&self) -> u64 {
        let info = &self.info;
        let headers = info
            .headers
            .iter()
            .map(|(name, all)| name.len() + all.iter().map(String::len).sum::<usize>());
        let metadata = info.metadata.iter().map(|(name, value)| name.len() + value.len());
        let text = info.name.len() + info.description.as_ref().map_or(0, String::len);
        META + (text + headers.sum::<usize>() + metadata.sum::<usize>()) as u64
    }
}

/// The latest of a name.
pub(super) enum Latest {
    Object(Box<Object>),
    /// The trace of a delete.
    Gone(Arc<str>),
}

/// A bucket: its options, every one of them set, and the latest of each name.
pub(super) struct Bucket {
    /// Tells it from every other bucket of its store, also from one of the same name.
    pub(super) id: u64,
    config: BucketConfig,
    sealed: bool,
    created: SystemTime,
    revision: u64,
    latest: BTreeMap<u64, Latest>,
    names: BTreeMap<Arc<str>, u64>,
    /// The objects by age.
    ages: BTreeSet<(Instant, u64)>,
    /// The traces by age.
    traces: VecDeque<(Instant, u64)>,
    forgotten: u64,
    bytes: u64,
    /// What uploads under way take of the room.
    held: u64,
    changed: watch::Sender<()>,
}

impl Bucket {
    pub(super) fn new(config: &BucketConfig, id: u64) -> Result<Self> {
        check_replicas(config)?;
        let defaults = BucketConfig::new(&config.name)
            .ttl(Duration::ZERO)
            .description("")
            .replicas(1)
            .storage(Storage::default())
            .compression(false)
            .max_bytes(0);
        Ok(Bucket {
            id,
            config: merged(&defaults, config),
            sealed: false,
            created: SystemTime::now(),
            revision: 0,
            latest: BTreeMap::new(),
            names: BTreeMap::new(),
            ages: BTreeSet::new(),
            traces: VecDeque::new(),
            forgotten: 0,
            bytes: 0,
            held: 0,
            changed: watch::Sender::new(()),
        })
    }

    /// Changes what `change` sets.
    pub(super) fn change(&mut self, change: &BucketConfig) -> Result<()> {
        check_replicas(change)?;
        let config = merged(&self.config, change);
        if config == self.config {
            return Ok(());
        }
        self.check_open()?;
        if config.storage != self.config.storage {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the storage of a bucket that is there cannot change",
            ));
        }
        self.config = config;
        self.changed.send_replace(());
        Ok(())
    }

    pub(super) fn status(&self) -> BucketStatus {
        let mut status = BucketStatus::new(self.config.clone());
        (status.bytes, status.revision) = (self.bytes + self.held, self.revision);
        (status.sealed, status.created) = (self.sealed, Some(self.created));
        status
    }

    /// Closes it to changes; what it holds no longer ends.
    pub(super) fn seal(&mut self) {
        self.sealed = true;
        self.config.ttl = Some(Duration::ZERO);
        self.changed.send_replace(());
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if !self.sealed {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "the bucket is sealed: it can only be read, or deleted as a whole",
        ))
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The latest trace that is gone: who has seen less may have missed the end of an object.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Tells when something has changed, and that the bucket is gone by its end.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn object(&self, name: &str) -> Option<&Object> {
        match self.latest.get(self.names.get(name)?)? {
            Latest::Object(object) => Some(object),
            Latest::Gone(_) => None,
        }
    }

    /// Up to `limit` objects in the order of their names, from behind `after`.
    pub(super) fn objects_after(&self, after: Option<&str>, limit: usize) -> Vec<ObjectInfo> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.names.range::<str, _>((from, Bound::Unbounded));
        let latest = names.filter_map(|(_, revision)| self.latest.get(revision));
        let objects = latest.filter_map(|latest| match latest {
            Latest::Object(object) => Some(object.info.clone()),
            Latest::Gone(_) => None,
        });
        objects.take(limit).collect()
    }

    /// What happened above `revision`, as far as it is still known, in order.
    pub(super) fn since(&self, revision: u64) -> impl Iterator<Item = (u64, &Latest)> {
        let range = self.latest.range((Bound::Excluded(revision), Bound::Unbounded));
        range.map(|(revision, latest)| (*revision, latest))
    }

    /// Takes room for a chunk of an upload.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<()> {
        self.check_open()?;
        self.check_room(bytes)?;
        self.held += bytes;
        Ok(())
    }

    /// Gives back what [`hold`](Self::hold) took.
    pub(super) fn let_go(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// Shows an object whose chunks take `held`, in place of an earlier one.
    pub(super) fn show(&mut self, object: Object, held: u64) -> Result<ObjectInfo> {
        self.check_open()?;
        self.check_room(object.meta_size())?;
        self.let_go(held);
        Ok(self.put(object))
    }

    pub(super) fn link(&mut self, name: &str, id: u64, to: Link) -> Result<ObjectInfo> {
        self.check_open()?;
        if self.object(name).is_some_and(|object| object.info.link.is_none()) {
            return Err(taken("an object has this name; delete it first, or link under another"));
        }
        let mut info = ObjectInfo::new(&self.config.name, name);
        (info.id, info.link) = (id.to_string(), Some(to));
        info.modified = Some(SystemTime::now());
        self.show(Object::new(info, Vec::new()), 0)
    }

    /// Changes what is told of an object.
    pub(super) fn change_object(
        &mut self,
        name: &str,
        change: Change,
    ) -> Result<Option<ObjectInfo>> {
        let Some(object) = self.object(name) else { return Ok(None) };
        self.check_open()?;
        let moves = change.name.as_deref().filter(|to| *to != name);
        if moves.is_some_and(|to| self.object(to).is_some()) {
            return Err(taken("another object has the new name; delete it first"));
        }
        let moves = moves.is_some();
        let mut info = object.info.clone();
        info.modified = Some(SystemTime::now());
        info.name = change.name.unwrap_or(info.name);
        if let Some(text) = change.description {
            info.description = (!text.is_empty()).then_some(text);
        }
        info.headers = change.headers.unwrap_or(info.headers);
        info.metadata = change.metadata.unwrap_or(info.metadata);
        let changed = Object { info, chunks: object.chunks.clone(), stored: object.stored };
        self.check_room(changed.meta_size())?;
        let info = self.put(changed);
        if moves {
            self.take_out(name);
        }
        Ok(Some(info))
    }

    /// Deletes an object, also from a full bucket.
    pub(super) fn delete(&mut self, name: &str) -> Result<bool> {
        let is_there = self.object(name).is_some();
        if is_there {
            self.check_open()?;
            self.take_out(name);
        }
        Ok(is_there)
    }

    fn put(&mut self, mut object: Object) -> ObjectInfo {
        let name: Arc<str> = object.info.name.as_str().into();
        object.info.revision = self.revision + 1;
        let info = object.info.clone();
        self.push(&name, Latest::Object(Box::new(object)));
        info
    }

    fn take_out(&mut self, name: &str) {
        let name: Arc<str> = name.into();
        self.push(&name, Latest::Gone(name.clone()));
    }

    /// Makes `latest` the latest of a name.
    fn push(&mut self, name: &Arc<str>, latest: Latest) {
        self.revision += 1;
        match &latest {
            Latest::Object(object) => {
                self.bytes += object.size();
                self.ages.insert((object.stored, self.revision));
            }
            Latest::Gone(_) => self.traces.push_back((Instant::now(), self.revision)),
        }
        let earlier = self.names.insert(name.clone(), self.revision);
        let earlier = earlier.and_then(|earlier| Some((earlier, self.latest.remove(&earlier)?)));
        if let Some((revision, Latest::Object(object))) = earlier {
            self.bytes -= object.size();
            self.ages.remove(&(object.stored, revision));
        }
        self.latest.insert(self.revision, latest);
        self.changed.send_replace(());
    }

    /// When the next lifetime ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let ttl = self.config.ttl.filter(|ttl| !ttl.is_zero())?;
        let (stored, _) = self.ages.first()?;
        stored.checked_add(ttl)
    }

    /// Takes out what has ended. Every operation begins with it.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        while let Some(name) = self.next_end().filter(|end| *end <= now).and_then(|_| self.oldest())
        {
            self.take_out(&name);
        }
        while let Some((at, revision)) = self.traces.front().copied()
            && now.duration_since(at) >= TRACE
        {
            self.traces.pop_front();
            if let Some(Latest::Gone(name)) = self.latest.remove(&revision) {
                self.names.remove(&name);
                self.forgotten = self.forgotten.max(revision);
            }
        }
    }

    fn oldest(&self) -> Option<String> {
        let (_, revision) = self.ages.first()?;
        match self.latest.get(revision)? {
            Latest::Object(object) => Some(object.info.name.clone()),
            Latest::Gone(_) => None,
        }
    }

    fn check_room(&self, bytes: u64) -> Result<()> {
        match self.config.max_bytes {
            Some(most @ 1..) if self.bytes + self.held + bytes > most => Err(Error::new(
                ErrorKind::TooLarge,
                format!("the bucket is full: it may hold {most} bytes (max_bytes)"),
            )),
            _ => Ok(()),
        }
    }
}

/// `config` with what `change` sets on top. The size of chunks is each handle's own.
fn merged(config: &BucketConfig, change: &BucketConfig) -> BucketConfig {
    BucketConfig { max_chunk_size: None, ..config.merged(change) }
}

fn taken(what: &'static str) -> Error {
    Error::new(ErrorKind::AlreadyExists, what)
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
