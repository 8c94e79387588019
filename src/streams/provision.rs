//! Making a stream, or checking the one that is there.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Retention, StreamConfig, StreamStatus};
use crate::call::{Call, Operation};
use crate::difference::Difference;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::retry::Retry;
use crate::pubsub::{PubSub, driver};

/// A stream that was made or found: [`PubSub::stream`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProvisionedStream {
    /// The stream as it is now.
    pub status: StreamStatus,
    /// It was made by this call.
    pub created: bool,
    /// The options of a stream that was there, where they are not as asked for.
    pub differences: Vec<Difference>,
}

/// A stream to be made or checked, by [`PubSub::stream`].
#[derive(Debug)]
pub struct Provision {
    handle: PubSub,
    config: StreamConfig,
    ignore_prefix: bool,
    update: bool,
}

impl Provision {
    pub(crate) fn call(handle: PubSub, config: StreamConfig) -> Call<Self> {
        Call::new(Provision { handle, config, ignore_prefix: false, update: false })
    }
}

impl Call<Provision> {
    /// Changes a stream that is there to what the configuration sets, as far as it can be changed:
    /// its storage cannot, nor whether it is a work queue, and lifetimes of single messages and
    /// schedules cannot be switched off. What stays different is told.
    pub fn update(self) -> Self {
        self.map_operation(|provision| provision.update = true)
    }

    /// Takes the subjects as they are, without the handle's prefix.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|provision| provision.ignore_prefix = true)
    }
}

impl Operation for Provision {
    type Output = Result<ProvisionedStream>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        async move {
            let name = self.config.name.clone();
            let provisioned = self.run(timeout).await;
            provisioned.map_err(|error| error.operation("stream").with("stream", name))
        }
        .boxed()
    }
}

impl Provision {
    async fn run(self, timeout: Option<Duration>) -> Result<ProvisionedStream> {
        let Provision { handle, config, ignore_prefix, update } = self;
        let target = handle.target()?;
        let deadline = target.deadline(timeout);
        let mut config = target.full(config, ignore_prefix);
        config.check()?;
        if config.subjects.is_empty() {
            let message = "a stream needs a subject to keep the messages of";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let streams = target.streams()?;
        let (mut status, created) = make_or_find(streams, &config, deadline).await?;
        let mut differences = Vec::new();
        if !created {
            config.keep_schedules(&status.config);
            differences = config.differences(&status.config);
            let changeable = config.changeable(&status.config);
            if update && !changeable.differences(&status.config).is_empty() {
                status = streams.update_stream(&changeable, deadline).await?;
                differences = config.differences(&status.config);
            }
        }
        for difference in &differences {
            tracing::warn!(stream = config.name, "the stream is not as asked: {difference}");
        }
        target.life.declared.insert(config);
        Ok(ProvisionedStream { status, created, differences })
    }
}

/// The stream, made if there is none; whether it was made here. Of those who make it at the same
/// time one does, and the others find it.
async fn make_or_find(
    streams: &dyn driver::Streams,
    config: &StreamConfig,
    deadline: Instant,
) -> Result<(StreamStatus, bool)> {
    let mut retry = Retry::until(deadline);
    loop {
        if let Some(status) = streams.stream(&config.name, deadline).await? {
            return Ok((status, false));
        }
        match streams.create_stream(config, deadline).await {
            Ok(status) => return Ok((status, true)),
            Err(error) if error.is_already_exists() && retry.pause().await => {}
            Err(error) => return Err(error),
        }
    }
}

impl StreamConfig {
    /// What of this one a stream that is as `found` can still be changed to.
    fn changeable(&self, found: &StreamConfig) -> StreamConfig {
        let queue = |retention| retention == Some(Retention::WorkQueue);
        let mut config = self.clone();
        config.storage = None;
        config.retention =
            self.retention.filter(|kind| queue(Some(*kind)) == queue(found.retention));
        config.message_ttl = self.message_ttl.filter(|on| *on);
        config.schedules = self.schedules.filter(|on| *on);
        config
    }
}
