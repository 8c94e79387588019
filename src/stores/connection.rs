//! A back end that stores share: opened by the first call that needs it, once for all that wait.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::connector::status::RateLimit;
use crate::connector::{Connector, State};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::Driver;
#[cfg(feature = "redis")]
use crate::kv::RedisDriver;

/// How long opening may take, whoever waits for it. A connector's own limit is usually less.
const LONGEST: Duration = Duration::from_secs(60);
/// How often the log tells that it cannot be opened.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What is open.
#[derive(Clone)]
pub(super) enum BackEnd {
    /// A NATS connection; `owned` when these stores made it.
    Nats { connector: Connector, owned: bool },
    #[cfg(feature = "redis")]
    Redis(RedisDriver),
    /// A driver that is all there is.
    Driver(Arc<dyn Driver>),
}

impl BackEnd {
    /// It will never work again, so another is to be opened.
    pub(super) fn is_over(&self) -> bool {
        match self {
            BackEnd::Nats { connector, .. } => connector.state() == State::Closed,
            #[cfg(feature = "redis")]
            BackEnd::Redis(_) => false,
            BackEnd::Driver(_) => false,
        }
    }
}

type Open = dyn Fn() -> BoxFuture<'static, Result<BackEnd>> + Send + Sync;
type Outcome = Result<BackEnd, Arc<Error>>;

/// A back end that is opened when first needed.
///
/// Opening runs in a task of its own, so that it comes to an end also when every call that waits
/// for it has a shorter deadline. A failure is told to those who wait; the next call tries again.
pub(super) struct Connection {
    /// What is behind it, for `Debug`.
    what: String,
    open: Arc<Open>,
    slot: Mutex<Slot>,
    /// Every call to a store that is down tries to open it.
    log: RateLimit,
}

enum Slot {
    Idle,
    Opening(Opening),
    Open(BackEnd),
    Closed,
}

struct Opening {
    outcome: Shared<BoxFuture<'static, Outcome>>,
    task: AbortHandle,
}

impl Drop for Opening {
    /// Without effect on a task that has ended.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    pub(super) fn new<F>(
        what: String,
        open: impl Fn() -> F + Send + Sync + 'static,
    ) -> Arc<Connection>
    where
        F: Future<Output = Result<BackEnd>> + Send + 'static,
    {
        let open: Arc<Open> = Arc::new(move || Box::pin(open()));
        let log = RateLimit::new(LOG_INTERVAL);
        Arc::new(Connection { what, open, slot: Mutex::new(Slot::Idle), log })
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.lock(), Slot::Closed)
    }

    /// What is open, or else opened now.
    ///
    /// # Errors
    ///
    /// Why it could not be opened; `Unavailable` when that is not known at the deadline; `Closed`.
    pub(super) async fn get(self: &Arc<Self>, deadline: Instant) -> Result<BackEnd> {
        let mut over = None;
        let outcome = {
            let mut slot = self.lock();
            match &*slot {
                Slot::Open(back_end) if !back_end.is_over() => return Ok(back_end.clone()),
                Slot::Closed => return Err(closed()),
                Slot::Opening(opening) if !opening.is_abandoned() => opening.outcome.clone(),
                Slot::Idle | Slot::Opening(_) | Slot::Open(_) => {
                    let opening = self.begin();
                    let outcome = opening.outcome.clone();
                    over.replace(std::mem::replace(&mut *slot, Slot::Opening(opening)));
                    outcome
                }
            }
        };
        drop(over);
        match within(deadline, outcome).await {
            Ok(Ok(back_end)) => Ok(back_end),
            Ok(Err(error)) => {
                Err(Error::new(error.kind(), "cannot open the store").with_source(error))
            }
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                "the store was still being opened at the deadline; opening goes on",
            )),
        }
    }

    /// Starts to open. What comes of it is written into the slot before anybody is told.
    fn begin(self: &Arc<Self>) -> Opening {
        let open = self.open.clone();
        let connection: Weak<Connection> = Arc::downgrade(self);
        let (tell, told) = oneshot::channel();
        let task = tokio::spawn(async move {
            let outcome = match timeout(LONGEST, open()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("not open after {} s", LONGEST.as_secs()),
                )),
            };
            let Some(connection) = connection.upgrade() else { return };
            if let Err(error) = &outcome
                && let Some(held_back) = connection.log.pass()
            {
                tracing::warn!(held_back, %error, "cannot open a store");
            }
            let old = connection.settle(outcome.as_ref().ok());
            let _ = tell.send(outcome.map_err(Arc::new));
            drop(old);
        });
        let outcome = told.map(|outcome| match outcome {
            Ok(outcome) => outcome,
            Err(_) => Err(Arc::new(Error::new(
                ErrorKind::Unavailable,
                "what opened the store was given up",
            ))),
        });
        Opening { outcome: outcome.boxed().shared(), task: task.abort_handle() }
    }

    fn settle(&self, opened: Option<&BackEnd>) -> Option<Slot> {
        let mut slot = self.lock();
        if !matches!(*slot, Slot::Opening(_)) {
            return None;
        }
        let next = opened.map_or(Slot::Idle, |back_end| Slot::Open(back_end.clone()));
        Some(std::mem::replace(&mut *slot, next))
    }

    /// Ends it for good, and with it a connection that was made here.
    pub(super) async fn close(&self) {
        let was = std::mem::replace(&mut *self.lock(), Slot::Closed);
        match was {
            Slot::Open(BackEnd::Nats { connector, owned: true }) => {
                connector.drain().await;
            }
            #[cfg(feature = "redis")]
            Slot::Open(BackEnd::Redis(driver)) => driver.close(),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opening {
    /// Its task ended without a word, as it does with its runtime.
    fn is_abandoned(&self) -> bool {
        self.task.is_finished()
    }
}

/// What every call gets after the stores were closed.
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the stores are closed; load them anew")
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.what).finish()
    }
}
