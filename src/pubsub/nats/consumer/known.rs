//! What the members of one process know of their consumer, and how they find it again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::super::api;
use super::config::{self, Info};
use crate::connector::Link;
use crate::connector::status::RateLimit;
use crate::difference::Difference;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::pubsub::driver::{ConsumerConfig, Start};

/// How often a consumer is made when it vanishes again at once.
const TRIES: usize = 3;
/// How often the same trouble is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// A consumer as its member knows it.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) link: Arc<Link>,
    pub(super) config: ConsumerConfig,
    known: Mutex<Known>,
    pub(super) remade: AtomicU64,
    log: RateLimit,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// When its stream was made: another time is another stream.
    stream_created: Option<SystemTime>,
    /// Up to here all is settled, in that stream.
    floor: u64,
    limits: Limits,
    paused: bool,
}

/// What the consumer allows one request for messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// The most messages that all members have, unsettled.
    pub(super) in_flight: Option<usize>,
    pub(super) batch: Option<usize>,
    pub(super) bytes: Option<usize>,
    pub(super) expires: Option<Duration>,
}

impl Consumer {
    /// Finds the consumer, or makes it.
    pub(super) async fn join(
        link: &Arc<Link>,
        config: &ConsumerConfig,
        overwrite: bool,
        deadline: Instant,
    ) -> Result<(Arc<Self>, Duration, Vec<Difference>)> {
        let consumer = Consumer {
            link: link.clone(),
            config: config.clone(),
            known: Mutex::default(),
            remade: AtomicU64::new(0),
            log: RateLimit::new(TELL_EVERY),
        };
        let stream = consumer.stream(deadline).await?;
        let (mut info, made) = consumer.find_or_make(deadline, |_| config.start, &stream).await?;
        let mut differences = Vec::new();
        if !made {
            info.check(config)?;
            differences = info.differences(config);
            if overwrite && !differences.is_empty() {
                info = config::update(link, config, &info, deadline).await?;
                differences = info.differences(config);
            }
            info.check_deliveries(config)?;
        }
        consumer.note(stream.created(), &info);
        Ok((Arc::new(consumer), info.ack_wait(), differences))
    }

    /// Finds the consumer again, or makes it again, without missing a message.
    pub(super) async fn find(&self, deadline: Instant) -> Result<()> {
        // The stream first: a floor is never taken for that of another stream.
        let stream = match self.stream(deadline).await {
            Err(error) if error.is_not_found() => self.make_stream(error, deadline).await?,
            stream => stream?,
        };
        let (info, made) =
            self.find_or_make(deadline, |stream| self.start_again(stream), &stream).await?;
        if made {
            self.remade.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                stream = self.config.stream,
                consumer = self.config.name,
                behind = self.lock().floor,
                "the consumer was gone and was made again"
            );
        } else {
            info.check(&self.config)?;
            info.check_deliveries(&self.config)?;
        }
        self.note(stream.created(), &info);
        Ok(())
    }

    /// Takes in how far all members are.
    pub(super) async fn refresh(&self, deadline: Instant) {
        match config::info(&self.link, &self.config, deadline).await {
            Ok(Some(info)) => {
                let created = self.lock().stream_created;
                self.note(created, &info);
            }
            // Told by what comes in place of messages.
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot ask how far a consumer is"),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.lock().limits
    }

    /// Tells what keeps messages from coming, now and then.
    pub(super) fn tell(&self, error: &Error) {
        if let Some(held_back) = self.log.pass() {
            tracing::warn!(
                stream = self.config.stream,
                consumer = self.config.name,
                %error,
                held_back,
                "no messages come from the consumer, trying on"
            );
        }
    }

    async fn stream(&self, deadline: Instant) -> Result<jetstream::Info> {
        let name = &self.config.stream;
        let stream = jetstream::info(&self.link, name, deadline).await?;
        stream.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no such stream").with("stream", name)
        })
    }

    /// Makes a stream again that this process declared.
    async fn make_stream(&self, gone: Error, deadline: Instant) -> Result<jetstream::Info> {
        let Some(declared) = self.link.declared().get(&self.config.stream) else {
            return Err(gone);
        };
        match api::create_stream(&self.link, &declared, deadline).await {
            Ok(_) => tracing::warn!(
                stream = self.config.stream,
                "the stream was gone and was made again as it was declared"
            ),
            // Somebody else was faster.
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        self.stream(deadline).await
    }

    /// The consumer, and whether it was made for that.
    async fn find_or_make(
        &self,
        deadline: Instant,
        start: impl Fn(&jetstream::Info) -> Start,
        stream: &jetstream::Info,
    ) -> Result<(Info, bool)> {
        for _ in 0..TRIES {
            if let Some(found) = config::info(&self.link, &self.config, deadline).await? {
                return Ok((found, false));
            }
            let made = config::create(&self.link, &self.config, start(stream), deadline).await?;
            if let Some(made) = made {
                return Ok((made, true));
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "the consumer vanishes as soon as it is there; somebody makes and deletes it",
        )
        .with("stream", self.config.stream.as_str())
        .with("consumer", self.config.name.as_str()))
    }

    /// Where to begin without missing a message. Another stream is begun as the first one was; a
    /// work queue holds only what is not settled, and is always read from its beginning.
    fn start_again(&self, stream: &jetstream::Info) -> Start {
        let known = *self.lock();
        if stream.text("retention") == "workqueue" {
            Start::All
        } else if known.stream_created.is_some() && known.stream_created == stream.created() {
            Start::Sequence(known.floor + 1)
        } else {
            self.config.start
        }
    }

    fn note(&self, stream_created: Option<SystemTime>, info: &Info) {
        let limits = Limits {
            in_flight: info.limit("max_ack_pending"),
            batch: info.limit("max_batch"),
            bytes: info.limit("max_bytes"),
            expires: info.limit("max_expires").map(|nanos| Duration::from_nanos(nanos as u64)),
        };
        let mut known = self.lock();
        let told = known.paused;
        *known = Known { stream_created, floor: info.floor(), limits, paused: info.paused };
        drop(known);
        let Consumer { config: ConsumerConfig { stream, name, .. }, .. } = self;
        match (told, info.paused) {
            (false, true) => {
                tracing::info!(stream, consumer = name, "the consumer is paused, waiting");
            }
            (true, false) => tracing::info!(stream, consumer = name, "the consumer goes on"),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
