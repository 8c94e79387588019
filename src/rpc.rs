//! Services that answer calls, and the clients that make them: the NATS micro protocol (ADR-32),
//! wire-compatible with protoc-gen-nats-micro, with responses that persist themselves.
//!
//! A [`Method`] describes a call for both sides: its name, how its messages are encoded, its time
//! limit, and where its responses are kept. A [`ServiceConfig`] names the service that it belongs
//! to.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let nats = nats_connector::Connector::memory();
//! use nats_connector::rpc::{Endpoint, Method, Request, RpcError, ServiceConfig};
//!
//! // What both sides know.
//! let math = || ServiceConfig::new("math").prefix("api.v1.math");
//! let halve = Method::<u64, u64>::json("halve");
//!
//! let handler = |request: Request<u64>| async move {
//!     match request.get() {
//!         n if n % 2 == 0 => Ok(n / 2),
//!         n => Err(RpcError::invalid_argument(format!("{n} is odd"))),
//!     }
//! };
//! let endpoint = Endpoint::unary(&halve, handler);
//! let service = nats.rpc().service(math()).endpoint(endpoint).serve().await?;
//!
//! let client = nats.rpc().client(math());
//! assert_eq!(client.call(&halve, 42).await?.into_inner(), 21);
//! assert!(client.call(&halve, 7).await.unwrap_err().is("INVALID_ARGUMENT"));
//! assert_eq!(service.stats().endpoints[0].num_requests, 2);
//! # Ok(())
//! # }
//! ```
//!
//! Calls of an endpoint run at once up to its [`concurrency`](Endpoint::concurrency), then wait up to
//! [`waiting`](Endpoint::waiting), then are refused at once: one that is slow or full holds up no
//! other. A handler's panic ends its call alone. A service drains with its connector.

mod client;
#[cfg(feature = "macros")]
mod code_first;
mod codec;
mod config;
mod discovery;
mod error;
mod interceptor;
mod key;
mod message;
mod method;
mod micro;
mod persist;
#[cfg(feature = "protobuf")]
pub mod protobuf;
mod server;
mod stored;
mod stream;
mod traced;

pub use client::{Client, Unary};
#[cfg(feature = "macros")]
pub use code_first::{key, service};
pub use codec::{Codec, Json, MessagePack};
pub use config::ServiceConfig;
pub use discovery::{Discover, Found, Search};
pub use error::{RpcError, code};
pub use interceptor::{Interceptor, Next, RawCall, Reply, Served};
pub use key::{KeyPart, KeyText};
pub use message::{Request, Response};
pub use method::{Kind, Method};
pub use micro::{EndpointInfo, EndpointStats, ServiceInfo, ServicePing, ServiceStats};
pub use persist::{Persist, Policy, Receipt, StoreStatus};
pub use server::{Endpoint, Group, Service, ServiceBuilder, ServiceHealth};
pub use stored::{Answer, Change, Changes, Origin, Stored, Through};
pub use stream::{ClientStream, Open, Receiver, Sender};
pub use traced::Traced;

use crate::kv::Kv;
use crate::objects::Objects;
use crate::pubsub::PubSub;

/// The result of a call, and of what serves one.
pub type Result<T, E = RpcError> = std::result::Result<T, E>;

/// The handle of services and clients: it stands on pub/sub of any driver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rpc {
    pubsub: PubSub,
    kv: Option<Kv>,
    objects: Option<Objects>,
}

impl Rpc {
    /// A handle on `pubsub`, whose topic prefix goes before the subjects of methods. Nothing is kept
    /// of responses until it has stores.
    #[must_use]
    pub fn new(pubsub: impl Into<PubSub>) -> Self {
        Rpc { pubsub: pubsub.into(), kv: None, objects: None }
    }

    /// The same with a key-value store to keep responses in.
    #[must_use]
    pub fn with_kv(mut self, kv: Kv) -> Self {
        self.kv = Some(kv);
        self
    }

    /// The same with an object store to keep responses in.
    #[must_use]
    pub fn with_objects(mut self, objects: Objects) -> Self {
        self.objects = Some(objects);
        self
    }

    /// Where it publishes and subscribes.
    #[must_use]
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Where responses are kept that go to key-value buckets.
    #[must_use]
    pub fn kv(&self) -> Option<&Kv> {
        self.kv.as_ref()
    }

    /// Where responses are kept that go to buckets of objects.
    #[must_use]
    pub fn objects(&self) -> Option<&Objects> {
        self.objects.as_ref()
    }

    /// Where responses are kept.
    pub(crate) fn stores(&self) -> persist::Stores {
        persist::Stores { kv: self.kv.clone(), objects: self.objects.clone() }
    }

    /// A service to add endpoints to and to start.
    pub fn service(&self, config: ServiceConfig) -> ServiceBuilder {
        ServiceBuilder::new(self.clone(), config)
    }

    /// Asks services for themselves.
    #[must_use]
    pub fn discover(&self) -> Discover {
        Discover::new(self.clone())
    }

    /// A client of a service.
    #[must_use]
    pub fn client(&self, config: ServiceConfig) -> Client {
        Client::new(self.clone(), config)
    }
}
