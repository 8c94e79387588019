//! An endpoint at work: calls are let in up to its limits, and workers take them on.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, Either};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::{self, To};
use super::counters::Counters;
use super::{Incoming, Keep, Serve};
use crate::connector::status::RateLimit;
use crate::deadline::{after, within};
use crate::metrics::End;
use crate::pubsub::driver::InboundMessage;
use crate::pubsub::{Intake, Subscription, Task};
use crate::rpc::interceptor::{About, Chain};
use crate::rpc::persist::{self, Keeper};
use crate::rpc::{Persist, RawCall, Result, Rpc, RpcError, Served, code};

/// Interceptors have this much time beyond the handler's, to see how it ended.
const GRACE: Duration = Duration::from_secs(1);

/// An endpoint of a service that runs.
pub(crate) struct Running {
    /// The service's handle.
    pub(crate) rpc: Rpc,
    /// Keeps the service's responses.
    pub(crate) keeper: Arc<Keeper>,
    /// What became of this endpoint's.
    pub(crate) kept: Arc<persist::Counts>,
    pub(crate) about: Arc<About>,
    pub(crate) subject: async_nats::Subject,
    pub(crate) queue: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) concurrency: usize,
    pub(crate) waiting: usize,
    pub(crate) timeout: Option<Duration>,
    pub(crate) chain: Chain,
    pub(crate) counters: Counters,
    pub(crate) log: RateLimit,
    /// Calls that run or wait.
    pub(crate) admitted: AtomicUsize,
    pub(crate) workers: AtomicUsize,
}

/// A call that was let in.
struct Job {
    message: InboundMessage,
    deadline: Option<Instant>,
}

/// Where the workers of an endpoint find its calls.
pub(crate) struct Jobs {
    queue: async_channel::Receiver<Job>,
    endpoint: Arc<Running>,
    task: Arc<Task>,
    /// Told to be gone when the last worker is.
    _alive: watch::Sender<()>,
}

/// Makes the workers of an endpoint, whatever its types.
pub(crate) trait Work: Send + Sync {
    /// Takes one call after another until there are no more.
    fn worker(&self, jobs: Jobs) -> BoxFuture<'static, ()>;
}

impl<S: Serve> Work for Arc<S> {
    fn worker(&self, jobs: Jobs) -> BoxFuture<'static, ()> {
        let serve = self.clone();
        Box::pin(async move {
            let Jobs { queue, endpoint, task, _alive } = &jobs;
            let _worker = Counted(&endpoint.workers);
            while let Ok(job) = queue.recv().await {
                let place = Counted(&endpoint.admitted);
                // Only what goes wrong outside of handler and interceptors panics here.
                let call = pin!(one(&serve, endpoint, job));
                let end = caught(call).await.unwrap_or(End::Panicked);
                drop(place);
                task.count(end);
            }
        })
    }
}

/// Gives its place back, however the call ends.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Running {
    /// Starts to take calls.
    pub(super) fn start(self: &Arc<Self>, intake: Intake, work: Box<dyn Work>) -> Subscription {
        // As many are in it as are let in; a bounded one would hold the memory for all from the start.
        let (queue, waiting) = async_channel::unbounded();
        let (alive, mut all_done) = watch::channel(());
        let (endpoint, task) = (self.clone(), intake.task().clone());
        let let_in = queue.clone();
        let take = move |message: InboundMessage| {
            if endpoint.is_full() {
                let (endpoint, task) = (endpoint.clone(), task.clone());
                return Either::Right(async move {
                    endpoint.refuse(message).await;
                    task.count(End::Failed);
                });
            }
            let admitted = endpoint.admitted.fetch_add(1, Ordering::AcqRel) + 1;
            let deadline = endpoint.timeout.map(after);
            // It is open as long as this loop runs.
            let _ = let_in.try_send(Job { message, deadline });
            let workers = endpoint.workers.load(Ordering::Acquire);
            if workers < endpoint.concurrency && workers < admitted {
                endpoint.workers.fetch_add(1, Ordering::AcqRel);
                task.spawn(work.worker(Jobs {
                    queue: waiting.clone(),
                    endpoint: endpoint.clone(),
                    task: task.clone(),
                    _alive: alive.clone(),
                }));
            }
            Either::Left(ready(()))
        };
        let keeper = self.keeper.clone();
        intake.start(take, async move {
            queue.close();
            while all_done.changed().await.is_ok() {}
            keeper.idle().await;
        })
    }

    /// What keeps the response of a call, if it is to be kept.
    pub(crate) fn keep<'a, Req>(
        &'a self,
        places: &[Persist<Req>],
        request: &Req,
    ) -> impl Future<Output = Result<Option<Box<dyn Keep>>>> + Send + use<'a, Req> {
        let Running { keeper, about, kept, .. } = self;
        let writes = keeper.writes(about, kept, places, request);
        async move { keeper.begin(about, kept, writes?).await }
    }

    /// Whether the next call is refused.
    pub(crate) fn is_full(&self) -> bool {
        self.admitted.load(Ordering::Acquire) >= self.concurrency + self.waiting
    }

    /// Calls that run, and calls that wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        let admitted = self.admitted.load(Ordering::Relaxed);
        let running = admitted.min(self.concurrency);
        (running, admitted - running)
    }

    /// Answers a call that there is no room for.
    async fn refuse(&self, message: InboundMessage) {
        let text = format!(
            "{} has {} calls running and {} waiting; try again later",
            self.about.method, self.concurrency, self.waiting
        );
        let error = RpcError::new(code::RESOURCE_EXHAUSTED, text);
        Counters::count(&self.counters.refused);
        self.counters.ended(Duration::ZERO);
        self.fail(To::of(&message, self.about.kind), &error).await;
    }

    /// Counts, logs and answers an error.
    async fn fail(&self, to: To, error: &RpcError) {
        self.counters.failed(error);
        let (service, method) = (&self.about.service, &self.about.method);
        if error.is(code::INTERNAL) || error.is(code::RESOURCE_EXHAUSTED) {
            if let Some(held_back) = self.log.pass() {
                let error = error.in_full();
                tracing::warn!(service, method, error, held_back, "a call failed");
            }
        } else {
            tracing::debug!(service, method, %error, "a call failed");
        }
        if let Err(error) = answer::error(&self.rpc, to, error).await {
            self.unanswered(&error);
        }
    }

    fn unanswered(&self, error: &crate::Error) {
        Counters::count(&self.counters.unanswered);
        if let Some(held_back) = self.log.pass() {
            let (service, method) = (&self.about.service, &self.about.method);
            tracing::warn!(service, method, %error, held_back, "an answer could not be sent");
        }
    }
}

/// Answers one call.
async fn one<S: Serve>(serve: &Arc<S>, endpoint: &Arc<Running>, job: Job) -> End {
    let begun = Instant::now();
    let Job { message, deadline } = job;
    let to = To::of(&message, endpoint.about.kind);
    let call = RawCall { message, about: endpoint.about.clone(), deadline };
    let mut served = if deadline.is_some_and(|deadline| deadline <= begun) {
        Err(endpoint.out_of_time())
    } else if endpoint.chain.is_empty() {
        handle(&**serve, endpoint, call).await
    } else {
        intercepted(serve, endpoint, call).await
    };
    let mut keep = None;
    if let Ok(Served::Reply(reply)) = &mut served {
        keep = reply.keep.take();
        if let Some(keep) = &mut keep
            && let Err(error) = keep.before(reply).await
        {
            served = Err(error);
        }
    }
    endpoint.counters.ended(begun.elapsed());
    match served {
        Ok(Served::Streamed) => {
            Counters::count(&endpoint.counters.streams);
            End::Handled
        }
        Ok(Served::Reply(reply)) => match answer::reply(&endpoint.rpc, &to, &reply).await {
            Ok(()) => {
                if let Some(keep) = keep {
                    keep.after(reply).await;
                }
                End::Handled
            }
            Err(error) if error.kind() == crate::ErrorKind::TooLarge => {
                let text = format!("the response is too large: {error}");
                endpoint.fail(to, &RpcError::internal(text).with_source(error)).await;
                End::Failed
            }
            Err(error) => {
                endpoint.unanswered(&error);
                End::Failed
            }
        },
        Err(error) => {
            if endpoint.about.kind != crate::rpc::Kind::Unary {
                Counters::count(&endpoint.counters.streams);
            }
            let panicked = std::error::Error::source(&error)
                .is_some_and(<dyn std::error::Error>::is::<Panicked>);
            endpoint.fail(to, &error).await;
            if panicked { End::Panicked } else { End::Failed }
        }
    }
}

/// Runs the handler of a call within its time.
async fn handle<S: Serve>(serve: &S, endpoint: &Arc<Running>, call: RawCall) -> Result<Served> {
    let deadline = call.deadline;
    let serving = pin!(serve.serve(Incoming { call, endpoint: endpoint.clone() }));
    endpoint.ended(deadline, caught(serving)).await
}

/// The same with interceptors around it.
async fn intercepted<S: Serve>(
    serve: &Arc<S>,
    endpoint: &Arc<Running>,
    call: RawCall,
) -> Result<Served> {
    let deadline = call.deadline.and_then(|deadline| deadline.checked_add(GRACE));
    let (serve, inner) = (serve.clone(), endpoint.clone());
    let last = move |call| -> BoxFuture<'static, Result<Served>> {
        let (serve, inner) = (serve.clone(), inner.clone());
        Box::pin(async move { handle(&*serve, &inner, call).await })
    };
    let chain = &endpoint.chain;
    // Made inside, since what makes the future may panic as well.
    let running = pin!(async move { chain.run(call, last).await });
    endpoint.ended(deadline, caught(running)).await
}

impl Running {
    /// How a call ended that may run out of time or panic.
    async fn ended(
        &self,
        deadline: Option<Instant>,
        call: impl Future<Output = Result<Result<Served>, Box<dyn Any + Send>>>,
    ) -> Result<Served> {
        let ended = match deadline {
            None => call.await,
            Some(deadline) => match within(deadline, call).await {
                Ok(ended) => ended,
                Err(_) => return Err(self.out_of_time()),
            },
        };
        ended.unwrap_or_else(|panic| Err(self.panicked(&*panic)))
    }

    fn out_of_time(&self) -> RpcError {
        Counters::count(&self.counters.timeouts);
        let limit = self.timeout.unwrap_or_default();
        let limit = humantime::format_duration(limit);
        RpcError::new(
            code::DEADLINE_EXCEEDED,
            format!("the service's {limit} for the call are over"),
        )
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> RpcError {
        Counters::count(&self.counters.panics);
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        if let Some(held_back) = self.log.pass() {
            let (service, method) = (&self.about.service, &self.about.method);
            let panic = text.unwrap_or("(no text)");
            tracing::error!(service, method, panic, held_back, "a handler panicked");
        }
        RpcError::internal("the handler panicked").with_source(Panicked)
    }
}

/// Marks the error of a call whose handler panicked.
#[derive(Debug)]
struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the handler panicked")
    }
}

impl std::error::Error for Panicked {}

/// Polls a future to its end, or to its panic. It stays where it was made: what takes it would copy
/// it for every call.
fn caught<F: Future>(
    mut call: Pin<&mut F>,
) -> impl Future<Output = Result<F::Output, Box<dyn Any + Send>>> {
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("about", &self.about)
            .field("subject", &self.subject)
            .field("load", &self.load())
            .finish_non_exhaustive()
    }
}
