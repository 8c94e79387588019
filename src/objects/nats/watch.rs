//! What there is in a bucket, and what happens to it.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rand::Rng;
use tokio::time::{Instant, sleep, timeout};

use super::buckets::Buckets;
use super::place::{Place, Seen};
use crate::connector::{Link, State};
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::feed::{Consumer, Delivered, Next, Start, TRY};
use crate::jetstream::{self, Info};
use crate::kv::retry::Retry;
use crate::objects::{Event, ObjectInfo};

/// The pause between tries to come back, before jitter.
const PAUSE: Duration = Duration::from_millis(250);
/// How often in a row the server must say that the bucket is gone: one that has just come up may not
/// know better yet.
const SURE: u32 = 4;

/// What tells of objects, read in order.
struct Feed {
    link: Arc<Link>,
    place: Place,
    subjects: [String; 1],
    consumer: Option<Consumer>,
    /// The last message that was taken.
    position: u64,
}

impl Feed {
    fn new(link: &Arc<Link>, place: Place) -> Self {
        let subjects = [format!("$O.{}.M.>", place.bucket)];
        Feed { link: link.clone(), place, subjects, consumer: None, position: 0 }
    }

    async fn begin(&mut self, deadline: Instant) -> Result<()> {
        let start = match self.position {
            0 => Start::Last,
            position => Start::After(position),
        };
        let Feed { link, place, subjects, .. } = self;
        let made = Consumer::create(link, &place.stream, subjects, start, false, deadline).await;
        self.consumer = Some(made?);
        Ok(())
    }

    /// Whether the leader has more than was read: a copy may lag behind.
    async fn leader_has_more(&self, deadline: Instant) -> Result<bool> {
        match self.place.last_of_leader(&self.link, &self.subjects[0], deadline).await {
            Ok(last) => Ok(last.is_some_and(|last| last.sequence > self.position)),
            // Without the permission to ask, the copy is taken at its word.
            Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a message tells, unless it was taken before or nobody can read it.
    fn take(&mut self, message: Delivered) -> Option<Seen> {
        if message.sequence <= self.position {
            return None;
        }
        self.position = message.sequence;
        let subject = message.subject.clone();
        match self.place.seen_in(message) {
            Ok(seen) => Some(seen),
            Err(error) => {
                tracing::warn!(bucket = self.place.bucket, %subject, %error, "left out");
                None
            }
        }
    }
}

pub(super) async fn list(
    link: &Arc<Link>,
    place: Place,
    deadline: Instant,
) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
    let mut listing = Listing {
        feed: Feed::new(link, place),
        told: HashSet::new(),
        hasher: RandomState::new(),
        deadline,
        retry: Retry::until(deadline),
    };
    match listing.begin().await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Ok(stream::empty().boxed()),
        Err(error) => return Err(error),
    }
    let objects = stream::try_unfold(Box::new(listing), |mut listing| async {
        Ok(listing.next().await?.map(|info| (info, listing)))
    });
    Ok(objects.boxed())
}

struct Listing {
    feed: Feed,
    /// The hashes of the names that were told: what is changed meanwhile comes again. This is all
    /// that grows.
    told: HashSet<u64>,
    hasher: RandomState,
    deadline: Instant,
    retry: Retry,
}

impl Listing {
    async fn begin(&mut self) -> Result<()> {
        loop {
            match self.feed.begin(self.deadline).await {
                Err(error) if is_passing(&error) && self.retry.pause().await => {}
                begun => return begun,
            }
        }
    }

    async fn next(&mut self) -> Result<Option<ObjectInfo>> {
        loop {
            let Some(consumer) = &mut self.feed.consumer else {
                self.begin().await?;
                continue;
            };
            let next = if consumer.has_ended() {
                Next::CaughtUp
            } else {
                within(self.deadline, consumer.next()).await.map_err(|_| {
                    let message =
                        "the listing took longer than the time limit; give it a longer timeout";
                    Error::new(ErrorKind::Timeout, message)
                })?
            };
            match next {
                Next::Message(message) => {
                    let object = self.feed.take(message).and_then(Seen::object);
                    if let Some((info, _)) = object
                        && self.told.insert(self.hasher.hash_one(&info.name))
                    {
                        return Ok(Some(info));
                    }
                }
                Next::CaughtUp => {
                    if !self.feed.leader_has_more(self.deadline).await? {
                        return Ok(None);
                    }
                    self.lose(Error::new(ErrorKind::Unavailable, "a copy lags behind")).await?;
                }
                Next::Lost(error) => self.lose(error).await?,
            }
        }
    }

    async fn lose(&mut self, error: Error) -> Result<()> {
        self.feed.consumer = None;
        let is_final = matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Closed);
        if is_final || !self.retry.pause().await {
            return Err(error);
        }
        tracing::debug!(%error, "a listing of objects goes on");
        Ok(())
    }
}

pub(super) async fn watch(
    link: &Arc<Link>,
    buckets: &Buckets,
    place: Place,
    deadline: Instant,
) -> Result<BoxStream<'static, Result<Event>>> {
    let mut retry = Retry::until(deadline);
    let watch = loop {
        let begun = Watch::begin(link, &place, deadline).await;
        match begun {
            Err(error) if error.is_not_found() => {
                buckets.make_again(&place.bucket, deadline).await?;
                if !retry.pause().await {
                    return Err(error);
                }
            }
            Err(error) if is_passing(&error) && retry.pause().await => {}
            begun => break begun?,
        }
    };
    let events = stream::unfold(Some(Box::new(watch)), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Ok(Some(event)) => Some((Ok(event), Some(watch))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(events.boxed())
}

struct Watch {
    feed: Feed,
    /// When the bucket was made: one that was made anew has other revisions.
    created: Option<SystemTime>,
    /// How long what it stores is kept.
    max_age: Option<Duration>,
    clock: jetstream::Clock,
    /// The revisions of the objects that were told and not ended since.
    live: HashMap<String, u64>,
    /// When they end with the bucket's lifetime, in the order in which they were stored.
    ends: VecDeque<(SystemTime, u64, String)>,
    /// Those of a bucket that was, which were not told again.
    old: HashMap<String, u64>,
    is_initial: bool,
    /// When to ask the leader whether all was told.
    look_at: Option<Instant>,
    /// The bucket is gone, and that was told.
    is_gone: bool,
    doubts: u32,
    ready: VecDeque<Event>,
}

impl Watch {
    async fn begin(link: &Arc<Link>, place: &Place, deadline: Instant) -> Result<Self> {
        let info = jetstream::info(link, &place.stream, deadline).await?;
        let info = info.ok_or_else(gone)?;
        let mut watch = Watch {
            feed: Feed::new(link, place.clone()),
            created: info.created(),
            max_age: None,
            clock: info.clock,
            live: HashMap::new(),
            ends: VecDeque::new(),
            old: HashMap::new(),
            is_initial: true,
            look_at: None,
            is_gone: false,
            doubts: 0,
            ready: VecDeque::new(),
        };
        watch.read_from(&info, deadline).await?;
        Ok(watch)
    }

    async fn read_from(&mut self, info: &Info, deadline: Instant) -> Result<()> {
        (self.max_age, self.clock) = (info.duration("max_age"), info.clock);
        self.feed.begin(deadline).await?;
        if let Some(consumer) = &mut self.feed.consumer {
            consumer.stay(deadline).await?;
        }
        Ok(())
    }

    /// The next event; `None` when the connector ends.
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            self.tell_ended();
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let end = self.ends.front().map(|(at, ..)| *at);
            let Some(consumer) = &mut self.feed.consumer else {
                let status = self.feed.link.status();
                if status.is_draining() {
                    return Ok(None);
                }
                if status.is_closed() {
                    // The gate tells why.
                    return self.feed.link.ready(Instant::now()).await.map(|()| None);
                }
                self.come_back().await?;
                continue;
            };
            let look = self.look_at;
            tokio::select! {
                biased;
                next = consumer.next() => match next {
                    Next::Message(message) => self.take(message),
                    Next::CaughtUp if self.is_initial || !self.old.is_empty() => {
                        self.look_at = Some(Instant::now());
                    }
                    Next::CaughtUp => {}
                    Next::Lost(error) => self.lose(error)?,
                },
                () = at(look) => self.check_whether_current().await?,
                () = sleep_until(end) => {}
            }
        }
    }

    fn take(&mut self, message: Delivered) {
        let stored = message.stored;
        let Some(seen) = self.feed.take(message) else { return };
        let revision = seen.revision;
        let Some(name) = seen.name().map(str::to_owned) else { return };
        self.old.remove(&name);
        match seen.object() {
            Some((info, _)) => {
                let end = stored.zip(self.max_age).and_then(|(at, age)| at.checked_add(age));
                if let Some(end) = end.and_then(|end| self.clock.local(end)) {
                    self.ends.push_back((end, revision, name.clone()));
                }
                self.live.insert(name, revision);
                self.ready.push_back(Event::Put(info));
            }
            // At the beginning only what is there counts, not what was.
            None if self.live.remove(&name).is_some() || !self.is_initial => {
                self.ready.push_back(Event::Deleted { name, revision });
            }
            None => {}
        }
    }

    /// Tells the ends that leave no message.
    fn tell_ended(&mut self) {
        let now = SystemTime::now();
        while let Some((at, ..)) = self.ends.front()
            && *at <= now
        {
            let Some((_, revision, name)) = self.ends.pop_front() else { return };
            if self.live.get(&name) == Some(&revision) {
                self.live.remove(&name);
                self.ready.push_back(Event::Deleted { name, revision });
            }
        }
    }

    /// All that a copy has was read: tells so when the leader has no more.
    async fn check_whether_current(&mut self) -> Result<()> {
        self.look_at = None;
        match self.feed.leader_has_more(after(TRY)).await {
            Ok(false) => {
                self.tell_old();
                if std::mem::take(&mut self.is_initial) {
                    self.ready.push_back(Event::Current);
                }
                Ok(())
            }
            // It is on its way, or the copy lags behind.
            Ok(true) => {
                self.look_at = Some(after(PAUSE / 5));
                Ok(())
            }
            Err(error) => self.lose(error),
        }
    }

    fn lose(&mut self, error: Error) -> Result<()> {
        (self.feed.consumer, self.look_at) = (None, None);
        if error.kind() == ErrorKind::Unauthorized {
            return Err(error);
        }
        tracing::debug!(bucket = self.feed.place.bucket, %error, "a watch has lost its source");
        Ok(())
    }

    /// One try to find the bucket again and to read on, and a pause if that fails.
    async fn come_back(&mut self) -> Result<()> {
        // Taken before the look, so that no change in between is missed.
        let mut changes = self.feed.link.status().changes();
        let is_connected = self.feed.link.state() == State::Connected;
        if is_connected {
            match self.try_to_come_back().await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Unauthorized => return Err(error),
                Err(error) => tracing::debug!(%error, "a watch cannot come back yet"),
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
        let Feed { link, place, .. } = &self.feed;
        let Some(info) = jetstream::info(link, &place.stream, deadline).await? else {
            self.doubts += 1;
            if !self.is_gone && self.doubts >= SURE {
                self.is_gone = true;
                self.begin_anew();
                self.tell_old();
            }
            return Err(gone());
        };
        self.doubts = 0;
        if self.is_gone || info.created() != self.created {
            self.begin_anew();
            (self.is_gone, self.created) = (false, info.created());
        }
        self.read_from(&info, deadline).await
    }

    /// Another bucket takes the place of the one that was told.
    fn begin_anew(&mut self) {
        self.feed.position = 0;
        self.ends.clear();
        self.old.extend(self.live.drain());
    }

    /// Tells as deleted what the bucket of today does not have.
    fn tell_old(&mut self) {
        for (name, revision) in self.old.drain() {
            self.ready.push_back(Event::Deleted { name, revision });
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "the bucket is gone")
}

/// Whether a consumer could not be made for now.
fn is_passing(error: &Error) -> bool {
    error.is_no_responders() || jetstream::is_temporary(error)
}

/// Until then; for ever without a time.
async fn at(look: Option<Instant>) {
    match look {
        None => std::future::pending().await,
        Some(look) => tokio::time::sleep_until(look).await,
    }
}

/// Until that moment of this process' clock; for ever without one.
async fn sleep_until(at: Option<SystemTime>) {
    match at {
        None => std::future::pending().await,
        Some(at) => sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await,
    }
}
