//! Reads of counters.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::Slot;
use crate::call::{Call, Operation};
use crate::error::Result;
use crate::kv::driver::Consistency;

/// How many reads of one call are under way at once.
const WINDOW: usize = 256;

/// Reads counters: [`Counters::get`](super::Counters::get) and
/// [`get_many`](super::Counters::get_many).
pub struct Read<T> {
    consistency: Consistency,
    work: Work<T>,
}

type Work<T> =
    Box<dyn FnOnce(Consistency, Option<Duration>) -> BoxFuture<'static, Result<T>> + Send>;

impl<T: 'static> Read<T> {
    pub(super) fn call<F>(
        work: impl FnOnce(Consistency, Option<Duration>) -> F + Send + 'static,
    ) -> Call<Self>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let work = Box::new(|consistency, timeout| -> BoxFuture<'static, _> {
            Box::pin(work(consistency, timeout))
        });
        Call::new(Read { consistency: Consistency::Any, work })
    }
}

impl<T: 'static> Call<Read<T>> {
    /// Sees every add that was acknowledged before, by asking the leader of the store.
    pub fn consistent(self) -> Self {
        self.map_operation(|read| read.consistency = Consistency::Latest)
    }
}

impl<T: 'static> Operation for Read<T> {
    type Output = Result<T>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<T>> {
        (self.work)(self.consistency, timeout)
    }
}

impl<T> fmt::Debug for Read<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("consistency", &self.consistency).finish_non_exhaustive()
    }
}

/// The values of all slots, in their order.
pub(super) async fn many(
    slots: Vec<Slot>,
    consistency: Consistency,
    deadline: Instant,
) -> Result<Vec<Option<i64>>> {
    let reads = slots.into_iter().map(|slot| async move { slot.read(consistency, deadline).await });
    stream::iter(reads).buffered(WINDOW).try_collect().await
}
