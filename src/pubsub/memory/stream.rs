//! One stream: what it is told, what it holds, who reads it. Everything here happens under one lock
//! and waits for nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::clock::{Clock, later};
use super::consumer::Consumer;
use super::duplicates::Duplicates;
use super::filter::Filter;
use super::incoming::{Plan, Rollup, Verdict, header, lifetime};
use super::log::{Entry, Log};
use super::schedule::Schedules;
use super::seat::Seat;
use crate::difference::Difference;
use crate::error::Result;
use crate::pubsub::driver::{ConsumerConfig, InboundMessage, Settlement, Start, Stored};
use crate::pubsub::{Ack, subject};
use crate::streams::{Retention, StreamConfig, StreamStatus};

/// What a stream is and holds.
pub(super) struct State {
    /// Tells it from every other stream of its driver, also from one of the same name.
    pub(super) id: u64,
    /// Its options, every one of them said.
    pub(super) config: StreamConfig,
    pub(super) clock: Clock,
    created: SystemTime,
    pub(super) log: Log,
    pub(super) duplicates: Duplicates,
    schedules: Schedules,
    pub(super) consumers: BTreeMap<String, Consumer>,
    /// The members of all consumers.
    pub(super) seats: HashMap<u64, Seat>,
    /// Members whose consumer cannot be made again for now.
    pub(super) refused: HashSet<u64>,
    /// Whom to tell when the lock is given back.
    pub(super) wake: Vec<Waker>,
    pub(super) gone: bool,
    last_id: u64,
}

impl State {
    pub(super) fn new(id: u64, config: StreamConfig) -> Self {
        let clock = Clock::new();
        State {
            id,
            config,
            clock,
            created: clock.system(Instant::now()),
            log: Log::default(),
            duplicates: Duplicates::default(),
            schedules: Schedules::default(),
            consumers: BTreeMap::new(),
            seats: HashMap::new(),
            refused: HashSet::new(),
            wake: Vec::new(),
            gone: false,
            last_id: 0,
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn status(&self) -> StreamStatus {
        let mut status = StreamStatus::new(self.config.clone());
        status.messages = self.log.len();
        status.bytes = self.log.bytes();
        status.first_sequence = self.log.first();
        status.last_sequence = self.log.last();
        status.consumers = self.consumers.len();
        status.created = Some(self.created);
        status
    }

    /// Whether it stores what is published to this subject.
    pub(super) fn stores(&self, subject: &str) -> bool {
        self.config.subjects.iter().any(|pattern| subject::matches(pattern, subject))
    }

    /// How long a message is kept, if there is a limit.
    pub(super) fn age(&self) -> Option<Duration> {
        self.config.max_age.filter(|age| !age.is_zero())
    }

    /// Changes its options to these, which are complete and checked.
    pub(super) fn reconfigure(&mut self, config: StreamConfig) {
        self.config = config;
        let (age, ttl) = (self.age(), self.config.message_ttl == Some(true));
        self.log.set_ends(|entry| {
            let age = age.map(|age| later(entry.stored, age));
            let text = header(entry.message.headers.as_ref(), "Nats-TTL").filter(|_| ttl);
            match text.and_then(lifetime) {
                None => age,
                Some(None) => None,
                Some(Some(time)) => {
                    let end = later(entry.stored, time);
                    Some(age.map_or(end, |age| age.min(end)))
                }
            }
        });
        if let Some(limit) = self.config.max_messages_per_subject.filter(|limit| *limit > 0) {
            self.remove_all(self.log.beyond(limit));
        }
        self.trim();
        self.drop_unwanted();
    }

    /// Does what was due by `now`: ends lifetimes, publishes what was scheduled, makes ready what
    /// comes again.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some((end, sequence)) = self.log.next_end()
            && end <= now
        {
            self.remove(sequence);
        }
        while let Some((sequence, schedule)) = self.schedules.take_due(now) {
            let next = schedule.again(now);
            let Some(entry) = self.log.get(sequence) else { continue };
            let told = next.as_ref().map_or_else(
                || "purge".to_owned(),
                |next| humantime::format_rfc3339(self.clock.system(next.next())).to_string(),
            );
            let message = schedule.produce(&entry.message, &told);
            match next {
                Some(next) => self.schedules.insert(sequence, next),
                None => _ = self.remove(sequence),
            }
            let subject = message.subject.clone();
            if let Err(error) = self.publish(message, now) {
                let (subject, stream) = (subject.as_str(), &self.config.name);
                tracing::warn!(%error, subject, stream, "a scheduled message is lost");
            }
        }
        let window = self.config.duplicate_window.unwrap_or_default();
        self.duplicates.forget(window, now);
        for consumer in self.consumers.values_mut() {
            consumer.advance(now);
        }
    }

    /// Gives what can be delivered to the members that wait for it.
    pub(super) fn deal(&mut self, now: Instant) {
        for consumer in self.consumers.values_mut() {
            consumer.deal(&self.log, &mut self.seats, now, &mut self.wake);
        }
    }

    /// When there is something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let end = self.log.next_end().map(|(end, _)| end);
        let waits = self.consumers.values().filter_map(Consumer::next_wait);
        waits.chain(end).chain(self.schedules.next()).min()
    }

    /// Stores a message as its headers ask.
    pub(super) fn publish(&mut self, message: InboundMessage, now: Instant) -> Result<Ack> {
        match self.check(&message, now)? {
            Verdict::Duplicate(sequence) => Ok(Ack::new(&self.config.name, sequence, true)),
            Verdict::Store(plan) => {
                let sequence = self.store(message, plan, now);
                Ok(Ack::new(&self.config.name, sequence, false))
            }
        }
    }

    /// Stores all messages or none.
    pub(super) fn publish_atomic(
        &mut self,
        messages: Vec<InboundMessage>,
        now: Instant,
    ) -> Result<Ack> {
        if self.config.atomic_publish != Some(true) {
            return Err(self.unsupported(
                "the stream does not publish several messages together; switch atomic_publish on",
            ));
        }
        let mut ids = HashSet::new();
        let mut plans = Vec::with_capacity(messages.len());
        for message in &messages {
            if !self.stores(&message.subject) {
                return Err(self
                    .invalid("a message of the batch is not for this stream")
                    .with("subject", message.subject.as_str()));
            }
            let id = header(message.headers.as_ref(), "Nats-Msg-Id");
            let plan = match self.check(message, now)? {
                Verdict::Store(plan) if id.is_none_or(|id| ids.insert(id)) => plan,
                _ => return Err(self.conflict("a message of the batch has an id that is known")),
            };
            plans.push(plan);
        }
        let mut last = self.log.last();
        for (message, plan) in messages.into_iter().zip(plans) {
            last = self.store(message, plan, now);
        }
        Ok(Ack::new(&self.config.name, last, false))
    }

    fn store(&mut self, message: InboundMessage, plan: Plan, now: Instant) -> u64 {
        let id = header(message.headers.as_ref(), "Nats-Msg-Id").map(str::to_owned);
        let subject = message.subject.clone();
        let wanted = plan.schedule.is_some() || self.is_wanted(u64::MAX, &subject);
        let sequence = if wanted {
            self.log.push(Entry { message, stored: now, end: plan.end })
        } else {
            self.log.skip()
        };
        self.duplicates.note(id.as_deref(), sequence, now);
        match plan.rollup {
            Some(Rollup::Subject) => self.purge(&Filter::new(&[subject.as_str()]), sequence),
            Some(Rollup::All) => self.purge(&Filter::All, sequence),
            None => 0,
        };
        if let Some(schedule) = plan.ends_schedule {
            self.purge(&Filter::new(&[schedule]), sequence);
        }
        if !wanted {
            return sequence;
        }
        if let Some(schedule) = plan.schedule {
            self.schedules.insert(sequence, schedule);
        }
        for consumer in self.consumers.values_mut() {
            consumer.stored(sequence, &subject);
        }
        if let Some(limit) = self.config.max_messages_per_subject.filter(|limit| *limit > 0) {
            while let Some(them) = self.log.of_subject(&subject)
                && them.len() as u64 > limit
                && let Some(first) = them.first().copied()
            {
                self.remove(first);
            }
        }
        self.trim();
        sequence
    }

    /// Gives up the oldest messages of a stream that is too full.
    fn trim(&mut self) {
        let limit = |limit: Option<u64>| limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let (messages, bytes) = (limit(self.config.max_messages), limit(self.config.max_bytes));
        while self.log.len() > messages || self.log.bytes() > bytes {
            self.remove(self.log.first());
        }
    }

    /// Whether a message is to be kept for a consumer; a sequence that is to come counts as new.
    fn is_wanted(&self, sequence: u64, subject: &str) -> bool {
        self.config.retention != Some(Retention::Interest)
            || self.consumers.values().any(|consumer| consumer.needs(sequence, subject))
    }

    /// Takes out what no consumer needs any more, where that is what the stream keeps.
    fn drop_unwanted(&mut self) {
        if self.config.retention == Some(Retention::Interest) {
            let unwanted = |(sequence, entry): &(u64, &Entry)| {
                !self.is_wanted(*sequence, &entry.message.subject) && !self.schedules.has(*sequence)
            };
            let unwanted = self.log.entries().filter(unwanted).map(|(sequence, _)| sequence);
            self.remove_all(unwanted.collect());
        }
    }

    fn remove_all(&mut self, sequences: Vec<u64>) -> u64 {
        let mut removed = 0;
        for sequence in sequences {
            removed += u64::from(self.remove(sequence));
        }
        removed
    }

    /// Takes a message out; whether it was there.
    pub(super) fn remove(&mut self, sequence: u64) -> bool {
        let Some(entry) = self.log.remove(sequence) else { return false };
        self.schedules.remove(sequence);
        for consumer in self.consumers.values_mut() {
            consumer.gone(sequence, &entry.message.subject);
        }
        true
    }

    /// Takes out the messages before `before` that the filter covers; how many these were.
    pub(super) fn purge(&mut self, filter: &Filter, before: u64) -> u64 {
        self.remove_all(self.log.covered(filter, before))
    }

    pub(super) fn message_from(&self, filter: &str, sequence: u64) -> Option<Stored> {
        let (sequence, entry) = self.log.next(sequence, &Filter::new(&[filter]))?;
        let mut message = entry.message.clone();
        message.reply = None;
        Some(Stored::new(message, sequence, self.clock.system(entry.stored)))
    }

    /// Joins a consumer, which is made if there is none: the member's seat, the wait that the
    /// consumer really has, and how it differs from what is asked for.
    pub(super) fn join(
        &mut self,
        wanted: &ConsumerConfig,
        overwrite: bool,
    ) -> Result<(u64, Duration, Vec<Difference>)> {
        let Some(found) = self.consumers.get(&wanted.name) else {
            let start = match wanted.start {
                Start::All => 1,
                Start::New => self.log.last() + 1,
                Start::Sequence(sequence) => sequence,
                Start::Time(time) => self.log.since(self.clock.instant(time)),
            };
            let id = self.make_consumer(wanted, start)?;
            return Ok((self.seat(id), wanted.ack_wait, Vec::new()));
        };
        let (id, ack_wait) = (found.id, found.config.ack_wait);
        let differences = found.differences(wanted);
        if !overwrite || differences.is_empty() {
            return Ok((self.seat(id), ack_wait, differences));
        }
        self.check_consumer(wanted)?;
        if let Some(consumer) = self.consumers.get_mut(&wanted.name) {
            consumer.change(wanted, &self.log);
        }
        self.drop_unwanted();
        Ok((self.seat(id), wanted.ack_wait, Vec::new()))
    }

    /// Makes a consumer that begins at a sequence, and gives its id.
    pub(super) fn make_consumer(&mut self, config: &ConsumerConfig, start: u64) -> Result<u64> {
        self.check_consumer(config)?;
        let id = self.next_id();
        let consumer = Consumer::new(id, config.clone(), start.max(1), &self.log);
        self.consumers.insert(config.name.clone(), consumer);
        Ok(id)
    }

    /// Refuses what a nats-server refuses of a consumer.
    fn check_consumer(&self, config: &ConsumerConfig) -> Result<()> {
        let filters = &config.filters;
        for (at, one) in filters.iter().enumerate() {
            if filters[..at].iter().any(|other| subject::overlap(one, other)) {
                return Err(self
                    .invalid("two filters of the consumer overlap; keep one")
                    .with("filter", one));
            }
        }
        if self.config.retention != Some(Retention::WorkQueue) {
            return Ok(());
        }
        let filter = Filter::new(filters);
        let mut others = self.consumers.values().filter(|other| other.config.name != config.name);
        if let Some(other) = others.find(|other| other.filter().meets(&filter)) {
            return Err(self
                .invalid(
                    "another consumer of the work queue has some of these messages; each is for \
                     one consumer only",
                )
                .with("consumer", &config.name)
                .with("other", &other.config.name));
        }
        if config.start != Start::All && !self.consumers.contains_key(&config.name) {
            return Err(self
                .invalid("a consumer of a work queue begins with all messages; start at all")
                .with("consumer", &config.name));
        }
        Ok(())
    }

    /// Deletes a consumer; whether there was one. Its members make it again.
    pub(super) fn delete_consumer(&mut self, name: &str) -> bool {
        let Some(consumer) = self.consumers.remove(name) else { return false };
        for (id, seat) in &mut self.seats {
            if seat.consumer == consumer.id {
                seat.floor = Some(consumer.floor());
                seat.inbox.clear();
                self.wake.extend(seat.waker.take());
            } else if self.refused.contains(id) {
                self.wake.extend(seat.waker.take());
            }
        }
        self.drop_unwanted();
        true
    }

    pub(super) fn settle(
        &mut self,
        name: &str,
        sequence: u64,
        settlement: &Settlement,
        now: Instant,
    ) {
        let Some(consumer) = self.consumers.get_mut(name) else { return };
        match settlement {
            Settlement::Again(wait) => consumer.put_off(sequence, *wait, now),
            Settlement::Working => consumer.extend(sequence, now),
            Settlement::Done | Settlement::Never(_) => {
                if !consumer.settle(sequence) {
                    return;
                }
                let Some(entry) = self.log.get(sequence) else { return };
                let finished = match self.config.retention {
                    Some(Retention::WorkQueue) => true,
                    Some(Retention::Interest) => {
                        !self.is_wanted(sequence, &entry.message.subject)
                            && !self.schedules.has(sequence)
                    }
                    _ => false,
                };
                if finished {
                    self.remove(sequence);
                }
            }
        }
    }

    /// Ends the stream with all it holds, and tells its members.
    pub(super) fn end(&mut self) {
        self.gone = true;
        self.wake.extend(self.seats.values_mut().filter_map(|seat| seat.waker.take()));
        self.log = Log::default();
        self.duplicates = Duplicates::default();
        self.schedules = Schedules::default();
        self.consumers.clear();
        self.seats.clear();
        self.refused.clear();
    }
}
