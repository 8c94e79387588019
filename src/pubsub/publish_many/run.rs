//! One run over an input: pulls it as the window has room, sends, takes answers, retries, reports.

use std::collections::{BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::time::{Instant, Sleep};

use super::entry::{Entry, Failed, Ring, State};
use super::homes::{Home, Homes};
use super::report::{PublishFailure, PublishReport, Way};
use super::single::Single;
use super::{Options, Outgoing, next_of};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::PubSub;
use crate::pubsub::driver::{Acked, Answer, Fate, Pipeline};
use crate::pubsub::nats::config::require_message_ttl;
use crate::pubsub::publish_acked::no_stream;

/// How often deadlines, progress and the pipeline are looked after.
const TICK: Duration = Duration::from_millis(100);
/// The wait before a message that nobody took is sent again.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// With a message id, a message without an answer is sent this often within its limit.
const SENDINGS: u32 = 3;
/// Messages pulled in one turn, so that an input of which every message fails lets others run.
const PULLS: usize = 256;

pub(super) struct Run<S> {
    handle: PubSub,
    source: Pin<Box<S>>,
    pipeline: Box<dyn Pipeline>,
    options: Options,
    until: Option<Instant>,
    begun: Instant,
    now: Instant,
    tick: Pin<Box<Sleep>>,
    told: Instant,
    ring: Ring,
    /// The newest message, not sent yet.
    fresh: Option<u64>,
    /// Messages to send again.
    again: BTreeSet<u64>,
    /// Messages to send again later.
    waiting: VecDeque<(Instant, u64)>,
    homes: Homes,
    /// The input is read to its end, or as far as it is to be.
    ended: bool,
    /// Something was sent since the last tick.
    busy: bool,
    report: PublishReport,
}

/// What sending came to.
enum Turn {
    Sent,
    /// Nothing can be sent now.
    Blocked,
    /// The same, and nothing will be until an answer comes.
    Full,
}

impl<S> Run<S>
where
    S: Stream + Send + 'static,
    S::Item: Into<Outgoing>,
{
    pub(super) fn new(
        handle: PubSub,
        source: S,
        pipeline: Option<Box<dyn Pipeline>>,
        options: Options,
        until: Option<Instant>,
    ) -> Self {
        let (driver, timeout) = (handle.core().driver.clone(), handle.core().timeout);
        let pipeline = pipeline.unwrap_or_else(|| Box::new(Single::new(driver.clone(), timeout)));
        let now = Instant::now();
        Run {
            handle,
            source: Box::pin(source),
            pipeline,
            options,
            until,
            begun: now,
            now,
            tick: Box::pin(tokio::time::sleep(TICK)),
            told: now,
            ring: Ring::default(),
            fresh: None,
            again: BTreeSet::new(),
            waiting: VecDeque::new(),
            homes: Homes::new(driver),
            ended: false,
            busy: false,
            report: PublishReport::new(Way::Window),
        }
    }

    pub(super) async fn finish(mut self) -> Result<PublishReport> {
        poll_fn(|cx| self.poll(cx)).await;
        if self.pipeline.fast() > 0 {
            self.report.way = Way::FastIngest;
        }
        self.tell();
        self.report.elapsed = self.begun.elapsed();
        Ok(self.report)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.now = Instant::now();
        if self.until.is_some_and(|until| until <= self.now) {
            self.stop();
        }
        while self.tick.as_mut().poll(cx).is_ready() {
            self.on_tick();
            self.tick.as_mut().reset(self.now + TICK);
        }
        self.homes.poll(cx);
        self.wake_waiting();
        self.take_answers(cx);
        let mut pulls = PULLS;
        loop {
            match self.send_next(cx, &mut pulls) {
                Turn::Sent => self.busy = true,
                Turn::Blocked => break,
                Turn::Full => {
                    self.pipeline.flush();
                    break;
                }
            }
        }
        // What was just sent has to be polled for, too.
        self.take_answers(cx);
        if self.ended && self.ring.is_empty() {
            return Poll::Ready(());
        }
        if pulls == 0 {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Sends the next message: one of those to send again, or the next of the input.
    fn send_next(&mut self, cx: &mut Context<'_>, pulls: &mut usize) -> Turn {
        let number = match self.again.first().copied().or(self.fresh) {
            Some(number) => number,
            None => match self.pull(cx, pulls) {
                Ok(number) => number,
                Err(turn) => return turn,
            },
        };
        let sending = match self.ring.get(number) {
            Some(entry) if matches!(entry.state, State::Unsent) => entry,
            // Done in the meantime: failed, or its answer came late.
            _ => {
                self.sent(number);
                return Turn::Sent;
            }
        };
        match self.pipeline.poll_ready(&sending.message.subject, cx) {
            Poll::Pending => return Turn::Blocked,
            Poll::Ready(Err(error)) => {
                self.close(&error);
                return Turn::Blocked;
            }
            Poll::Ready(Ok(())) => {}
        }
        match self.pipeline.send(number, sending.message.clone()) {
            Ok(()) => {
                sending.state = State::Sent;
                let left = sending.deadline.saturating_duration_since(self.now);
                let wait = if sending.id { left.div_f64(SENDINGS.into()).max(TICK) } else { left };
                sending.until = sending.deadline.min(self.now + wait);
            }
            Err(error) => sending.fail(error, false),
        }
        self.sent(number);
        Turn::Sent
    }

    fn sent(&mut self, number: u64) {
        self.again.remove(&number);
        self.fresh.take_if(|fresh| *fresh == number);
    }

    /// Reads the next message of the input.
    fn pull(&mut self, cx: &mut Context<'_>, pulls: &mut usize) -> Result<u64, Turn> {
        if self.ended || self.ring.len() >= self.options.window {
            return Err(Turn::Full);
        }
        if *pulls == 0 {
            return Err(Turn::Blocked);
        }
        *pulls -= 1;
        let outgoing = match next_of(&mut self.source, cx) {
            Poll::Ready(Some(outgoing)) => outgoing,
            Poll::Ready(None) => {
                self.ended = true;
                return Err(Turn::Full);
            }
            Poll::Pending => return Err(Turn::Blocked),
        };
        let entry = self.prepare(outgoing);
        let number = self.ring.push(entry);
        self.fresh = Some(number);
        Ok(number)
    }

    fn prepare(&self, outgoing: Outgoing) -> Entry {
        let Outgoing { mut draft, mut id, ttl, timeout } = outgoing;
        if let (Some(prefix), false) = (&self.options.message_ids, id) {
            draft.set("Nats-Msg-Id", &format!("{prefix}-{}", self.ring.next_number()));
            id = true;
        }
        if ttl
            && let Some(nats) = &self.handle.core().nats
            && let Err(error) = require_message_ttl(&nats.link().known_capabilities())
        {
            draft.refuse(error);
        }
        let (topic, prefix) = (draft.topic().len(), draft.prefix_len());
        let life = &self.handle.core().life;
        match draft.take(timeout) {
            Ok((handle, message, limit)) if Arc::ptr_eq(&handle.core().life, life) => {
                let deadline = self.now.checked_add(limit).unwrap_or_else(|| after(limit));
                let (doubt, refused, until) = (false, 0, deadline);
                let state = State::Unsent;
                Entry { message, prefix, id, doubt, refused, deadline, until, state }
            }
            Ok((_, message, _)) => Entry::failed(message.subject, prefix, foreign(), self.now),
            Err(error) => {
                // The prefix is put before the topic unless the message was wrong already.
                let prefix = draft.topic().len() - topic;
                Entry::failed(draft.topic().into(), prefix, error, self.now)
            }
        }
    }

    fn take_answers(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(answer) = self.pipeline.poll_answer(cx) {
            match answer {
                Answer::One(number, fate) => self.decide(number, fate),
                Answer::Lost(error) => self.decide_all(|_| true, &error, Fate::Doubtful),
                Answer::Closed(error) => self.close(&error),
                Answer::Denied(subject, error) => {
                    self.decide_all(
                        |entry| entry.message.subject == subject,
                        &error,
                        Fate::Refused,
                    );
                }
            }
        }
        self.settle();
    }

    fn decide_all(
        &mut self,
        about: impl Fn(&Entry) -> bool,
        error: &Error,
        fate: impl Fn(Error) -> Fate,
    ) {
        let those = self.ring.iter_mut().filter(|(_, entry)| entry.is_sent() && about(entry));
        let numbers: Vec<u64> = those.map(|(number, _)| number).collect();
        for number in numbers {
            self.decide(number, fate(error.again()));
        }
    }

    /// What becomes of a message after an answer.
    fn decide(&mut self, number: u64, fate: Fate) {
        let Some(entry) = self.ring.get(number) else { return };
        match fate {
            // Also when it comes late, while the message waits to be sent again.
            Fate::Acked(acked) if !entry.is_done() => entry.state = State::Done(Ok(acked)),
            _ if !entry.is_sent() => {}
            Fate::Acked(_) => {}
            Fate::Refused(error) => entry.fail(error, false),
            Fate::NotTaken(None) => {
                entry.state = State::Unsent;
                self.again.insert(number);
            }
            Fate::NotTaken(Some(error)) => {
                entry.refused += 1;
                let nobody = error.is_no_responders();
                let home = match nobody {
                    true => self.homes.of(&entry.message.subject, entry.refused, entry.deadline),
                    false => Home::Some,
                };
                if home == Home::None {
                    entry.fail(no_stream(), false);
                } else if self.now + RETRY_WAIT >= entry.deadline {
                    entry.fail(if nobody { no_stream() } else { error }, false);
                } else {
                    entry.state = State::Waiting;
                    self.waiting.push_back((self.now + RETRY_WAIT, number));
                }
            }
            Fate::Doubtful(error) if entry.id && self.now + RETRY_WAIT < entry.deadline => {
                entry.doubt = true;
                entry.state = State::Waiting;
                self.waiting.push_back((self.now + RETRY_WAIT, number));
                tracing::debug!(%error, "a message is sent again under its id");
            }
            Fate::Doubtful(error) => entry.fail(may_be_stored(&error), true),
        }
    }

    /// Lets those whose time has come be sent again.
    fn wake_waiting(&mut self) {
        while let Some((at, number)) = self.waiting.front().copied()
            && at <= self.now
        {
            self.waiting.pop_front();
            if let Some(entry) = self.ring.get(number)
                && matches!(entry.state, State::Waiting)
            {
                entry.state = State::Unsent;
                self.again.insert(number);
            }
        }
    }

    /// Reports what is done, in the order of the input.
    fn settle(&mut self) {
        while let Some((index, entry)) = self.ring.pop_done() {
            let Entry { message, prefix, state: State::Done(result), .. } = entry else { continue };
            let told = result.as_ref().map_err(|failed| &failed.error);
            self.handle.core().metrics.stored(&told);
            if let Some(each) = &mut self.options.each {
                each(index, told);
            }
            match result {
                Ok(Acked { duplicate: true, .. }) => self.report.duplicates += 1,
                Ok(_) => self.report.stored += 1,
                Err(Failed { error, may_be_stored }) => {
                    if self.options.stop_on_failure && self.report.stopped.is_none() {
                        self.report.stopped = Some(error.again());
                        self.ended = true;
                    }
                    let subject = message.subject.as_str();
                    let topic = subject.get(prefix..).unwrap_or(subject).to_owned();
                    self.report.fail(PublishFailure { index, topic, error, may_be_stored });
                }
            }
        }
    }

    fn on_tick(&mut self) {
        let now = self.now;
        let late = self.ring.iter_mut().filter(|(_, entry)| match entry.state {
            State::Sent => entry.until <= now,
            State::Unsent | State::Waiting => entry.deadline <= now,
            State::Done(_) => false,
        });
        for number in late.map(|(number, _)| number).collect::<Vec<_>>() {
            self.time_out(number);
        }
        self.settle();
        let ring = &self.ring;
        let waits = |subject: &str| {
            ring.iter().any(|entry| entry.is_sent() && entry.message.subject.as_str() == subject)
        };
        self.pipeline.look(&waits);
        if !std::mem::take(&mut self.busy) {
            self.pipeline.flush();
        }
        if let Some((every, _)) = &self.options.progress
            && self.told + *every <= now
        {
            self.tell();
        }
    }

    fn time_out(&mut self, number: u64) {
        let Some(entry) = self.ring.get(number) else { return };
        if entry.is_sent() {
            self.decide(number, Fate::Doubtful(no_answer()));
        } else {
            entry.fail(not_sent(), false);
        }
    }

    fn tell(&mut self) {
        self.told = self.now;
        let progress = self.report.progress(self.begun.elapsed());
        if let Some((_, tell)) = &mut self.options.progress {
            tell(progress);
        }
    }

    /// The call's time is up.
    fn stop(&mut self) {
        let error = || {
            Error::new(
                ErrorKind::Timeout,
                "the time limit of the call passed; give it more, or publish the rest again",
            )
        };
        self.fail_all(error);
        self.report.stopped.get_or_insert_with(error);
    }

    /// Nothing can be sent any more.
    fn close(&mut self, error: &Error) {
        self.fail_all(|| error.again());
        self.report.stopped.get_or_insert_with(|| error.again());
    }

    fn fail_all(&mut self, error: impl Fn() -> Error) {
        self.ended = true;
        self.again.clear();
        self.fresh = None;
        for (_, entry) in self.ring.iter_mut() {
            let sent = entry.is_sent();
            match entry.state {
                State::Done(_) => {}
                _ if sent || entry.doubt => entry.fail(may_be_stored(&error()), true),
                _ => entry.fail(error(), false),
            }
        }
        self.settle();
    }
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Timeout, "no acknowledgement came within the message's time limit")
}

fn not_sent() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the message could not be sent within its time limit: the connection is lost or the stream \
         does not keep up; publish it again later",
    )
}

fn may_be_stored(error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!(
            "{}; the message may be stored: with message_ids(..) it would have been sent again",
            error.message()
        ),
    )
}

pub(super) fn foreign() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "the message was made by a handle of another connection; make it by the one that publishes",
    )
}
