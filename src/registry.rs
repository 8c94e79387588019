//! The drivers that an application knows by name, and the default one behind the free functions.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::LocalKey;

use crate::error::{Error, ErrorKind, Result};

/// Named handles of one kind and the default among them.
///
/// The default is the one that the application set; else the connector's; else the first added.
/// Reading it takes no lock while it does not change: each thread keeps a copy of the handle and
/// the version that it was read at.
pub(crate) struct Registry<H: 'static> {
    version: AtomicU64,
    state: RwLock<State<H>>,
    local: &'static LocalKey<Local<H>>,
}

/// A thread's copy of the default handle and the version it belongs to.
pub(crate) type Local<H> = RefCell<(u64, Option<H>)>;

struct State<H> {
    chosen: Option<H>,
    registered: Option<H>,
    named: Vec<(String, H)>,
}

impl<H: Clone> Registry<H> {
    /// An empty registry; `local` starts as `(0, None)`.
    pub(crate) const fn new(local: &'static LocalKey<Local<H>>) -> Self {
        Registry {
            version: AtomicU64::new(0),
            state: RwLock::new(State { chosen: None, registered: None, named: Vec::new() }),
            local,
        }
    }

    /// The default handle.
    ///
    /// # Errors
    ///
    /// `NotRegistered` before there is one.
    pub(crate) fn default(&self) -> Result<H> {
        let version = self.version.load(Ordering::Acquire);
        let cached = self.local.with_borrow(
            |(at, handle)| {
                if *at == version { handle.clone() } else { None }
            },
        );
        match cached {
            Some(handle) => Ok(handle),
            None => self.read_default(),
        }
    }

    #[cold]
    fn read_default(&self) -> Result<H> {
        let state = self.read();
        let version = self.version.load(Ordering::Acquire);
        let first = || state.named.first().map(|(_, handle)| handle);
        let found = state.chosen.as_ref().or(state.registered.as_ref()).or_else(first).cloned();
        drop(state);
        // The old copy is dropped after the borrow ends: it may be the last of its connection.
        let old = self.local.replace((version, found.clone()));
        drop(old);
        found.ok_or_else(not_registered)
    }

    /// Makes `handle` the default, before any other.
    pub(crate) fn set_default(&self, handle: H) {
        let old = self.write(|state| state.chosen.replace(handle));
        drop(old);
    }

    /// The connector's own handle: known as `name` in place of an earlier one, and the default
    /// unless the application chose one itself.
    pub(crate) fn register(&self, name: &str, handle: H) {
        let old = self.write(|state| {
            let registered = state.registered.replace(handle.clone());
            let named = match state.named.iter_mut().find(|(known, _)| known == name) {
                Some((_, old)) => Some(std::mem::replace(old, handle)),
                None => {
                    state.named.push((name.to_owned(), handle));
                    None
                }
            };
            (registered, named)
        });
        drop(old);
    }

    /// Makes `handle` known as `name`.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` for a name in use, `InvalidInput` for an empty one.
    pub(crate) fn add(&self, name: String, handle: H) -> Result<()> {
        if name.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a driver needs a name"));
        }
        self.write(|state| {
            if state.named.iter().any(|(known, _)| *known == name) {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "a driver of this name is there already; choose another name",
                )
                .with("driver", name));
            }
            state.named.push((name, handle));
            Ok(())
        })
    }

    /// The handle known as `name`.
    pub(crate) fn get(&self, name: &str) -> Option<H> {
        let state = self.read();
        state.named.iter().find(|(known, _)| known == name).map(|(_, handle)| handle.clone())
    }

    /// All names, in the order they were added.
    pub(crate) fn names(&self) -> Vec<String> {
        self.read().named.iter().map(|(name, _)| name.clone()).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, State<H>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state. What `change` takes out is dropped by the caller, without the lock: a
    /// handle's last copy may end a connection.
    fn write<R>(&self, change: impl FnOnce(&mut State<H>) -> R) -> R {
        let mut state: RwLockWriteGuard<'_, State<H>> =
            self.state.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        self.version.fetch_add(1, Ordering::Release);
        result
    }
}

/// What a call of the default driver gets before there is one.
pub(crate) fn not_registered() -> Error {
    Error::new(
        ErrorKind::NotRegistered,
        "no default driver yet; call nats_connector::register() first",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static LOCAL: Local<u32> = const { RefCell::new((0, None)) };
    }
    static REGISTRY: Registry<u32> = Registry::new(&LOCAL);

    #[test]
    fn the_default_is_chosen_then_registered_then_the_first_added() {
        assert_eq!(REGISTRY.default().unwrap_err().kind(), ErrorKind::NotRegistered);
        REGISTRY.add("one".to_owned(), 1).unwrap();
        REGISTRY.add("two".to_owned(), 2).unwrap();
        assert_eq!(REGISTRY.default().unwrap(), 1);
        REGISTRY.register("nats", 3);
        assert_eq!(REGISTRY.default().unwrap(), 3);
        REGISTRY.register("nats", 4);
        assert_eq!(REGISTRY.default().unwrap(), 4);
        assert_eq!(REGISTRY.get("nats"), Some(4));

        // Another thread sees the change that this one made, and the other way round.
        let seen = std::thread::spawn(|| {
            let before = REGISTRY.default().unwrap();
            REGISTRY.set_default(5);
            before
        });
        assert_eq!(seen.join().unwrap(), 4);
        assert_eq!(REGISTRY.default().unwrap(), 5);
        REGISTRY.register("nats", 6);
        assert_eq!(REGISTRY.default().unwrap(), 5);
        assert_eq!(REGISTRY.names(), ["one", "two", "nats"]);

        let taken = REGISTRY.add("one".to_owned(), 7).unwrap_err();
        assert!(taken.is_already_exists());
        assert_eq!(REGISTRY.add(String::new(), 7).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(REGISTRY.get("none"), None);
    }
}
