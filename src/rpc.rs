//! Services that answer calls, and the clients that make them: the NATS micro protocol (ADR-32),
//! wire-compatible with protoc-gen-nats-micro, with responses that persist themselves.
//!
//! A [`Method`] describes a call for both sides: its name, how its messages are encoded, its time
//! limit, and where its responses are kept. A [`ServiceConfig`] names the service that it belongs
//! to.

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
