//! The connector behind the free functions.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Connector, State};
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Settings;
use crate::{kv, pubsub, shutdown};

/// Serializes registering; the slot itself is read without it.
static REGISTERING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
static GLOBAL: Mutex<Option<Connector>> = Mutex::new(None);

/// Connects as file, environment and arguments say, and makes this connector the default for the
/// free functions of [`pubsub`](crate::pubsub) and [`kv`](crate::kv).
///
/// Idempotent: while connected it gives the same connector. After the connector closed for good it
/// connects anew and the free functions follow. A default driver that the application set itself
/// is not replaced. [`shutdown::wait`](crate::shutdown::wait) drains it;
/// without that (or [`with_signals`](Register::with_signals)) a signal ends the process undrained.
///
/// # Errors
/// As [`Connector::connect`] and [`Settings::load`]; `Closed` after a shutdown began.
pub fn register() -> Register {
    Register { settings: None, signals: false, streams: Apply::Nothing }
}

/// As [`register`], with settings made in code.
///
/// # Errors
/// As [`register`]; `InvalidInput` when connected with other settings.
pub fn register_with(settings: Settings) -> Register {
    Register { settings: Some(settings), signals: false, streams: Apply::Nothing }
}

/// A registration, run by `.await`.
#[must_use = "nothing is registered unless this is awaited"]
#[derive(Debug)]
pub struct Register {
    settings: Option<Settings>,
    signals: bool,
    streams: Apply,
}

/// What becomes of the streams that the settings describe.
#[derive(Debug, Clone, Copy)]
enum Apply {
    Nothing,
    /// They are made, or checked.
    Check,
    /// They are made, or changed.
    Update,
}

impl Register {
    /// Also installs the signal listener, for applications that never call
    /// [`shutdown::wait`](crate::shutdown::wait): SIGINT or SIGTERM then drains and ends the
    /// process with the report's exit code.
    pub fn with_signals(mut self) -> Self {
        self.signals = true;
        self
    }

    /// Also makes the streams that the settings describe (`STREAMS.<NAME>.SUBJECTS` and so on), or
    /// checks those that are there: what differs is a warning and left as it is. When one cannot be
    /// made, nothing is registered.
    ///
    /// With `NATS.RETRY_ON_INITIAL_CONNECT` it waits for the connection, up to
    /// `NATS.REQUEST_TIMEOUT`.
    pub fn apply_streams(mut self) -> Self {
        self.streams = Apply::Check;
        self
    }

    /// As [`apply_streams`](Self::apply_streams), and changes streams that are there to what the
    /// settings say, as far as they can be changed.
    pub fn update_streams(mut self) -> Self {
        self.streams = Apply::Update;
        self
    }

    async fn run(self) -> Result<Connector> {
        let _one_at_a_time = REGISTERING.lock().await;
        let settings = match self.settings {
            Some(settings) => settings,
            None => Settings::load()?,
        };
        if let Some(connector) = global()
            && connector.state() != State::Closed
        {
            if *connector.settings() != settings {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "connected with other settings; drain that connector first, or make a second \
                     one with Connector::connect",
                ));
            }
            self.streams.run(&connector, &settings).await?;
            return Ok(connector);
        }
        if shutdown::is_requested() {
            return Err(Error::new(ErrorKind::Closed, "the process is shutting down"));
        }
        let connector = Connector::connect(&settings).await?;
        if let Err(error) = self.streams.run(&connector, &settings).await {
            connector.drain().await;
            return Err(error);
        }
        pubsub::register(connector.pubsub());
        kv::register(connector.kv());
        let old = lock(&GLOBAL).replace(connector.clone());
        drop(old);
        if self.signals {
            shutdown::install_signals()?;
        }
        Ok(connector)
    }
}

impl Apply {
    async fn run(self, connector: &Connector, settings: &Settings) -> Result<()> {
        let apply = connector.streams().apply(settings);
        match self {
            Apply::Nothing => Ok(()),
            Apply::Check => apply.await.map(drop),
            Apply::Update => apply.update().await.map(drop),
        }
    }
}

impl IntoFuture for Register {
    type Output = Result<Connector>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Connector>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.run().await.map_err(|error| error.operation("register")) })
    }
}

/// The registered connector, if there is one.
#[must_use]
pub fn global() -> Option<Connector> {
    lock(&GLOBAL).clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Connecting => "connecting",
            State::Connected => "connected",
            State::Disconnected => "disconnected",
            State::Draining => "draining",
            State::Closed => "closed",
        })
    }
}
