//! Streams asked for, changed, emptied and deleted by name.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::check::{check_consumer, check_name};
use super::{StreamConfig, StreamStatus};
use crate::call::{Call, Operation, Task};
use crate::connector::Life;
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::subject::check_subscribe;
use crate::pubsub::{Driver, PubSub, driver};

/// The streams of a driver: [`PubSub::streams`], [`Connector::streams`](crate::Connector::streams).
/// Cheap to clone.
///
/// Calls on a driver without streams fail with `Unsupported`. Beside what each names, all calls
/// fail with `InvalidInput` for a name that no stream has, `Unauthorized` naming the subject that
/// is not permitted, `Unavailable`, `Timeout` and `Closed`.
#[derive(Debug, Clone)]
pub struct Streams {
    pub(super) handle: PubSub,
}

impl Streams {
    pub(crate) fn new(handle: PubSub) -> Self {
        Streams { handle }
    }

    /// The stream of this name as it is now, if there is one. The back end is asked each time.
    ///
    /// # Errors
    /// As told [above](Self).
    pub fn status(&self, name: impl Into<String>) -> Call<Task<Result<Option<StreamStatus>>>> {
        self.call("stream status", name, |target, name, deadline| {
            async move { target.streams()?.stream(name, deadline).await }.boxed()
        })
    }

    /// The names of all streams, sorted; also of those that buckets and the like are made of.
    ///
    /// # Errors
    /// As told [above](Self).
    pub fn names(&self) -> Call<Task<Result<Vec<String>>>> {
        let handle = self.handle.clone();
        Task::call(move |timeout| async move {
            let names = async {
                let target = handle.target()?;
                target.streams()?.stream_names(target.deadline(timeout)).await
            };
            names.await.map_err(|error| error.operation("stream names"))
        })
    }

    /// Changes a stream to what `config` sets and keeps the rest; subjects only where there are
    /// some. Gives the stream as it is then.
    ///
    /// # Errors
    /// `NotFound` without such a stream; `InvalidInput` for what cannot be, or cannot be changed
    /// any more; `Conflict` when another stream has one of the subjects; `Unsupported` for an option
    /// that the server lacks.
    pub fn update(&self, config: StreamConfig) -> Call<Update> {
        Call::new(Update { handle: self.handle.clone(), config, ignore_prefix: false })
    }

    /// Deletes a stream with all it holds and all its consumers; whether there was one.
    ///
    /// # Errors
    /// As told [above](Self).
    pub fn delete(&self, name: impl Into<String>) -> Call<Task<Result<bool>>> {
        self.call("stream delete", name, |target, name, deadline| {
            target.life.declared.remove(name);
            async move { target.streams()?.delete_stream(name, deadline).await }.boxed()
        })
    }

    /// Takes out all messages of a stream, or with [`topic`](Call::topic) some; gives how many these
    /// were. Consumers stay.
    ///
    /// # Errors
    /// `NotFound` without such a stream.
    pub fn purge(&self, name: impl Into<String>) -> Call<Purge> {
        let (handle, name) = (self.handle.clone(), name.into());
        Call::new(Purge { handle, name, topic: None, ignore_prefix: false })
    }

    /// The names of a stream's consumers, sorted.
    ///
    /// # Errors
    /// `NotFound` without such a stream.
    pub fn consumers(&self, stream: impl Into<String>) -> Call<Task<Result<Vec<String>>>> {
        self.call("stream consumers", stream, |target, stream, deadline| {
            async move { target.streams()?.consumer_names(stream, deadline).await }.boxed()
        })
    }

    /// Deletes a consumer of a stream; whether there was one. Members that still read it make it
    /// again.
    ///
    /// # Errors
    /// `NotFound` without such a stream.
    pub fn delete_consumer(
        &self,
        stream: impl Into<String>,
        name: impl Into<String>,
    ) -> Call<Task<Result<bool>>> {
        let consumer = name.into();
        self.call("stream delete consumer", stream, move |target, stream, deadline| {
            let delete = async move {
                let deleted = match check_consumer(&consumer) {
                    Ok(()) => target.streams()?.delete_consumer(stream, &consumer, deadline).await,
                    Err(error) => Err(error),
                };
                deleted.map_err(|error| error.with("consumer", consumer))
            };
            delete.boxed()
        })
    }

    /// A call about one stream.
    fn call<T: 'static>(
        &self,
        operation: &'static str,
        stream: impl Into<String>,
        work: impl for<'a> FnOnce(&'a Target, &'a str, Instant) -> BoxFuture<'a, Result<T>>
        + Send
        + 'static,
    ) -> Call<Task<Result<T>>> {
        let (handle, stream) = (self.handle.clone(), stream.into());
        Task::call(move |timeout| async move {
            let done = async {
                check_name(&stream)?;
                let target = handle.target()?;
                work(&target, &stream, target.deadline(timeout)).await
            };
            done.await.map_err(|error| error.operation(operation).with("stream", &stream))
        })
    }
}

/// A change of a stream, by [`Streams::update`].
#[derive(Debug)]
pub struct Update {
    handle: PubSub,
    config: StreamConfig,
    ignore_prefix: bool,
}

impl Call<Update> {
    /// Takes the subjects as they are, without the handle's prefix.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|update| update.ignore_prefix = true)
    }
}

impl Operation for Update {
    type Output = Result<StreamStatus>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        let Update { handle, config, ignore_prefix } = self;
        let name = config.name.clone();
        let update = async move {
            let target = handle.target()?;
            let deadline = target.deadline(timeout);
            let mut config = target.full(config, ignore_prefix);
            config.check()?;
            let streams = target.streams()?;
            if !config.subjects.is_empty() {
                let found = streams.stream(&config.name, deadline).await?;
                config.keep_schedules(&found.ok_or_else(missing)?.config);
            }
            let status = streams.update_stream(&config, deadline).await?;
            target.life.declared.replace(&status.config);
            Ok(status)
        };
        async {
            update
                .await
                .map_err(|error: Error| error.operation("stream update").with("stream", name))
        }
        .boxed()
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such stream; make it first")
}

/// Messages to take out of a stream, by [`Streams::purge`].
#[derive(Debug)]
pub struct Purge {
    handle: PubSub,
    name: String,
    topic: Option<String>,
    ignore_prefix: bool,
}

impl Call<Purge> {
    /// Takes out the messages of this topic alone, which may have wildcards; the handle's prefix is
    /// put before it.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        self.map_operation(|purge| purge.topic = Some(topic.into()))
    }

    /// Takes the topic as it is, without the handle's prefix.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|purge| purge.ignore_prefix = true)
    }
}

impl Operation for Purge {
    type Output = Result<u64>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        let Purge { handle, name, topic, ignore_prefix } = self;
        async move {
            let purge = async {
                check_name(&name)?;
                let target = handle.target()?;
                let subject = topic.map(|topic| target.subject(&topic, ignore_prefix));
                subject.as_deref().map_or(Ok(()), check_subscribe)?;
                let deadline = target.deadline(timeout);
                target.streams()?.purge_stream(&name, subject.as_deref(), deadline).await
            };
            purge.await.map_err(|error| error.operation("stream purge").with("stream", &name))
        }
        .boxed()
    }
}

/// A driver with what calls on its streams need.
pub(crate) struct Target {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) life: Arc<Life>,
    pub(crate) prefix: String,
    pub(crate) timeout: Duration,
}

impl Target {
    /// The driver's streams.
    ///
    /// # Errors
    /// `Unsupported` when it has none.
    pub(crate) fn streams(&self) -> Result<&dyn driver::Streams> {
        self.driver.streams().ok_or_else(|| {
            let name = self.driver.name();
            Error::new(
                ErrorKind::Unsupported,
                format!("the driver {name} has no streams; use one that has, such as nats"),
            )
        })
    }

    pub(super) fn deadline(&self, timeout: Option<Duration>) -> Instant {
        after(timeout.unwrap_or(self.timeout))
    }

    fn subject(&self, topic: &str, ignore_prefix: bool) -> String {
        let prefix = if ignore_prefix { "" } else { &self.prefix };
        [prefix, topic].concat()
    }

    /// A config with full subjects, that of its schedules among them.
    pub(super) fn full(&self, mut config: StreamConfig, ignore_prefix: bool) -> StreamConfig {
        let prefix = if ignore_prefix { "" } else { &self.prefix };
        for subject in &mut config.subjects {
            subject.insert_str(0, prefix);
        }
        if !config.subjects.is_empty() {
            config.add_schedules(prefix);
        }
        config
    }
}
