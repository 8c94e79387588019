//! The same operations on a driver, and what every answer says of revisions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nats_connector::kv::driver::Consistency;
use nats_connector::kv::{BucketConfig, Event, Key, Kv};
use nats_connector::{ErrorKind, Result};
use serde_json::Value;
use tokio::time::Instant;

use crate::Checked;
use crate::model::{Answer, updated};
use crate::operations::{Operation, Part, Slot, Space, When};

const LONG: Duration = Duration::from_secs(3600);

/// Two buckets that no other sequence uses.
pub(crate) struct Real {
    kv: Kv,
    buckets: [String; 2],
    /// The latest revision of each bucket, as far as it was told.
    latest: [u64; 2],
    /// The revision of each key that a write gave, and one that it had before.
    current: HashMap<Slot, u64>,
    stale: HashMap<Slot, u64>,
}

impl Real {
    pub(crate) async fn new(kv: &Kv, history: u8) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let buckets = ["one", "two"].map(|name| format!("model_{name}_{count}"));
        let config = BucketConfig::new(&buckets[1]);
        let config = if history > 1 { config.history(history) } else { config };
        kv.create_bucket(config).await.unwrap();
        Real {
            kv: kv.clone(),
            buckets,
            latest: [0; 2],
            current: HashMap::new(),
            stale: HashMap::new(),
        }
    }

    pub(crate) async fn delete(&self) {
        for bucket in &self.buckets {
            self.kv.delete_bucket(bucket).await.unwrap();
        }
    }

    fn space(&self, space: Space) -> Kv {
        self.kv.bucket(&self.buckets[space.bucket]).with_prefix(space.prefix)
    }

    /// The name of a slot in a listing of its whole bucket.
    pub(crate) fn name(&self, slot: &Slot) -> String {
        let driver = self.kv.driver().unwrap();
        let key = Key::new(slot.space.prefix, slot.key);
        let name = driver.whole_name(&self.buckets[slot.space.bucket], key);
        name.map_or_else(|| "a key without a name".to_owned(), |name| name.into_owned())
    }

    /// The revision of a key, also of what is no more.
    async fn revision(&self, slot: &Slot) -> Result<u64> {
        let driver = self.kv.driver()?;
        let bucket = &self.buckets[slot.space.bucket];
        let key = Key::new(slot.space.prefix, slot.key);
        let deadline = Instant::now() + Duration::from_secs(10);
        Ok(driver.get(bucket, key, Consistency::Latest, deadline).await?.revision())
    }

    /// One that the key does not have: an earlier one, or one that is still to come.
    async fn stale(&self, slot: &Slot) -> Result<u64> {
        let current = self.revision(slot).await?;
        let old = self.stale.get(slot).filter(|old| **old != current);
        Ok(old.copied().unwrap_or(current + 1000))
    }

    /// A write's revision is above every other of its bucket.
    fn wrote(&mut self, slot: &Slot, revision: u64) -> Checked {
        let latest = &mut self.latest[slot.space.bucket];
        if revision <= *latest {
            return Err(format!("{slot:?}: revision {revision} follows {latest}"));
        }
        *latest = revision;
        self.changed(slot);
        self.current.insert(slot.clone(), revision);
        Ok(Answer::Done)
    }

    /// A key has another revision, which was not told.
    fn changed(&mut self, slot: &Slot) {
        if let Some(old) = self.current.remove(slot) {
            self.stale.insert(slot.clone(), old);
        }
    }

    /// An entry's revision is the one that its write gave.
    fn has(&self, slot: &Slot, revision: u64) -> std::result::Result<(), String> {
        match self.current.get(slot) {
            Some(current) if *current != revision => {
                Err(format!("{slot:?}: revision {revision}, its write gave {current}"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn run(&mut self, operation: &Operation) -> Checked {
        match self.try_run(operation).await {
            Ok(checked) => checked,
            Err(error) => Ok(Answer::Refused(error.kind())),
        }
    }

    async fn try_run(&mut self, operation: &Operation) -> Result<Checked> {
        let answer = match operation {
            Operation::Set(slot, value, when) => {
                let set = self.space(slot.space).set(slot.key, value);
                let set = match when {
                    When::Always => set,
                    When::Absent => set.if_absent(),
                    When::Current => set.if_revision(self.revision(slot).await?),
                    When::Stale => set.if_revision(self.stale(slot).await?),
                };
                return Ok(self.wrote(slot, set.await?));
            }
            Operation::SetRaw(slot, bytes) => {
                let revision = self.space(slot.space).set_raw(slot.key, bytes.clone()).await?;
                return Ok(self.wrote(slot, revision));
            }
            Operation::SetForLong(slot, value) => {
                let revision = self.space(slot.space).set(slot.key, value).ttl(LONG).await?;
                return Ok(self.wrote(slot, revision));
            }
            Operation::Replace(slot, value) => {
                match self.space(slot.space).replace(slot.key, value).await? {
                    None => Answer::Bool(false),
                    Some(revision) => {
                        return Ok(self.wrote(slot, revision).map(|_| Answer::Bool(true)));
                    }
                }
            }
            Operation::Update(slot, value) => {
                let value = value.clone();
                let update = move |old| updated(old, &value);
                let new = self.space(slot.space).update(slot.key, update).await?;
                self.changed(slot);
                Answer::Found(new)
            }
            Operation::Take(slot) => {
                let taken = self.space(slot.space).take(slot.key).await?;
                self.changed(slot);
                Answer::Found(taken)
            }
            Operation::Delete(slot, when) => {
                let kv = self.space(slot.space);
                match when {
                    When::Always | When::Absent => kv.delete(slot.key).await?,
                    When::Current => {
                        kv.delete_if_revision(slot.key, self.revision(slot).await?).await?;
                    }
                    When::Stale => kv.delete_if_revision(slot.key, self.stale(slot).await?).await?,
                }
                self.changed(slot);
                Answer::Done
            }
            Operation::Purge(slot) => {
                self.space(slot.space).purge(slot.key).await?;
                self.changed(slot);
                Answer::Done
            }
            Operation::Increment(slot, by) => {
                let sum = self.space(slot.space).increment(slot.key, *by).await?;
                self.changed(slot);
                Answer::Number(sum)
            }
            Operation::Touch(slot) => {
                let touched = self.space(slot.space).touch(slot.key, LONG).await?;
                self.changed(slot);
                Answer::Bool(touched)
            }
            Operation::Persist(slot) => {
                let persisted = self.space(slot.space).persist(slot.key).await?;
                self.changed(slot);
                Answer::Bool(persisted)
            }
            Operation::Get(slot) => Answer::Found(self.space(slot.space).get(slot.key).await?),
            Operation::GetRaw(slot) => {
                let bytes = self.space(slot.space).get_raw(slot.key).await?;
                Answer::Bytes(bytes.map(Into::into))
            }
            Operation::Exists(slot) => Answer::Bool(self.space(slot.space).exists(slot.key).await?),
            Operation::Ends(slot) => {
                let entry = self.space(slot.space).entry_raw(slot.key).await?;
                let revision = entry.as_ref().map(|entry| entry.revision);
                if let Some(Err(wrong)) = revision.map(|revision| self.has(slot, revision)) {
                    return Ok(Err(wrong));
                }
                Answer::Bool(entry.is_some_and(|entry| entry.expires.is_some()))
            }
            Operation::GetMany(slots) => {
                let found = self.of(slots).get_many(slots.iter().map(|slot| slot.key)).await?;
                let each = found.into_iter().map(|(_, found)| match found {
                    Ok(found) => Answer::Found(found),
                    Err(error) => Answer::Refused(error.kind()),
                });
                Answer::Each(each.collect())
            }
            Operation::SetMany(values) => {
                let space = self.space(values[0].0.space);
                let set = space.set_many(values.iter().map(|(slot, value)| (slot.key, value)));
                let revisions = set.await?.all()?;
                // They are under way together: any of them may be the first.
                let mut written: Vec<_> = revisions.into_iter().zip(values).collect();
                written.sort_unstable_by_key(|(revision, _)| *revision);
                for (revision, (slot, _)) in written {
                    if let Err(wrong) = self.wrote(slot, revision) {
                        return Ok(Err(wrong));
                    }
                }
                Answer::Done
            }
            Operation::DeleteMany(slots) => {
                let deleted = self.of(slots).delete_many(slots.iter().map(|slot| slot.key));
                deleted.await?.all()?;
                slots.iter().for_each(|slot| self.changed(slot));
                Answer::Done
            }
            Operation::Keys(space) => names(self.space(*space).keys().await?),
            Operation::KeysMatching(space, pattern) => {
                names(self.space(*space).keys_matching(*pattern).await?)
            }
            Operation::Count(space) => number(self.space(*space).item_count().await?),
            Operation::GetAll(space) => {
                let all = self.space(*space).get_all::<Value>().await?;
                Answer::Values(BTreeMap::from_iter(all))
            }
            Operation::DeleteMatching(space, pattern) => {
                let deleted = self.space(*space).delete_matching(*pattern).await?;
                self.all_changed(space.bucket);
                number(deleted)
            }
            Operation::Flush(space) => {
                let purged = self.space(*space).flush().await?;
                self.all_changed(space.bucket);
                number(purged)
            }
            Operation::Transaction(parts) => {
                return self.transaction(parts).await;
            }
            Operation::History(slot) => {
                let events = self.space(slot.space).history(slot.key).await?.into_iter();
                let past = events.filter_map(|event| match event {
                    Event::Put(record) => Some(Some(record.value.into())),
                    Event::Purged { .. } => None,
                    _ => Some(None),
                });
                Answer::past(past.collect())
            }
            Operation::DeleteBucket(bucket) => {
                let deleted = self.kv.delete_bucket(&self.buckets[*bucket]).await?;
                // Revisions start over.
                self.latest[*bucket] = 0;
                self.current.retain(|slot, _| slot.space.bucket != *bucket);
                self.stale.retain(|slot, _| slot.space.bucket != *bucket);
                Answer::Bool(deleted)
            }
        };
        Ok(Ok(answer))
    }

    async fn transaction(&mut self, parts: &[Part]) -> Result<Checked> {
        let mut call = self.space(parts[0].slot().space).transaction();
        for part in parts {
            let slot = part.slot();
            call = match part {
                Part::Set(_, value, When::Always) => call.set(slot.key, value),
                Part::Set(_, value, When::Absent) => call.create(slot.key, value),
                Part::Set(_, value, When::Current) => {
                    call.set_if_revision(slot.key, value, self.revision(slot).await?)
                }
                Part::Set(_, value, When::Stale) => {
                    call.set_if_revision(slot.key, value, self.stale(slot).await?)
                }
                Part::Delete(_, When::Current) => {
                    call.delete_if_revision(slot.key, self.revision(slot).await?)
                }
                Part::Delete(..) => call.delete(slot.key),
            };
        }
        let revisions = match call.await {
            // Of several conditions any may be the one that is told.
            Err(error) if error.is_already_exists() => {
                return Ok(Ok(Answer::Refused(ErrorKind::Conflict)));
            }
            revisions => revisions?,
        };
        for (part, revision) in parts.iter().zip(revisions) {
            let checked = match part {
                Part::Set(slot, ..) => self.wrote(slot, revision),
                Part::Delete(slot, _) => {
                    self.changed(slot);
                    let latest = &mut self.latest[slot.space.bucket];
                    *latest = revision.max(*latest);
                    Ok(Answer::Done)
                }
            };
            if checked.is_err() {
                return Ok(checked);
            }
        }
        Ok(Ok(Answer::Done))
    }

    fn of(&self, slots: &[Slot]) -> Kv {
        self.space(slots[0].space)
    }

    fn all_changed(&mut self, bucket: usize) {
        let slots: Vec<Slot> = self.current.keys().cloned().collect();
        slots.iter().filter(|slot| slot.space.bucket == bucket).for_each(|slot| self.changed(slot));
    }
}

fn names(names: Vec<String>) -> Answer {
    let count = names.len();
    let names = BTreeSet::from_iter(names);
    assert_eq!(names.len(), count, "each name is there once");
    Answer::Names(names)
}

fn number(number: u64) -> Answer {
    Answer::Number(i64::try_from(number).unwrap())
}
