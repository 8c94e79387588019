//! What the code under test logs, as one text.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Every event and span at every level, of all crates, with all fields.
///
/// A test that a secret is absent must also see something that is present, or it proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Captures the whole process from the first call on, `log` records too. For a test binary of
    /// its own: its tests share the text.
    ///
    /// # Panics
    ///
    /// When the process has another global subscriber.
    #[must_use]
    pub fn global() -> Logs {
        static LOGS: OnceLock<Logs> = OnceLock::new();
        let start = || {
            let logs = Logs::default();
            logs.subscriber().try_init().expect("no other global subscriber");
            logs
        };
        LOGS.get_or_init(start).clone()
    }

    /// Captures this thread until the guard is dropped: all of a `#[tokio::test]`, whose runtime
    /// has one thread, but not the blocking tasks.
    #[must_use]
    pub fn scoped() -> (Logs, DefaultGuard) {
        let logs = Logs::default();
        let guard = tracing::subscriber::set_default(logs.subscriber());
        (logs, guard)
    }

    /// A subscriber that writes here, for `tracing::subscriber::with_default` or `with_subscriber`.
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        let logs = self.clone();
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || logs.clone())
            .finish()
    }

    /// What was logged so far.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
