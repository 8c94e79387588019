//! Publishing many messages: a bounded window of acknowledgements, or the faster ways that a stream
//! allows.
//!
//! The portable code pulls the input, keeps what is under way, retries where that is safe, and
//! reports; how messages go and what answers say is the driver's [`Pipeline`](super::driver::Pipeline).

mod atomic;
mod entry;
mod homes;
mod outgoing;
mod report;
mod run;
mod single;

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};

pub use outgoing::Outgoing;
pub use report::{PublishFailure, PublishProgress, PublishReport, Way};

use super::PubSub;
use super::driver::{Acked, PipelineConfig};
use crate::call::{Call, Operation};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use run::Run;

/// The widest window.
const WIDEST: usize = 10_000;
/// Inputs that are known to be shorter are not worth the questions that fast ingest begins with.
const WORTH_IT: usize = 500;

/// What is told of each message.
type Each = Box<dyn FnMut(u64, Result<&Acked, &Error>) + Send>;
/// What is told now and then.
type Tell = Box<dyn FnMut(PublishProgress) + Send>;

/// Publishing many messages, made by [`PubSub::publish_many`] and [`PubSub::publish_stream`].
pub struct PublishMany<S> {
    handle: PubSub,
    source: S,
    options: Options,
}

struct Options {
    window: usize,
    fast_ingest: bool,
    atomic: bool,
    stop_on_failure: bool,
    message_ids: Option<String>,
    each: Option<Each>,
    progress: Option<(Duration, Tell)>,
}

impl<S> PublishMany<S> {
    pub(super) fn new(handle: PubSub, source: S) -> Self {
        let options = Options {
            window: PipelineConfig::new().window,
            fast_ingest: true,
            atomic: false,
            stop_on_failure: false,
            message_ids: None,
            each: None,
            progress: None,
        };
        PublishMany { handle, source, options }
    }
}

/// Options of publishing many messages.
///
/// Without [`timeout`](Self::timeout) the call takes as long as the input lasts; each message has its
/// own limit (`.timeout(..)` of the message, else the handle's), within which it is sent, and sent
/// again where that is safe.
impl<S> Call<PublishMany<S>>
where
    S: Stream + Send + 'static,
    S::Item: Into<Outgoing>,
{
    /// The most messages that are under way at once: pulled from the input and not done. 1 to
    /// 10,000; default 1,000. With 1 each message waits for the one before it.
    pub fn window(self, messages: usize) -> Self {
        self.map_operation(|many| many.options.window = messages)
    }

    /// Gives the messages the ids `<prefix>-<index>`, with the index counted from 0 over the input,
    /// where they have none of their own. That makes it safe to send a message again whose
    /// acknowledgement was lost, and a second run over the same input within the stream's duplicate
    /// window (2 minutes by default) stores nothing twice. An empty prefix is refused.
    pub fn message_ids(self, prefix: impl Into<String>) -> Self {
        self.map_operation(|many| many.options.message_ids = Some(prefix.into()))
    }

    /// Calls `each` with the index of every message and what came of it, in the order of the input.
    /// It runs inside the call and must not block.
    pub fn each(self, each: impl FnMut(u64, Result<&Acked, &Error>) + Send + 'static) -> Self {
        self.map_operation(|many| many.options.each = Some(Box::new(each)))
    }

    /// Calls `tell` about this often while it runs, at most ten times a second, and once at the end.
    pub fn progress(
        self,
        every: Duration,
        tell: impl FnMut(PublishProgress) + Send + 'static,
    ) -> Self {
        self.map_operation(|many| many.options.progress = Some((every, Box::new(tell))))
    }

    /// Reads no more of the input after the first message that failed; what is under way is awaited.
    pub fn stop_on_failure(self) -> Self {
        self.map_operation(|many| many.options.stop_on_failure = true)
    }

    /// Every message gets an acknowledgement of its own, also where the stream takes many without.
    /// Then all duplicates are told, and [`each`](Self::each) gets the sequences.
    pub fn without_fast_ingest(self) -> Self {
        self.map_operation(|many| many.options.fast_ingest = false)
    }

    /// Publishes all messages together, or none: at most 1,000, all to one stream that allows it
    /// ([`atomic_publish`](crate::streams::StreamConfig::atomic_publish), nats-server 2.12). The whole
    /// call has the handle's time limit. Everything that is wrong is an error of the call, and then
    /// nothing is stored; only after a `Timeout` all may be stored.
    pub fn all_or_nothing(self) -> Self {
        self.map_operation(|many| many.options.atomic = true)
    }
}

impl<S> PublishMany<S>
where
    S: Stream + Send + 'static,
    S::Item: Into<Outgoing>,
{
    async fn run(self, timeout: Option<Duration>) -> Result<PublishReport> {
        let PublishMany { handle, source, options } = self;
        if !(1..=WIDEST).contains(&options.window) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a window of {}; give one of 1 to 10,000 messages", options.window),
            ));
        }
        if options.message_ids.as_ref().is_some_and(String::is_empty) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "an empty prefix for message ids, which other runs would share; give one of its own \
                 to each input, or leave it out",
            ));
        }
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Error::new(
                ErrorKind::Timeout,
                "a time limit of zero; nothing was sent: give more, or leave it out",
            ));
        }
        let handle = handle.bind()?;
        let core = handle.core();
        if !core.driver.capabilities().acked_publish {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the {} driver does not acknowledge messages", core.driver.name()),
            ));
        }
        if options.atomic {
            return atomic::publish(&handle, source, options, timeout).await;
        }
        let known = source.size_hint().1.unwrap_or(usize::MAX);
        let mut config = PipelineConfig::new();
        config.window = options.window;
        config.fast_ingest = options.fast_ingest && known >= WORTH_IT;
        let until = timeout.map(after);
        let opened = until.map_or(after(core.timeout), |until| until.min(after(core.timeout)));
        let pipeline = match core.driver.streams() {
            Some(streams) => streams.pipeline(config, opened).await?,
            None => None,
        };
        Run::new(handle, source, pipeline, options, until).finish().await
    }
}

impl<S> Operation for PublishMany<S>
where
    S: Stream + Send + 'static,
    S::Item: Into<Outgoing>,
{
    type Output = Result<PublishReport>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<PublishReport>> {
        Box::pin(
            async move { self.run(timeout).await.map_err(|error| error.operation("publish many")) },
        )
    }
}

impl<S> fmt::Debug for PublishMany<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishMany")
            .field("handle", &self.handle)
            .field("window", &self.options.window)
            .field("message_ids", &self.options.message_ids.is_some())
            .field("all_or_nothing", &self.options.atomic)
            .finish_non_exhaustive()
    }
}

/// The next item as a message; `None` at the end.
fn next_of<S>(source: &mut S, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Outgoing>>
where
    S: Stream + Unpin,
    S::Item: Into<Outgoing>,
{
    source.poll_next_unpin(cx).map(|item| item.map(Into::into))
}
