//! Whether a subject that nobody took a message of has a stream at all: without one it fails at
//! once, with one it waits for the stream's leader.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::Subject;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::pubsub::driver::Driver;

/// How many subjects are remembered.
const KEPT: usize = 1_000;
/// Tries where the back end cannot be asked.
const TRIES: u32 = 3;

/// What is known of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// A stream stores it.
    Some,
    /// None does.
    None,
    /// It is being asked, or is to be.
    Unknown,
}

pub(super) struct Homes {
    driver: Arc<dyn Driver>,
    known: HashMap<String, bool>,
    asking: Option<BoxFuture<'static, (Subject, Option<bool>)>>,
}

impl Homes {
    pub(super) fn new(driver: Arc<dyn Driver>) -> Self {
        Homes { driver, known: HashMap::new(), asking: None }
    }

    /// What is known after a message was refused for the `refused`th time; asks if nothing is.
    pub(super) fn of(&mut self, subject: &Subject, refused: u32, until: Instant) -> Home {
        if self.driver.streams().is_none() {
            return if refused < TRIES { Home::Unknown } else { Home::None };
        }
        match self.known.get(subject.as_str()) {
            Some(true) => Home::Some,
            Some(false) => Home::None,
            None => {
                if self.asking.is_none() {
                    self.asking = Some(ask(self.driver.clone(), subject.clone(), until).boxed());
                }
                Home::Unknown
            }
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(asking) = &mut self.asking else { return };
        let Poll::Ready((subject, found)) = asking.poll_unpin(cx) else { return };
        self.asking = None;
        if self.known.len() == KEPT {
            self.known.clear();
        }
        if let Some(found) = found {
            self.known.insert(subject.to_string(), found);
        }
    }
}

/// `None` when that cannot be told now.
async fn ask(driver: Arc<dyn Driver>, subject: Subject, until: Instant) -> (Subject, Option<bool>) {
    let found = match driver.streams() {
        Some(streams) => match streams.stream_of(&subject, until).await {
            Ok(stream) => Some(stream.is_some()),
            // Nobody answers for streams at all.
            Err(error) if error.is_no_responders() => Some(false),
            Err(_) => None,
        },
        None => None,
    };
    (subject, found)
}
