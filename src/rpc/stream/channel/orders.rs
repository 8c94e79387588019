//! What the task of a stream asks of it: what to say now, and when to look again.

use async_nats::{HeaderMap, Subject};
use tokio::time::Instant;

use super::{Channel, MISSED, Side, State};
use crate::rpc::error::error_headers;
use crate::rpc::stream::frame::Control;
use crate::rpc::stream::{HEARTBEAT, faults};

/// Something for the pump to send.
pub(in crate::rpc::stream) struct Order {
    pub(in crate::rpc::stream) peer: Subject,
    pub(in crate::rpc::stream) headers: HeaderMap,
}

impl Channel {
    /// Nobody holds an end of the stream any more.
    pub(in crate::rpc::stream) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        if self.side == Side::Server {
            // The end, or the answer, was its last word.
            state.cancel = None;
        }
        drop(state);
        self.orders.notify_one();
    }

    /// Whether nothing can happen any more; orders may be left.
    pub(in crate::rpc::stream) fn is_over(&self) -> bool {
        let state = self.lock();
        state.closing || (self.side == Side::Client && state.end.is_some())
    }

    /// When to look again; while something is `sending`, no heartbeat is due.
    pub(in crate::rpc::stream) fn due(&self, sending: bool) -> Option<Instant> {
        let state = self.lock();
        let beats = state.beat.is_some() && state.peer.is_some() && !sending;
        let beat = beats.then(|| state.said + HEARTBEAT);
        let silence = state.beat.map(|beat| state.heard + beat * MISSED);
        let gone = state.gone.as_ref().map(|gone| gone.0);
        let open = [beat, silence, gone, self.deadline].into_iter().flatten().min();
        if state.end.is_some() { beat } else { open }
    }

    /// What should have happened by now.
    pub(in crate::rpc::stream) fn look(&self, now: Instant) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        if let Some((at, _)) = &state.gone
            && *at <= now
        {
            if let Some((_, error)) = state.gone.take() {
                self.fail_with(&mut state, error);
            }
        } else if self.deadline.is_some_and(|at| at <= now) {
            self.fail_with(&mut state, faults::deadline());
        } else if state.beat.is_some_and(|beat| state.heard + beat * MISSED <= now) {
            let error = self.peer_gone();
            self.fail_with(&mut state, error);
        } else {
            return;
        }
        drop(state);
        self.tell();
    }

    /// What the peer is to be told now.
    pub(in crate::rpc::stream) fn order(&self, now: Instant) -> Option<Order> {
        let mut state = self.lock();
        let peer = state.peer.clone()?;
        if state.abandoned {
            state.abandoned = false;
            let headers = error_headers(&faults::abandoned());
            return Some(Order { peer, headers });
        }
        state.beat?;
        let beats = !self.is_over_in(&state) && state.said + HEARTBEAT <= now;
        if state.cancel.is_none() && !beats && !self.owes_credit(&state) {
            return None;
        }
        state.said = now;
        if let Some(window) = self.window {
            state.granted = state.taken + window;
        }
        let control = Control {
            inbox: None,
            last: Some(state.sent),
            credit: self.window.filter(|_| state.reading).map(|_| state.granted),
            heartbeat: Some(HEARTBEAT),
            cancel: state.cancel.take().map(str::to_owned),
        };
        let mut headers = HeaderMap::new();
        control.write(&mut headers);
        Some(Order { peer, headers })
    }

    fn is_over_in(&self, state: &State) -> bool {
        state.closing || (self.side == Side::Client && state.end.is_some())
    }
}
