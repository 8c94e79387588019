//! A method: what both sides of a call agree on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, Json, MessagePack, Persist};

/// How many messages go each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One request, one response.
    Unary,
    /// One request, a stream of responses.
    ServerStream,
    /// A stream of requests, one response.
    ClientStream,
    /// A stream each way.
    Bidi,
}

/// A method of a service. Cheap to clone; services and clients are given the same one.
pub struct Method<Req, Res>(pub(crate) Arc<Inner<Req, Res>>);

pub(crate) struct Inner<Req, Res> {
    pub(crate) name: String,
    pub(crate) request: Arc<dyn Codec<Req>>,
    pub(crate) response: Arc<dyn Codec<Res>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) window: Option<u32>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) persist: Vec<Persist<Req>>,
}

impl<Req: 'static, Res: 'static> Method<Req, Res> {
    /// The method `name` (letters, digits, `_` and `-`), which is also the last token of its
    /// subject, with messages in JSON.
    #[must_use]
    pub fn json(name: impl Into<String>) -> Self
    where
        Req: Serialize + DeserializeOwned,
        Res: Serialize + DeserializeOwned,
    {
        Method::with_codec(name, Json)
    }

    /// The same with messages in MessagePack.
    #[must_use]
    pub fn message_pack(name: impl Into<String>) -> Self
    where
        Req: Serialize + DeserializeOwned,
        Res: Serialize + DeserializeOwned,
    {
        Method::with_codec(name, MessagePack)
    }

    /// The same with messages in a format of your own.
    #[must_use]
    pub fn with_codec(
        name: impl Into<String>,
        codec: impl Codec<Req> + Codec<Res> + Clone,
    ) -> Self {
        Method::with_codecs(name, codec.clone(), codec)
    }

    /// The same with a format for requests and one for responses.
    #[must_use]
    pub fn with_codecs(
        name: impl Into<String>,
        request: impl Codec<Req>,
        response: impl Codec<Res>,
    ) -> Self {
        Method(Arc::new(Inner {
            name: name.into(),
            request: Arc::new(request),
            response: Arc::new(response),
            timeout: None,
            window: None,
            metadata: BTreeMap::new(),
            persist: Vec::new(),
        }))
    }

    /// Limits each call: at the service its handler, at a client the whole call. Zero: as the
    /// [service](super::ServiceConfig::timeout) says, which is the default.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.edit(|inner| inner.timeout = (!timeout.is_zero()).then_some(timeout))
    }

    /// How many messages a stream of it may be ahead of its reader, each way, where the other side
    /// knows of it: 1 to 65,536; more is refused when a service or a stream is started with it. So
    /// many wait in memory. Zero: 256, which is the default.
    #[must_use]
    pub fn window(self, messages: u32) -> Self {
        self.edit(|inner| inner.window = (messages != 0).then_some(messages))
    }

    /// Adds to what the service says of the method.
    #[must_use]
    pub fn metadata(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.edit(|inner| drop(inner.metadata.insert(name.into(), value.into())))
    }

    /// Keeps each response of a call that succeeds. Given again, in a further place.
    #[must_use]
    pub fn persist(self, persist: Persist<Req>) -> Self {
        self.edit(|inner| inner.persist.push(persist))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner<Req, Res>)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl<Req, Res> Clone for Inner<Req, Res> {
    fn clone(&self) -> Self {
        Inner {
            name: self.name.clone(),
            request: self.request.clone(),
            response: self.response.clone(),
            timeout: self.timeout,
            window: self.window,
            metadata: self.metadata.clone(),
            persist: self.persist.clone(),
        }
    }
}

impl<Req, Res> Clone for Method<Req, Res> {
    fn clone(&self) -> Self {
        Method(self.0.clone())
    }
}

impl<Req, Res> fmt::Debug for Method<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method")
            .field("name", &self.0.name)
            .field("timeout", &self.0.timeout)
            .field("persist", &self.0.persist)
            .finish_non_exhaustive()
    }
}
