//! A reader of a bucket's changes, which remembers how far it is and takes what is newer.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::bucket::Bucket;
use super::{Store, closed};
use crate::error::Result;
use crate::kv::driver::{Filter, Signal, Update, What};
use crate::kv::{Glob, Key};

/// How many messages are looked at in one go.
const BATCH: usize = 256;

/// A watch of one bucket.
///
/// Nothing is kept for a slow reader: it goes on behind the revision it has seen, and finds there
/// what the bucket still has. Each key's latest change is always among that, unless it took the
/// value away so long ago that its trace is gone; then the reader begins anew.
pub(super) struct Watcher {
    store: Arc<Mutex<Store>>,
    bucket: String,
    prefix: String,
    glob: Option<Glob>,
    /// The bucket that was read; none while there is none of that name.
    id: Option<u64>,
    /// The latest revision that was looked at.
    seen: u64,
    /// The revision at the beginning. What is up to there is told before [`Signal::Current`].
    target: u64,
    is_current: bool,
    /// The keys that were told with a value, to tell their end when the reader begins anew.
    told: HashSet<String>,
    pending: VecDeque<Signal>,
    changed: watch::Receiver<()>,
}

/// When there is something to look at.
enum Next {
    Now,
    Change,
    /// At a change, or when the lifetime of a message ends.
    End(Instant),
}

impl Watcher {
    pub(super) fn new(
        store: Arc<Mutex<Store>>,
        name: &str,
        bucket: &Bucket,
        filter: Filter<'_>,
    ) -> Self {
        Watcher {
            store,
            bucket: name.to_owned(),
            prefix: filter.prefix.to_owned(),
            glob: filter.glob.cloned(),
            id: Some(bucket.id),
            seen: 0,
            target: bucket.log.revision(),
            is_current: false,
            told: HashSet::new(),
            pending: VecDeque::new(),
            changed: bucket.changes(),
        }
    }

    pub(super) fn signals(self) -> BoxStream<'static, Result<Signal>> {
        stream::unfold(Some(self), |watcher| async {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(signal) => Some((Ok(signal), Some(watcher))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Signal> {
        loop {
            if let Some(signal) = self.pending.pop_front() {
                return Ok(signal);
            }
            let next = self.look()?;
            if !self.pending.is_empty() {
                continue;
            }
            // An error says that the bucket is gone, which is a change too.
            let changed = self.changed.changed();
            match next {
                Next::Now => {}
                Next::Change => drop(changed.await),
                Next::End(at) => tokio::select! {
                    _ = changed => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// Takes the next changes.
    fn look(&mut self) -> Result<Next> {
        let store = self.store.clone();
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        if store.closed {
            return Err(closed());
        }
        let Some(bucket) = store.buckets.get_mut(&self.bucket) else {
            if self.id.take().is_some() {
                self.begin_anew(None);
                self.become_current();
            }
            self.changed = store.made.subscribe();
            return Ok(Next::Change);
        };
        bucket.expire();
        let is_another = self.id != Some(bucket.id);
        if is_another || bucket.log.forgotten() > self.seen.max(self.target) {
            self.begin_anew(Some(bucket));
        }
        self.changed = bucket.changes();
        if self.read(bucket)? {
            return Ok(Next::Now);
        }
        Ok(bucket.log.next_end().map_or(Next::Change, |(at, _)| Next::End(at)))
    }

    /// What is there is told again, and what is not as deleted.
    fn begin_anew(&mut self, bucket: Option<&Bucket>) {
        self.id = bucket.map(|bucket| bucket.id);
        self.target = bucket.map_or(0, |bucket| bucket.log.revision());
        (self.seen, self.is_current) = (0, false);
        self.pending.push_back(Signal::Reset);
        for name in self.told.drain() {
            let key = Key::new(&self.prefix, &name);
            if !bucket.is_some_and(|bucket| bucket.holds(key)) {
                let update = Update::new(name, 0, What::Deleted);
                self.pending.push_back(Signal::Update(update));
            }
        }
    }

    /// Reads one batch; whether there is more.
    fn read(&mut self, bucket: &Bucket) -> Result<bool> {
        let space = bucket.space(&self.prefix)?;
        let mut messages = bucket.log.since(self.seen);
        for (revision, message) in messages.by_ref().take(BATCH) {
            if revision > self.target {
                self.become_current();
            }
            self.seen = revision;
            let filter = Filter { prefix: &self.prefix, glob: self.glob.as_ref() };
            let Some(name) = bucket.name(&message.key, &space, filter) else { continue };
            // At the beginning only what is there counts, not what was.
            let is_there = message.is_value() && bucket.log.is_last(revision, message);
            if !self.is_current && !is_there {
                continue;
            }
            if message.is_value() {
                self.told.insert(name.clone());
            } else {
                self.told.remove(&name);
            }
            let update = bucket.log.update(name, revision, message);
            self.pending.push_back(Signal::Update(update));
        }
        let more = messages.next().is_some();
        if !more {
            self.seen = bucket.log.revision();
            self.become_current();
        }
        Ok(more)
    }

    fn become_current(&mut self) {
        if !self.is_current {
            self.is_current = true;
            self.pending.push_back(Signal::Current);
        }
    }
}
