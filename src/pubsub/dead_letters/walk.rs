//! Reading dead letters one after the other.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;

use super::letter::DeadLetter;
use super::{DeadLetters, Place};
use crate::deadline::after;
use crate::error::Result;

/// Which dead letters are meant.
pub(super) type Filter = Arc<dyn Fn(&DeadLetter) -> bool + Send + Sync>;

/// A walk over what there is at its beginning, the oldest first; one message in memory at a time.
/// What dies meanwhile is not met: replayed messages may.
pub(super) struct Walk {
    letters: DeadLetters,
    place: Place,
    next: u64,
    last: u64,
}

impl Walk {
    pub(super) async fn begin(letters: DeadLetters, deadline: Instant) -> Result<Self> {
        let place = letters.place(deadline).await?;
        let last = place.last_sequence;
        Ok(Walk { letters, place, next: 1, last })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The next one. After an error the same one is read again.
    pub(super) async fn next(&mut self, deadline: Instant) -> Result<Option<DeadLetter>> {
        while self.next <= self.last {
            let Some(stored) = self.place.read(self.next, deadline).await? else { break };
            if stored.sequence > self.last {
                break;
            }
            self.next = stored.sequence + 1;
            if let Some(letter) = self.letters.accept(&self.place, stored) {
                return Ok(Some(letter));
            }
        }
        self.next = self.last.saturating_add(1);
        Ok(None)
    }
}

/// Dead letters as a `Stream`, the oldest first, one read at a time; made by
/// [`DeadLetters::list`]. It has what there was when it was made, and ends after an error.
pub struct DeadLetterList(BoxStream<'static, Result<DeadLetter>>);

impl DeadLetterList {
    pub(super) fn new(walk: Walk, timeout: Duration) -> Self {
        let list = stream::unfold(Some(walk), move |walk| async move {
            let mut walk = walk?;
            match walk.next(after(timeout)).await {
                Ok(letter) => Some((Ok(letter?), Some(walk))),
                Err(error) => Some((Err(error.operation("list dead letters")), None)),
            }
        });
        DeadLetterList(list.boxed())
    }
}

impl Stream for DeadLetterList {
    type Item = Result<DeadLetter>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for DeadLetterList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterList").finish_non_exhaustive()
    }
}
