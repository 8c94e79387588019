//! A graceful shutdown that can be trusted: signals, hooks, the drain of every connector, a report.
//!
//! [`wait()`] listens for SIGINT and SIGTERM (Ctrl-C on Windows). Then
//! 1. [`requested()`] resolves: servers stop accepting, loops end;
//! 2. the hooks of [`on_shutdown`] run, the last registered first, together bounded by
//!    `NATS.HOOK_TIMEOUT` (10 s);
//! 3. every live connector drains, all at once, each within its own `NATS.DRAIN_TIMEOUT` (30 s).
//!
//! A second signal ends the process at once. Without [`wait()`] or
//! [`with_signals`](crate::connector::Register::with_signals) a signal ends it undrained.

use std::fmt;
use std::future::Future;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};

use crate::connector::{DrainReport, Life, global};
use crate::deadline::after;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::kv::Locks;
use crate::pubsub::HandlerResult;

mod signals;

pub(crate) use signals::install as install_signals;

/// The limit of all hooks together when no connector is registered.
const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long giving back locks of drivers that no connector made may take.
const LOCKS_TIMEOUT: Duration = Duration::from_secs(10);

static SHUTDOWN: LazyLock<Shutdown> = LazyLock::new(|| Shutdown {
    phase: watch::channel(Phase::Running).0,
    hooks: Mutex::default(),
    report: watch::channel(None).0,
});

struct Shutdown {
    phase: watch::Sender<Phase>,
    hooks: Mutex<Vec<Hook>>,
    report: watch::Sender<Option<ShutdownReport>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Requested,
    Hooks,
    Draining,
}

struct Hook {
    name: String,
    run: Box<dyn FnOnce() -> BoxFuture<'static, Result<(), BoxError>> + Send>,
}

/// How one hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HookOutcome {
    /// It ended well.
    Done,
    /// It gave an error.
    Failed(String),
    /// It panicked.
    Panicked(String),
    /// It was still running when the hooks' time was up, and was given up.
    TimedOut,
    /// It never began: the hooks before it took all the time.
    NotRun,
}

/// What a shutdown came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The hooks with their names, in the order they ran.
    pub hooks: Vec<(String, HookOutcome)>,
    /// Handlers that finished while draining.
    pub handlers_finished: u64,
    /// Handlers that still ran, or had not begun on a message they were given, at a deadline.
    pub handlers_abandoned: u64,
    /// On every connector a last round trip proved that the server has all that was sent, and every
    /// subscription was left without loss.
    pub proved: bool,
    /// How long it took, hooks included.
    pub elapsed: Duration,
}

impl ShutdownReport {
    /// All hooks ended well, nothing was given up, and everything is proved sent.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.proved
            && self.handlers_abandoned == 0
            && self.hooks.iter().all(|(_, outcome)| *outcome == HookOutcome::Done)
    }

    /// 0 when it [is clean](Self::is_clean), else 1.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        i32::from(!self.is_clean())
    }
}

impl fmt::Display for ShutdownReport {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} handlers finished, {} abandoned, {} in {:.1} s",
            self.handlers_finished,
            self.handlers_abandoned,
            if self.proved { "all proved sent" } else { "NOT proved sent" },
            self.elapsed.as_secs_f32()
        )?;
        for (name, outcome) in self.hooks.iter().filter(|(_, o)| *o != HookOutcome::Done) {
            write!(f, "; hook \"{name}\" {outcome}")?;
        }
        Ok(())
    }
}

impl fmt::Display for HookOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookOutcome::Done => f.write_str("ended well"),
            HookOutcome::Failed(why) => write!(f, "failed: {why}"),
            HookOutcome::Panicked(why) => write!(f, "panicked: {why}"),
            HookOutcome::TimedOut => f.write_str("took too long"),
            HookOutcome::NotRun => f.write_str("had no time left to run"),
        }
    }
}

/// Runs `hook` at shutdown, before connectors drain; the last registered runs first. A hook that
/// another one registers runs too. Panics and errors are reported and keep no other hook from
/// running.
///
/// # Errors
/// `Closed` when the hooks have run already.
pub fn on_shutdown<F, Fut>(name: impl Into<String>, hook: F) -> Result<()>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output: HandlerResult> + Send,
{
    let run = Box::new(move || -> BoxFuture<'static, _> {
        Box::pin(async move { hook().await.into_outcome().map(drop) })
    });
    let mut hooks = lock(&SHUTDOWN.hooks);
    if *SHUTDOWN.phase.borrow() >= Phase::Draining {
        return Err(Error::new(ErrorKind::Closed, "the hooks of the shutdown have run already"));
    }
    hooks.push(Hook { name: name.into(), run });
    Ok(())
}

/// Resolves when a shutdown is requested, by a signal or [`trigger`]; at once when it was. For
/// `axum::serve(..).with_graceful_shutdown(shutdown::requested())` and the like.
pub async fn requested() {
    let mut phase = SHUTDOWN.phase.subscribe();
    // The sender is never dropped.
    let _ = phase.wait_for(|phase| *phase >= Phase::Requested).await;
}

/// Whether a shutdown is requested.
#[must_use]
pub fn is_requested() -> bool {
    *SHUTDOWN.phase.borrow() >= Phase::Requested
}

/// Whether a shutdown is requested and not over, so that a new connector could miss the drain.
pub(crate) fn is_under_way() -> bool {
    is_requested() && SHUTDOWN.report.borrow().is_none()
}

/// Requests the shutdown as a signal would: [`requested`] resolves, and who is in [`wait`] goes on.
pub fn trigger() {
    advance(Phase::Requested);
}

/// Waits for SIGINT, SIGTERM or [`trigger`], then shuts down and reports. While it does, a second
/// signal ends the process at once with 128 + the signal's number.
///
/// Signals are caught from the call on, so before it is awaited as well.
///
/// ```no_run
/// # async fn example() {
/// let report = nats_connector::shutdown::wait().await;
/// std::process::exit(report.exit_code());
/// # }
/// ```
///
/// # Panics
/// When it is called outside of a tokio runtime.
///
/// # Cancel safety
/// Dropped before a signal came, nothing happens, but a signal does not end the process any more
/// unless this is called again; dropped later, the shutdown goes on.
pub fn wait() -> impl Future<Output = ShutdownReport> + Send {
    let first = signals::first();
    async {
        first.await;
        run().await
    }
}

/// Shuts down now and reports. Called again, also at the same time, it gives the same report. Not
/// for handlers, which it would wait for: they call [`trigger`].
///
/// # Cancel safety
/// The shutdown goes on when this is dropped.
pub async fn run() -> ShutdownReport {
    let mut report = SHUTDOWN.report.subscribe();
    if advance(Phase::Hooks) {
        tokio::spawn(async {
            let report = perform().await;
            SHUTDOWN.report.send_replace(Some(report));
        });
    }
    let report = report.wait_for(Option::is_some).await.map(|report| report.clone());
    // The sender is never dropped, so there is a report.
    report.ok().flatten().unwrap_or(ShutdownReport {
        hooks: Vec::new(),
        handlers_finished: 0,
        handlers_abandoned: 0,
        proved: false,
        elapsed: Duration::ZERO,
    })
}

/// Moves on to `phase`; true when that was not reached before.
fn advance(phase: Phase) -> bool {
    SHUTDOWN.phase.send_if_modified(|now| {
        let later = *now < phase;
        if later {
            *now = phase;
        }
        later
    })
}

async fn perform() -> ShutdownReport {
    let begun = Instant::now();
    let timeout = global().map_or(DEFAULT_HOOK_TIMEOUT, |c| c.settings().hook_timeout());
    let hooks = run_hooks(after(timeout)).await;
    let lives = Life::all();
    let drains: Vec<DrainReport> = join_all(lives.iter().map(|life| life.drain())).await;
    // Of stores that no connector made; handlers have finished.
    let locks = Locks::all();
    let deadline = after(LOCKS_TIMEOUT);
    join_all(locks.iter().map(|locks| locks.release_all(deadline))).await;
    let report = ShutdownReport {
        hooks,
        handlers_finished: drains.iter().map(|drain| drain.handlers_finished).sum(),
        handlers_abandoned: drains.iter().map(|drain| drain.handlers_abandoned).sum(),
        proved: drains.iter().all(|drain| drain.proved),
        elapsed: begun.elapsed(),
    };
    tracing::info!(
        clean = report.is_clean(),
        handlers_finished = report.handlers_finished,
        handlers_abandoned = report.handlers_abandoned,
        proved = report.proved,
        elapsed = ?report.elapsed,
        "shut down"
    );
    report
}

async fn run_hooks(deadline: Instant) -> Vec<(String, HookOutcome)> {
    let mut outcomes = Vec::new();
    while let Some(hook) = next_hook() {
        let outcome = if Instant::now() >= deadline {
            HookOutcome::NotRun
        } else {
            // A task of its own catches panics, and keeps a hook that blocks its thread from
            // stopping the clock.
            let mut running = tokio::spawn(async { (hook.run)().await });
            match timeout_at(deadline, &mut running).await {
                Ok(Ok(Ok(()))) => HookOutcome::Done,
                Ok(Ok(Err(error))) => HookOutcome::Failed(error.to_string()),
                Ok(Err(end)) => HookOutcome::Panicked(panic_text(end)),
                Err(_) => {
                    running.abort();
                    HookOutcome::TimedOut
                }
            }
        };
        if outcome != HookOutcome::Done {
            tracing::error!(hook = hook.name, ?outcome, "a shutdown hook did not end well");
        }
        outcomes.push((hook.name, outcome));
    }
    outcomes
}

/// The next hook; with none left the phase moves on, so that a late one is refused.
fn next_hook() -> Option<Hook> {
    let mut hooks = lock(&SHUTDOWN.hooks);
    let next = hooks.pop();
    if next.is_none() {
        advance(Phase::Draining);
    }
    next
}

fn panic_text(end: JoinError) -> String {
    let panic = end.try_into_panic().unwrap_or_else(|end| Box::new(end.to_string()));
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
