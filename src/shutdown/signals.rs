//! The signals that ask a process to end.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{advance, requested, run};
use crate::error::{Error, ErrorKind, Result};
use crate::shutdown::Phase;

/// Listens from now on; the future waits for the first signal or a trigger. From then on a second
/// signal ends the process.
pub(super) fn first() -> impl Future<Output = ()> + Send {
    let signals = Signals::listen();
    async {
        match signals {
            Ok(signals) => first_of(signals).await,
            Err(error) => {
                tracing::error!(%error, "cannot listen for signals; only trigger() shuts down");
                requested().await;
            }
        }
    }
}

async fn first_of(mut signals: Signals) {
    let signal = tokio::select! {
        signal = signals.next() => Some(signal),
        () = requested() => None,
    };
    if let Some(signal) = signal {
        tracing::info!(signal, "shutting down; a second signal ends the process at once");
    }
    advance(Phase::Requested);
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::error!(signal, "second signal, ending at once");
        std::process::exit(128 + signal);
    });
}

/// Listens in the background, once per process: the first signal shuts down and ends the process
/// with the report's exit code.
pub(crate) fn install() -> Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    let signals = Signals::listen().map_err(|error| {
        Error::new(ErrorKind::Other, "cannot listen for signals").with_source(error)
    })?;
    if INSTALLED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    tokio::spawn(async {
        first_of(signals).await;
        std::process::exit(run().await.exit_code());
    });
    Ok(())
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
