//! Endpoints before their service starts, and groups of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Serve;
use super::running::Work;
use crate::rpc::interceptor::Interceptors;
use crate::rpc::persist::Place;
use crate::rpc::{Interceptor, Kind, Method};

/// A queue group as it is asked for: `None` where the level above decides, `Some(None)` for none.
pub(super) type Queue = Option<Option<String>>;

/// What answers the calls of one method. Made by [`unary`](Self::unary) and its streaming kin, and
/// given to a [service](super::ServiceBuilder::endpoint).
#[must_use = "an endpoint does nothing until it is given to a service"]
pub struct Endpoint {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) timeout: Option<Duration>,
    pub(super) queue: Queue,
    pub(super) concurrency: Option<usize>,
    pub(super) waiting: Option<usize>,
    pub(super) interceptors: Interceptors,
    pub(super) window: Option<u32>,
    /// Where its responses are kept, and where only clients keep them.
    pub(super) places: Vec<Place>,
    pub(super) streams_kept: bool,
    pub(super) work: Box<dyn Work>,
}

impl Endpoint {
    /// The endpoint of a method that `serve` answers.
    pub(crate) fn new<Req: 'static, Res: 'static>(
        method: &Method<Req, Res>,
        kind: Kind,
        serve: impl Serve,
    ) -> Self {
        Endpoint {
            name: method.0.name.clone(),
            kind,
            metadata: method.0.metadata.clone(),
            timeout: method.0.timeout,
            queue: None,
            concurrency: None,
            waiting: None,
            interceptors: Interceptors::default(),
            window: method.0.window,
            places: method.0.persist.iter().map(|persist| persist.place.clone()).collect(),
            streams_kept: kind != Kind::Unary
                && method.0.persist.iter().any(|persist| !persist.client_only),
            work: Box::new(Arc::new(serve)),
        }
    }

    /// How many calls run at once: 1 to 65,536. Default: the service's.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = Some(calls);
        self
    }

    /// How many calls may wait when as many run as can: up to 1,000,000. Further ones are refused
    /// with [`RESOURCE_EXHAUSTED`](crate::rpc::code::RESOURCE_EXHAUSTED). Default: the service's.
    pub fn waiting(mut self, calls: usize) -> Self {
        self.waiting = Some(calls);
        self
    }

    /// The queue group, of whose members one gets each call. Default: the group's or service's.
    pub fn queue(mut self, group: impl Into<String>) -> Self {
        self.queue = Some(Some(group.into()));
        self
    }

    /// No queue group: every instance gets every call, and the first answer is taken.
    pub fn no_queue(mut self) -> Self {
        self.queue = Some(None);
        self
    }

    /// Limits the handler of each call, in place of the method's limit. It counts from when the call
    /// has come in, so waiting is part of it. Zero: no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Adds to what the service says of the endpoint.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Puts an interceptor around its calls, inside those that are there.
    pub fn intercept(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.add(interceptor);
        self
    }

    /// The method's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many messages go each way.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Endpoints that share tokens of their subjects, `{prefix}.{group}.{name}`, and a queue group.
#[derive(Debug)]
#[must_use = "a group does nothing until it is given to a service"]
pub struct Group {
    pub(super) subject: String,
    pub(super) queue: Queue,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) groups: Vec<Group>,
}

impl Group {
    /// A group with one token or more, joined by dots.
    pub fn new(subject: impl Into<String>) -> Self {
        Group { subject: subject.into(), queue: None, endpoints: Vec::new(), groups: Vec::new() }
    }

    /// The queue group of its endpoints. Default: that of the level above.
    pub fn queue(mut self, group: impl Into<String>) -> Self {
        self.queue = Some(Some(group.into()));
        self
    }

    /// No queue group for its endpoints.
    pub fn no_queue(mut self) -> Self {
        self.queue = Some(None);
        self
    }

    /// Adds an endpoint.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Adds endpoints.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.endpoints.extend(endpoints);
        self
    }

    /// The methods of all its endpoints with where their responses are kept.
    pub(super) fn places(&self) -> Vec<(&str, &Place)> {
        let own = self.endpoints.iter().flat_map(|endpoint| {
            endpoint.places.iter().map(|place| (endpoint.name.as_str(), place))
        });
        own.chain(self.groups.iter().flat_map(Group::places)).collect()
    }

    /// Adds a group within this one.
    pub fn group(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }
}
