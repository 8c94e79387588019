//! The bounded map of a near cache: the latest that is known of each key, by revision.
//!
//! Three sources feed it: the watch, this process' own writes, and reads of what it does not hold.
//! Revisions decide between them. A read is under way for a while, and what the others tell of its
//! key meanwhile is kept beside it: an older answer never comes after a newer one.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lru::LruCache;

use super::NearCacheConfig;
use crate::kv::driver::{Entry, Found};
use crate::metrics::{NearMetrics, NearSize};

/// What an entry takes beside its key and value, roughly, in bytes.
const OVERHEAD: usize = 200;

/// What is known of a key.
#[derive(Clone)]
struct Known {
    found: Arc<Found>,
    /// The watch told it, so it will tell its end as well.
    is_watched: bool,
}

/// Who tells what a key came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Teller {
    Watch,
    Write,
}

pub(super) struct Map {
    max_entries: usize,
    max_bytes: usize,
    state: Mutex<State>,
    metrics: NearMetrics,
}

struct State {
    entries: LruCache<Box<str>, Known>,
    bytes: usize,
    evictions: u64,
    /// What was told of the three.
    told: NearSize,
    epoch: Epoch,
    /// The greatest revision that had to go. What is told of an absent key up to there may be older
    /// than what went.
    gone: u64,
    loading: HashMap<Box<str>, Loading>,
}

/// Changes when what is under way must not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Epoch {
    /// Times that revisions started over.
    resets: u64,
    /// Times that the watch came back.
    returns: u64,
}

#[derive(Default)]
struct Loading {
    reads: usize,
    /// The latest that was told since the first of them began.
    told: Option<Arc<Found>>,
}

impl Map {
    pub(super) fn new(config: &NearCacheConfig, metrics: NearMetrics) -> Self {
        let state = State {
            entries: LruCache::unbounded(),
            bytes: 0,
            evictions: 0,
            told: NearSize::default(),
            epoch: Epoch::default(),
            gone: 0,
            loading: HashMap::new(),
        };
        let NearCacheConfig { max_entries, max_bytes } = *config;
        Map { max_entries, max_bytes, state: Mutex::new(state), metrics }
    }

    pub(super) fn metrics(&self) -> &NearMetrics {
        &self.metrics
    }

    /// What is known of a key, as of now.
    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<Found> {
        let known = self.lock().entries.get(name)?.found.clone();
        Some(as_of_now(&known))
    }

    /// What [`tell`](Self::tell) wants, read before what is told began.
    pub(super) fn epoch(&self) -> Epoch {
        self.lock().epoch
    }

    /// Takes in what a key came to, unless something newer is known or it began before `epoch`. What
    /// holds no value is kept only where it ends one, or where a read is under way.
    pub(super) fn tell(&self, teller: Teller, epoch: Epoch, name: &str, found: Found) {
        let mut state = self.lock();
        if state.epoch != epoch {
            return state.outdate(name, found.revision(), epoch);
        }
        let found = Arc::new(found);
        if let Some(loading) = state.loading.get_mut(name)
            && loading.told.as_ref().is_none_or(|told| told.revision() <= found.revision())
        {
            loading.told = Some(found.clone());
        }
        match state.entries.peek(name) {
            Some(old) if old.found.revision() > found.revision() => {}
            None if matches!(*found, Found::Nothing { .. }) => {}
            None if found.revision() <= state.gone => {}
            _ => self.put(&mut state, name, Known { found, is_watched: teller == Teller::Watch }),
        }
    }

    /// Forgets what the watch did not tell: while it lagged, the end of that may have vanished
    /// without a message, and the watch only looks for what it has told.
    pub(super) fn keep_watched(&self) {
        let mut state = self.lock();
        state.epoch.returns += 1;
        let unwatched = state.entries.iter().filter(|(_, known)| !known.is_watched);
        let names: Vec<_> = unwatched.map(|(name, _)| name.clone()).collect();
        for name in names {
            state.remove(&name);
        }
    }

    /// Forgets a key.
    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Forgets everything, and what is under way.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.epoch.resets += 1;
        for loading in state.loading.values_mut() {
            loading.told = None;
        }
        state.entries.clear();
        (state.bytes, state.gone) = (0, 0);
    }

    /// Notes that a read of a key begins.
    pub(super) fn begin(&self, name: &str) -> Reading<'_> {
        let mut state = self.lock();
        let name: Box<str> = name.into();
        state.loading.entry(name.clone()).or_default().reads += 1;
        Reading { map: self, name, epoch: state.epoch }
    }

    /// How many entries it holds, what they take in bytes, and how many had to make room.
    pub(super) fn figures(&self) -> (usize, usize, u64) {
        let state = self.lock();
        (state.entries.len(), state.bytes, state.evictions)
    }

    /// A value that is too large for the map must not leave its predecessor there.
    fn put(&self, state: &mut State, name: &str, known: Known) {
        let size_of_it = size(name, &known);
        state.bytes += size_of_it;
        if let Some(old) = state.entries.put(name.into(), known) {
            state.bytes -= size(name, &old);
        }
        if size_of_it > self.max_bytes {
            return state.remove(name);
        }
        while state.bytes > self.max_bytes || state.entries.len() > self.max_entries {
            let Some((name, known)) = state.entries.pop_lru() else { return };
            state.bytes -= size(&name, &known);
            state.gone = state.gone.max(known.found.revision());
            state.evictions += 1;
        }
    }

    fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, metrics: &self.metrics }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.entries.clear();
        state.bytes = 0;
    }
}

/// The state for as long as it is looked at or changed; tells its size in the end.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    metrics: &'a NearMetrics,
}

impl Deref for Locked<'_> {
    type Target = State;

    #[inline]
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let State { entries, bytes, evictions, told, .. } = &mut *self.state;
        self.metrics.size(told, entries.len(), *bytes, *evictions);
    }
}

impl State {
    /// What is known of a key may be older than what came of something that began in `epoch`.
    fn outdate(&mut self, name: &str, revision: u64, epoch: Epoch) {
        self.remove(name);
        if epoch.resets == self.epoch.resets {
            self.gone = self.gone.max(revision);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(known) = self.entries.pop(name) {
            self.bytes -= size(name, &known);
            self.gone = self.gone.max(known.found.revision());
        }
    }
}

/// What an entry takes, in bytes.
fn size(name: &str, known: &Known) -> usize {
    let value = match &*known.found {
        Found::Value(entry) => {
            let content_type = entry.value.content_type.as_ref().map_or(0, String::len);
            entry.value.bytes.len() + content_type
        }
        Found::Nothing { .. } => 0,
    };
    OVERHEAD + name.len() + value
}

/// A read that is under way; dropping it ends it.
pub(super) struct Reading<'a> {
    map: &'a Map,
    name: Box<str>,
    epoch: Epoch,
}

impl Reading<'_> {
    /// Takes in what the store's leader answered; gives the newest of that and of what was told
    /// meanwhile.
    pub(super) fn finish(self, found: Found) -> Found {
        let mut state = self.map.lock();
        if state.epoch != self.epoch {
            state.outdate(&self.name, found.revision(), self.epoch);
            return found;
        }
        let told = state.loading.get(&self.name).and_then(|loading| loading.told.clone());
        // Without a trace of the key there is no revision to compare, and the answer is newer than
        // all that was known when the read began.
        let known = match found.revision() {
            0 => told,
            _ => told.or_else(|| Some(state.entries.peek(&self.name)?.found.clone())),
        };
        match known {
            Some(known) if known.revision() > found.revision() => as_of_now(&known),
            // What the watch told of this very revision stays.
            Some(known) if *known == found => found,
            _ => {
                let known = Known { found: Arc::new(found.clone()), is_watched: false };
                self.map.put(&mut state, &self.name, known);
                found
            }
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = self.map.lock();
        if let Some(loading) = state.loading.get_mut(&self.name) {
            loading.reads -= 1;
            if loading.reads == 0 {
                state.loading.remove(&self.name);
            }
        }
    }
}

/// What is known, without a value that has ended.
fn as_of_now(known: &Found) -> Found {
    match known {
        Found::Value(Entry { ends: Some(ends), revision, .. }) if *ends <= SystemTime::now() => {
            Found::Nothing { revision: *revision }
        }
        known => known.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::kv::driver::Value;

    fn map(max_entries: usize, max_bytes: usize) -> Map {
        let config = NearCacheConfig::new().max_entries(max_entries).max_bytes(max_bytes);
        Map::new(&config, crate::metrics::Kv::new("", "").near(""))
    }

    fn value(revision: u64) -> Found {
        Found::Value(Entry::new(Value::new(Bytes::from(revision.to_string())), revision))
    }

    #[test]
    fn revisions_decide_whatever_the_order() {
        let map = map(100, 100_000);
        map.tell(Teller::Watch, Epoch::default(), "a", value(5));
        map.tell(Teller::Watch, Epoch::default(), "a", value(3));
        assert_eq!(map.get("a"), Some(value(5)));
        map.tell(Teller::Watch, Epoch::default(), "a", Found::Nothing { revision: 6 });
        map.tell(Teller::Watch, Epoch::default(), "a", value(5));
        assert_eq!(map.get("a"), Some(Found::Nothing { revision: 6 }));
        // What holds no value and ends none takes no room.
        map.tell(Teller::Watch, Epoch::default(), "b", Found::Nothing { revision: 7 });
        assert_eq!(map.get("b"), None);
    }

    #[test]
    fn a_slow_read_does_not_bring_back_what_was_changed_meanwhile() {
        let map = map(100, 100_000);
        let reading = map.begin("a");
        map.tell(Teller::Watch, Epoch::default(), "a", value(7));
        map.forget("a");
        assert_eq!(reading.finish(value(5)), value(7));

        let reading = map.begin("b");
        map.tell(Teller::Watch, Epoch::default(), "b", Found::Nothing { revision: 8 });
        assert_eq!(reading.finish(value(5)), Found::Nothing { revision: 8 });
        assert!(map.lock().loading.is_empty());

        // What was known before the read is not held against a store that has no trace of it.
        map.tell(Teller::Watch, Epoch::default(), "c", value(9));
        assert_eq!(map.begin("c").finish(Found::NEVER), Found::NEVER);
        assert_eq!(map.get("c"), Some(Found::NEVER));
    }

    #[test]
    fn what_began_before_a_clear_is_not_kept() {
        let map = map(100, 100_000);
        let (epoch, reading) = (map.epoch(), map.begin("a"));
        map.clear();
        map.tell(Teller::Watch, epoch, "a", value(50));
        assert_eq!(reading.finish(value(50)), value(50));
        assert_eq!(map.get("a"), None);
        map.tell(Teller::Watch, map.epoch(), "a", value(1));
        assert_eq!(map.get("a"), Some(value(1)));
    }

    #[test]
    fn only_what_the_watch_told_outlives_a_time_without_it() {
        let map = map(100, 100_000);
        map.tell(Teller::Watch, Epoch::default(), "watched", value(1));
        map.tell(Teller::Write, Epoch::default(), "written", value(2));
        map.begin("loaded").finish(value(3));
        map.begin("watched").finish(value(1));
        let (epoch, reading) = (map.epoch(), map.begin("slow"));
        map.keep_watched();
        map.tell(Teller::Watch, map.epoch(), "late", value(1));
        map.tell(Teller::Watch, map.epoch(), "slow", value(2));
        // Neither kept, nor hidden by what is older.
        map.tell(Teller::Write, epoch, "late", value(4));
        assert_eq!(reading.finish(value(5)), value(5));
        map.tell(Teller::Watch, map.epoch(), "late", value(3));
        assert_eq!(map.get("watched"), Some(value(1)));
        for name in ["written", "loaded", "late", "slow"] {
            assert_eq!(map.get(name), None, "{name}");
        }
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let few = map(10, 1_000_000);
        let small = map(1_000_000, 10_000);
        for n in 1..=1_000 {
            few.tell(Teller::Watch, Epoch::default(), &n.to_string(), value(n));
            small.tell(Teller::Watch, Epoch::default(), &n.to_string(), value(n));
        }
        assert_eq!((few.figures().0, few.figures().2), (10, 990));
        let (entries, bytes, evictions) = small.figures();
        assert!(bytes <= 10_000 && bytes > 9_700, "{bytes}");
        assert_eq!(entries as u64 + evictions, 1_000);
        // Too large for the map, and its predecessor is gone.
        small.tell(
            Teller::Watch,
            Epoch::default(),
            "1000",
            Found::Value(Entry::new(Value::new(vec![0; 20_000].into()), 5_000)),
        );
        assert_eq!(small.get("1000"), None);
    }

    #[test]
    fn what_is_told_late_does_not_follow_what_had_to_go() {
        let map = map(1, 100_000);
        map.tell(Teller::Write, Epoch::default(), "a", value(9));
        map.tell(Teller::Watch, Epoch::default(), "b", value(10));
        map.tell(Teller::Watch, Epoch::default(), "a", value(5));
        assert_eq!(map.get("a"), None);
        // Nor after it was forgotten; what is newer is taken in.
        map.forget("b");
        map.tell(Teller::Write, Epoch::default(), "b", value(10));
        assert_eq!(map.get("b"), None);
        map.tell(Teller::Watch, Epoch::default(), "b", value(11));
        assert_eq!(map.get("b"), Some(value(11)));
        // What the leader answers is taken in, however old.
        map.begin("c").finish(value(3));
        assert_eq!(map.get("c"), Some(value(3)));
    }

    #[test]
    fn bytes_are_those_of_what_is_there() {
        let map = map(2, 1_000);
        map.tell(Teller::Watch, Epoch::default(), "a", value(1));
        map.tell(Teller::Watch, Epoch::default(), "a", value(22));
        assert_eq!(map.figures(), (1, 203, 0));
        map.tell(Teller::Watch, Epoch::default(), "bb", value(3));
        assert_eq!(map.figures(), (2, 406, 0));
        // The least used one goes.
        map.get("a");
        map.tell(Teller::Watch, Epoch::default(), "c", value(4));
        assert_eq!(map.figures(), (2, 405, 1));
        assert!(map.get("a").is_some() && map.get("bb").is_none());
        map.forget("a");
        map.forget("c");
        assert_eq!(map.figures(), (0, 0, 1));
    }

    #[test]
    fn a_value_ends_on_time() {
        let map = map(10, 10_000);
        let entry = |at| match value(4) {
            Found::Value(entry) => Found::Value(entry.with_expiry(Some(at), None)),
            nothing => nothing,
        };
        let (past, later) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(60));
        map.tell(Teller::Watch, Epoch::default(), "past", entry(past));
        map.tell(Teller::Watch, Epoch::default(), "later", entry(later));
        assert_eq!(map.get("past"), Some(Found::Nothing { revision: 4 }));
        assert_eq!(map.get("later"), Some(entry(later)));
    }
}
