//! The changes of objects that are under way on one connection, which a drain waits for.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use super::place::Place;
use crate::connector::Link;
use crate::deadline::{after, within};

/// How long a connected server gets to take out what is given up.
const MOMENT: Duration = Duration::from_secs(2);

/// The changes under way.
#[derive(Debug)]
pub(crate) struct Uploads {
    state: Mutex<State>,
    /// How many there are.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    active: HashMap<u64, Active>,
    /// The drain's deadline has passed.
    over: bool,
}

/// An upload whose bytes are still coming, or a change that is about to end.
#[derive(Debug, Clone)]
enum Active {
    Upload(Place, String),
    Ending,
}

/// A change's place among those that a drain waits for; dropping it ends the change.
#[derive(Debug)]
pub(super) struct Ticket {
    uploads: Arc<Uploads>,
    id: u64,
}

impl Default for Uploads {
    fn default() -> Self {
        Uploads { state: Mutex::default(), count: watch::channel(0).0 }
    }
}

impl Uploads {
    /// An upload of these bytes begins.
    pub(super) fn upload(self: &Arc<Self>, place: &Place, nuid: &str) -> Ticket {
        self.add(Active::Upload(place.clone(), nuid.to_owned()))
    }

    /// A change begins that is to be ended.
    pub(super) fn change(self: &Arc<Self>) -> Ticket {
        self.add(Active::Ending)
    }

    fn add(self: &Arc<Self>, active: Active) -> Ticket {
        let mut state = self.lock();
        state.next += 1;
        let id = state.next;
        state.active.insert(id, active);
        self.count.send_replace(state.active.len());
        drop(state);
        Ticket { uploads: self.clone(), id }
    }

    /// Waits for what is under way. At the deadline uploads are given up, and what they have stored
    /// is taken out; that, and what is about to end, gets a moment more.
    pub(crate) async fn end(&self, link: &Link, deadline: Instant) {
        if self.ended(deadline).await {
            return;
        }
        let last = after(MOMENT);
        let given_up: Vec<_> = {
            let mut state = self.lock();
            state.over = true;
            // Their owners may never look again.
            let uploads = state.active.extract_if(|_, active| matches!(active, Active::Upload(..)));
            let uploads: Vec<_> = uploads.map(|(_, upload)| upload).collect();
            self.count.send_replace(state.active.len());
            uploads
        };
        let count = given_up.len();
        let purges = given_up.into_iter().map(|upload| async move {
            let Active::Upload(place, nuid) = upload else { return };
            // What was sent before is stored by now.
            let _ = link.barrier(last).await;
            if let Err(error) = place.purge(link, &nuid, last).await {
                tracing::warn!(bucket = place.bucket, %error, "{LEFT_OVER}");
            }
        });
        if count > 0 {
            tracing::warn!(count, "uploads were not done by the end of the drain and are given up");
        }
        join_all(purges).await;
        self.ended(last).await;
    }

    /// Whether all have ended by then.
    async fn ended(&self, deadline: Instant) -> bool {
        let mut count = self.count.subscribe();
        matches!(within(deadline, count.wait_for(|count| *count == 0)).await, Ok(Ok(_)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told when bytes of nobody could not be taken out.
pub(super) const LEFT_OVER: &str =
    "bytes that belong to no object are left in the bucket; purge_orphans takes them out";

impl Ticket {
    /// Whether the drain has given it up.
    pub(super) fn is_given_up(&self) -> bool {
        self.uploads.lock().over
    }

    /// An upload has all its bytes, or is given up by its owner: what follows is ended. False when the
    /// drain was first.
    pub(super) fn ending(&self) -> bool {
        let mut state = self.uploads.lock();
        let over = state.over;
        match state.active.get_mut(&self.id) {
            Some(active @ Active::Upload(..)) => {
                *active = Active::Ending;
                true
            }
            _ => !over,
        }
    }

    /// Does `work` in a task of its own, which nobody who goes away can stop.
    pub(super) fn spawn(self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(async move {
            work.await;
            drop(self);
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.uploads.lock();
        state.active.remove(&self.id);
        self.uploads.count.send_replace(state.active.len());
    }
}
