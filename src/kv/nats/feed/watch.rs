//! What happens to the keys of a bucket, without gaps or duplicates.
//!
//! The watch reads one consumer. After a lost connection, a silent server, a gap or a vanished
//! consumer it makes another one behind the last message that it took. Ends that left no message
//! meanwhile, because their markers had expired too, are found by a [`Comparison`] of what was told
//! with what is there; so it remembers the keys that it told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rand::Rng;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::compare::Comparison;
use super::live::Live;
use super::names::Names;
use super::{is_retryable, names};
use crate::connector::{Link, State};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::feed::{Consumer, Delivered, Next, Start, TRY};
use crate::jetstream::{self, Info};
use crate::kv::driver::{Filter, Signal, Update, What};
use crate::kv::nats::bucket::Bucket;
use crate::kv::nats::buckets::Buckets;
use crate::kv::nats::message;
use crate::kv::retry::Retry;
use crate::kv::{Glob, KeyCodec};

/// The pause between tries, before jitter.
const PAUSE: Duration = Duration::from_millis(250);
/// How often in a row the server must say that the bucket is gone, or older than it was: one that has
/// just come up may not know better yet.
const SURE: u32 = 4;

/// Begins to watch a bucket, which is made if there is none.
pub(in crate::kv::nats) async fn watch(
    link: &Arc<Link>,
    buckets: &Buckets,
    name: &str,
    filter: Filter<'_>,
    deadline: Instant,
) -> Result<BoxStream<'static, Result<Signal>>> {
    let mut retry = Retry::until(deadline);
    let watch = loop {
        let known = buckets.open_or_make(name, || Ok(()), deadline).await?;
        let Some(info) = jetstream::info(link, &known.stream, deadline).await? else {
            buckets.forget(name, &known);
            if retry.pause().await {
                continue;
            }
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the bucket is deleted again and again",
            ));
        };
        let codec = buckets.default_codec();
        match Watch::begin(link, name, codec, &info, filter, deadline).await {
            Err(error) if (is_retryable(&error) || error.is_not_found()) && retry.pause().await => {
            }
            begun => break begun?,
        }
    };
    let signals = stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Ok(Some(signal)) => Some((Ok(signal), Some(watch))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(signals.boxed())
}

struct Watch {
    link: Arc<Link>,
    /// The bucket's.
    name: String,
    prefix: String,
    glob: Option<Glob>,
    /// For a bucket that does not say how its keys are written.
    codec: KeyCodec,
    bucket: Bucket,
    /// Messages may come from a copy that lags behind the leader.
    has_copies: bool,
    /// The server leaves a message when a lifetime ends.
    tells_ends: bool,
    names: Names,
    /// None while it is lost.
    consumer: Option<Consumer>,
    /// The last message that was taken.
    told: u64,
    live: Live,
    /// The values that were there at the beginning are not all told yet.
    is_initial: bool,
    /// [`Signal::Current`] was told, and nothing against it since.
    is_current: bool,
    /// Ends may have passed unseen.
    must_compare: bool,
    comparison: Option<Comparison>,
    /// When to ask the leader again whether a copy has caught up.
    ask_again: Option<Instant>,
    /// How often the server said what is not believed at once.
    doubts: u32,
    /// The bucket is gone, and that was told.
    is_gone: bool,
    ready: VecDeque<Signal>,
}

impl Watch {
    async fn begin(
        link: &Arc<Link>,
        name: &str,
        codec: KeyCodec,
        info: &Info,
        filter: Filter<'_>,
        deadline: Instant,
    ) -> Result<Self> {
        let bucket = Bucket::new(link, name, info, codec);
        let names = names(link, &bucket, filter, deadline).await?;
        let mut watch = Watch {
            link: link.clone(),
            name: name.to_owned(),
            prefix: filter.prefix.to_owned(),
            glob: filter.glob.cloned(),
            codec,
            has_copies: has_copies(info),
            tells_ends: tells_ends(info),
            bucket,
            names,
            consumer: None,
            told: 0,
            live: Live::default(),
            is_initial: true,
            is_current: false,
            must_compare: false,
            comparison: None,
            ask_again: None,
            doubts: 0,
            is_gone: false,
            ready: VecDeque::new(),
        };
        watch.read_from(Start::Last, deadline).await?;
        Ok(watch)
    }

    async fn read_from(&mut self, start: Start, deadline: Instant) -> Result<()> {
        let Watch { link, bucket, names, .. } = self;
        let made =
            Consumer::create(link, &bucket.stream, &names.subjects, start, false, deadline).await;
        let mut consumer = made?;
        consumer.stay(deadline).await?;
        self.consumer = Some(consumer);
        Ok(())
    }

    /// The next signal; `None` when the connector ends.
    async fn next(&mut self) -> Result<Option<Signal>> {
        loop {
            if let Some(signal) = self.ready.pop_front() {
                return Ok(Some(signal));
            }
            let Some(consumer) = &mut self.consumer else {
                let status = self.link.status();
                if status.is_draining() {
                    return Ok(None);
                }
                if status.is_closed() {
                    // The gate tells why.
                    return self.link.ready(Instant::now()).await.map(|()| None);
                }
                self.come_back().await?;
                continue;
            };
            let alarm = self.live.next_end().map(instant).into_iter().chain(self.ask_again).min();
            tokio::select! {
                biased;
                next = consumer.next() => match next {
                    Next::Message(message) => self.take(message),
                    Next::CaughtUp => {}
                    Next::Lost(error) => self.lose(error)?,
                },
                listed = Comparison::next(&mut self.comparison) => match listed {
                    Next::Message(message) => {
                        if let Some(key) = self.names.name(&message.subject) {
                            self.live.see(&key);
                        }
                    }
                    Next::CaughtUp => self.end_comparison().await?,
                    Next::Lost(error) => self.lose(error)?,
                },
                () = sleep_until_some(alarm) => {}
            }
            self.tell_ended();
            self.check_whether_current().await?;
        }
    }

    fn take(&mut self, message: Delivered) {
        let revision = message.sequence;
        // A copy that lags behind begins at its own end, with what was told already.
        if revision <= self.told {
            return;
        }
        self.told = revision;
        let Some(key) = self.names.name(&message.subject) else { return };
        let what = message.what(&self.bucket);
        let is_told = match &what {
            What::Put(entry) if self.is_initial && message::has_ended(entry) => self.live.has(&key),
            What::Put(_) => true,
            // At the beginning only what is there counts, not what was.
            _ => self.live.end(&key) || !self.is_initial,
        };
        if !is_told {
            return;
        }
        if let What::Put(entry) = &what {
            self.live.put(&key, entry, self.tells_ends);
        }
        self.ready.push_back(Signal::Update(Update::new(key, revision, what)));
    }

    /// Tells the ends that the server does not.
    fn tell_ended(&mut self) {
        while let Some(key) = self.live.take_ended(SystemTime::now()) {
            self.tell(key, self.told, What::Expired);
        }
    }

    /// Tells what left no message.
    fn tell(&mut self, key: String, revision: u64, what: What) {
        self.ready.push_back(Signal::Update(Update::new(key, revision, what)));
    }

    /// Tells the keys of the bucket that was, which have no revision in the one that is.
    fn tell_old(&mut self) {
        let gone: Vec<String> = self.live.take_old().collect();
        for key in gone {
            self.tell(key, 0, What::Deleted);
        }
    }

    fn lag(&mut self) {
        if std::mem::take(&mut self.is_current) {
            self.ready.push_back(Signal::Lagging);
        }
    }

    /// Gives the consumer up.
    fn lose(&mut self, error: Error) -> Result<()> {
        (self.consumer, self.comparison, self.ask_again) = (None, None, None);
        if error.kind() == ErrorKind::Unauthorized {
            return Err(error);
        }
        tracing::debug!(bucket = self.name, %error, "a watch has lost its source");
        self.lag();
        Ok(())
    }

    /// Looks whether all is told, and says so.
    async fn check_whether_current(&mut self) -> Result<()> {
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        if std::mem::take(&mut consumer.behind) {
            self.must_compare = true;
            self.lag();
        }
        let has_ended = self.consumer.as_ref().is_some_and(Consumer::has_ended);
        if self.is_current || !has_ended {
            return Ok(());
        }
        match self.catch_up().await {
            Ok(true) => {
                self.tell_old();
                (self.is_initial, self.is_current) = (false, true);
                self.ready.push_back(Signal::Current);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => self.lose(error),
        }
    }

    /// Whether nothing is missing, compared with what the leader has.
    async fn catch_up(&mut self) -> Result<bool> {
        if self.has_copies {
            if self.ask_again.is_some_and(|at| at > Instant::now()) {
                return Ok(false);
            }
            self.ask_again = None;
            if self.leader_has_more().await? {
                self.ask_again = Some(after(PAUSE / 10));
                return Ok(false);
            }
        }
        if self.must_compare && self.comparison.is_none() {
            self.live.begin_comparison();
            let Watch { link, bucket, names, .. } = self;
            self.comparison = Some(Comparison::begin(link, bucket, names, after(TRY)).await?);
        }
        Ok(self.comparison.is_none())
    }

    async fn leader_has_more(&self) -> Result<bool> {
        for subject in &self.names.subjects {
            let asked =
                jetstream::last_message(&self.link, &self.bucket.stream, subject, after(TRY));
            match asked.await {
                Ok(Some(last)) if last.sequence > self.told => return Ok(true),
                Ok(_) => {}
                // Without the permission to ask, the copy is taken at its word.
                Err(error) if error.kind() == ErrorKind::Unauthorized => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Tells the keys that have vanished without a message.
    async fn end_comparison(&mut self) -> Result<()> {
        let Some(comparison) = self.comparison.take() else { return Ok(()) };
        let until = comparison.until();
        let unseen = self.live.unseen(until);
        let Watch { link, bucket, names, has_copies, .. } = self;
        match comparison.gone(link, bucket, names, *has_copies, unseen).await {
            Ok(gone) => {
                for key in gone {
                    let what = self.live.vanish(&key);
                    self.tell(key, until.max(self.told), what);
                }
                self.must_compare = false;
                Ok(())
            }
            Err(error) => self.lose(error),
        }
    }

    /// One try to find the bucket again and to read on, and a pause if that fails.
    async fn come_back(&mut self) -> Result<()> {
        // Taken before the look, so that no change in between is missed.
        let mut changes = self.link.status().changes();
        let is_connected = self.link.state() == State::Connected;
        if is_connected {
            match self.try_to_come_back().await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Unauthorized => return Err(error),
                Err(error) => {
                    tracing::debug!(bucket = self.name, %error, "a watch cannot come back yet");
                }
            }
            if !self.ready.is_empty() {
                return Ok(());
            }
        }
        let pause = rand::rng().random_range(PAUSE / 2..=PAUSE);
        if is_connected {
            sleep(pause).await;
        } else {
            let _ = timeout(pause, changes.changed()).await;
        }
        Ok(())
    }

    async fn try_to_come_back(&mut self) -> Result<()> {
        let deadline = after(TRY);
        let gone = || Error::new(ErrorKind::NotFound, "the bucket is gone");
        let Some(info) = jetstream::info(&self.link, &self.bucket.stream, deadline).await? else {
            if !self.is_gone && self.is_sure() {
                self.is_gone = true;
                self.begin_anew();
                self.tell_old();
            }
            return Err(gone());
        };
        let is_another = self.is_gone || info.created() != self.bucket.created;
        if !is_another && info.state.last_seq < self.told && !self.is_sure() {
            return Err(Error::new(ErrorKind::Unavailable, "the bucket is older than it was"));
        }
        let is_anew = is_another || info.state.last_seq < self.told;
        let bucket = Bucket::new(&self.link, &self.name, &info, self.codec);
        let filter = Filter { prefix: &self.prefix, glob: self.glob.as_ref() };
        self.names = names(&self.link, &bucket, filter, deadline).await?;
        self.bucket = bucket;
        (self.has_copies, self.tells_ends) = (has_copies(&info), tells_ends(&info));
        if is_anew {
            self.begin_anew();
            self.is_gone = false;
        }
        self.doubts = 0;
        let start = if self.told == 0 { Start::Last } else { Start::After(self.told) };
        self.must_compare = !self.live.is_empty();
        self.read_from(start, deadline).await
    }

    /// Whether the server has said so often enough.
    fn is_sure(&mut self) -> bool {
        self.doubts += 1;
        self.doubts >= SURE
    }

    fn begin_anew(&mut self) {
        self.lag();
        self.told = 0;
        self.is_initial = true;
        self.live.begin_anew();
        self.ready.push_back(Signal::Reset);
    }
}

fn has_copies(info: &Info) -> bool {
    info.number("num_replicas") > 1
}

fn tells_ends(info: &Info) -> bool {
    info.number("subject_delete_marker_ttl") > 0
}

/// A moment of the system's clock by the runtime's.
fn instant(at: SystemTime) -> Instant {
    after(at.duration_since(SystemTime::now()).unwrap_or_default())
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
