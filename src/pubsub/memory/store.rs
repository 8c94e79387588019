//! All streams of a driver: which one stores what, and the lock, the timer and the wakers of each.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::closed;
use super::options;
use super::stream::State;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::subject;
use crate::streams::{StreamConfig, StreamStatus};

#[derive(Default)]
pub(super) struct Store {
    streams: Mutex<Streams>,
    last_id: AtomicU64,
}

#[derive(Default)]
struct Streams {
    closed: bool,
    by_name: BTreeMap<String, Place>,
    /// Members whose stream is gone, by an id of their own, with the stream's name.
    lost: HashMap<u64, (String, Waker)>,
}

/// A stream, and the subjects that lead to it.
struct Place {
    subjects: Vec<String>,
    stream: Arc<Stream>,
}

/// A stream with its lock and its timer.
pub(super) struct Stream {
    guarded: Mutex<Guarded>,
    /// Tells the timer that something is due earlier.
    earlier: Arc<Notify>,
}

struct Guarded {
    state: State,
    /// The task that does what is due, if there ever was something; it sleeps until `armed`.
    timer: Option<tokio::task::JoinHandle<()>>,
    armed: Option<Instant>,
}

impl Stream {
    fn new(state: State) -> Arc<Self> {
        let guarded = Mutex::new(Guarded { state, timer: None, armed: None });
        Arc::new(Stream { guarded, earlier: Arc::default() })
    }

    /// Does `work` on the stream as it is now.
    pub(super) fn with<T>(self: &Arc<Self>, work: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = Instant::now();
        let mut guarded = self.lock();
        let state = &mut guarded.state;
        state.advance(now);
        let done = work(state, now);
        state.deal(now);
        let wake = std::mem::take(&mut state.wake);
        self.arm(&mut guarded);
        drop(guarded);
        wake.into_iter().for_each(Waker::wake);
        done
    }

    /// The same for a stream that is there still.
    pub(super) fn try_with<T>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut State, Instant) -> Result<T>,
    ) -> Option<Result<T>> {
        self.with(|state, now| (!state.gone).then(|| work(state, now)))
    }

    /// Sees to it that the timer sleeps no longer than until something is due.
    fn arm(self: &Arc<Self>, guarded: &mut Guarded) {
        let Some(due) = guarded.state.next_due() else { return };
        let running = guarded.timer.as_ref().is_some_and(|timer| !timer.is_finished());
        if running && guarded.armed.is_some_and(|armed| armed <= due) {
            return;
        }
        guarded.armed = Some(due);
        if running {
            self.earlier.notify_one();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let timer = keep_time(Arc::downgrade(self), Arc::clone(&self.earlier));
            guarded.timer = Some(runtime.spawn(timer));
        }
    }

    /// Does what is due; when there is something next.
    fn tick(self: &Arc<Self>) -> Option<Instant> {
        self.with(|_, _| ());
        let mut guarded = self.lock();
        guarded.armed = guarded.state.next_due();
        guarded.armed
    }

    fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.earlier.notify_one();
    }
}

/// The timer of a stream.
async fn keep_time(stream: Weak<Stream>, earlier: Arc<Notify>) {
    while let Some(stream) = stream.upgrade() {
        let due = stream.tick();
        drop(stream);
        match due {
            Some(due) => _ = timeout_at(due, earlier.notified()).await,
            None => earlier.notified().await,
        }
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Streams>> {
        let streams = self.lock();
        if streams.closed { Err(closed()) } else { Ok(streams) }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The stream that stores this subject.
    pub(super) fn of_subject(&self, subject: &str) -> Result<Option<Arc<Stream>>> {
        let streams = self.open()?;
        let stores = |place: &&Place| place.subjects.iter().any(|it| subject::matches(it, subject));
        Ok(streams.by_name.values().find(stores).map(|place| Arc::clone(&place.stream)))
    }

    /// The name of the first stream that stores some of what the pattern covers.
    pub(super) fn name_of(&self, pattern: &str) -> Result<Option<String>> {
        let streams = self.open()?;
        let stores = |place: &Place| place.subjects.iter().any(|it| subject::overlap(it, pattern));
        let found = streams.by_name.iter().find(|(_, place)| stores(place));
        Ok(found.map(|(name, _)| name.clone()))
    }

    pub(super) fn find(&self, name: &str) -> Result<Option<Arc<Stream>>> {
        Ok(self.open()?.by_name.get(name).map(|place| Arc::clone(&place.stream)))
    }

    pub(super) fn get(&self, name: &str) -> Result<Arc<Stream>> {
        self.find(name)?.ok_or_else(|| not_found(name))
    }

    pub(super) fn names(&self) -> Result<Vec<String>> {
        Ok(self.open()?.by_name.keys().cloned().collect())
    }

    pub(super) fn create(&self, config: &StreamConfig) -> Result<StreamStatus> {
        let config = options::complete(config)?;
        let name = config.name.clone();
        let mut streams = self.open()?;
        if streams.by_name.contains_key(&name) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "there is a stream of this name; update it or take another name",
            )
            .with("stream", name));
        }
        streams.check_overlap(&config)?;
        let subjects = config.subjects.clone();
        let stream = Stream::new(State::new(self.next_id(), config));
        let status = stream.with(|state, _| state.status());
        streams.by_name.insert(name.clone(), Place { subjects, stream });
        let found = streams.lost.extract_if(|_, (lost, _)| *lost == name);
        let wake: Vec<Waker> = found.map(|(_, (_, waker))| waker).collect();
        drop(streams);
        wake.into_iter().for_each(Waker::wake);
        Ok(status)
    }

    pub(super) fn update(&self, change: &StreamConfig) -> Result<StreamStatus> {
        let mut streams = self.open()?;
        let name = change.name.as_str();
        let place = streams.by_name.get(name).ok_or_else(|| not_found(name))?;
        let stream = Arc::clone(&place.stream);
        let present = stream.with(|state, _| state.config.clone());
        let config = options::changed(&present, change)?;
        streams.check_overlap(&config)?;
        if let Some(place) = streams.by_name.get_mut(name) {
            place.subjects.clone_from(&config.subjects);
        }
        Ok(stream.with(|state, _| {
            state.reconfigure(config);
            state.status()
        }))
    }

    pub(super) fn delete(&self, name: &str) -> Result<bool> {
        let found = self.open()?.by_name.remove(name);
        if let Some(place) = &found {
            place.stream.with(|state, _| state.end());
        }
        Ok(found.is_some())
    }

    /// Ends all streams, for good.
    pub(super) fn close(&self) {
        let mut streams = self.lock();
        streams.closed = true;
        let places = std::mem::take(&mut streams.by_name);
        let lost = std::mem::take(&mut streams.lost);
        drop(streams);
        for place in places.values() {
            place.stream.with(|state, _| state.end());
        }
        lost.into_values().for_each(|(_, waker)| waker.wake());
    }

    /// The stream of this name, or later word that there is one to the member `id`.
    pub(super) fn find_or_wait(
        &self,
        name: &str,
        id: u64,
        waker: &Waker,
    ) -> Result<Option<Arc<Stream>>> {
        let mut streams = self.open()?;
        if let Some(place) = streams.by_name.get(name) {
            let stream = Arc::clone(&place.stream);
            streams.lost.remove(&id);
            return Ok(Some(stream));
        }
        streams.lost.insert(id, (name.to_owned(), waker.clone()));
        Ok(None)
    }

    /// A member waits no more.
    pub(super) fn forget(&self, id: u64) {
        self.lock().lost.remove(&id);
    }

    pub(super) fn count(&self) -> usize {
        self.lock().by_name.len()
    }
}

impl Streams {
    fn check_overlap(&self, config: &StreamConfig) -> Result<()> {
        let others = self.by_name.iter().filter(|(name, _)| **name != config.name);
        for (name, place) in others {
            let overlaps =
                |one: &&String| place.subjects.iter().any(|other| subject::overlap(one, other));
            if let Some(subject) = config.subjects.iter().find(overlaps) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "another stream stores some of this subject; give the stream others",
                )
                .with("stream", &config.name)
                .with("subject", subject)
                .with("other", name));
            }
        }
        Ok(())
    }
}

pub(super) fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "no such stream; create it first").with("stream", name)
}
