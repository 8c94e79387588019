//! The bounded map of a near cache: the latest that is known of each key, by revision.
//!
//! Three sources feed it: the watch, this process' own writes, and reads of what it does not hold.
//! Revisions decide between them. A read is under way for a while, and what the others tell of its
//! key meanwhile is kept beside it: an older answer never comes after a newer one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::NearCacheConfig;
use crate::kv::driver::{Entry, Found};

/// What an entry takes beside its key and value, roughly, in bytes.
const OVERHEAD: usize = 200;
/// A shard is to hold a value of any usual size.
const SHARD: usize = 8 * 1024 * 1024;

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
    cache: Cache<Box<str>, Known, Weight, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    /// All changes of the map go one after the other; reads of it do not wait for them.
    changes: Mutex<Changes>,
}

#[derive(Default)]
struct Changes {
    /// Grows when what is under way must not be kept.
    epoch: u64,
    loading: HashMap<Box<str>, Loading>,
}

#[derive(Default)]
struct Loading {
    reads: usize,
    /// The latest that was told since the first of them began.
    told: Option<Arc<Found>>,
}

impl Map {
    pub(super) fn new(config: &NearCacheConfig) -> Self {
        let evictions = Evictions::default();
        let least = (config.max_bytes / config.max_entries).max(1) as u64;
        let options = OptionsBuilder::new()
            .shards((config.max_bytes / SHARD).clamp(1, 16))
            .estimated_items_capacity(config.max_entries)
            .weight_capacity(config.max_bytes as u64)
            .build();
        let cache = match options {
            Ok(options) => Cache::with_options(
                options,
                Weight { least },
                DefaultHashBuilder::default(),
                evictions.clone(),
            ),
            // Both capacities are set; this has the same bounds.
            Err(_) => Cache::with(
                config.max_entries,
                config.max_bytes as u64,
                Weight { least },
                DefaultHashBuilder::default(),
                evictions.clone(),
            ),
        };
        Map { cache, evictions, changes: Mutex::default() }
    }

    /// What is known of a key, as of now.
    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<Found> {
        self.cache.get(name).map(|known| as_of_now(&known.found))
    }

    /// The number that [`tell`](Self::tell) wants, read before what is told began.
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Takes in what a key came to, unless something newer is known or the map was cleared since
    /// `epoch`. What holds no value is kept only where it ends one, or where a read is under way.
    pub(super) fn tell(&self, teller: Teller, epoch: u64, name: &str, found: Found) {
        let mut changes = self.lock();
        if changes.epoch != epoch {
            return;
        }
        let found = Arc::new(found);
        if let Some(loading) = changes.loading.get_mut(name)
            && loading.told.as_ref().is_none_or(|told| told.revision() <= found.revision())
        {
            loading.told = Some(found.clone());
        }
        match self.cache.peek(name) {
            Some(old) if old.found.revision() > found.revision() => {}
            None if matches!(*found, Found::Nothing { .. }) => {}
            _ => self.put(name, Known { found, is_watched: teller == Teller::Watch }),
        }
    }

    /// Forgets what the watch did not tell: while it lagged, the end of that may have vanished
    /// without a message, and the watch only looks for what it has told.
    pub(super) fn keep_watched(&self) {
        self.lock().epoch += 1;
        self.cache.retain(|_, known| known.is_watched);
    }

    /// Forgets a key.
    pub(super) fn forget(&self, name: &str) {
        let _changes = self.lock();
        self.cache.remove(name);
    }

    /// Forgets everything, and what is under way.
    pub(super) fn clear(&self) {
        let mut changes = self.lock();
        changes.epoch += 1;
        for loading in changes.loading.values_mut() {
            loading.told = None;
        }
        self.cache.clear();
    }

    /// Notes that a read of a key begins.
    pub(super) fn begin(&self, name: &str) -> Reading<'_> {
        let mut changes = self.lock();
        let name: Box<str> = name.into();
        changes.loading.entry(name.clone()).or_default().reads += 1;
        Reading { map: self, name, epoch: changes.epoch }
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.0.load(Ordering::Relaxed)
    }

    /// A value that is too large for the map must not leave its predecessor there.
    fn put(&self, name: &str, known: Known) {
        self.cache.remove(name);
        self.cache.insert(name.into(), known);
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read that is under way; dropping it ends it.
pub(super) struct Reading<'a> {
    map: &'a Map,
    name: Box<str>,
    epoch: u64,
}

impl Reading<'_> {
    /// Takes in what the store's leader answered; gives the newest of that and of what was told
    /// meanwhile.
    pub(super) fn finish(self, found: Found) -> Found {
        let changes = self.map.lock();
        if changes.epoch != self.epoch {
            return found;
        }
        let told = changes.loading.get(&self.name).and_then(|loading| loading.told.clone());
        // Without a trace of the key there is no revision to compare, and the answer is newer than
        // all that was known when the read began.
        let known = match found.revision() {
            0 => told,
            _ => told.or_else(|| Some(self.map.cache.peek(&self.name)?.found)),
        };
        match known {
            Some(known) if known.revision() > found.revision() => as_of_now(&known),
            // What the watch told of this very revision stays.
            Some(known) if *known == found => found,
            _ => {
                let known = Known { found: Arc::new(found.clone()), is_watched: false };
                self.map.put(&self.name, known);
                found
            }
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut changes = self.map.lock();
        if let Some(loading) = changes.loading.get_mut(&self.name) {
            loading.reads -= 1;
            if loading.reads == 0 {
                changes.loading.remove(&self.name);
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

/// Bytes, with a floor that bounds the number of entries too.
#[derive(Clone)]
struct Weight {
    least: u64,
}

impl Weighter<Box<str>, Known> for Weight {
    fn weight(&self, name: &Box<str>, known: &Known) -> u64 {
        let value = match &*known.found {
            Found::Value(entry) => {
                let content_type = entry.value.content_type.as_ref().map_or(0, String::len);
                entry.value.bytes.len() + content_type
            }
            Found::Nothing { .. } => 0,
        };
        self.least.max((OVERHEAD + name.len() + value) as u64)
    }
}

#[derive(Clone, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Box<str>, Known> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _name: Box<str>, _known: Known) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::kv::driver::Value;

    fn map(max_entries: usize, max_bytes: usize) -> Map {
        Map::new(&NearCacheConfig::new().max_entries(max_entries).max_bytes(max_bytes))
    }

    fn value(revision: u64) -> Found {
        Found::Value(Entry::new(Value::new(Bytes::from(revision.to_string())), revision))
    }

    #[test]
    fn revisions_decide_whatever_the_order() {
        let map = map(100, 100_000);
        map.tell(Teller::Watch, 0, "a", value(5));
        map.tell(Teller::Watch, 0, "a", value(3));
        assert_eq!(map.get("a"), Some(value(5)));
        map.tell(Teller::Watch, 0, "a", Found::Nothing { revision: 6 });
        map.tell(Teller::Watch, 0, "a", value(5));
        assert_eq!(map.get("a"), Some(Found::Nothing { revision: 6 }));
        // What holds no value and ends none takes no room.
        map.tell(Teller::Watch, 0, "b", Found::Nothing { revision: 7 });
        assert_eq!(map.get("b"), None);
    }

    #[test]
    fn a_slow_read_does_not_bring_back_what_was_changed_meanwhile() {
        let map = map(100, 100_000);
        let reading = map.begin("a");
        map.tell(Teller::Watch, 0, "a", value(7));
        map.forget("a");
        assert_eq!(reading.finish(value(5)), value(7));

        let reading = map.begin("b");
        map.tell(Teller::Watch, 0, "b", Found::Nothing { revision: 8 });
        assert_eq!(reading.finish(value(5)), Found::Nothing { revision: 8 });
        assert!(map.lock().loading.is_empty());

        // What was known before the read is not held against a store that has no trace of it.
        map.tell(Teller::Watch, 0, "c", value(9));
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
        map.tell(Teller::Watch, 0, "watched", value(1));
        map.tell(Teller::Write, 0, "written", value(2));
        map.begin("loaded").finish(value(3));
        map.begin("watched").finish(value(1));
        let (epoch, reading) = (map.epoch(), map.begin("slow"));
        map.keep_watched();
        map.tell(Teller::Write, epoch, "late", value(4));
        reading.finish(value(5));
        assert_eq!(map.get("watched"), Some(value(1)));
        for name in ["written", "loaded", "late", "slow"] {
            assert_eq!(map.get(name), None, "{name}");
        }
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let few = map(10, 1_000_000);
        let small = map(1_000_000, 10_000);
        for n in 0..1_000 {
            few.tell(Teller::Watch, 0, &n.to_string(), value(n));
            small.tell(Teller::Watch, 0, &n.to_string(), value(n));
        }
        assert!(few.len() <= 10 && few.evictions() >= 990, "{}", few.len());
        assert!(small.bytes() <= 10_000 && small.len() > 10, "{}", small.bytes());
        // Too large for the map, and its predecessor is gone.
        small.tell(
            Teller::Watch,
            0,
            "999",
            Found::Value(Entry::new(Value::new(vec![0; 20_000].into()), 5_000)),
        );
        assert_eq!(small.get("999"), None);
    }

    #[test]
    fn a_value_ends_on_time() {
        let map = map(10, 10_000);
        let entry = |at| match value(4) {
            Found::Value(entry) => Found::Value(entry.with_expiry(Some(at), None)),
            nothing => nothing,
        };
        let (past, later) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(60));
        map.tell(Teller::Watch, 0, "past", entry(past));
        map.tell(Teller::Watch, 0, "later", entry(later));
        assert_eq!(map.get("past"), Some(Found::Nothing { revision: 4 }));
        assert_eq!(map.get("later"), Some(entry(later)));
    }
}
