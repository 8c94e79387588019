//! One stream as one side of it sees it: what comes in, what goes out, and what the other side is
//! owed. [`pump`](super::pump) feeds it; a [`Sender`](super::Sender) and a
//! [`Receiver`](super::Receiver) stand on it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::frame::{self, Control, Frame};
use super::wire::{Past, Wire};
use super::{MAX_BUFFERED, MAX_BUFFERED_BYTES, faults};
use crate::pubsub::driver::InboundMessage;
use crate::rpc::{self, RpcError, code};

mod orders;

pub(super) use orders::Order;

/// An item carries a reply subject when none did for this long: where its receiver has gone, the
/// server says so there.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// What was sent before its sender went may come after the word that it has.
const GRACE: Duration = Duration::from_millis(500);
/// A peer is lost when it was silent for so many of its heartbeats.
const MISSED: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What a channel begins with.
pub(super) struct Start {
    pub(super) side: Side,
    /// Where frames come in; `None`: nothing can come in.
    pub(super) inbox: Option<Subject>,
    /// Where the message went that opened it; at a client.
    pub(super) opened: Option<Subject>,
    /// Where frames go, as far as that is known.
    pub(super) peer: Option<Subject>,
    /// What the peer said of itself so far.
    pub(super) said: Control,
    /// How many items the peer may be ahead of the reader; `None`: it sends none.
    pub(super) window: Option<u64>,
    /// When all of it must be over.
    pub(super) deadline: Option<Instant>,
    pub(super) past: Option<Past>,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) wire: Wire,
    side: Side,
    pub(super) inbox: Option<Subject>,
    opened: Option<Subject>,
    window: Option<u64>,
    pub(super) deadline: Option<Instant>,
    past: Option<Past>,
    state: Mutex<State>,
    /// Whoever waits for an item.
    reader: AtomicWaker,
    /// Whoever waits for anything else.
    changed: Notify,
    /// Wakes the pump.
    pub(super) orders: Notify,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// The number of the last item that came.
    received: u64,
    /// How many of them the reader took.
    taken: u64,
    /// What the peer was told that it may send.
    granted: u64,
    /// How what comes in has ended; it comes behind the queue.
    end: Option<End>,
    reading: bool,

    peer: Option<Subject>,
    /// The peer knows heartbeats, credit and cancelling, and says something this often.
    beat: Option<Duration>,
    sent: u64,
    /// The number of the last item that may be sent; `None`: no limit.
    allowed: Option<u64>,
    /// Why nothing can be sent any more.
    broken: Option<RpcError>,
    finished: bool,

    /// The peer has said something.
    answered: bool,
    heard: Instant,
    said: Instant,
    probed: Option<Instant>,
    /// The peer has gone: when that is the end of what comes in too.
    gone: Option<(Instant, RpcError)>,

    /// To be told to the peer: nobody reads its items.
    cancel: Option<&'static str>,
    /// To be told to the peer: the items break off.
    abandoned: bool,
    /// Nobody holds an end of the stream any more.
    closing: bool,
}

/// How what comes in has ended.
#[derive(Debug)]
pub(super) enum End {
    Complete,
    Answer { headers: HeaderMap, payload: Bytes },
    Failed(RpcError),
}

impl Channel {
    pub(super) fn new(wire: Wire, start: Start) -> Self {
        let Start { side, inbox, opened, peer, said, window, deadline, past } = start;
        let now = Instant::now();
        let state = State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            received: 0,
            taken: 0,
            granted: window.unwrap_or(0),
            end: None,
            reading: window.is_some(),
            peer,
            beat: said.heartbeat.map(bounded),
            sent: 0,
            allowed: said.heartbeat.and(said.credit),
            broken: None,
            finished: false,
            answered: side == Side::Server,
            heard: now,
            said: now,
            probed: None,
            gone: None,
            cancel: None,
            abandoned: false,
            closing: false,
        };
        Channel {
            wire,
            side,
            inbox,
            opened,
            window,
            deadline,
            past,
            state: Mutex::new(state),
            reader: AtomicWaker::new(),
            changed: Notify::new(),
            orders: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.reader.wake();
        self.changed.notify_waiters();
    }

    // What comes in.

    /// Takes in what arrived.
    pub(super) fn take(&self, message: InboundMessage) {
        let frame = Frame::parse(message);
        let mut state = self.lock();
        let alone = !state.answered;
        if !matches!(frame, Frame::Nobody) {
            state.answered = true;
            state.heard = Instant::now();
        }
        match frame {
            Frame::Item { seq, payload } => self.take_item(&mut state, seq, payload),
            Frame::End { last } if state.end.is_none() => {
                let whole = last.map_or_else(
                    || !self.wire.has_dropped(self.past),
                    |last| last == state.received,
                );
                if whole {
                    state.end = Some(End::Complete);
                    self.service_ended(&mut state, None);
                } else {
                    let lost = faults::tail(state.received, last);
                    self.fail_with(&mut state, lost);
                }
            }
            Frame::Failed(error) if state.end.is_none() => {
                self.service_ended(&mut state, Some(&error));
                state.end = Some(End::Failed(error));
            }
            // Tolerated, as a late word of a stream that is over.
            Frame::End { .. } | Frame::Failed(_) => {}
            Frame::Control(control) => self.take_control(&mut state, control),
            Frame::Nobody if alone => self.fail_with(&mut state, faults::nobody()),
            Frame::Nobody => {
                let error = self.peer_gone();
                state.broken.get_or_insert_with(|| faults::copy(&error));
                state.gone.get_or_insert((Instant::now() + GRACE, error));
                self.orders.notify_one();
            }
            Frame::Answer { headers, payload }
                if self.window.is_none() && self.side == Side::Client =>
            {
                if state.end.is_none() {
                    state.end = Some(End::Answer { headers, payload });
                    self.service_ended(&mut state, None);
                }
            }
            Frame::Answer { .. } => {
                let problem = "a message of the stream has no number";
                self.fail_with(&mut state, faults::protocol(problem));
            }
            Frame::Bad(problem) => self.fail_with(&mut state, faults::protocol(problem)),
        }
        drop(state);
        self.tell();
    }

    fn take_item(&self, state: &mut State, seq: u64, payload: Bytes) {
        if state.end.is_some() {
            return;
        }
        if self.window.is_none() {
            self.fail_with(state, faults::protocol("an item came where none is expected"));
            return;
        }
        if seq != state.received + 1 {
            let gap = faults::gap(state.received + 1, seq);
            self.fail_with(state, gap);
            return;
        }
        state.received = seq;
        if !state.reading {
            return;
        }
        let bytes = state.queued_bytes + payload.len();
        if state.queue.len() >= MAX_BUFFERED || bytes > MAX_BUFFERED_BYTES {
            let error = faults::overflow(seq, state.queue.len(), state.queued_bytes);
            self.fail_with(state, error);
            return;
        }
        state.queued_bytes = bytes;
        state.queue.push_back(payload);
    }

    fn take_control(&self, state: &mut State, control: Control) {
        if self.side == Side::Client && state.peer.is_none() {
            state.peer = control.inbox;
            // What to say to it begins now.
            self.orders.notify_one();
        }
        if let Some(beat) = control.heartbeat {
            state.beat = Some(bounded(beat));
        }
        if let Some(credit) = control.credit
            && state.beat.is_some()
        {
            state.allowed = Some(state.allowed.map_or(credit, |before| before.max(credit)));
        }
        if let Some(why) = control.cancel {
            state.broken.get_or_insert_with(|| RpcError::new(code::CANCELLED, why).remote(None));
        }
        if let Some(last) = control.last
            && last > state.received
            && state.end.is_none()
        {
            let gap = faults::tail(state.received, Some(last));
            self.fail_with(state, gap);
        }
    }

    /// At a client the end of what comes in is the end of the call.
    fn service_ended(&self, state: &mut State, error: Option<&RpcError>) {
        if self.side == Side::Client {
            let broken = || error.map_or_else(faults::over, faults::copy);
            state.broken.get_or_insert_with(broken);
            self.orders.notify_one();
        }
    }

    /// Ends both directions by an error of this side, which the peer is told where it can be.
    pub(super) fn fail(&self, error: RpcError) {
        self.fail_with(&mut self.lock(), error);
        self.tell();
    }

    fn fail_with(&self, state: &mut State, error: RpcError) {
        state.broken.get_or_insert_with(|| faults::copy(&error));
        if state.end.is_none() {
            state.cancel.get_or_insert("the stream failed at the side that reads it");
            state.end = Some(End::Failed(error));
        }
        self.orders.notify_one();
    }

    fn peer_gone(&self) -> RpcError {
        match self.side {
            Side::Client => faults::service_gone(),
            Side::Server => faults::client_gone(),
        }
    }

    /// Ends a stream whose first message the server has refused.
    pub(super) fn look_for_refusal(&self) {
        let Some(error) = self.opened.as_ref().and_then(|opened| self.wire.refusal(opened)) else {
            return;
        };
        if !self.lock().answered {
            self.fail(faults::refused(error));
        }
    }

    /// The connection was lost, or the subscription ended.
    pub(super) fn lose(&self) {
        self.fail(faults::lost());
    }

    pub(super) fn was_lost(&self) -> bool {
        self.wire.was_lost(self.past)
    }

    // The reader.

    pub(super) fn poll_item(&self, cx: &mut Context<'_>) -> Poll<Option<rpc::Result<Bytes>>> {
        self.reader.register(cx.waker());
        let mut state = self.lock();
        if let Some(payload) = state.queue.pop_front() {
            state.queued_bytes -= payload.len();
            state.taken += 1;
            if self.owes_credit(&state) {
                self.orders.notify_one();
            }
            return Poll::Ready(Some(Ok(payload)));
        }
        match &mut state.end {
            None => Poll::Pending,
            Some(End::Complete) => Poll::Ready(None),
            Some(End::Answer { .. }) => Poll::Ready(None),
            Some(end) => match std::mem::replace(end, End::Complete) {
                End::Failed(error) => Poll::Ready(Some(Err(error))),
                End::Complete | End::Answer { .. } => Poll::Ready(None),
            },
        }
    }

    /// The answer to a stream of the client's, or why there is none.
    pub(super) fn poll_answer(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<rpc::Result<(HeaderMap, Bytes)>> {
        self.reader.register(cx.waker());
        let mut state = self.lock();
        match state.end.take() {
            None => Poll::Pending,
            Some(end) => {
                state.end = Some(End::Complete);
                Poll::Ready(match end {
                    End::Answer { headers, payload } => Ok((headers, payload)),
                    End::Failed(error) => Err(error),
                    End::Complete => Err(faults::protocol("the stream ended without an answer")),
                })
            }
        }
    }

    /// Whether what comes in has ended; items may wait to be read.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Nobody reads any more.
    pub(super) fn stop_reading(&self, why: &'static str) {
        let mut state = self.lock();
        state.reading = false;
        state.queue.clear();
        state.queued_bytes = 0;
        if state.end.is_none() {
            state.cancel.get_or_insert(why);
            self.orders.notify_one();
        }
    }

    fn owes_credit(&self, state: &State) -> bool {
        let Some(window) = self.window else { return false };
        state.beat.is_some()
            && state.reading
            && state.end.is_none()
            && state.taken + window - state.granted >= (window / 2).max(1)
    }

    /// Whether the peer tells by itself that it lives.
    pub(super) fn has_heartbeat(&self) -> bool {
        self.lock().beat.is_some()
    }

    // The sender.

    /// Waits until `ready` gives something.
    async fn until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = ready(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    /// Sends an item once the peer has room for it.
    pub(super) async fn send(&self, payload: Bytes) -> rpc::Result<()> {
        let ready = |state: &mut State| {
            if let Some(error) = &state.broken {
                return Some(Err(faults::copy(error)));
            }
            let seq = state.sent + 1;
            let peer = state.peer.clone()?;
            (state.allowed.is_none_or(|allowed| seq <= allowed)).then(|| {
                let now = Instant::now();
                let due = state.probed.is_none_or(|at| now.duration_since(at) >= PROBE_EVERY);
                if due {
                    state.probed = Some(now);
                }
                Ok((seq, peer, self.inbox.clone().filter(|_| due)))
            })
        };
        let (seq, peer, reply) = self.until(ready).await?;
        self.wire.publish(peer, reply, frame::item(seq), payload).await?;
        self.lock().sent = seq;
        Ok(())
    }

    /// Says that no item follows.
    pub(super) async fn finish(&self) -> rpc::Result<()> {
        let (peer, headers) = {
            let state = self.lock();
            if let Some(error) = &state.broken {
                return Err(faults::copy(error));
            }
            let Some(peer) = state.peer.clone() else { return Err(faults::over()) };
            (peer, frame::end(state.beat.map(|_| state.sent)))
        };
        self.wire.publish(peer, None, headers, Bytes::new()).await?;
        let mut state = self.lock();
        state.finished = true;
        // A sender that lives on elsewhere sends nothing behind the end.
        state.broken.get_or_insert_with(faults::over);
        Ok(())
    }

    /// The sender has gone without an end.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        if !state.finished && state.broken.is_none() {
            state.abandoned = true;
            self.orders.notify_one();
        }
    }

    /// Waits until nothing can be sent any more, and says why.
    pub(super) async fn broken(&self) -> RpcError {
        self.until(|state| state.broken.as_ref().map(faults::copy)).await
    }

    /// Waits until nothing can be sent any more, and nothing will come.
    pub(super) async fn deserted(&self) -> RpcError {
        let deserted = |state: &mut State| {
            let silent = self.window.is_none() || state.end.is_some();
            state.broken.as_ref().filter(|_| silent).map(faults::copy)
        };
        self.until(deserted).await
    }

    /// Waits until what comes in has ended, or nothing came for so long.
    pub(super) async fn heard_out(&self, silence: Duration) {
        loop {
            let silent = self.lock().heard + silence;
            let ended = self.until(|state| state.end.is_some().then_some(()));
            if timeout_at(silent, ended).await.is_ok() || self.lock().heard + silence == silent {
                return;
            }
        }
    }

    /// Waits until the peer has said where frames for it go.
    pub(super) async fn greeted(&self) -> rpc::Result<()> {
        let ready = |state: &mut State| match &mut state.end {
            Some(End::Failed(error)) => {
                let copy = faults::copy(error);
                Some(Err(std::mem::replace(error, copy)))
            }
            Some(_) => Some(Ok(())),
            None => state.peer.is_some().then_some(Ok(())),
        };
        self.until(ready).await
    }
}

/// A heartbeat as a peer may announce it.
fn bounded(beat: Duration) -> Duration {
    beat.clamp(Duration::from_secs(1), Duration::from_secs(600))
}
