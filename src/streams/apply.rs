//! The streams of the settings, made or checked together.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::provision::Provision;
use super::{ProvisionedStream, StreamConfig, Streams};
use crate::call::{Call, Operation};
use crate::deadline::after;
use crate::error::Result;
use crate::pubsub::PubSub;
use crate::settings::{self, Key, Settings};

/// How many streams are made at once.
const AT_ONCE: usize = 8;

impl Streams {
    /// Makes the streams that the settings describe ([`Settings::streams`]), or checks those that
    /// are there, as [`PubSub::stream`] does. What differs is logged, told and left as it is, or
    /// with [`update`](Call::update) changed as far as it can be. Gives the streams in the order
    /// of their names.
    ///
    /// Each stream has the handle's limit; [`timeout`](Call::timeout) bounds all of them together.
    ///
    /// # Errors
    /// As [`PubSub::stream`], naming the stream; others may have been made.
    pub fn apply(&self, settings: &Settings) -> Call<Apply> {
        let (handle, configs) = (self.handle.clone(), settings.streams().to_vec());
        Call::new(Apply { handle, configs, update: false })
    }

    /// Every field of a stream in the settings, as `STREAMS.<NAME>.MAX_AGE` and so on.
    #[must_use]
    pub fn keys() -> &'static [Key] {
        settings::streams::keys()
    }

    /// [`keys`](Self::keys) as a table in Markdown.
    #[must_use]
    pub fn keys_markdown() -> String {
        settings::streams_markdown()
    }
}

/// Streams of the settings to be made or checked, by [`Streams::apply`].
#[derive(Debug)]
pub struct Apply {
    handle: PubSub,
    configs: Vec<StreamConfig>,
    update: bool,
}

impl Call<Apply> {
    /// Changes streams that are there to what the settings say, as far as they can be changed.
    pub fn update(self) -> Self {
        self.map_operation(|apply| apply.update = true)
    }
}

impl Operation for Apply {
    type Output = Result<Vec<ProvisionedStream>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        let Apply { handle, configs, update } = self;
        let deadline = timeout.map(after);
        let one = move |config| {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let call = Provision::call(handle.clone(), config);
            let call = if update { call.update() } else { call };
            match left {
                Some(left) => call.timeout(left),
                None => call,
            }
        };
        stream::iter(configs).map(one).buffered(AT_ONCE).try_collect().boxed()
    }
}
