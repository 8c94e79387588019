//! A call with options: a builder that is a future itself.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;

/// What a [`Call`] does once it is awaited. Named in signatures; only this crate implements it.
pub trait Operation: fmt::Debug + Send + 'static {
    /// What awaiting the call gives.
    type Output;

    /// The work, with the time limit of the call if it has one of its own.
    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output>;
}

/// A call without options of its own.
pub struct Task<T>(Work<T>);

type Work<T> = Box<dyn FnOnce(Option<Duration>) -> BoxFuture<'static, T> + Send>;

impl<T: 'static> Task<T> {
    /// The call that does `work`, which is given the call's own time limit.
    pub(crate) fn call<F>(work: impl FnOnce(Option<Duration>) -> F + Send + 'static) -> Call<Self>
    where
        F: Future<Output = T> + Send + 'static,
    {
        Call::new(Task(Box::new(|timeout| Box::pin(work(timeout)))))
    }
}

impl<T: 'static> Operation for Task<T> {
    type Output = T;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, T> {
        (self.0)(timeout)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// A call that runs when awaited.
///
/// Required arguments were given to the method that made it, options are chained, `.await` runs it.
/// It owns all it needs, so it can be kept, spawned, joined or selected on. The time limit starts
/// with the first poll. Dropped before that, nothing was sent; dropped later, the call may have had
/// its effect.
#[must_use = "calls do nothing unless awaited"]
pub struct Call<O: Operation> {
    operation: Option<O>,
    timeout: Option<Duration>,
    running: Option<BoxFuture<'static, O::Output>>,
}

impl<O: Operation> Call<O> {
    pub(crate) fn new(operation: O) -> Self {
        Call { operation: Some(operation), timeout: None, running: None }
    }

    /// Changes the operation before it starts.
    pub(crate) fn map_operation(mut self, change: impl FnOnce(&mut O)) -> Self {
        if let Some(operation) = &mut self.operation {
            change(operation);
        }
        self
    }

    /// Makes it another call before it starts, with the same time limit.
    pub(crate) fn map<P: Operation>(self, change: impl FnOnce(O) -> P) -> Call<P> {
        Call { operation: self.operation.map(change), timeout: self.timeout, running: None }
    }

    /// The operation, unless it has started, and the call's own time limit, to run it another way.
    pub(crate) fn into_parts(self) -> (Option<O>, Option<Duration>) {
        (self.operation, self.timeout)
    }

    /// Bounds the whole call. Default: the handle's limit, which is `NATS.REQUEST_TIMEOUT` (10 s).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// The operation is never pinned: it is moved into its future.
impl<O: Operation> Unpin for Call<O> {}

impl<O: Operation> Future for Call<O> {
    type Output = O::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O::Output> {
        let call = &mut *self;
        if let Some(operation) = call.operation.take() {
            call.running = Some(operation.start(call.timeout));
        }
        match &mut call.running {
            Some(running) => running.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<O: Operation> fmt::Debug for Call<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Echo(u32);

    impl Operation for Echo {
        type Output = (u32, Option<Duration>);

        fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                (self.0, timeout)
            })
        }
    }

    #[tokio::test]
    async fn runs_when_awaited_joined_or_spawned() {
        assert_eq!(Call::new(Echo(1)).await, (1, None));
        let limit = Duration::from_secs(1);
        let (a, b) = tokio::join!(Call::new(Echo(2)), Call::new(Echo(3)).timeout(limit));
        assert_eq!((a, b), ((2, None), (3, Some(limit))));
        let spawned = tokio::spawn(Call::new(Echo(4))).await.expect("task ends");
        assert_eq!(spawned, (4, None));
    }
}
