//! The streams that this process declared, to make them again when they are gone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StreamConfig;

/// What streams are to be like, by name, with their full subjects.
#[derive(Debug, Default)]
pub(crate) struct Declared(Mutex<HashMap<String, StreamConfig>>);

impl Declared {
    /// How the stream was declared, if it was.
    pub(crate) fn get(&self, name: &str) -> Option<StreamConfig> {
        self.lock().get(name).cloned()
    }

    /// Declares a stream; what was declared of it before is forgotten.
    pub(super) fn insert(&self, config: StreamConfig) {
        self.lock().insert(config.name.clone(), config);
    }

    /// Replaces the declaration of a stream, if there is one.
    pub(super) fn replace(&self, config: &StreamConfig) {
        if let Some(declared) = self.lock().get_mut(&config.name) {
            declared.clone_from(config);
        }
    }

    /// The stream is not to be made again.
    pub(super) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, StreamConfig>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
