//! A durable consumer: which messages it has delivered, which come again and when, and whose turn it
//! is.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::clock::later;
use super::filter::Filter;
use super::log::Log;
use super::seat::{Arrived, Seat};
use crate::difference::{Difference, Differences};
use crate::pubsub::driver::ConsumerConfig;

pub(super) struct Consumer {
    /// Tells it from every other consumer of its stream, also from one of the same name.
    pub(super) id: u64,
    pub(super) config: ConsumerConfig,
    filter: Filter,
    /// What is before it was delivered at least once, or is not for this consumer.
    cursor: u64,
    /// How many messages at or behind the cursor are for it.
    unseen: u64,
    /// What was delivered and is not settled.
    flights: BTreeMap<u64, Flight>,
    /// When what is at work is delivered again.
    waits: BTreeSet<(Instant, u64)>,
    /// What is to be delivered again now.
    again: BTreeSet<u64>,
    /// The members that have room, the one whose turn it is first.
    turns: VecDeque<u64>,
}

struct Flight {
    deliveries: u64,
    /// `None`: it is to be delivered again now.
    until: Option<Instant>,
}

impl Consumer {
    /// A consumer that begins at the sequence `cursor`.
    pub(super) fn new(id: u64, config: ConsumerConfig, cursor: u64, log: &Log) -> Self {
        let filter = Filter::new(&config.filters);
        let unseen = log.count(cursor, &filter);
        Consumer {
            id,
            config,
            filter,
            cursor,
            unseen,
            flights: BTreeMap::new(),
            waits: BTreeSet::new(),
            again: BTreeSet::new(),
            turns: VecDeque::new(),
        }
    }

    /// How it differs from what a member asks for.
    pub(super) fn differences(&self, wanted: &ConsumerConfig) -> Vec<Difference> {
        let mut differences = Differences::default();
        let mut compare = |option, tell: fn(&ConsumerConfig) -> String| {
            differences.compare(option, Some(tell(wanted)), Some(tell(&self.config)));
        };
        compare("filters", |config| {
            let mut filters = config.filters.clone();
            filters.sort();
            filters.join(", ")
        });
        compare("ack_wait", |config| humantime::format_duration(config.ack_wait).to_string());
        compare("max_in_flight", |config| config.max_in_flight.to_string());
        differences.into_vec()
    }

    /// Changes it to what a member asks for. What was delivered stays delivered.
    pub(super) fn change(&mut self, wanted: &ConsumerConfig, log: &Log) {
        self.filter = Filter::new(&wanted.filters);
        self.unseen = log.count(self.cursor, &self.filter);
        self.config = wanted.clone();
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether it has still to do with a message.
    pub(super) fn needs(&self, sequence: u64, subject: &str) -> bool {
        self.flights.contains_key(&sequence)
            || (sequence >= self.cursor && self.filter.covers(subject))
    }

    /// The first sequence that is not settled.
    pub(super) fn floor(&self) -> u64 {
        self.flights.first_key_value().map_or(self.cursor, |(sequence, _)| *sequence)
    }

    /// A message was stored.
    pub(super) fn stored(&mut self, sequence: u64, subject: &str) {
        if sequence >= self.cursor && self.filter.covers(subject) {
            self.unseen += 1;
        }
    }

    /// A message is gone from the stream.
    pub(super) fn gone(&mut self, sequence: u64, subject: &str) {
        if sequence >= self.cursor && self.filter.covers(subject) {
            self.unseen = self.unseen.saturating_sub(1);
        }
        self.settle(sequence);
    }

    /// Ends the delivery of a message; whether there was one.
    pub(super) fn settle(&mut self, sequence: u64) -> bool {
        let Some(flight) = self.flights.remove(&sequence) else { return false };
        match flight.until {
            Some(until) => self.waits.remove(&(until, sequence)),
            None => self.again.remove(&sequence),
        };
        true
    }

    /// Lets a message that was delivered come again after `wait`.
    pub(super) fn put_off(&mut self, sequence: u64, wait: Duration, now: Instant) {
        let Some(flight) = self.flights.get_mut(&sequence) else { return };
        match flight.until.take() {
            Some(until) => self.waits.remove(&(until, sequence)),
            None => self.again.remove(&sequence),
        };
        if wait.is_zero() {
            self.again.insert(sequence);
        } else {
            let until = later(now, wait);
            flight.until = Some(until);
            self.waits.insert((until, sequence));
        }
    }

    /// Begins the wait for a word about a message anew.
    pub(super) fn extend(&mut self, sequence: u64, now: Instant) {
        self.put_off(sequence, self.config.ack_wait, now);
    }

    /// When the next wait is over.
    pub(super) fn next_wait(&self) -> Option<Instant> {
        self.waits.first().map(|(until, _)| *until)
    }

    /// Makes ready what is to be delivered again by now.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some((until, sequence)) = self.waits.first().copied()
            && until <= now
        {
            self.waits.remove(&(until, sequence));
            self.again.insert(sequence);
            if let Some(flight) = self.flights.get_mut(&sequence) {
                flight.until = None;
            }
        }
    }

    /// How often a message was delivered, if its delivery to a seat still stands.
    pub(super) fn stands(&self, arrived: &Arrived) -> bool {
        self.flights
            .get(&arrived.sequence)
            .is_some_and(|it| it.deliveries == arrived.deliveries && it.until.is_some())
    }

    /// Takes a message back that was dealt to a member and that nobody has seen.
    pub(super) fn take_back(&mut self, arrived: &Arrived, now: Instant) {
        if self.stands(arrived) {
            self.put_off(arrived.sequence, Duration::ZERO, now);
            if let Some(flight) = self.flights.get_mut(&arrived.sequence) {
                flight.deliveries -= 1;
            }
        }
    }

    /// A member has room.
    pub(super) fn queue(&mut self, id: u64, seat: &mut Seat) {
        if seat.room > 0 && !seat.queued {
            seat.queued = true;
            self.turns.push_back(id);
        }
    }

    /// A member leaves.
    pub(super) fn unqueue(&mut self, id: u64) {
        self.turns.retain(|other| *other != id);
    }

    /// Deals what can be delivered to the members that have room, one message each in turn.
    pub(super) fn deal(
        &mut self,
        log: &Log,
        seats: &mut HashMap<u64, Seat>,
        now: Instant,
        wake: &mut Vec<Waker>,
    ) {
        while let Some(id) = self.turns.front().copied() {
            let Some(seat) = seats.get_mut(&id).filter(|seat| seat.room > 0) else {
                self.turns.pop_front();
                if let Some(seat) = seats.get_mut(&id) {
                    seat.queued = false;
                }
                continue;
            };
            let Some(arrived) = self.deliver(log, now) else { return };
            self.turns.rotate_left(1);
            seat.room -= 1;
            seat.inbox.push_back(arrived);
            wake.extend(seat.waker.take());
        }
    }

    /// Delivers the next message: first what comes again.
    fn deliver(&mut self, log: &Log, now: Instant) -> Option<Arrived> {
        let sequence = match self.again.pop_first() {
            Some(sequence) => sequence,
            None if self.unseen == 0 || self.flights.len() >= self.config.max_in_flight => {
                return None;
            }
            None => {
                let (sequence, _) = log.next(self.cursor, &self.filter)?;
                self.cursor = sequence + 1;
                self.unseen -= 1;
                sequence
            }
        };
        let until = later(now, self.config.ack_wait);
        let flight = self.flights.entry(sequence).or_insert(Flight { deliveries: 0, until: None });
        flight.deliveries += 1;
        flight.until = Some(until);
        self.waits.insert((until, sequence));
        Some(Arrived { sequence, deliveries: flight.deliveries, pending: self.unseen })
    }
}
