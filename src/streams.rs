//! Streams: what keeps published messages until they are handled, or for as long as they are wanted.
//!
//! A [`StreamConfig`] says what a stream keeps. [`PubSub::stream`](crate::pubsub::PubSub::stream)
//! makes the stream, or checks the one that is there; [`Streams`] asks, changes, empties and deletes
//! streams. In the settings a stream is `STREAMS.<NAME>.SUBJECTS` and so on, which
//! [`apply_streams`](crate::connector::Register::apply_streams) makes when the connector is registered.
//!
//! ```no_run
//! # async fn example() -> nats_connector::Result<()> {
//! use std::time::Duration;
//! use nats_connector::pubsub;
//! use nats_connector::streams::StreamConfig;
//!
//! let orders = StreamConfig::new("ORDERS", ["orders.>"]).max_age(Duration::from_secs(7 * 86_400));
//! let stream = pubsub::stream(orders).await?;
//! println!("{} messages", stream.status.messages);
//! # Ok(())
//! # }
//! ```

mod apply;
mod check;
mod config;
mod declared;
mod handle;
mod provision;
mod schedules;
mod status;

pub use apply::Apply;
pub use config::{Discard, Retention, StreamConfig};
pub use handle::{Purge, Streams, Update};
pub use provision::{Provision, ProvisionedStream};
pub use status::StreamStatus;

pub use crate::kv::Storage;

pub(crate) use check::check_name;
pub(crate) use declared::Declared;
pub(crate) use handle::Target;
