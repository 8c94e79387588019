//! The messages that a stream holds, by sequence, by subject and by the end of their life.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::time::Instant;

use super::filter::Filter;
use crate::pubsub::driver::InboundMessage;
use crate::pubsub::headers;

/// What each message takes beside its subject, headers and payload, as a nats-server counts it.
const RECORD: usize = 16;

/// A message that is held.
pub(super) struct Entry {
    pub(super) message: InboundMessage,
    pub(super) stored: Instant,
    pub(super) end: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Log {
    entries: BTreeMap<u64, Entry>,
    subjects: HashMap<Box<str>, BTreeSet<u64>>,
    ends: BTreeSet<(Instant, u64)>,
    bytes: u64,
    last: u64,
}

/// What a message counts for in a stream's size.
pub(super) fn size(message: &InboundMessage) -> u64 {
    let body = headers_size(message) + message.payload.len();
    (message.subject.len() + body + RECORD) as u64
}

pub(super) fn headers_size(message: &InboundMessage) -> usize {
    message.headers.as_ref().map_or(0, headers::wire_size)
}

impl Log {
    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sequence of the first message, or the next one where there is none; 0 at the beginning.
    pub(super) fn first(&self) -> u64 {
        match self.entries.first_key_value() {
            Some((first, _)) => *first,
            None if self.last == 0 => 0,
            None => self.last + 1,
        }
    }

    /// The last sequence that was given.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Entry> {
        self.entries.get(&sequence)
    }

    /// The first message at or behind `from` that the filter covers.
    pub(super) fn next(&self, from: u64, filter: &Filter) -> Option<(u64, &Entry)> {
        let entry = |sequence: u64| Some((sequence, self.entries.get(&sequence)?));
        match filter {
            Filter::All => self.entries.range(from..).next().map(|(at, entry)| (*at, entry)),
            Filter::Subject(subject) => {
                self.subjects.get(subject.as_str())?.range(from..).next().copied().and_then(entry)
            }
            Filter::Patterns(_) => self
                .entries
                .range(from..)
                .find(|(_, entry)| filter.covers(&entry.message.subject))
                .map(|(at, entry)| (*at, entry)),
        }
    }

    /// How many messages at or behind `from` the filter covers.
    pub(super) fn count(&self, from: u64, filter: &Filter) -> u64 {
        let covered = |entry: &&Entry| filter.covers(&entry.message.subject);
        match filter {
            Filter::All if from <= self.first() => self.len(),
            _ => self.entries.range(from..).filter(|(_, entry)| covered(entry)).count() as u64,
        }
    }

    /// The first sequence that was stored at `time` or later, or the next one.
    pub(super) fn since(&self, time: Instant) -> u64 {
        let found = self.entries.iter().find(|(_, entry)| entry.stored >= time);
        found.map_or(self.last + 1, |(sequence, _)| *sequence)
    }

    /// The sequences of a subject's messages.
    pub(super) fn of_subject(&self, subject: &str) -> Option<&BTreeSet<u64>> {
        self.subjects.get(subject)
    }

    /// The sequence of the last message that a pattern covers; 0 for none.
    pub(super) fn last_of(&self, pattern: &str) -> u64 {
        let last = |sequences: &BTreeSet<u64>| sequences.last().copied().unwrap_or(0);
        match Filter::new(&[pattern]) {
            Filter::All => self.entries.last_key_value().map_or(0, |(sequence, _)| *sequence),
            Filter::Subject(subject) => self.subjects.get(subject.as_str()).map_or(0, last),
            filter @ Filter::Patterns(_) => {
                let covered = self.subjects.iter().filter(|(subject, _)| filter.covers(subject));
                covered.map(|(_, sequences)| last(sequences)).max().unwrap_or(0)
            }
        }
    }

    /// The sequences of all messages that the filter covers and that are before `before`.
    pub(super) fn covered(&self, filter: &Filter, before: u64) -> Vec<u64> {
        match filter {
            Filter::All => self.entries.range(..before).map(|(at, _)| *at).collect(),
            _ => {
                let covered = self.subjects.iter().filter(|(subject, _)| filter.covers(subject));
                covered.flat_map(|(_, at)| at.range(..before).copied()).collect()
            }
        }
    }

    /// The sequences of the messages that are too many for their subjects, the older ones.
    pub(super) fn beyond(&self, limit: u64) -> Vec<u64> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.subjects.values().flat_map(|them| them.iter().rev().skip(limit)).copied().collect()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(sequence, entry)| (*sequence, entry))
    }

    pub(super) fn push(&mut self, entry: Entry) -> u64 {
        self.last += 1;
        let sequence = self.last;
        self.bytes += size(&entry.message);
        let subject = entry.message.subject.as_str();
        match self.subjects.get_mut(subject) {
            Some(others) => _ = others.insert(sequence),
            None => _ = self.subjects.insert(subject.into(), BTreeSet::from([sequence])),
        }
        if let Some(end) = entry.end {
            self.ends.insert((end, sequence));
        }
        self.entries.insert(sequence, entry);
        sequence
    }

    /// Gives a sequence to a message that nobody wants.
    pub(super) fn skip(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Entry> {
        let entry = self.entries.remove(&sequence)?;
        self.bytes -= size(&entry.message);
        if let Some(end) = entry.end {
            self.ends.remove(&(end, sequence));
        }
        if let Some(others) = self.subjects.get_mut(entry.message.subject.as_str()) {
            others.remove(&sequence);
            if others.is_empty() {
                self.subjects.remove(entry.message.subject.as_str());
            }
        }
        Some(entry)
    }

    /// When the next message ends.
    pub(super) fn next_end(&self) -> Option<(Instant, u64)> {
        self.ends.first().copied()
    }

    /// Says anew when each message ends.
    pub(super) fn set_ends(&mut self, end: impl Fn(&Entry) -> Option<Instant>) {
        self.ends.clear();
        for (sequence, entry) in &mut self.entries {
            entry.end = end(entry);
            self.ends.extend(entry.end.map(|end| (end, *sequence)));
        }
    }
}
