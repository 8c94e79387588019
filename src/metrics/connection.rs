//! Metrics of a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram};

use super::lazy::{Handles, Lazy, Maker};
use super::list;
use crate::connector::{DrainReport, State};

/// The metrics of one connection. Clones share them; with the last one it counts no more as a
/// connector in any state.
#[derive(Debug, Clone)]
pub(crate) struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lazy: Lazy<ConnectionHandles>,
    states: Mutex<States>,
    /// The reconnects that were counted.
    reconnects: AtomicU64,
}

#[derive(Debug, Default)]
struct States {
    now: Option<State>,
    told: Option<State>,
}

#[derive(Debug)]
struct ConnectionHandles {
    connecting: Gauge,
    connected: Gauge,
    disconnected: Gauge,
    draining: Gauge,
    closed: Gauge,
    reconnects: Counter,
    round_trip: Gauge,
    dropped: Counter,
    drain_duration: Histogram,
    drain_abandoned: Counter,
}

impl Handles for ConnectionHandles {
    fn make(maker: &Maker<'_>) -> Self {
        let state = |name| maker.gauge_of(&list::CONNECTIONS, [("state", name)]);
        ConnectionHandles {
            connecting: state("connecting"),
            connected: state("connected"),
            disconnected: state("disconnected"),
            draining: state("draining"),
            closed: state("closed"),
            reconnects: maker.counter(&list::RECONNECTS),
            round_trip: maker.gauge(&list::ROUND_TRIP),
            dropped: maker.counter(&list::DROPPED),
            drain_duration: maker.histogram(&list::DRAIN_DURATION),
            drain_abandoned: maker.counter(&list::DRAIN_ABANDONED),
        }
    }
}

impl ConnectionHandles {
    fn of(&self, state: State) -> &Gauge {
        match state {
            State::Connecting => &self.connecting,
            State::Connected => &self.connected,
            State::Disconnected => &self.disconnected,
            State::Draining => &self.draining,
            State::Closed => &self.closed,
        }
    }
}

impl Connection {
    /// Those of a driver's connection; `connector` is empty for a driver that no connector made.
    pub(crate) fn new(driver: &str, connector: &str) -> Self {
        Connection(Arc::new(Inner {
            lazy: Lazy::new([("driver", driver), ("connector", connector)]),
            states: Mutex::default(),
            reconnects: AtomicU64::new(0),
        }))
    }

    /// It is in this state now.
    pub(crate) fn state(&self, state: State) {
        self.0.tell(|states| states.now = Some(state));
    }

    /// Tells the state to a recorder that came after it.
    pub(crate) fn tell_state(&self) {
        self.0.tell(|_| ());
    }

    /// It has connected again this often so far.
    pub(crate) fn reconnects(&self, total: u64) {
        if let Some(handles) = self.0.lazy.get() {
            let counted = self.0.reconnects.fetch_max(total, Ordering::Relaxed);
            handles.reconnects.increment(total.saturating_sub(counted));
        }
    }

    pub(crate) fn round_trip(&self, took: Duration) {
        if let Some(handles) = self.0.lazy.get() {
            handles.round_trip.set(took.as_secs_f64());
        }
    }

    /// A message was dropped because its subscription was too slow.
    pub(crate) fn dropped(&self) {
        if let Some(handles) = self.0.lazy.get() {
            handles.dropped.increment(1);
        }
    }

    pub(crate) fn drained(&self, report: &DrainReport) {
        if let Some(handles) = self.0.lazy.get() {
            handles.drain_duration.record(report.elapsed.as_secs_f64());
            handles.drain_abandoned.increment(report.handlers_abandoned);
        }
    }
}

impl Inner {
    fn tell(&self, change: impl FnOnce(&mut States)) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut states);
        if states.now == states.told {
            return;
        }
        let Some(handles) = self.lazy.get() else { return };
        if let Some(told) = states.told {
            handles.of(told).decrement(1);
        }
        if let Some(now) = states.now {
            handles.of(now).increment(1);
        }
        states.told = states.now;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tell(|states| states.now = None);
    }
}
