//! The stores of counters of one connector.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::add::Adds;
use super::memory::Counts;
use super::stream::Stream;
use crate::connector::Link;

/// A store of counters, shared by all handles on it.
#[derive(Clone)]
pub(super) enum Store {
    Nats(Arc<Adds>),
    Memory(Counts),
}

/// The stores of one connector.
pub(crate) enum Stores {
    Nats {
        link: Arc<Link>,
        /// What handles of one name share, so that their adds travel together.
        known: Mutex<HashMap<String, Arc<Adds>>>,
    },
    Memory(Counts),
}

impl Stores {
    pub(crate) fn nats(link: Arc<Link>) -> Self {
        Stores::Nats { link, known: Mutex::default() }
    }

    pub(super) fn get(&self, name: &str) -> Store {
        match self {
            Stores::Nats { link, known } => {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(adds) = known.get(name) {
                    return Store::Nats(adds.clone());
                }
                let adds = Arc::new(Adds::new(Stream::new(link.clone(), name)));
                known.insert(name.to_owned(), adds.clone());
                Store::Nats(adds)
            }
            Stores::Memory(counts) => Store::Memory(counts.clone()),
        }
    }
}
