//! What there is, and what happens to it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use crate::call::{Call, Operation, Task};
use crate::error::{Error, Result};
use crate::objects::driver::Consistency;
use crate::objects::target::{Slot, Target};
use crate::objects::{Event, ObjectInfo, Objects};

/// A question for an object: [`Objects::info`].
#[derive(Debug)]
pub struct Info {
    slot: Result<Slot>,
    consistency: Consistency,
}

impl Call<Info> {
    /// Sees every put that was done before. Without, a copy that lags behind a little may answer.
    pub fn consistent(self) -> Self {
        self.map_operation(|info| info.consistency = Consistency::Latest)
    }
}

impl Operation for Info {
    type Output = Result<Option<ObjectInfo>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let slot = self.slot?;
            let Target { driver, bucket, .. } = &slot.target;
            let deadline = slot.target.deadline(timeout);
            let info = driver.info(bucket, &slot.name, self.consistency, deadline).await;
            info.map_err(|error| slot.explain(error))
        })
    }
}

/// The objects of a bucket: [`Objects::list`]. It ends behind the last one, or after an error.
pub struct Listing {
    target: Target,
    objects: BoxStream<'static, Result<ObjectInfo>>,
}

impl Stream for Listing {
    type Item = Result<ObjectInfo>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.objects.poll_next_unpin(cx));
        Poll::Ready(next.map(|next| next.map_err(|error| self.target.explain(error))))
    }
}

/// What happens to the objects of a bucket, in the order of revisions: [`Objects::watch`]. Dropping
/// it ends the watch.
///
/// A lost connection does not end it: it catches up when the connection is back, and what happened
/// meanwhile is told then, without gaps; of several changes of one object in between only the last.
/// It ends when the connector drains, and after an error.
pub struct Watcher {
    target: Target,
    /// None once it has ended.
    events: Option<BoxStream<'static, Result<Event>>>,
}

impl Stream for Watcher {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(events) = &mut self.events else { return Poll::Ready(None) };
        let next = ready!(events.poll_next_unpin(cx));
        if !matches!(next, Some(Ok(_))) {
            self.events = None;
        }
        let explain = |error: Error| self.target.explain(error);
        Poll::Ready(next.map(|next| next.map_err(explain)))
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("target", &self.target).finish_non_exhaustive()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Objects {
    /// What is told of the object `name`, or of the link of that name, which is not followed; `None`
    /// when there is none.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bucket's or object's name that cannot be; `Unauthorized` naming the
    /// subject that is not permitted; `Unavailable`, `Timeout`, `Closed`.
    pub fn info(&self, name: impl Into<String>) -> Call<Info> {
        let slot = Slot::new("objects info", self, name.into());
        Call::new(Info { slot, consistency: Consistency::Any })
    }

    /// Whether there is an object or a link of this name.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn exists(&self, name: impl Into<String>) -> Call<Task<Result<bool>>> {
        let slot = Slot::new("objects exists", self, name.into());
        Task::call(move |timeout| async move {
            let info = Info { slot: Ok(slot?), consistency: Consistency::Any };
            Ok(info.start(timeout).await?.is_some())
        })
    }

    /// The objects and links of the bucket, each once, in no order; none when the bucket does not
    /// exist. The time limit is that of the whole listing.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info), the call's own and those of the stream.
    pub fn list(&self) -> Call<Task<Result<Listing>>> {
        let target = Target::new("objects list", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let objects = target.driver.list(&target.bucket, deadline).await;
            let objects = objects.map_err(|error| target.explain(error))?;
            Ok(Listing { target, objects })
        })
    }

    /// What happens to the objects of the bucket: those that are there, then [`Event::Current`], then
    /// every change. Makes the bucket if there is none. The call ends when the watch has begun; the
    /// time limit is for that alone.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the store cannot tell changes; else as [`info`](Self::info), the call's own
    /// and those of the stream.
    pub fn watch(&self) -> Call<Task<Result<Watcher>>> {
        let target = Target::new("objects watch", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let events = target.driver.watch(&target.bucket, deadline).await;
            let events = events.map_err(|error| target.explain(error))?;
            Ok(Watcher { target, events: Some(events) })
        })
    }
}
