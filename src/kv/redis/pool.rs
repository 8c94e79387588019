//! The connections to one server: used in turn, made when needed, made again when lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::{Cmd, RedisError, Value};
use tokio::time::{Instant, timeout_at};

use super::dial::Dialer;
use super::line::{Failure, Line, Question};
use super::reply;
use crate::error::{Error, ErrorKind, Result};

/// A try to connect that failed is not repeated for as long as it took, at most this long: an
/// unreachable server costs few calls their time, one that refuses costs none.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pool {
    dialer: Dialer,
    slots: Box<[Slot]>,
    next: AtomicUsize,
    down: Mutex<Option<Down>>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Slot {
    line: Mutex<Option<Arc<Line>>>,
    /// Held while connecting: the calls that need this connection wait for one try.
    dialing: tokio::sync::Mutex<()>,
}

/// The last try to connect failed.
#[derive(Debug)]
struct Down {
    until: Instant,
    kind: ErrorKind,
    message: String,
}

/// Whether what is asked may be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes nothing.
    Read,
    /// Without an answer nobody knows whether it took place.
    Write,
}

impl Pool {
    /// A pool with its first connection. Why there is none is for the caller to tell, not for the log.
    pub(super) async fn connect(dialer: Dialer, size: usize, deadline: Instant) -> Result<Self> {
        let line = Arc::new(dialer.dial(deadline).await?);
        let slots: Box<[Slot]> = (0..size.max(1)).map(|_| Slot::default()).collect();
        *lock(&slots[0].line) = Some(line);
        Ok(Pool {
            dialer,
            slots,
            next: AtomicUsize::new(0),
            down: Mutex::new(None),
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn server(&self) -> &str {
        self.dialer.server()
    }

    /// Ends the pool. Calls under way get their answers.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for slot in &self.slots {
            lock(&slot.line).take();
        }
    }

    /// Asks on the next connection. What only reads is asked once more when the connection ends.
    pub(super) async fn request(
        &self,
        question: impl Into<Question<'_>>,
        effect: Effect,
        deadline: Instant,
    ) -> Result<Value> {
        let answer = self.ask(question.into(), effect, deadline).await?;
        answer.map_err(|error| self.refused(&error))
    }

    /// What a refusal of this server means.
    pub(super) fn refused(&self, error: &RedisError) -> Error {
        reply::refused(error).with("server", self.server())
    }

    /// As [`request`](Self::request), with the server's refusal as it is.
    pub(super) async fn ask(
        &self,
        question: Question<'_>,
        effect: Effect,
        deadline: Instant,
    ) -> Result<std::result::Result<Value, RedisError>> {
        let mut again = effect == Effect::Read;
        loop {
            let line = self.line(deadline).await?;
            match line.request(question, deadline).await {
                Ok(value) => return Ok(Ok(value)),
                Err(Failure::Refused(error)) => return Ok(Err(error)),
                Err(Failure::Lost(_)) if again => again = false,
                Err(failure) => return Err(self.explain(failure, effect)),
            }
        }
    }

    /// Asks on one connection, for what several requests on one server are about.
    pub(super) async fn request_on(
        &self,
        line: &Line,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Value> {
        let answer = line.request(command.into(), deadline).await;
        answer.map_err(|failure| self.explain(failure, Effect::Read))
    }

    /// A connection that is alive.
    pub(super) async fn line(&self, deadline: Instant) -> Result<Arc<Line>> {
        let slot = &self.slots[self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len()];
        if let Some(line) = slot.alive() {
            return Ok(line);
        }
        self.check_open()?;
        let waited = timeout_at(deadline, slot.dialing.lock()).await;
        let _dialing = waited.map_err(|_| {
            Error::new(ErrorKind::Unavailable, "no connection to Redis in time; try again later")
                .with("server", self.server())
        })?;
        if let Some(line) = slot.alive() {
            return Ok(line);
        }
        self.check_down()?;
        let begun = Instant::now();
        match self.dialer.dial(deadline).await {
            Ok(line) => {
                tracing::debug!(server = self.server(), "connected to Redis");
                let line = Arc::new(line);
                *lock(&slot.line) = Some(line.clone());
                if lock(&self.down).take().is_some() {
                    tracing::info!(server = self.server(), "Redis is back");
                }
                // Closed meanwhile: the slot was emptied before it was filled.
                self.check_open().inspect_err(|_| drop(lock(&slot.line).take()))?;
                Ok(line)
            }
            Err(error) => {
                let pause = begun.elapsed().min(LONGEST_PAUSE);
                let down = Down {
                    until: Instant::now() + pause,
                    kind: error.kind(),
                    message: match std::error::Error::source(&error) {
                        Some(source) => format!("{}: {source}", error.message()),
                        None => error.message().to_owned(),
                    },
                };
                // Told once, until it is back.
                if lock(&self.down).replace(down).is_none() {
                    tracing::warn!("no connection to Redis: {error}");
                }
                Err(error)
            }
        }
    }

    fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::SeqCst) {
            false => Ok(()),
            true => {
                Err(Error::new(ErrorKind::Closed, "the Redis driver is closed; connect a new one"))
            }
        }
    }

    fn check_down(&self) -> Result<()> {
        match &*lock(&self.down) {
            Some(down) if Instant::now() < down.until => {
                Err(Error::new(down.kind, down.message.clone()).with("server", self.server()))
            }
            _ => Ok(()),
        }
    }

    fn explain(&self, failure: Failure, effect: Effect) -> Error {
        let error = match failure {
            Failure::Refused(error) => return self.refused(&error),
            Failure::Silent => Error::new(
                ErrorKind::Timeout,
                match effect {
                    Effect::Read => "Redis did not answer in time",
                    Effect::Write => "Redis did not answer in time; the change may be stored",
                },
            ),
            Failure::Lost(error) => match effect {
                Effect::Read => {
                    Error::new(ErrorKind::Unavailable, "the connection to Redis was lost")
                }
                // Nobody knows, as after a timeout.
                Effect::Write => Error::new(
                    ErrorKind::Timeout,
                    "the connection to Redis was lost before the answer; the change may be stored",
                ),
            }
            .with_source(error),
        };
        error.with("server", self.server())
    }
}

impl Slot {
    fn alive(&self) -> Option<Arc<Line>> {
        let mut line = lock(&self.line);
        if line.as_ref().is_some_and(|line| !line.is_alive()) {
            *line = None;
        }
        line.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
