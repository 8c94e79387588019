//! Lanes: messages of one key are handled one after the other, by the same worker.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::delivered::Delivered;
use crate::pubsub::{Message, PubSub};

/// What orders messages.
#[derive(Clone)]
pub(super) enum Key {
    /// The subject.
    Subject,
    /// What a function says, hashed.
    Of(Arc<dyn Fn(&Message) -> u64 + Send + Sync>),
}

impl Key {
    pub(super) fn of<K: Hash>(key: impl Fn(&Message) -> K + Send + Sync + 'static) -> Self {
        Key::Of(Arc::new(move |message| hash(&key(message))))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Key::Subject => "Subject",
            Key::Of(_) => "Of(..)",
        })
    }
}

/// Assigns messages to lanes.
pub(super) struct Lanes {
    pub(super) key: Key,
    pub(super) count: usize,
    pub(super) handle: PubSub,
}

impl Lanes {
    /// The lane of a message. One whose key function panics goes by its subject.
    pub(super) fn of(&self, message: &Arc<Delivered>) -> usize {
        let hash = match &self.key {
            Key::Of(key) => {
                let asked = Message::delivered(message.clone(), self.handle.clone());
                let key = catch_unwind(AssertUnwindSafe(|| key(&asked)));
                // What the function could not decode the handler may not want decoded.
                message.set_undecodable(false);
                key.unwrap_or_else(|_| hash(message.message.subject.as_str()))
            }
            Key::Subject => hash(message.message.subject.as_str()),
        };
        // The remainder is below the count, which is a usize.
        (hash % self.count as u64) as usize
    }
}

fn hash(key: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
