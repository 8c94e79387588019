//! What a watch has told of the keys that have a value.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::SystemTime;

use crate::kv::driver::{Entry, What};

/// The keys that were told with a value and not with an end: about 100 bytes for each beside its
/// name. Ends can pass unseen, since the message of an end has a lifetime itself; what has vanished
/// is found by comparing with what is still there.
#[derive(Debug, Default)]
pub(super) struct Live {
    keys: HashMap<Box<str>, Told>,
    /// The ends to come, where the server does not tell them.
    ends: BinaryHeap<Reverse<(SystemTime, u64, Box<str>)>>,
    /// Keys told before the bucket was made anew and not since.
    old: HashSet<Box<str>>,
}

#[derive(Debug)]
struct Told {
    revision: u64,
    ends: Option<SystemTime>,
    /// It is there, as far as a comparison has come.
    seen: bool,
}

impl Live {
    pub(super) fn has(&self, name: &str) -> bool {
        self.keys.contains_key(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A value was told. `tells_ends`: the server will tell its end.
    pub(super) fn put(&mut self, name: &str, entry: &Entry, tells_ends: bool) {
        let Entry { revision, ends, .. } = *entry;
        if let (Some(ends), false) = (ends, tells_ends) {
            self.ends.push(Reverse((ends, revision, name.into())));
        }
        if !self.old.is_empty() {
            self.old.remove(name);
        }
        self.keys.insert(name.into(), Told { revision, ends, seen: true });
    }

    /// An end was told; whether the key had a value.
    pub(super) fn end(&mut self, name: &str) -> bool {
        self.keys.remove(name).is_some() | (!self.old.is_empty() && self.old.remove(name))
    }

    /// When the next end comes that the server does not tell.
    pub(super) fn next_end(&mut self) -> Option<SystemTime> {
        loop {
            let Reverse((at, revision, name)) = self.ends.peek()?;
            if self.keys.get(name).is_some_and(|told| told.revision == *revision) {
                return Some(*at);
            }
            self.ends.pop();
        }
    }

    /// Takes out a key whose end has come that the server does not tell.
    pub(super) fn take_ended(&mut self, now: SystemTime) -> Option<String> {
        if self.next_end()? > now {
            return None;
        }
        let Reverse((_, _, name)) = self.ends.pop()?;
        self.keys.remove(&name);
        Some(name.into())
    }

    /// Begins a comparison: no key has been seen.
    pub(super) fn begin_comparison(&mut self) {
        self.keys.values_mut().for_each(|told| told.seen = false);
    }

    pub(super) fn see(&mut self, name: &str) {
        if let Some(told) = self.keys.get_mut(name) {
            told.seen = true;
        }
    }

    /// The keys up to `revision` that were not seen, with their revisions.
    pub(super) fn unseen(&self, revision: u64) -> Vec<(String, u64)> {
        let keys = self.keys.iter();
        let unseen = keys.filter(|(_, told)| !told.seen && told.revision <= revision);
        unseen.map(|(name, told)| (name.to_string(), told.revision)).collect()
    }

    /// Takes out a key that has vanished: how it must have ended.
    pub(super) fn vanish(&mut self, name: &str) -> What {
        let told = self.keys.remove(name);
        let has_ended = told.and_then(|told| told.ends).is_some_and(|at| at <= SystemTime::now());
        if has_ended { What::Expired } else { What::Deleted }
    }

    /// The bucket was made anew: everything is to be told again.
    pub(super) fn begin_anew(&mut self) {
        self.ends.clear();
        self.old.extend(self.keys.drain().map(|(name, _)| name));
    }

    /// Takes out the keys that were not told again.
    pub(super) fn take_old(&mut self) -> impl Iterator<Item = String> + use<> {
        std::mem::take(&mut self.old).into_iter().map(String::from)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::kv::driver::Value;

    fn entry(revision: u64, ends: Option<SystemTime>) -> Entry {
        Entry::new(Value::new(Bytes::new()), revision).with_expiry(ends, None)
    }

    #[test]
    fn only_what_was_told_before_can_vanish() {
        let mut live = Live::default();
        let past = SystemTime::now() - Duration::from_secs(1);
        live.put("stays", &entry(1, None), true);
        live.put("deleted", &entry(2, None), true);
        live.put("expired", &entry(3, Some(past)), true);
        live.put("again", &entry(4, None), true);
        live.begin_comparison();
        live.put("new", &entry(9, None), true);
        live.put("again", &entry(10, None), true);
        live.see("stays");
        live.see("unknown");
        let mut unseen = live.unseen(5);
        unseen.sort_unstable();
        assert_eq!(unseen, [("deleted".to_owned(), 2), ("expired".to_owned(), 3)]);
        assert_eq!(live.unseen(1), []);
        assert_eq!(live.vanish("deleted"), What::Deleted);
        assert_eq!(live.vanish("expired"), What::Expired);
        assert!(live.end("new") && !live.end("deleted"));
    }

    #[test]
    fn ends_are_those_of_the_last_value() {
        let mut live = Live::default();
        let now = SystemTime::now();
        let at = |seconds| Some(now + Duration::from_secs(seconds));
        live.put("a", &entry(1, at(1)), false);
        live.put("a", &entry(2, at(5)), false);
        live.put("b", &entry(3, at(2)), false);
        live.put("c", &entry(4, at(3)), true);
        assert_eq!(live.next_end(), at(2));
        assert_eq!(live.take_ended(now), None);
        let later = now + Duration::from_secs(4);
        assert_eq!(live.take_ended(later).as_deref(), Some("b"));
        assert_eq!(live.take_ended(later), None);
        live.end("a");
        assert_eq!(live.next_end(), None);
    }

    #[test]
    fn a_bucket_made_anew_ends_what_it_no_longer_holds() {
        let mut live = Live::default();
        live.put("a", &entry(1, None), true);
        live.put("b", &entry(2, None), true);
        live.begin_anew();
        live.put("a", &entry(1, None), true);
        assert_eq!(live.take_old().collect::<Vec<_>>(), ["b"]);
        assert!(live.has("a") && !live.has("b"));
    }
}
