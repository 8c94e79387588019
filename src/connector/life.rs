//! What keeps a back end alive and ends it: subscriptions drain, locks are given back, a round trip
//! proves what was sent, the connection closes.
//!
//! The connector and every pub/sub handle share it, so that a shutdown finds subscriptions whose
//! connector was dropped, and those of drivers that no connector made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{Link, State};
use crate::counters;
use crate::deadline::after;
use crate::error::{Error, ErrorKind};
use crate::kv;
use crate::metrics;
use crate::objects;
use crate::pubsub::{Driver, Tasks, memory};
use crate::streams::Declared;

static LIVE: Mutex<Vec<Weak<Life>>> = Mutex::new(Vec::new());

/// A back end with its subscriptions.
pub(crate) struct Life {
    pub(super) back_end: BackEnd,
    pub(crate) tasks: Tasks,
    /// The streams that were declared here.
    pub(crate) declared: Arc<Declared>,
    /// Those of the connector's key-value store.
    locks: Arc<kv::Locks>,
    drain_timeout: Duration,
    metrics: metrics::Connection,
    drained: OnceCell<DrainReport>,
}

pub(crate) enum BackEnd {
    Nats(Arc<Link>),
    Memory(memory::MemoryDriver, kv::MemoryDriver, objects::MemoryDriver, counters::Counts),
    /// A driver of the application's own: it is flushed, not closed.
    Driver(Arc<dyn Driver>),
}

/// What a drain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Handlers that finished while draining.
    pub handlers_finished: u64,
    /// Handlers that still ran, or had not begun on a message they were given, at the deadline.
    pub handlers_abandoned: u64,
    /// A last round trip proved that the server has all that was sent, and every subscription was
    /// left without loss. Core messages have no acknowledgement beyond that.
    pub proved: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl DrainReport {
    /// Nothing was given up and everything is proved sent.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.proved && self.handlers_abandoned == 0
    }
}

impl Life {
    /// Remembers it for the shutdown.
    pub(crate) fn begin(
        back_end: BackEnd,
        drain_timeout: Duration,
        locks: Arc<kv::Locks>,
        metrics: metrics::Connection,
    ) -> Arc<Life> {
        let (tasks, drained) = (Tasks::default(), OnceCell::new());
        let declared = match &back_end {
            BackEnd::Nats(link) => link.declared().clone(),
            BackEnd::Memory(..) | BackEnd::Driver(_) => Arc::default(),
        };
        let life = Life { back_end, tasks, declared, locks, drain_timeout, metrics, drained };
        let life = Arc::new(life);
        let mut live = lock();
        live.retain(|known| known.strong_count() > 0);
        live.push(Arc::downgrade(&life));
        life
    }

    pub(super) fn metrics(&self) -> &metrics::Connection {
        &self.metrics
    }

    /// All that live.
    pub(crate) fn all() -> Vec<Arc<Life>> {
        lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn is_over(&self) -> bool {
        self.drained.initialized()
    }

    /// Ends it once; later calls give the same report.
    pub(crate) async fn drain(&self) -> DrainReport {
        self.drained.get_or_init(|| self.drain_once()).await.clone()
    }

    async fn drain_once(&self) -> DrainReport {
        let begun = Instant::now();
        let deadline = after(self.drain_timeout);
        let mut connection = 0;
        if let BackEnd::Nats(link) = &self.back_end {
            connection = link.connects();
            link.status().drain();
        }
        let handlers = self.tasks.drain(deadline).await;
        if let BackEnd::Nats(link) = &self.back_end {
            link.uploads().end(link, deadline).await;
        }
        // Also after the deadline a connected server gets a moment to answer.
        let last = deadline.max(after(Duration::from_millis(500)));
        self.locks.release_all(last).await;
        let sent = match &self.back_end {
            BackEnd::Nats(link) => {
                let sent = match link.barrier(last).await {
                    Ok(()) if link.connects() != connection => Err(Error::new(
                        ErrorKind::Unavailable,
                        "connected anew while draining; what was under way may be lost",
                    )),
                    sent => sent,
                };
                link.close(last).await;
                sent
            }
            BackEnd::Memory(pubsub, kv, objects, counts) => {
                pubsub.close();
                self.metrics.state(State::Closed);
                kv.close();
                objects.close();
                counts.close();
                Ok(())
            }
            BackEnd::Driver(driver) => driver.flush(last).await,
        };
        if let Err(error) = &sent {
            tracing::warn!(%error, "nothing proves that the server has all messages");
        }
        let report = DrainReport {
            handlers_finished: handlers.finished,
            handlers_abandoned: handlers.abandoned,
            proved: sent.is_ok() && handlers.doubtful == 0,
            elapsed: begun.elapsed(),
        };
        self.metrics.drained(&report);
        report
    }
}

fn lock() -> MutexGuard<'static, Vec<Weak<Life>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
