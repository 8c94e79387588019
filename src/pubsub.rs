//! Publish and subscribe.
//!
//! [`PubSub`] is what users hold: one code for every driver, with a topic prefix and a serializer.
//! The free functions do the same on the default driver, which
//! [`register()`](crate::register) sets.
//!
//! ```
//! use nats_connector::{Connector, pubsub::Message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nats_connector::Result<()> {
//! let pubsub = Connector::memory().pubsub();
//! let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
//! pubsub
//!     .subscribe("orders.*", move |msg: Message| {
//!         let heard = heard.clone();
//!         async move {
//!             let total: f64 = msg.decode()?;
//!             heard.send((msg.topic().to_owned(), total)).ok();
//!             Ok::<_, nats_connector::Error>(())
//!         }
//!     })
//!     .await?;
//! pubsub.publish("orders.created", &9.5).await?;
//! assert_eq!(hears.recv().await, Some(("orders.created".to_owned(), 9.5)));
//! # Ok(())
//! # }
//! ```

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures::{Stream, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::connector::Life;
use crate::connector::life::BackEnd;
use crate::error::Result;
use crate::metrics;
use crate::registry::{Local, Registry};
use crate::serializer::Serializer;
use crate::settings::Settings;
use crate::streams::{self, Provision, StreamConfig, Streams};

mod dead_letters;
mod dispatch;
pub mod driver;
mod durable;
mod handler;
pub(crate) mod headers;
mod intake;
mod later;
pub mod memory;
mod message;
mod messages;
pub mod nats;
mod publish;
mod publish_acked;
mod publish_many;
mod request;
pub(crate) mod subject;
mod subscription;
mod topic;

pub use dead_letters::{
    DeadLetter, DeadLetterList, DeadLetters, Replay, ReplayAll, ReplayFailure, ReplayReport,
};
pub use driver::{Acked, Driver, Start};
pub use durable::{DeliveryInfo, Durable};
pub use handler::{Handler, HandlerResult, Outcome, with};
pub use later::{CancelSchedule, PublishLater, Scheduled};
pub use message::Message;
pub use messages::{Messages, MessagesOf};
pub use publish::{Delivery, Publish};
pub use publish_acked::{Ack, PublishAcked};
pub use publish_many::{
    Outgoing, PublishFailure, PublishMany, PublishProgress, PublishReport, Way,
};
pub use request::{Flush, Request};
pub use subscription::{Subscribe, Subscription, SubscriptionStats};
pub use topic::IntoTopic;

pub(crate) use dispatch::{Task, Tasks};
pub(crate) use intake::Intake;
use publish::Draft;

/// The limit of a call on a driver that was not made from settings.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit of the drain of such a driver.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A pub/sub handle: a driver with a topic prefix and a serializer. Cheap to clone.
///
/// Topics are what users give; the prefix is put before them as given, on every call but those
/// with `.ignore_prefix()`, and taken off again from what arrives.
#[derive(Clone)]
pub struct PubSub(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    target: Target,
    /// `None`: the target's own.
    prefix: Option<Arc<str>>,
    serializer: Option<Serializer>,
}

#[derive(Clone)]
enum Target {
    Driver(Core),
    /// Whatever is the default when a call is made.
    Default,
}

/// A driver with what belongs to it.
#[derive(Clone)]
struct Core {
    driver: Arc<dyn Driver>,
    /// The same driver, where calls to it need no boxed future.
    nats: Option<nats::NatsDriver>,
    timeout: Duration,
    life: Arc<Life>,
    metrics: metrics::PubSub,
}

impl Core {
    fn tasks(&self) -> &Tasks {
        &self.life.tasks
    }
}

thread_local! {
    static LOCAL: Local<PubSub> = const { RefCell::new((0, None)) };
}
static REGISTRY: Registry<PubSub> = Registry::new(&LOCAL);

impl PubSub {
    /// A handle on `driver`: no prefix, JSON, calls limited to 10 s. At shutdown its subscriptions
    /// drain within 30 s.
    #[must_use]
    pub fn new(driver: impl Driver) -> Self {
        let driver = Arc::new(driver);
        let back_end = BackEnd::Driver(driver.clone());
        let connection = metrics::Connection::new(driver.name(), "");
        let life = Life::begin(back_end, DEFAULT_DRAIN_TIMEOUT, Arc::default(), connection);
        let metrics = metrics::PubSub::new(driver.name(), "");
        PubSub::build(driver, None, life, metrics, DEFAULT_TIMEOUT, "", Serializer::json())
    }

    /// The connector's handle, as its settings say.
    pub(crate) fn configured(driver: impl Driver, life: Arc<Life>, settings: &Settings) -> Self {
        let nats = (&driver as &dyn Any).downcast_ref::<nats::NatsDriver>().cloned();
        let serializer = Serializer::by_name(settings.serializer()).unwrap_or_default();
        let (timeout, prefix) = (settings.request_timeout(), settings.topic_prefix());
        let metrics = metrics::PubSub::new(driver.name(), settings.domain_name());
        PubSub::build(Arc::new(driver), nats, life, metrics, timeout, prefix, serializer)
    }

    fn build(
        driver: Arc<dyn Driver>,
        nats: Option<nats::NatsDriver>,
        life: Arc<Life>,
        metrics: metrics::PubSub,
        timeout: Duration,
        prefix: &str,
        serializer: Serializer,
    ) -> Self {
        PubSub(Arc::new(Inner {
            target: Target::Driver(Core { driver, nats, timeout, life, metrics }),
            prefix: Some(prefix.into()),
            serializer: Some(serializer),
        }))
    }

    fn following_default() -> Self {
        PubSub(Arc::new(Inner { target: Target::Default, prefix: None, serializer: None }))
    }

    /// The same handle with another topic prefix, which is put before topics as it is: end it with
    /// a dot to make it a token of its own.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        PubSub(Arc::new(Inner { prefix: Some(prefix.into()), ..(*self.0).clone() }))
    }

    /// The same handle with another serializer. Another than JSON writes a `Content-Type` header.
    #[must_use]
    pub fn with_serializer(&self, serializer: Serializer) -> Self {
        PubSub(Arc::new(Inner { serializer: Some(serializer), ..(*self.0).clone() }))
    }

    /// The driver.
    ///
    /// # Errors
    /// `NotRegistered` on the default handle before there is a default.
    pub fn driver(&self) -> Result<Arc<dyn Driver>> {
        Ok(self.bind()?.core().driver.clone())
    }

    /// Publishes a value: fire and forget, at most once. Awaiting it hands the message to the
    /// connection; [`flush`](Self::flush) proves that the server has it, and
    /// [`jetstream()`](Publish::jetstream) that a stream stored it.
    ///
    /// The value is encoded now, so nothing is borrowed. The topic is a `&'static str`, a `String`
    /// or a `Subject`.
    ///
    /// # Errors
    /// `InvalidInput` for a topic with wildcards, empty tokens or white space; `Encode`;
    /// `TooLarge` above the server's payload limit; `Unavailable` while disconnected; `Timeout`
    /// when the connection takes no more; `Closed`. In all these cases nothing was sent.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the message was not sent.
    pub fn publish<T: Serialize + ?Sized, S: IntoTopic>(
        &self,
        topic: S,
        value: &T,
    ) -> Publish<impl Delivery + use<T, S>> {
        publish::publish(Draft::of(self.bind(), topic.into_topic(), value))
    }

    /// Publishes bytes as they are, without a `Content-Type`; otherwise as
    /// [`publish`](Self::publish).
    pub fn publish_bytes<S: IntoTopic, B: Into<Bytes>>(
        &self,
        topic: S,
        payload: B,
    ) -> Publish<impl Delivery + use<S, B>> {
        publish::publish(Draft::new(self.bind(), topic.into_topic(), |_| Ok(payload.into())))
    }

    /// Publishes many messages into streams, each acknowledged: a bounded window of them under way,
    /// or the fastest way that server and stream have. An item is what [`publish`](Self::publish)
    /// gives, with its headers, or its [`jetstream()`](Publish::jetstream) with its options; it is
    /// encoded when the input is read, which happens only as the window has room.
    ///
    /// Awaiting it gives a [`PublishReport`]: one message that fails fails alone. Options:
    /// [`window`](Call::window), [`message_ids`](Call::message_ids), [`each`](Call::each),
    /// [`progress`](Call::progress), [`stop_on_failure`](Call::stop_on_failure),
    /// [`all_or_nothing`](Call::all_or_nothing), [`without_fast_ingest`](Call::without_fast_ingest).
    ///
    /// Messages reach a stream in the order of the input as long as none of them is sent again.
    /// One that no stream took is sent again within its time limit, since it is not stored. One
    /// whose acknowledgement did not come is sent again only under a message id; without one it
    /// fails with [`may_be_stored`](PublishFailure::may_be_stored). While the connection is lost,
    /// messages wait for it until their time limit.
    ///
    /// ```
    /// # async fn import(pubsub: &nats_connector::pubsub::PubSub) -> nats_connector::Result<()> {
    /// let handle = pubsub.clone();
    /// let items = (0..100_000).map(move |n| handle.publish("readings.roof", &n));
    /// let report = pubsub.publish_many(items).message_ids("import-7").await?.into_result()?;
    /// println!("{} stored in {:?} by {}", report.stored, report.elapsed, report.way);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a window out of range, `Unsupported` where the driver does not acknowledge
    /// messages, `Unavailable`, `Closed`; with [`all_or_nothing`](Call::all_or_nothing) whatever is
    /// wrong. What is wrong with single messages, and a connection that is lost for good in the
    /// middle, is in the report.
    ///
    /// # Cancel safety
    /// Dropped before it is done, what was sent may be stored, and the rest is not sent.
    pub fn publish_many<I>(&self, items: I) -> Call<PublishMany<stream::Iter<I::IntoIter>>>
    where
        I: IntoIterator,
        I::IntoIter: Send + 'static,
        I::Item: Into<Outgoing>,
    {
        self.publish_stream(stream::iter(items))
    }

    /// [`publish_many`](Self::publish_many) from a `Stream`. While it has no item, answers to what was
    /// sent still come in.
    ///
    /// # Errors
    /// As [`publish_many`](Self::publish_many).
    ///
    /// # Cancel safety
    /// As [`publish_many`](Self::publish_many).
    pub fn publish_stream<S>(&self, items: S) -> Call<PublishMany<S>>
    where
        S: Stream + Send + 'static,
        S::Item: Into<Outgoing>,
    {
        Call::new(PublishMany::new(self.clone(), items))
    }

    /// Subscribes: `handler` gets the messages in order, one at a time. The call is done when the
    /// server has the subscription. Options: [`queue`](Call::queue),
    /// [`concurrency`](Call::concurrency).
    ///
    /// # Errors
    /// `InvalidInput` for a malformed topic, `Unauthorized` when it is not permitted,
    /// `Unavailable`, `Timeout`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropped before it is done, there is no subscription.
    pub fn subscribe<H: Handler>(&self, topic: impl IntoTopic, handler: H) -> Call<Subscribe<H>> {
        Call::new(Subscribe::new(self.clone(), topic.into_topic(), handler))
    }

    /// Subscribes and gives the messages as a `Stream`; dropping it unsubscribes.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    ///
    /// # Cancel safety
    /// Dropped before it is done, there is no subscription.
    pub fn messages(&self, topic: impl IntoTopic) -> Call<MessagesOf> {
        Call::new(MessagesOf::new(self.clone(), topic.into_topic()))
    }

    /// Sends a value and waits for the first answer.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); `Unavailable` with
    /// [`is_no_responders`](crate::Error::is_no_responders) when nobody subscribes to the topic, at
    /// once; `Timeout` when a subscriber did not answer in time.
    ///
    /// # Cancel safety
    /// Dropped once polled, the request may have been sent; its answer is discarded.
    pub fn request<T: Serialize + ?Sized>(
        &self,
        topic: impl IntoTopic,
        value: &T,
    ) -> Call<Request> {
        Call::new(Request::new(Draft::of(self.bind(), topic.into_topic(), value)))
    }

    /// A round trip: when it is done, the server has all that was published before on this handle's
    /// connection.
    ///
    /// # Errors
    /// `Unauthorized` naming a subject that an earlier publish was refused, `Unavailable`,
    /// `Timeout`, `Closed`.
    pub fn flush(&self) -> Call<Flush> {
        Call::new(Flush::new(self.clone()))
    }

    /// Makes the stream of `config`, or checks the one that is there, which stays as it is: how it
    /// differs is logged and told. The handle's prefix is put before each subject. Options:
    /// [`update`](Call::update), [`ignore_prefix`](Call::ignore_prefix).
    ///
    /// Of several that make it at the same time one does, and all succeed. With
    /// [`schedules`](StreamConfig::schedules) the stream gets one more subject, for the schedules.
    ///
    /// # Errors
    /// `InvalidInput` for a name, subject or option that cannot be; `Conflict` when another stream
    /// has one of the subjects; `Unsupported` for an option that the server lacks (the stream is
    /// not made then), more replicas than it has servers, and on a driver without streams;
    /// `Unauthorized` naming the subject that is not permitted; `Unavailable`, `Timeout`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropped once polled, the stream may have been made.
    pub fn stream(&self, config: StreamConfig) -> Call<Provision> {
        Provision::call(self.clone(), config)
    }

    /// The driver's streams, to ask for, change, empty and delete them.
    #[must_use]
    pub fn streams(&self) -> Streams {
        Streams::new(self.clone())
    }

    /// What calls on streams need of this handle.
    pub(crate) fn target(&self) -> Result<streams::Target> {
        let bound = self.bind()?;
        let Core { driver, timeout, life, .. } = bound.core().clone();
        Ok(streams::Target { driver, life, prefix: bound.prefix().to_owned(), timeout })
    }

    /// Encodes a value as [`publish`](Self::publish) does.
    ///
    /// # Errors
    /// `Encode`; `NotRegistered` on the default handle before there is a default.
    pub fn marshal<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        self.bind()?.serializer().encode(value)
    }

    /// Decodes bytes with this handle's serializer.
    ///
    /// # Errors
    /// `Decode`; `NotRegistered` on the default handle before there is a default.
    pub fn unmarshal<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        self.bind()?.serializer().decode(bytes)
    }

    /// The handle on a driver that this one stands for now.
    #[inline]
    pub(crate) fn bind(&self) -> Result<PubSub> {
        match &self.0.target {
            Target::Driver(_) => Ok(self.clone()),
            Target::Default => {
                let default = REGISTRY.default()?;
                if self.0.prefix.is_none() && self.0.serializer.is_none() {
                    return Ok(default);
                }
                let Inner { target, prefix, serializer } = (*default.0).clone();
                Ok(PubSub(Arc::new(Inner {
                    target,
                    prefix: self.0.prefix.clone().or(prefix),
                    serializer: self.0.serializer.clone().or(serializer),
                })))
            }
        }
    }

    /// Only on what [`bind`](Self::bind) gave.
    #[inline]
    fn core(&self) -> &Core {
        match &self.0.target {
            Target::Driver(core) => core,
            Target::Default => unreachable!("a bound handle has a driver"),
        }
    }

    #[inline]
    fn prefix(&self) -> &str {
        self.0.prefix.as_deref().unwrap_or_default()
    }

    #[inline]
    fn serializer(&self) -> &Serializer {
        static JSON: std::sync::LazyLock<Serializer> = std::sync::LazyLock::new(Serializer::json);
        self.0.serializer.as_ref().unwrap_or(&JSON)
    }

    /// The full subject of a topic.
    fn subject(&self, topic: &str) -> Subject {
        [self.prefix(), topic].concat().into()
    }
}

impl fmt::Debug for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = match &self.0.target {
            Target::Driver(core) => core.driver.name(),
            Target::Default => "(default)",
        };
        f.debug_struct("PubSub")
            .field("driver", &driver)
            .field("prefix", &self.0.prefix)
            .field("serializer", &self.0.serializer)
            .finish()
    }
}

impl<D: Driver> From<D> for PubSub {
    fn from(driver: D) -> Self {
        PubSub::new(driver)
    }
}

/// The connector's own handle becomes the default, unless the application chose one.
pub(crate) fn register(handle: PubSub) {
    REGISTRY.register("nats", handle);
}

/// Makes a driver, or a handle with its prefix and serializer, the default one.
/// [`register()`](crate::register) does not replace it.
pub fn set_default_driver(handle: impl Into<PubSub>) {
    REGISTRY.set_default(handle.into());
}

/// Makes a driver known under a name. The first one is the default until another is set.
///
/// # Errors
/// `AlreadyExists` for a name in use, `InvalidInput` for an empty one.
pub fn add_driver(name: impl Into<String>, handle: impl Into<PubSub>) -> Result<()> {
    REGISTRY.add(name.into(), handle.into())
}

/// A handle on the default driver. Made before there is one, it binds when first used, and it
/// follows when the default changes.
#[must_use]
pub fn default_driver() -> PubSub {
    PubSub::following_default()
}

/// The handle known under a name: `nats` after [`register()`](crate::register).
#[must_use]
pub fn driver(name: &str) -> Option<PubSub> {
    REGISTRY.get(name)
}

/// The names of all drivers, in the order they were added.
#[must_use]
pub fn drivers() -> Vec<String> {
    REGISTRY.names()
}

/// [`PubSub::publish`] on the default driver.
pub fn publish<T: Serialize + ?Sized, S: IntoTopic>(
    topic: S,
    value: &T,
) -> Publish<impl Delivery + use<T, S>> {
    publish::publish(Draft::of(REGISTRY.default(), topic.into_topic(), value))
}

/// [`PubSub::publish_bytes`] on the default driver.
pub fn publish_bytes<S: IntoTopic, B: Into<Bytes>>(
    topic: S,
    payload: B,
) -> Publish<impl Delivery + use<S, B>> {
    publish::publish(Draft::new(REGISTRY.default(), topic.into_topic(), |_| Ok(payload.into())))
}

/// [`PubSub::publish_many`] on the default driver.
pub fn publish_many<I>(items: I) -> Call<PublishMany<stream::Iter<I::IntoIter>>>
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
    I::Item: Into<Outgoing>,
{
    default_driver().publish_many(items)
}

/// [`PubSub::publish_stream`] on the default driver.
pub fn publish_stream<S>(items: S) -> Call<PublishMany<S>>
where
    S: Stream + Send + 'static,
    S::Item: Into<Outgoing>,
{
    default_driver().publish_stream(items)
}

/// [`PubSub::subscribe`] on the default driver.
pub fn subscribe<H: Handler>(topic: impl IntoTopic, handler: H) -> Call<Subscribe<H>> {
    default_driver().subscribe(topic, handler)
}

/// [`PubSub::cancel_schedule`] on the default driver.
pub fn cancel_schedule(topic: impl IntoTopic, name: impl Into<String>) -> Call<CancelSchedule> {
    default_driver().cancel_schedule(topic, name)
}

/// [`PubSub::dead_letters`] on the default driver.
pub fn dead_letters(durable: impl Into<String>) -> DeadLetters {
    default_driver().dead_letters(durable)
}

/// [`PubSub::messages`] on the default driver.
pub fn messages(topic: impl IntoTopic) -> Call<MessagesOf> {
    default_driver().messages(topic)
}

/// [`PubSub::request`] on the default driver.
pub fn request<T: Serialize + ?Sized>(topic: impl IntoTopic, value: &T) -> Call<Request> {
    default_driver().request(topic, value)
}

/// [`PubSub::flush`] on the default driver.
pub fn flush() -> Call<Flush> {
    default_driver().flush()
}

/// [`PubSub::stream`] on the default driver.
pub fn stream(config: StreamConfig) -> Call<Provision> {
    default_driver().stream(config)
}

/// [`PubSub::streams`] of the default driver.
#[must_use]
pub fn streams() -> Streams {
    default_driver().streams()
}

/// [`PubSub::marshal`] with the default driver's serializer.
///
/// # Errors
/// `Encode`, `NotRegistered`.
pub fn marshal<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
    default_driver().marshal(value)
}

/// [`PubSub::unmarshal`] with the default driver's serializer.
///
/// # Errors
/// `Decode`, `NotRegistered`.
pub fn unmarshal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    default_driver().unmarshal(bytes)
}
