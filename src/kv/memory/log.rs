//! The messages of a bucket: by revision, by key, and by when they end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::kv::driver::{Entry, Expiry, Found, Update, Value, What};

/// What happened to a key.
pub(super) enum Content {
    Value(Value),
    Deleted,
    Purged,
    Expired,
}

/// When a message ends, on both clocks.
#[derive(Clone, Copy)]
pub(super) struct End {
    instant: Instant,
    time: SystemTime,
}

impl End {
    /// `None` for never, and for what is further away than a clock can tell.
    pub(super) fn of(expiry: Expiry) -> Option<Self> {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let left = match expiry {
            Expiry::Never => return None,
            Expiry::In(ttl) => ttl,
            Expiry::At(time) => time.duration_since(clock).unwrap_or_default(),
        };
        let time = match expiry {
            Expiry::At(time) => time,
            _ => clock.checked_add(left)?,
        };
        Some(End { instant: now.checked_add(left)?, time })
    }
}

/// A value, or the trace of what ended one.
pub(super) struct Message {
    pub(super) key: Arc<str>,
    pub(super) content: Content,
    size: usize,
    written: Instant,
    created: SystemTime,
    end: Option<End>,
}

impl Message {
    pub(super) fn is_value(&self) -> bool {
        matches!(self.content, Content::Value(_))
    }

    pub(super) fn has_end(&self) -> bool {
        self.end.is_some()
    }
}

/// Messages in the order of their revisions, which is the order in which they grow old.
#[derive(Default)]
pub(super) struct Log {
    messages: BTreeMap<u64, Message>,
    /// The revisions of each key, oldest first.
    keys: BTreeMap<Arc<str>, VecDeque<u64>>,
    ends: BTreeSet<(Instant, u64)>,
    revision: u64,
    bytes: usize,
    forgotten: u64,
    /// How long any message stays.
    pub(super) ttl: Option<Duration>,
}

impl Log {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The latest revision there was.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The latest trace that is gone: who has seen less may have missed the end of a value.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The latest message of a key.
    pub(super) fn last(&self, key: &str) -> Option<(u64, &Message)> {
        let revision = *self.keys.get(key)?.back()?;
        Some((revision, self.messages.get(&revision)?))
    }

    pub(super) fn is_last(&self, revision: u64, message: &Message) -> bool {
        self.keys.get(&message.key).and_then(VecDeque::back) == Some(&revision)
    }

    /// How many messages a key has.
    pub(super) fn count(&self, key: &str) -> usize {
        self.keys.get(key).map_or(0, VecDeque::len)
    }

    /// A key's messages, oldest first.
    pub(super) fn of_key<'a>(
        &'a self,
        key: &str,
    ) -> impl Iterator<Item = (u64, &'a Message)> + use<'a> {
        let revisions = self.keys.get(key).into_iter().flatten();
        revisions.filter_map(|revision| Some((*revision, self.messages.get(revision)?)))
    }

    /// The keys that begin with `space`, from behind `after`, with their latest message.
    pub(super) fn keys<'a>(
        &'a self,
        space: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Message)> {
        let from = after.map_or(Bound::Included(space), Bound::Excluded);
        let keys = self.keys.range::<str, _>((from, Bound::Unbounded));
        let keys = keys.take_while(move |(key, _)| key.starts_with(space));
        keys.filter_map(|(key, revisions)| Some((key, self.messages.get(revisions.back()?)?)))
    }

    /// The messages above `revision`, in order.
    pub(super) fn since(&self, revision: u64) -> impl Iterator<Item = (u64, &Message)> {
        let range = self.messages.range((Bound::Excluded(revision), Bound::Unbounded));
        range.map(|(revision, message)| (*revision, message))
    }

    /// The size of what a message of `key` pushes out where `keep` stay.
    pub(super) fn pushed_out(&self, key: &str, keep: usize) -> usize {
        let goes = (self.count(key) + 1).saturating_sub(keep);
        self.of_key(key).take(goes).map(|(_, message)| message.size).sum()
    }

    /// Adds a message and keeps the `keep` latest of its key.
    pub(super) fn push(
        &mut self,
        key: &str,
        content: Content,
        size: usize,
        end: Option<End>,
        keep: usize,
    ) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let key = match self.keys.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => key.into(),
        };
        self.bytes += size;
        self.ends.extend(end.map(|end| (end.instant, revision)));
        self.keys.entry(key.clone()).or_default().push_back(revision);
        let (written, created) = (Instant::now(), SystemTime::now());
        let message = Message { key: key.clone(), content, size, written, created, end };
        self.messages.insert(revision, message);
        self.trim(&key, keep);
        revision
    }

    /// Takes out what a key has beyond its `keep` latest messages.
    fn trim(&mut self, key: &str, keep: usize) {
        while let Some(revisions) = self.keys.get(key)
            && revisions.len() > keep
            && let Some(oldest) = revisions.front()
        {
            self.remove(*oldest);
        }
    }

    /// The same for every key.
    pub(super) fn trim_all(&mut self, keep: usize) {
        let keys: Vec<Arc<str>> = self.keys.keys().cloned().collect();
        for key in keys {
            self.trim(&key, keep);
        }
    }

    fn remove(&mut self, revision: u64) -> Option<Message> {
        let message = self.messages.remove(&revision)?;
        self.bytes -= message.size;
        if let Some(end) = message.end {
            self.ends.remove(&(end.instant, revision));
        }
        if let Some(revisions) = self.keys.get_mut(&message.key) {
            revisions.retain(|other| *other != revision);
            if revisions.is_empty() {
                self.keys.remove(&message.key);
            }
        }
        Some(message)
    }

    /// The next message to end, and when.
    pub(super) fn next_end(&self) -> Option<(Instant, u64)> {
        let own = self.ends.first().copied();
        let by_age = self.ttl.and_then(|ttl| {
            let (revision, oldest) = self.messages.first_key_value()?;
            Some((oldest.written.checked_add(ttl)?, *revision))
        });
        own.into_iter().chain(by_age).min()
    }

    /// Takes out the next message that has ended by `now`. A value that was its key's latest leaves
    /// its name, for a trace.
    pub(super) fn remove_ended(&mut self, now: Instant) -> Option<Option<Arc<str>>> {
        let (_, revision) = self.next_end().filter(|(at, _)| *at <= now)?;
        let was_last = self.messages.get(&revision).is_some_and(|it| self.is_last(revision, it));
        let message = self.remove(revision)?;
        if was_last && !message.is_value() {
            self.forgotten = self.forgotten.max(revision);
        }
        Some((was_last && message.is_value()).then_some(message.key))
    }

    pub(super) fn entry(&self, revision: u64, message: &Message, value: &Value) -> Entry {
        let by_age = self.ttl.and_then(|ttl| message.created.checked_add(ttl));
        let own = message.end.map(|end| end.time);
        Entry::new(value.clone(), revision)
            .with_created(Some(message.created))
            .with_expiry(own, by_age)
    }

    pub(super) fn found(&self, key: &str) -> Found {
        match self.last(key) {
            None => Found::NEVER,
            Some((revision, message)) => match &message.content {
                Content::Value(value) => Found::Value(self.entry(revision, message, value)),
                _ => Found::Nothing { revision },
            },
        }
    }

    pub(super) fn update(&self, name: String, revision: u64, message: &Message) -> Update {
        let what = match &message.content {
            Content::Value(value) => What::Put(self.entry(revision, message, value)),
            Content::Deleted => What::Deleted,
            Content::Purged => What::Purged,
            Content::Expired => What::Expired,
        };
        Update::new(name, revision, what)
    }
}
