//! A reader of a bucket's changes, which remembers how far it is and takes what is newer.

use std::collections::{HashMap, VecDeque};

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::bucket::{Bucket, Latest};
use super::{Shared, open};
use crate::error::Result;
use crate::objects::Event;

/// How many changes are looked at in one go.
const BATCH: usize = 256;

/// A watch of one bucket.
///
/// Nothing is kept for a slow reader: it goes on behind the revision it has seen, and finds there
/// the latest of each name. When the bucket is another one, or has forgotten a delete that the
/// reader has not seen, it compares what it told with what is there.
pub(super) struct Watcher {
    store: Shared,
    bucket: String,
    /// The bucket that was read; none while there is none of that name.
    id: Option<u64>,
    /// The latest revision that was looked at.
    seen: u64,
    /// The revision at the beginning. What is up to there is told before [`Event::Current`].
    target: u64,
    is_current: bool,
    /// The objects that were told, each with its revision.
    told: HashMap<String, u64>,
    pending: VecDeque<Event>,
    changed: watch::Receiver<()>,
}

/// When there is something to look at.
enum Next {
    Now,
    Change,
    /// At a change, or when a lifetime ends.
    End(Instant),
}

impl Watcher {
    pub(super) fn new(store: &Shared, name: &str, bucket: &Bucket) -> Self {
        Watcher {
            store: store.clone(),
            bucket: name.to_owned(),
            id: Some(bucket.id),
            seen: 0,
            target: bucket.revision(),
            is_current: false,
            told: HashMap::new(),
            pending: VecDeque::new(),
            changed: bucket.changes(),
        }
    }

    pub(super) fn events(self) -> BoxStream<'static, Result<Event>> {
        stream::unfold(Some(self), |watcher| async {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(event) => Some((Ok(event), Some(watcher))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
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
        let mut store = open(&store)?;
        let made = store.made.subscribe();
        let Some(bucket) = store.current(&self.bucket) else {
            if self.id.take().is_some() {
                self.begin_anew(None);
                self.become_current();
            }
            self.changed = made;
            return Ok(Next::Change);
        };
        if self.id != Some(bucket.id) || bucket.forgotten() > self.seen.max(self.target) {
            self.begin_anew(Some(bucket));
        }
        self.changed = bucket.changes();
        if self.read(bucket) {
            return Ok(Next::Now);
        }
        Ok(bucket.next_end().map_or(Next::Change, Next::End))
    }

    /// What was told and is no longer there is told as deleted; then everything is looked at again.
    fn begin_anew(&mut self, bucket: Option<&Bucket>) {
        let id = bucket.map(|bucket| bucket.id);
        let is_same = id.is_some() && id == self.id;
        (self.id, self.seen) = (id, 0);
        self.target = bucket.map_or(0, Bucket::revision);
        let gone = |name: &str| bucket.is_none_or(|bucket| bucket.object(name).is_none());
        let ended = self.told.extract_if(|name, _| gone(name));
        self.pending.extend(ended.map(|(name, revision)| Event::Deleted { name, revision }));
        if !is_same {
            self.told.clear();
        }
    }

    /// Reads one batch; whether there is more.
    fn read(&mut self, bucket: &Bucket) -> bool {
        let mut changes = bucket.since(self.seen);
        for (revision, latest) in changes.by_ref().take(BATCH) {
            if revision > self.target {
                self.become_current();
            }
            self.seen = revision;
            match latest {
                Latest::Object(object) => {
                    let name = &object.info.name;
                    if self.told.insert(name.clone(), revision) != Some(revision) {
                        self.pending.push_back(Event::Put(object.info.clone()));
                    }
                }
                Latest::Gone(name) => {
                    let was_told = self.told.remove(&**name).is_some();
                    if was_told || self.is_current {
                        let name = name.as_ref().to_owned();
                        self.pending.push_back(Event::Deleted { name, revision });
                    }
                }
            }
        }
        let more = changes.next().is_some();
        if !more {
            self.seen = bucket.revision();
            self.become_current();
        }
        more
    }

    fn become_current(&mut self) {
        if !self.is_current {
            self.is_current = true;
            self.pending.push_back(Event::Current);
        }
    }
}
