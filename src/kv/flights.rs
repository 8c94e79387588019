//! Loads of keys in one process: one at a time for each key.
//!
//! A load stores its value on the condition that the key's revision still stands. Where a store keeps
//! no trace of a delete that met no value, that condition cannot tell; so deletes by this process are
//! told to the load itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::driver::{Change, Write};
use super::slot::{Place, Slot};
use super::store::Store;

/// The keys that are being loaded.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Place, Load>>);

/// What others know of a load.
struct Load {
    over: watch::Receiver<bool>,
    deleted: Arc<AtomicBool>,
}

/// The right to load a key. When it is dropped, those who wait go on.
pub(super) struct Flight {
    store: Arc<Store>,
    place: Place,
    landed: bool,
    over: watch::Sender<bool>,
    deleted: Arc<AtomicBool>,
}

/// The load of another call.
pub(super) struct Underway(watch::Receiver<bool>);

impl Flight {
    /// The right to load, unless another call has it.
    pub(super) fn begin(slot: &Slot) -> Result<Self, Underway> {
        let (store, place) = (slot.target.store.clone(), slot.place());
        let mut flights = store.flights.lock();
        if let Some(load) = flights.get(&place) {
            return Err(Underway(load.over.clone()));
        }
        let (over, underway) = watch::channel(false);
        let deleted = Arc::<AtomicBool>::default();
        flights.insert(place.clone(), Load { over: underway, deleted: deleted.clone() });
        drop(flights);
        Ok(Flight { store, place, landed: false, over, deleted })
    }

    /// Whether this process has deleted the key, or begun to, since the load began.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Ends it well: the store has something to read.
    pub(super) fn land(mut self) {
        self.landed = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.store.flights.lock().remove(&self.place);
        self.over.send_replace(self.landed);
    }
}

impl Underway {
    /// Waits for its end; whether it landed.
    pub(super) async fn end(mut self) -> bool {
        self.0.wait_for(|landed| *landed).await.is_ok()
    }
}

impl Flights {
    /// A write begins: a load of a key that it deletes must not be stored.
    pub(super) fn begin_write(&self, bucket: &str, write: &Write<'_>) {
        if matches!(write.change, Change::Put(..)) {
            return;
        }
        let flights = self.lock();
        if flights.is_empty() {
            return;
        }
        if let Some(load) = flights.get(&Place::new(bucket.into(), write.key)) {
            load.deleted.store(true, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Load>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("keys", &self.lock().len()).finish()
    }
}
