//! One connection, shared by any number of calls at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Pipeline, RedisError, Value};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::deadline::within;

/// A connection that has answered nobody for this long, while somebody waited, is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection, as long as it lives.
#[derive(Debug)]
pub(super) struct Line {
    connection: MultiplexedConnection,
    state: Arc<State>,
    work: AbortHandle,
}

#[derive(Debug)]
struct State {
    ended: AtomicBool,
    started: Instant,
    /// Since when a call that timed out has waited without any answer on the line, in milliseconds
    /// after the start and one more; 0 for no such call.
    silent_since: AtomicU64,
}

/// What is asked: one command, or several in one go, whose answers are an array with the refusals
/// among them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question<'a> {
    One(&'a Cmd),
    Several(&'a Pipeline),
}

impl<'a> From<&'a Cmd> for Question<'a> {
    fn from(command: &'a Cmd) -> Self {
        Question::One(command)
    }
}

/// As the methods of `Cmd` give it back.
impl<'a> From<&'a mut Cmd> for Question<'a> {
    fn from(command: &'a mut Cmd) -> Self {
        Question::One(command)
    }
}

impl<'a> From<&'a Pipeline> for Question<'a> {
    fn from(commands: &'a Pipeline) -> Self {
        Question::Several(commands)
    }
}

/// Why a request has no answer of use.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection ended; whether the server did it is not known.
    Lost(RedisError),
    /// The deadline passed; whether the server did it is not known.
    Silent,
    /// The server refused it; it did nothing.
    Refused(RedisError),
}

impl Line {
    /// Runs the connection's `work` in a task.
    pub(super) fn start(
        connection: MultiplexedConnection,
        work: impl Future<Output = ()> + Send + 'static,
        server: &str,
    ) -> Self {
        let state = Arc::new(State {
            ended: AtomicBool::new(false),
            started: Instant::now(),
            silent_since: AtomicU64::new(0),
        });
        let end = End { state: state.clone(), server: server.to_owned() };
        let work = tokio::spawn(async move {
            let _end = end;
            work.await;
        });
        Line { connection, state, work: work.abort_handle() }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.state.ended.load(Ordering::Relaxed)
    }

    /// Asks without a deadline; the caller has one.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Value, RedisError> {
        let mut connection = self.connection.clone();
        match question {
            Question::One(command) => command.query_async(&mut connection).await,
            Question::Several(commands) => {
                let answers = connection.send_packed_commands(commands, 0, commands.len()).await;
                answers.map(Value::Array)
            }
        }
    }

    /// Asks, and waits for the answer until the deadline.
    pub(super) async fn request(
        &self,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let begun = Instant::now();
        let Ok(answer) = within(deadline, self.ask(question)).await else {
            self.note_silence(begun);
            return Err(Failure::Silent);
        };
        match answer {
            Ok(value) => {
                self.note_answer();
                Ok(value)
            }
            // What the server says has a code; the rest is the connection's.
            Err(error) if error.code().is_some() => {
                self.note_answer();
                Err(Failure::Refused(error))
            }
            Err(error) => {
                self.state.ended.store(true, Ordering::Relaxed);
                Err(Failure::Lost(error))
            }
        }
    }

    fn note_answer(&self) {
        // Most often there is nothing to write.
        if self.state.silent_since.load(Ordering::Relaxed) != 0 {
            self.state.silent_since.store(0, Ordering::Relaxed);
        }
    }

    /// A call that began at `begun` was not answered.
    fn note_silence(&self, begun: Instant) {
        let after = |at: Instant| {
            let since = at.saturating_duration_since(self.state.started).as_millis();
            u64::try_from(since).unwrap_or(u64::MAX - 1) + 1
        };
        let (begun, now) = (after(begun), after(Instant::now()));
        let since = &self.state.silent_since;
        let first = since.compare_exchange(0, begun, Ordering::Relaxed, Ordering::Relaxed);
        let since = first.map_or_else(|earlier| earlier, |_| begun);
        if Duration::from_millis(now.saturating_sub(since)) >= SILENCE {
            self.state.ended.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // By itself it would wait for the answers that nobody waits for any more.
        self.work.abort();
    }
}

/// Marks the line when its task ends, in whichever way.
struct End {
    state: Arc<State>,
    server: String,
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.state.ended.swap(true, Ordering::Relaxed) {
            tracing::debug!(server = self.server, "a connection to Redis has ended");
        }
    }
}
