//! A key-value store as simple as can be: what each operation does and answers.

use std::collections::{BTreeMap, BTreeSet};

use nats_connector::ErrorKind;
use nats_connector::kv::Glob;
use serde_json::{Value, json};

use crate::operations::{Operation, Part, Slot, Space, When};

/// What an operation answers. Revisions are no part of it: the runner checks their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Done,
    Refused(ErrorKind),
    Found(Option<Value>),
    Bytes(Option<Vec<u8>>),
    Bool(bool),
    Number(i64),
    Names(BTreeSet<String>),
    Values(BTreeMap<String, Value>),
    Each(Vec<Answer>),
    Past(Vec<Option<Vec<u8>>>),
}

impl Answer {
    /// Of what has no value any more, some stores keep a trace for a while.
    pub(crate) fn past(past: Vec<Option<Vec<u8>>>) -> Self {
        let is_trace = past.iter().all(Option::is_none);
        Answer::Past(if is_trace { Vec::new() } else { past })
    }
}

/// A value, and whether it has a lifetime.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    bytes: Vec<u8>,
    ends: bool,
}

/// What one bucket knows of a key: values and deletes, oldest first.
type Past = Vec<Option<Stored>>;

#[derive(Debug, Default)]
pub(crate) struct Model {
    /// None where there is no such bucket.
    buckets: [Option<BTreeMap<Slot, Past>>; 2],
    /// How many values of a key each bucket keeps.
    keeps: [usize; 2],
}

impl Model {
    /// Two buckets: one that does not exist yet, and one with this history.
    pub(crate) fn new(history: usize) -> Self {
        Model { buckets: [None, Some(BTreeMap::new())], keeps: [1, history] }
    }

    fn stored(&self, slot: &Slot) -> Option<&Stored> {
        self.buckets[slot.space.bucket].as_ref()?.get(slot)?.last()?.as_ref()
    }

    pub(crate) fn has_value(&self, slot: &Slot) -> bool {
        self.stored(slot).is_some()
    }

    /// The slots with a value that a listing of `space` gives: those of all prefixes where it has
    /// none itself.
    pub(crate) fn slots(&self, space: Space) -> impl Iterator<Item = &Slot> {
        let slots = self.buckets[space.bucket].iter().flat_map(BTreeMap::keys);
        let within = move |slot: &&Slot| space.prefix.is_empty() || slot.space == space;
        slots.filter(within).filter(|slot| self.has_value(slot))
    }

    fn put(&mut self, slot: &Slot, bytes: Vec<u8>, ends: bool) {
        let bucket = self.buckets[slot.space.bucket].get_or_insert_default();
        let past = bucket.entry(slot.clone()).or_default();
        if ends {
            // A lifetime erases what is older.
            past.clear();
        }
        past.push(Some(Stored { bytes, ends }));
        self.trim(slot);
    }

    fn delete(&mut self, slot: &Slot) {
        if self.has_value(slot)
            && let Some(past) = self.past(slot)
        {
            past.push(None);
            self.trim(slot);
        }
    }

    fn purge(&mut self, slot: &Slot) {
        if let Some(past) = self.past(slot) {
            past.clear();
        }
    }

    fn past(&mut self, slot: &Slot) -> Option<&mut Past> {
        self.buckets[slot.space.bucket].as_mut()?.get_mut(slot)
    }

    fn trim(&mut self, slot: &Slot) {
        let keeps = self.keeps[slot.space.bucket];
        if let Some(past) = self.past(slot) {
            past.drain(..past.len().saturating_sub(keeps));
        }
    }

    /// Whether a write under this condition takes place, and how it is refused if not.
    fn check(&self, slot: &Slot, when: When) -> Result<(), ErrorKind> {
        match when {
            When::Always | When::Current => Ok(()),
            When::Absent if self.has_value(slot) => Err(ErrorKind::AlreadyExists),
            When::Absent => Ok(()),
            When::Stale => Err(ErrorKind::Conflict),
        }
    }

    fn matching(&self, space: Space, pattern: &str) -> Vec<Slot> {
        let glob = Glob::new(pattern).unwrap();
        self.slots(space).filter(|slot| glob.matches(slot.key)).cloned().collect()
    }

    /// `name` gives the name of a slot in a listing of the whole bucket.
    pub(crate) fn apply(
        &mut self,
        operation: &Operation,
        name: impl Fn(&Slot) -> String,
    ) -> Answer {
        let name_in = |space: Space, slot: &Slot| match space.prefix {
            "" => name(slot),
            _ => slot.key.to_owned(),
        };
        match operation {
            Operation::Set(slot, value, when) => match self.check(slot, *when) {
                Err(kind) => Answer::Refused(kind),
                Ok(()) => self.put_value(slot, value),
            },
            Operation::SetRaw(slot, bytes) => {
                self.put(slot, bytes.clone(), false);
                Answer::Done
            }
            Operation::SetForLong(slot, value) => {
                self.put(slot, encode(value), true);
                Answer::Done
            }
            Operation::Replace(slot, value) => {
                let there = self.has_value(slot);
                if there {
                    self.put(slot, encode(value), false);
                }
                Answer::Bool(there)
            }
            Operation::Update(slot, value) => match self.read(slot) {
                Err(kind) => Answer::Refused(kind),
                Ok(old) => {
                    let new = updated(old, value);
                    let ends = self.stored(slot).is_some_and(|stored| stored.ends);
                    match &new {
                        Some(value) => self.put(slot, encode(value), ends),
                        None => self.delete(slot),
                    }
                    Answer::Found(new)
                }
            },
            Operation::Take(slot) => match self.read(slot) {
                Err(kind) => Answer::Refused(kind),
                Ok(found) => {
                    self.delete(slot);
                    Answer::Found(found)
                }
            },
            Operation::Delete(slot, when) => match self.check(slot, *when) {
                Err(kind) => Answer::Refused(kind),
                Ok(()) => {
                    self.delete(slot);
                    Answer::Done
                }
            },
            Operation::Purge(slot) => {
                self.purge(slot);
                Answer::Done
            }
            Operation::Increment(slot, by) => {
                let stored = self.stored(slot).cloned();
                let old = stored
                    .as_ref()
                    .map_or(Some(0), |stored| serde_json::from_slice::<i64>(&stored.bytes).ok());
                match old.map(|old| old.checked_add(*by)) {
                    None => Answer::Refused(ErrorKind::Decode),
                    Some(None) => Answer::Refused(ErrorKind::InvalidInput),
                    Some(Some(sum)) => {
                        let ends = stored.is_some_and(|stored| stored.ends);
                        self.put(slot, sum.to_string().into(), ends);
                        Answer::Number(sum)
                    }
                }
            }
            Operation::Touch(slot) => self.rewrite(slot, |_| true),
            Operation::Persist(slot) => self.rewrite(slot, |_| false),
            Operation::Get(slot) => self.read(slot).map_or_else(Answer::Refused, Answer::Found),
            Operation::GetRaw(slot) => {
                Answer::Bytes(self.stored(slot).map(|stored| stored.bytes.clone()))
            }
            Operation::Exists(slot) => Answer::Bool(self.has_value(slot)),
            Operation::Ends(slot) => {
                Answer::Bool(self.stored(slot).is_some_and(|stored| stored.ends))
            }
            Operation::GetMany(slots) => {
                let each = slots
                    .iter()
                    .map(|slot| self.read(slot).map_or_else(Answer::Refused, Answer::Found));
                Answer::Each(each.collect())
            }
            Operation::SetMany(values) => {
                for (slot, value) in values {
                    self.put(slot, encode(value), false);
                }
                Answer::Done
            }
            Operation::DeleteMany(slots) => {
                slots.iter().for_each(|slot| self.delete(slot));
                Answer::Done
            }
            Operation::Keys(space) => {
                Answer::Names(self.slots(*space).map(|slot| name_in(*space, slot)).collect())
            }
            Operation::KeysMatching(space, pattern) => {
                let slots = self.matching(*space, pattern);
                Answer::Names(slots.iter().map(|slot| name_in(*space, slot)).collect())
            }
            Operation::Count(space) => {
                Answer::Number(i64::try_from(self.slots(*space).count()).unwrap())
            }
            Operation::GetAll(space) => {
                let slots = self.slots(*space);
                let all = slots.map(|slot| {
                    let value = self.read(slot)?.unwrap_or_default();
                    Ok((name_in(*space, slot), value))
                });
                all.collect::<Result<_, ErrorKind>>().map_or_else(Answer::Refused, Answer::Values)
            }
            Operation::DeleteMatching(space, pattern) => {
                let slots = self.matching(*space, pattern);
                slots.iter().for_each(|slot| self.delete(slot));
                Answer::Number(i64::try_from(slots.len()).unwrap())
            }
            Operation::Flush(space) => {
                let slots: Vec<Slot> = self.slots(*space).cloned().collect();
                slots.iter().for_each(|slot| self.purge(slot));
                Answer::Number(i64::try_from(slots.len()).unwrap())
            }
            Operation::Transaction(parts) => {
                let check = |part: &Part| match part {
                    Part::Set(slot, _, when) | Part::Delete(slot, when) => self.check(slot, *when),
                };
                if parts.iter().try_for_each(check).is_err() {
                    return Answer::Refused(ErrorKind::Conflict);
                }
                for part in parts {
                    match part {
                        Part::Set(slot, value, _) => self.put(slot, encode(value), false),
                        Part::Delete(slot, _) => self.delete(slot),
                    }
                }
                Answer::Done
            }
            Operation::History(slot) => {
                let bucket = self.buckets[slot.space.bucket].as_ref();
                let past = bucket.and_then(|bucket| bucket.get(slot)).into_iter().flatten();
                let bytes = past.map(|it| it.as_ref().map(|stored| stored.bytes.clone()));
                Answer::past(bytes.collect())
            }
            Operation::DeleteBucket(bucket) => {
                self.keeps[*bucket] = 1;
                Answer::Bool(self.buckets[*bucket].take().is_some())
            }
        }
    }

    /// Whether a transaction deletes a key that has no value.
    pub(crate) fn deletes_nothing_with_others(&self, operation: &Operation) -> bool {
        let Operation::Transaction(parts) = operation else { return false };
        let is_missing = |part: &Part| match part {
            Part::Delete(slot, _) => self.stored(slot).is_none(),
            Part::Set(..) => false,
        };
        parts.iter().any(is_missing)
    }

    fn put_value(&mut self, slot: &Slot, value: &Value) -> Answer {
        self.put(slot, encode(value), false);
        Answer::Done
    }

    /// Writes a value again with or without a lifetime, unless it has none and is to have none.
    fn rewrite(&mut self, slot: &Slot, ends: impl Fn(&Stored) -> bool) -> Answer {
        let Some(stored) = self.stored(slot).cloned() else { return Answer::Bool(false) };
        let ends = ends(&stored);
        if ends || stored.ends {
            self.put(slot, stored.bytes, ends);
        }
        Answer::Bool(true)
    }

    fn read(&self, slot: &Slot) -> Result<Option<Value>, ErrorKind> {
        let decode = |stored: &Stored| serde_json::from_slice(&stored.bytes);
        self.stored(slot).map(decode).transpose().map_err(|_| ErrorKind::Decode)
    }
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// What an update makes of a value: a number grows, a text goes, anything else becomes `value`.
pub(crate) fn updated(old: Option<Value>, value: &Value) -> Option<Value> {
    match old {
        Some(Value::Number(n)) => Some(json!(n.as_i64().unwrap_or(0).wrapping_add(1))),
        Some(Value::String(_)) => None,
        _ => Some(value.clone()),
    }
}
