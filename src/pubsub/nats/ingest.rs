//! Fast ingest (ADR-50): a batch of messages without end, of which the stream acknowledges every so
//! many. What such an acknowledgement covers is stored; a batch that the stream ends says how far it
//! came, and refuses all that follows.
//!
//! A batch ends by itself after ten seconds without a message, so it is ended when nothing more is
//! to be sent for now; that also brings the acknowledgements that were not due yet.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Message, StatusCode, Subject};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::api;
use super::many::{Said, fate_of, no_responders};
use crate::connector::Link;
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::driver::{Acked, Answer, Fate, OutboundMessage};
use crate::pubsub::subject::matches;
use crate::streams::StreamStatus;

/// The most messages for one acknowledgement that the server allows.
const MOST_FLOW: usize = 500;
/// How many acknowledgements may be owed.
const OWED: u64 = 2;
/// After a batch that ended early, so many messages get acknowledgements of their own, so that a
/// stream that refuses many is not sent each of them over and over.
const SLOW: u64 = 1_000;
/// The answer that tells how a batch ended comes within this time, or not at all.
const END_WAIT: Duration = Duration::from_secs(2);
/// After so long without an answer the stream is asked for one.
const SILENCE: Duration = Duration::from_secs(2);
/// After so long without an answer a batch is given up.
const GIVE_UP: Duration = Duration::from_secs(6);
/// How long a stream is looked for.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How many subjects without such a stream are remembered.
const KEPT: usize = 1_000;

/// What a message's reply subject says is to be done with it.
const START: u8 = 0;
const ADD: u8 = 1;
const END: u8 = 3;
const PING: u8 = 4;

/// In the place of a message of a batch that is done.
const DONE: u64 = u64::MAX;

/// How messages to a subject go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// With an answer of their own.
    Plain,
    /// In the batch of this lane.
    Fast(usize),
    /// The stream has to be looked for first.
    Unknown,
}

/// The streams of a run.
pub(super) struct Lanes {
    link: Arc<Link>,
    inbox: String,
    enabled: bool,
    flow: usize,
    lanes: Vec<Lane>,
    /// Subjects that no stream is known to store.
    plain: HashSet<String>,
    /// The subject that was sent to last, and its lane.
    last: Option<(Subject, usize)>,
    asking: Option<BoxFuture<'static, (Subject, Result<Option<StreamStatus>>)>>,
    fast: u64,
}

/// A stream.
struct Lane {
    stream: Arc<str>,
    subjects: Vec<String>,
    fast: bool,
    /// It can have another leader, who may come to store what it does not know of yet.
    replicated: bool,
    /// So many messages go without a batch.
    slow: u64,
    batch: Option<Batch>,
}

struct Batch {
    id: String,
    /// What all its reply subjects begin with.
    reply: String,
    /// The last subject that was sent to.
    subject: Subject,
    sent: u64,
    acked: u64,
    /// An acknowledgement comes after so many messages; 0 before the first one.
    every: u64,
    /// The caller's numbers of what is not acknowledged.
    numbers: VecDeque<u64>,
    /// The message that the stream refused, and why.
    refusal: Option<(u64, Fate)>,
    phase: Phase,
    heard: Instant,
    asked: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// To be ended.
    ToEnd,
    /// To be asked how far it is.
    ToAsk,
    /// Its end was sent.
    Ending,
    /// The stream has ended it, and is to say how far it came.
    Ended(Instant),
}

impl Lanes {
    pub(super) fn new(link: Arc<Link>, inbox: String, window: usize, enabled: bool) -> Self {
        Lanes {
            link,
            inbox,
            enabled,
            flow: (window / 2).clamp(1, MOST_FLOW),
            lanes: Vec::new(),
            plain: HashSet::new(),
            last: None,
            asking: None,
            fast: 0,
        }
    }

    pub(super) fn fast(&self) -> u64 {
        self.fast
    }

    /// The lane of a subject, if its stream is known.
    fn lane(&mut self, subject: &Subject) -> Option<usize> {
        if let Some((last, lane)) = &self.last
            && last == subject
        {
            return Some(*lane);
        }
        let stores = |lane: &Lane| lane.subjects.iter().any(|it| matches(it, subject));
        let lane = self.lanes.iter().position(stores)?;
        self.last = Some((subject.clone(), lane));
        Some(lane)
    }

    pub(super) fn route(&mut self, subject: &Subject) -> Route {
        if !self.enabled {
            return Route::Plain;
        }
        match self.lane(subject) {
            Some(at) if self.lanes[at].goes_fast() => Route::Fast(at),
            Some(at) => {
                self.lanes[at].slow = self.lanes[at].slow.saturating_sub(1);
                Route::Plain
            }
            None if self.plain.contains(subject.as_str()) => Route::Plain,
            None => Route::Unknown,
        }
    }

    /// Whether a message to this subject can be sent now.
    pub(super) fn is_ready(&mut self, subject: &Subject, cx: &mut Context<'_>) -> bool {
        if !self.enabled {
            return true;
        }
        if let Some(at) = self.lane(subject) {
            return self.lanes[at].is_ready();
        }
        if self.plain.contains(subject.as_str()) {
            return true;
        }
        if self.asking.is_none() {
            self.asking = Some(look_up(self.link.clone(), subject.clone()).boxed());
            // So that it is polled.
            cx.waker().wake_by_ref();
        }
        false
    }

    /// Takes a message into the batch of a lane, which was ready; gives its reply subject.
    pub(super) fn add(&mut self, lane: usize, number: u64, subject: &Subject) -> String {
        let lane = &mut self.lanes[lane];
        let batch = lane.batch.get_or_insert_with(|| Batch::new(&self.inbox, self.flow, subject));
        if batch.subject != *subject {
            batch.subject = subject.clone();
        }
        if batch.numbers.is_empty() {
            batch.heard = Instant::now();
        }
        batch.sent += 1;
        batch.numbers.push_back(number);
        self.fast += 1;
        batch.reply_to(batch.sent, if batch.sent == 1 { START } else { ADD })
    }

    pub(super) fn are_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.batch.is_none())
    }

    /// Ends the batches whose answers would wait for more messages.
    pub(super) fn flush(&mut self) {
        for batch in self.lanes.iter_mut().filter_map(|lane| lane.batch.as_mut()) {
            if batch.phase == Phase::Open && batch.every > 0 && batch.unanswered() < batch.every {
                batch.phase = Phase::ToEnd;
            }
        }
    }

    /// Ends the batches that are open, whatever they are owed.
    pub(super) fn end_all(&mut self) {
        for batch in self.lanes.iter_mut().filter_map(|lane| lane.batch.as_mut()) {
            if matches!(batch.phase, Phase::Open | Phase::ToAsk) {
                batch.phase = Phase::ToEnd;
            }
        }
    }

    /// Forgets all that is under way.
    pub(super) fn drop_batches(&mut self) {
        for lane in &mut self.lanes {
            lane.batch = None;
        }
    }

    /// Whether there is something to send beside messages.
    pub(super) fn has_orders(&self) -> bool {
        self.lanes.iter().filter_map(|lane| lane.batch.as_ref()).any(Batch::has_order)
    }

    pub(super) fn next_order(&mut self) -> Option<OutboundMessage> {
        let batches = self.lanes.iter_mut().filter_map(|lane| lane.batch.as_mut());
        let batch = batches.into_iter().find(|batch| batch.has_order())?;
        let reply = match batch.phase {
            Phase::ToEnd => {
                batch.phase = Phase::Ending;
                batch.heard = Instant::now();
                batch.reply_to(batch.sent + 1, END)
            }
            _ => {
                batch.phase = Phase::Open;
                batch.reply_to(batch.sent, PING)
            }
        };
        let subject = batch.subject.clone();
        Some(OutboundMessage {
            subject,
            reply: Some(reply.into()),
            payload: Bytes::new(),
            headers: None,
        })
    }

    /// Takes in what was asked about streams.
    pub(super) fn poll_questions(&mut self, cx: &mut Context<'_>) {
        let Some(asking) = &mut self.asking else { return };
        let Poll::Ready((subject, found)) = asking.poll_unpin(cx) else { return };
        self.asking = None;
        // Whoever waited for it looks again.
        cx.waker().wake_by_ref();
        match found {
            Ok(Some(stream)) if stream.config.subjects.iter().any(|it| matches(it, &subject)) => {
                self.lanes.push(Lane {
                    stream: stream.config.name.as_str().into(),
                    subjects: stream.config.subjects,
                    fast: stream.config.fast_ingest == Some(true),
                    replicated: stream.config.replicas != Some(1),
                    slow: 0,
                    batch: None,
                });
            }
            Ok(_) => {
                if self.plain.len() == KEPT {
                    self.plain.clear();
                }
                self.plain.insert(subject.to_string());
            }
            // Not permitted, or nobody answers: what is known stays.
            Err(error) => {
                tracing::debug!(%error, "cannot ask for streams, so fast ingest is not used");
                self.enabled = !self.lanes.is_empty();
                self.plain.insert(subject.to_string());
            }
        }
    }

    /// An answer about a batch; `rest` is the reply subject behind the inbox.
    pub(super) fn take(&mut self, rest: &str, message: &Message, answers: &mut VecDeque<Answer>) {
        // <id>.<flow>.<gap mode>.<sequence>.<what>.$FI
        let mut tokens = rest.split('.');
        let Some(id) = tokens.next() else { return };
        let of = |lane: &&mut Lane| lane.batch.as_ref().is_some_and(|batch| batch.id == id);
        let Some(lane) = self.lanes.iter_mut().find(of) else { return };
        let Some(batch) = &mut lane.batch else { return };
        let sequence: u64 = tokens.nth(2).and_then(|token| token.parse().ok()).unwrap_or(0);
        let what: u8 = tokens.next().and_then(|token| token.parse().ok()).unwrap_or(ADD);
        batch.heard = Instant::now();
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            if what == START || what == ADD {
                batch.put(sequence, Fate::NotTaken(Some(no_responders(rest))), answers);
            }
            batch.has_ended();
        } else if let Ok(said) = serde_json::from_slice::<Said<'_>>(&message.payload) {
            lane.hear(sequence, what, said, answers);
        }
        lane.tidy();
    }

    /// This subject is not permitted, which its messages are told: forgets batches that begin with
    /// one, which no stream will ever answer.
    pub(super) fn refuse(&mut self, subject: &str) {
        for lane in &mut self.lanes {
            let begins = |batch: &Batch| batch.every == 0 && batch.subject.as_str() == subject;
            if lane.batch.as_ref().is_some_and(begins) {
                lane.batch = None;
                lane.slow = SLOW;
            }
        }
    }

    /// Ends what has waited for too long.
    pub(super) fn look(&mut self, now: Instant, answers: &mut VecDeque<Answer>) {
        for lane in &mut self.lanes {
            let Some(batch) = &mut lane.batch else { continue };
            let silent = now.saturating_duration_since(batch.heard);
            let over = match batch.phase {
                Phase::Ended(since) => now.saturating_duration_since(since) >= END_WAIT,
                _ => silent >= GIVE_UP,
            };
            if over {
                batch.rest(answers, || Fate::Doubtful(broken_off()));
                lane.slow = SLOW;
                lane.batch = None;
            } else if batch.phase == Phase::Open && batch.unanswered() == 0 && silent >= SILENCE {
                batch.phase = Phase::ToEnd;
            } else if batch.phase == Phase::Open
                && silent >= SILENCE
                && now.saturating_duration_since(batch.asked) >= SILENCE
            {
                batch.asked = now;
                batch.phase = Phase::ToAsk;
            }
        }
    }
}

impl Lane {
    fn goes_fast(&self) -> bool {
        self.fast && self.slow == 0
    }

    fn is_ready(&self) -> bool {
        match &self.batch {
            Some(batch) => {
                batch.phase == Phase::Open
                    && batch.every > 0
                    && batch.unanswered() < OWED * batch.every
            }
            None => true,
        }
    }

    fn hear(&mut self, sequence: u64, what: u8, said: Said<'_>, answers: &mut VecDeque<Answer>) {
        let Some(batch) = &mut self.batch else { return };
        match (said.kind.as_deref(), said.error) {
            (Some("ack"), _) => {
                batch.every = said.msgs.max(1);
                batch.ack_to(said.seq, &self.stream, answers);
            }
            (Some("err"), Some(error)) => {
                batch.refusal.get_or_insert_with(|| (said.seq, fate_of(&error)));
                batch.has_ended();
            }
            // Told before the end; the end says how far it came.
            (Some(_), _) => batch.has_ended(),
            (None, None) => {
                // The last word.
                batch.ack_to(said.count.unwrap_or(0), &self.stream, answers);
                let complete = batch.numbers.is_empty() && batch.refusal.is_none();
                match batch.refusal.take() {
                    Some((at, fate)) => {
                        batch.put(at, fate, answers);
                        // The stream refuses all that follows in the batch.
                        batch.rest(answers, || Fate::NotTaken(None));
                    }
                    None if self.replicated => {
                        batch.rest(answers, || Fate::Doubtful(broken_off()));
                    }
                    None => batch.rest(answers, || Fate::NotTaken(None)),
                }
                self.batch = None;
                self.slow = if complete { 0 } else { SLOW };
            }
            (None, Some(error)) if error.err_code == UNKNOWN_BATCH => {
                if what == START || what == ADD {
                    batch.put(sequence, Fate::NotTaken(None), answers);
                }
                batch.has_ended();
            }
            (None, Some(error)) => {
                let fate = match error.err_code {
                    // The stream takes no batch, or no more of them.
                    DISABLED | TOO_MANY => {
                        self.fast = false;
                        Fate::NotTaken(None)
                    }
                    _ => fate_of(&error),
                };
                if what == START || what == ADD {
                    batch.put(sequence, fate, answers);
                }
                batch.has_ended();
            }
        }
    }

    /// Forgets a batch that has ended and owes nothing.
    fn tidy(&mut self) {
        if let Some(batch) = &self.batch
            && matches!(batch.phase, Phase::Ended(_))
            && batch.numbers.iter().all(|number| *number == DONE)
        {
            self.batch = None;
            self.slow = SLOW;
        }
    }
}

const DISABLED: u64 = 10_205;
const UNKNOWN_BATCH: u64 = 10_208;
const TOO_MANY: u64 = 10_211;

impl Batch {
    fn new(inbox: &str, flow: usize, subject: &Subject) -> Self {
        let id = format!("{:032x}", rand::random::<u128>());
        let now = Instant::now();
        Batch {
            // A message that is lost ends the batch.
            reply: format!("{inbox}.{id}.{flow}.fail."),
            id,
            subject: subject.clone(),
            sent: 0,
            acked: 0,
            every: 0,
            numbers: VecDeque::new(),
            refusal: None,
            phase: Phase::Open,
            heard: now,
            asked: now,
        }
    }

    fn reply_to(&self, sequence: u64, what: u8) -> String {
        let mut reply = String::with_capacity(self.reply.len() + 20);
        let _ = write!(reply, "{}{sequence}.{what}.$FI", self.reply);
        reply
    }

    fn unanswered(&self) -> u64 {
        self.sent - self.acked
    }

    fn has_order(&self) -> bool {
        matches!(self.phase, Phase::ToEnd | Phase::ToAsk)
    }

    fn has_ended(&mut self) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(Instant::now());
        }
    }

    /// The stream has everything up to this message.
    fn ack_to(&mut self, sequence: u64, stream: &Arc<str>, answers: &mut VecDeque<Answer>) {
        while self.acked < sequence
            && let Some(number) = self.numbers.pop_front()
        {
            self.acked += 1;
            if number != DONE {
                let acked = Acked::new(stream.clone(), None, false);
                answers.push_back(Answer::One(number, Fate::Acked(acked)));
            }
        }
    }

    /// What became of one message.
    fn put(&mut self, sequence: u64, fate: Fate, answers: &mut VecDeque<Answer>) {
        let at = sequence.checked_sub(self.acked + 1).and_then(|at| usize::try_from(at).ok());
        if let Some(number) = at.and_then(|at| self.numbers.get_mut(at))
            && *number != DONE
        {
            answers.push_back(Answer::One(*number, fate));
            *number = DONE;
        }
    }

    /// What became of all others.
    fn rest(&mut self, answers: &mut VecDeque<Answer>, fate: impl Fn() -> Fate) {
        for number in self.numbers.drain(..).filter(|number| *number != DONE) {
            answers.push_back(Answer::One(number, fate()));
        }
    }
}

fn broken_off() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the stream broke off before it acknowledged the message: it lost some of what was sent, or \
         has another leader",
    )
}

async fn look_up(link: Arc<Link>, subject: Subject) -> (Subject, Result<Option<StreamStatus>>) {
    let deadline = after(LOOK_UP);
    let found = async {
        match api::stream_of(&link, &subject, deadline).await? {
            Some(name) => api::stream(&link, &name, deadline).await,
            None => Ok(None),
        }
    };
    let found = found.await;
    (subject, found)
}
