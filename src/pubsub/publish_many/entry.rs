//! The messages of a run that are not done yet, in the order of the input.

use std::collections::VecDeque;

use async_nats::Subject;
use tokio::time::Instant;

use crate::error::Error;
use crate::pubsub::driver::{Acked, OutboundMessage};

/// What a message of the input has come to.
pub(super) enum State {
    /// To be sent.
    Unsent,
    /// To be sent again when its time has come.
    Waiting,
    /// Sent, without an answer.
    Sent,
    /// Done, but not those before it.
    Done(Result<Acked, Failed>),
}

/// Why a message failed.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) may_be_stored: bool,
}

pub(super) struct Entry {
    pub(super) message: OutboundMessage,
    /// How much of the subject is the handle's prefix.
    pub(super) prefix: usize,
    /// It has a message id, so that it may be sent twice.
    pub(super) id: bool,
    /// It was sent before, and nobody knows whether it is stored.
    pub(super) doubt: bool,
    /// How often nobody took it.
    pub(super) refused: u32,
    pub(super) deadline: Instant,
    /// How long this sending waits for its answer.
    pub(super) until: Instant,
    pub(super) state: State,
}

impl Entry {
    pub(super) fn is_sent(&self) -> bool {
        matches!(self.state, State::Sent)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    /// An entry of a message that cannot be sent.
    pub(super) fn failed(subject: Subject, prefix: usize, error: Error, now: Instant) -> Self {
        let message =
            OutboundMessage { subject, reply: None, payload: bytes::Bytes::new(), headers: None };
        Entry {
            message,
            prefix,
            id: false,
            doubt: false,
            refused: 0,
            deadline: now,
            until: now,
            state: State::Done(Err(Failed { error, may_be_stored: false })),
        }
    }

    pub(super) fn fail(&mut self, error: Error, may_be_stored: bool) {
        let may_be_stored = may_be_stored || self.doubt;
        self.state = State::Done(Err(Failed { error, may_be_stored }));
    }
}

/// The entries, by their numbers.
#[derive(Default)]
pub(super) struct Ring {
    /// The number of the first one.
    base: u64,
    entries: VecDeque<Entry>,
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number that the next entry gets.
    pub(super) fn next_number(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(super) fn push(&mut self, entry: Entry) -> u64 {
        let number = self.next_number();
        self.entries.push_back(entry);
        number
    }

    pub(super) fn get(&mut self, number: u64) -> Option<&mut Entry> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.entries.get_mut(at)
    }

    /// Takes the first entry if it is done.
    pub(super) fn pop_done(&mut self) -> Option<(u64, Entry)> {
        if !self.entries.front()?.is_done() {
            return None;
        }
        let number = self.base;
        self.base += 1;
        self.entries.pop_front().map(|entry| (number, entry))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Entry)> {
        (self.base..).zip(&mut self.entries)
    }
}
