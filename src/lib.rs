//! One settings-driven NATS connection for Rust services, and on it publish and subscribe, request
//! and reply, a key-value store, objects, services, and a graceful shutdown that finishes what is under
//! way.
//!
//! ```no_run
//! use nats_connector::pubsub::Message;
//! use nats_connector::{kv, pubsub, shutdown};
//!
//! #[tokio::main]
//! async fn main() -> nats_connector::Result<()> {
//!     nats_connector::register().await?; // NATS.* from file, environment and arguments
//!
//!     pubsub::subscribe("orders.created", on_order).queue("workers").await?;
//!     pubsub::publish("orders.created", &9.5).await?;
//!
//!     let report = shutdown::wait().await; // SIGINT or SIGTERM: hooks, drain, report
//!     std::process::exit(report.exit_code());
//! }
//!
//! async fn on_order(msg: Message) -> nats_connector::Result<()> {
//!     let total: f64 = msg.decode()?;
//!     kv::set("last:order", &total).await?;
//!     Ok(())
//! }
//! ```
//!
//! # The types
//!
//! | | |
//! |---|---|
//! | [`Settings`] | every knob, checked, from files, environment, arguments and code |
//! | [`Connector`] | one connection and all that stands on it; [`register()`] makes the default one |
//! | [`PubSub`](pubsub::PubSub) | publish, subscribe, request; a driver with prefix and serializer |
//! | [`Message`](pubsub::Message) | what a handler gets |
//! | [`StreamConfig`](streams::StreamConfig) | a stream to make or compare: what is published and kept |
//! | [`Durable`](pubsub::Durable) | a subscription that handles each message of a stream at least once |
//! | [`layers`] | what wraps handlers: time limit, retry, deduplication, tracing |
//! | [`Kv`](kv::Kv) | a key-value bucket; a driver with prefixes and serializer |
//! | [`Objects`](objects::Objects) | values of any size, streamed both ways |
//! | [`Rpc`](rpc::Rpc) | services and clients of the NATS micro protocol; responses that are kept |
//! | [`Stores`] | key-value buckets by name, described in settings, opened when first used |
//! | [`Serializer`] | JSON, MessagePack, text, or a format of your own |
//! | [`ShutdownReport`](shutdown::ShutdownReport) | how a shutdown went |
//! | [`Error`], [`ErrorKind`] | what went wrong, in the terms a caller acts on |
//!
//! The functions of [`pubsub`] and [`kv`] are the same calls on the default connector. Who wants two
//! clusters, or tests side by side, holds [`Connector`]s and never meets the default.
//!
//! Calls are builders: required arguments first, options chained, `.await` runs them. Every call on
//! the network ends by a deadline, its own (`.timeout(..)`) or `NATS.REQUEST_TIMEOUT`. A miss is
//! `Ok(None)`; an outage is an error.
//!
//! # Recipes
//!
//! **Without a server**, for tests and first steps:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nats_connector::Result<()> {
//! let nats = nats_connector::Connector::memory();
//! nats.kv().set("user:1", "Ada").await?;
//! assert_eq!(nats.kv().get("user:1").await?, Some("Ada".to_owned()));
//! # Ok(())
//! # }
//! ```
//!
//! **Settings in code**, over what file and environment say:
//!
//! ```no_run
//! # async fn example() -> nats_connector::Result<()> {
//! use nats_connector::Settings;
//!
//! let settings = Settings::builder().find_file("").env().args().set("NATS.NAME", "billing").build()?;
//! let connector = nats_connector::register_with(settings).await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Store before going on**: an acknowledged publish into a stream.
//!
//! ```no_run
//! # async fn example(order: u32) -> nats_connector::Result<()> {
//! use nats_connector::pubsub;
//!
//! let ack = pubsub::publish("orders.created", &order).jetstream().message_id("order-1").await?;
//! println!("{} has it as number {}", ack.stream, ack.sequence);
//! # Ok(())
//! # }
//! ```
//!
//! **Handlers with state, several at once**:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nats_connector::Result<()> {
//! # let nats = nats_connector::Connector::memory();
//! use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//! use nats_connector::pubsub::{Message, with};
//!
//! async fn count(seen: Arc<AtomicU64>, _msg: Message) {
//!     seen.fetch_add(1, Ordering::Relaxed);
//! }
//! let seen = Arc::new(AtomicU64::new(0));
//! nats.pubsub().subscribe("orders.>", with(seen.clone(), count)).concurrency(8).await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Ask and answer**:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nats_connector::Result<()> {
//! # let nats = nats_connector::Connector::memory();
//! # let pubsub = nats.pubsub();
//! use nats_connector::pubsub::Message;
//!
//! pubsub.subscribe("double", |msg: Message| async move {
//!     let n: u32 = msg.decode()?;
//!     msg.respond(&(n * 2)).await
//! }).await?;
//! assert_eq!(pubsub.request("double", &21).await?.decode::<u32>()?, 42);
//! assert!(pubsub.request("halve", &21).await.unwrap_err().is_no_responders());
//! # Ok(())
//! # }
//! ```
//!
//! **A bucket with a lifetime**:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nats_connector::Result<()> {
//! # let nats = nats_connector::Connector::memory();
//! use std::time::Duration;
//! use nats_connector::kv::BucketConfig;
//!
//! let config = BucketConfig::new("sessions").ttl(Duration::from_secs(3600));
//! let sessions = nats.kv().create_bucket(config).await?;
//! sessions.set("session:abc", &42).await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Stop with an HTTP server**: [`shutdown::requested()`] is the future that servers take, and
//! [`shutdown::on_shutdown`] runs before the drain.
//!
//! **A second cluster**: [`Settings::domain`] and [`Connector::connect`]. A shutdown drains every
//! connector that lives.
//!
//! # What it does not do
//!
//! - Core NATS has no acknowledgement: a message without a subscriber is gone, and a drain cannot prove
//!   more than that the server has what was sent.
//! - It starts no runtime: it runs on Tokio.
//!
//! # Features
//!
//! - `yaml`, `toml` (default): settings files in these formats.
//! - `redis`: the Redis key-value driver.
//! - `macros`: the attribute `service`, which makes services of traits.
//! - `protobuf`: messages of Protobuf, and services of `.proto` files with `nats-connector-build`.
//! - `metrics`: counters, gauges and histograms of all of it, through the `metrics` facade.
//! - `otel`: W3C trace context in the headers of messages, for `tracing-opentelemetry`.
//! - `conformance`: the suites for authors of drivers, outside semver.

mod backoff;
mod call;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod connector;
pub mod counters;
mod deadline;
mod difference;
pub mod doctor;
mod error;
mod jetstream;
pub mod kv;
pub mod layers;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
pub mod objects;
#[cfg(feature = "otel")]
mod otel;
pub mod pubsub;
mod registry;
pub mod rpc;
pub mod serializer;
mod settings;
pub mod shutdown;
pub mod stores;
pub mod streams;

pub use backoff::Backoff;
pub use call::{Call, Task};
pub use connector::{Connector, register, register_with};
pub use counters::Counters;
pub use difference::Difference;
pub use error::{BoxError, Error, ErrorKind, Result};
#[cfg(feature = "macros")]
pub use rpc::service;
pub use serializer::Serializer;
pub use settings::{
    Auth, Format, Key, KeyCodec, MaxReconnect, Secret, Settings, SettingsBuilder, Table, Tls,
    WhenDisconnected,
};
pub use stores::Stores;

/// The examples of the documents, compiled and run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/driver-author.md")]
    mod driver_author {}
}
