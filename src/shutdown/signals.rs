//! The signals that ask a process to end.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{advance, requested, run};
use crate::error::{Error, ErrorKind, Result};
use crate::shutdown::Phase;

/// Listens from now on; the future waits for the first signal or a trigger. From then on a second
/// signal ends the process.
pub(super) fn first() -> impl Future<Output = ()> + Send {
    if let Err(error) = listen() {
        tracing::error!(%error, "cannot listen for signals; only trigger() shuts down");
    }
    requested()
}

/// Listens in the background, once per process: the first signal shuts down and ends the process
/// with the report's exit code.
pub(crate) fn install() -> Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    listen().map_err(|error| {
        Error::new(ErrorKind::Other, "cannot listen for signals").with_source(error)
    })?;
    if !INSTALLED.swap(true, Ordering::AcqRel) {
        tokio::spawn(async {
            requested().await;
            std::process::exit(run().await.exit_code());
        });
    }
    Ok(())
}

/// Starts to listen, once per process, on a thread and runtime of its own: a handler that blocks
/// the application's threads must not keep a signal from being seen.
fn listen() -> io::Result<()> {
    static LISTENING: Mutex<bool> = Mutex::new(false);
    let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
    if *listening {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let signals = {
        let _inside = runtime.enter();
        Signals::listen()?
    };
    std::thread::Builder::new()
        .name("nats-connector-signals".to_owned())
        .spawn(move || runtime.block_on(obey(signals)))?;
    *listening = true;
    Ok(())
}

/// The first signal requests the shutdown; one that comes after a request ends the process.
async fn obey(mut signals: Signals) {
    loop {
        let signal = signals.next().await;
        if !advance(Phase::Requested) {
            tracing::error!(signal, "second signal, ending at once");
            std::process::exit(128 + signal);
        }
        tracing::info!(signal, "shutting down; a second signal ends the process at once");
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The number of the next signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

#[cfg(windows)]
struct Signals {
    ctrl_c: tokio::signal::windows::CtrlC,
}

#[cfg(windows)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Signals { ctrl_c: tokio::signal::windows::ctrl_c()? })
    }

    async fn next(&mut self) -> i32 {
        self.ctrl_c.recv().await;
        2
    }
}
