//! Services: endpoints that answer calls, found by the NATS micro protocol (ADR-32).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::future::try_join_all;

use super::interceptor::{About, Interceptors};
use super::micro::{ServiceInfo, ServiceStats};
use super::persist::{self, Keeper};
use super::stream::check_window;
use super::{Interceptor, Rpc, ServiceConfig, StoreStatus};
use crate::call::{Call, Task};
use crate::connector::status::RateLimit;
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::Subscription;
use crate::pubsub::subject::{check_publish, check_queue};

mod answer;
mod counters;
mod endpoint;
mod running;
mod serve;
mod unary;
mod verbs;

pub use endpoint::{Endpoint, Group};

pub(crate) use counters::Counters;
pub(crate) use running::Running;
pub(crate) use serve::{Incoming, Keep, Serve};
pub(crate) use unary::request;

use running::Work;

/// Calls of an endpoint that run at once, unless told.
const CONCURRENCY: usize = 256;
/// Calls of an endpoint that may wait, unless told.
const WAITING: usize = 1_024;
const MAX_CONCURRENCY: usize = 65_536;
const MAX_WAITING: usize = 1_000_000;
/// The queue group of endpoints, unless told (ADR-32).
const QUEUE: &str = "q";

/// A service to start, made by [`Rpc::service`].
#[derive(Debug)]
#[must_use = "a service answers nothing until it is served"]
pub struct ServiceBuilder {
    rpc: Rpc,
    config: ServiceConfig,
    root: Group,
    concurrency: usize,
    waiting: usize,
    interceptors: Interceptors,
    ignore_prefix: bool,
}

impl ServiceBuilder {
    pub(super) fn new(rpc: Rpc, config: ServiceConfig) -> Self {
        let root = Group::new(config.prefix.clone());
        ServiceBuilder {
            rpc,
            config,
            root,
            concurrency: CONCURRENCY,
            waiting: WAITING,
            interceptors: Interceptors::default(),
            ignore_prefix: false,
        }
    }

    /// Adds an endpoint.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.root = self.root.endpoint(endpoint);
        self
    }

    /// Adds endpoints.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.root = self.root.endpoints(endpoints);
        self
    }

    /// Adds a group of endpoints.
    pub fn group(mut self, group: Group) -> Self {
        self.root = self.root.group(group);
        self
    }

    /// The queue group of its endpoints, of whose members one gets each call. Default: `q`.
    pub fn queue(mut self, group: impl Into<String>) -> Self {
        self.root = self.root.queue(group);
        self
    }

    /// No queue group: every instance gets every call, and the first answer is taken.
    pub fn no_queue(mut self) -> Self {
        self.root = self.root.no_queue();
        self
    }

    /// How many calls of one endpoint run at once: 1 to 65,536. Default: 256.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls;
        self
    }

    /// How many calls of one endpoint may wait when as many run as can: up to 1,000,000. Further ones
    /// are refused with [`RESOURCE_EXHAUSTED`](super::code::RESOURCE_EXHAUSTED). Default: 1,024.
    pub fn waiting(mut self, calls: usize) -> Self {
        self.waiting = calls;
        self
    }

    /// Puts an interceptor around all its calls, inside those that are there.
    pub fn intercept(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.add(interceptor);
        self
    }

    /// Takes the service's prefix as the start of full subjects, without the handle's topic prefix.
    pub fn ignore_prefix(mut self) -> Self {
        self.ignore_prefix = true;
        self
    }

    /// Starts the service; done when the server has all its subscriptions. It drains with the
    /// connector.
    ///
    /// # Errors
    /// `InvalidInput` for a name (letters, digits, `_` and `-`), version (a semantic one), subject,
    /// queue group or limit that cannot be, for two endpoints with one subject, naming both, and for
    /// methods that want one bucket otherwise, naming the option;
    /// `Unauthorized` naming the subject that may not be subscribed to; `Unavailable`, `Timeout`,
    /// `Closed`.
    ///
    /// # Cancel safety
    /// Dropped before it is done, there is no service.
    pub fn serve(self) -> Call<Task<Result<Service>>> {
        Task::call(move |timeout| async move {
            self.start(timeout).await.map_err(|error| error.operation("serve"))
        })
    }

    async fn start(self, timeout: Option<Duration>) -> Result<Service> {
        let ServiceBuilder { rpc, config, root, concurrency, waiting, interceptors, ignore_prefix } =
            self;
        check_name("service", &config.name)?;
        if let Err(problem) = semver::Version::parse(&config.version) {
            let text = "the version of a service is not a semantic one; give one such as 1.0.0";
            return Err(Error::new(ErrorKind::InvalidInput, text)
                .with("service", config.name)
                .with("version", config.version)
                .with_source(problem));
        }
        let keeper = Keeper::new(&rpc.stores(), root.places())
            .map_err(|error| error.with("service", &config.name))?;
        let plan = Plan {
            rpc: &rpc,
            keeper: keeper.clone(),
            config: &config,
            concurrency,
            waiting,
            interceptors,
            ignore_prefix,
            planned: Vec::new(),
        };
        let planned = plan.of(root).map_err(|error| error.with("service", &config.name))?;
        let service = Service(Arc::new(Inner {
            rpc,
            config,
            id: format!("{:032x}", rand::random::<u128>()),
            started: SystemTime::now(),
            keeper,
            endpoints: planned.iter().map(|(endpoint, _)| endpoint.clone()).collect(),
            subscriptions: Mutex::default(),
        }));
        service.0.keeper.start(timeout).await;
        let starting = Starting(Some(&service));
        let opening = planned.into_iter().map(|(endpoint, work)| {
            let service = &service;
            async move {
                let (subject, queue) = (endpoint.subject.clone(), endpoint.queue.clone());
                let intake = service.0.rpc.pubsub().intake(subject, queue, timeout).await?;
                service.add(endpoint.start(intake, work));
                Ok::<_, Error>(())
            }
        });
        try_join_all(opening).await?;
        verbs::answer(&service, timeout).await?;
        starting.done();
        Ok(service)
    }
}

/// An endpoint, and what makes its workers.
type Planned = (Arc<Running>, Box<dyn Work>);

/// Puts a service's endpoints where they belong.
struct Plan<'a> {
    rpc: &'a Rpc,
    keeper: Arc<Keeper>,
    config: &'a ServiceConfig,
    concurrency: usize,
    waiting: usize,
    interceptors: Interceptors,
    ignore_prefix: bool,
    planned: Vec<Planned>,
}

impl Plan<'_> {
    /// All endpoints with their full subjects, checked.
    fn of(mut self, root: Group) -> Result<Vec<Planned>> {
        self.group("", root, &Some(QUEUE.to_owned()))?;
        let mut subjects = HashMap::new();
        for (endpoint, _) in &self.planned {
            if let Some(other) = subjects.insert(endpoint.subject.as_str(), endpoint) {
                let text = "two endpoints have one subject; rename one, or put it into a group";
                return Err(Error::new(ErrorKind::InvalidInput, text)
                    .with("subject", endpoint.subject.as_str())
                    .with("endpoint", &endpoint.about.method)
                    .with("other", &other.about.method));
            }
        }
        Ok(self.planned)
    }

    fn group(&mut self, above: &str, group: Group, queue: &Option<String>) -> Result<()> {
        let place = joined(above, &group.subject);
        let queue = group.queue.unwrap_or_else(|| queue.clone());
        for endpoint in group.endpoints {
            let planned = self.endpoint(&place, endpoint, &queue)?;
            self.planned.push(planned);
        }
        for inner in group.groups {
            if inner.subject.is_empty() {
                let text = "a group has no subject; give it one token or more";
                return Err(Error::new(ErrorKind::InvalidInput, text));
            }
            self.group(&place, inner, &queue)?;
        }
        Ok(())
    }

    fn endpoint(&self, place: &str, endpoint: Endpoint, queue: &Option<String>) -> Result<Planned> {
        let name = endpoint.name;
        check_name("endpoint", &name)?;
        let topic = joined(place, &name);
        let subject = self.rpc.pubsub().full_subject(&topic, self.ignore_prefix)?;
        check_publish(&subject).map_err(|error| error.with("endpoint", &name))?;
        if subject.starts_with("$SRV.") {
            let text =
                "subjects below $SRV are those of discovery; give the service another prefix";
            return Err(Error::new(ErrorKind::InvalidInput, text).with("endpoint", name));
        }
        check_window(&name, endpoint.window)?;
        let queue = endpoint.queue.unwrap_or_else(|| queue.clone());
        if let Some(queue) = &queue {
            check_queue(queue).map_err(|error| error.with("endpoint", &name))?;
        }
        if endpoint.streams_kept {
            let text = "the responses of a streaming method cannot be kept; take its persist off, or \
                        make it client_only";
            return Err(Error::new(ErrorKind::InvalidInput, text).with("endpoint", &name));
        }
        let concurrency = endpoint.concurrency.unwrap_or(self.concurrency);
        let waiting = endpoint.waiting.unwrap_or(self.waiting);
        let limited = |what, value, range: std::ops::RangeInclusive<usize>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (least, most) = range.into_inner();
            let text = format!("{what} is {value}; give {least} to {most}");
            Err(Error::new(ErrorKind::InvalidInput, text).with("endpoint", &name))
        };
        limited("the concurrency", concurrency, 1..=MAX_CONCURRENCY)?;
        limited("the number of calls that may wait", waiting, 0..=MAX_WAITING)?;
        let timeout = endpoint.timeout.or(self.config.timeout).filter(|limit| !limit.is_zero());
        let about = About { service: self.config.name.clone(), method: name, kind: endpoint.kind };
        let running = Running {
            rpc: self.rpc.clone(),
            keeper: self.keeper.clone(),
            kept: Arc::new(persist::Counts::of(!endpoint.places.is_empty())),
            about: Arc::new(about),
            subject,
            queue,
            metadata: endpoint.metadata,
            concurrency,
            waiting,
            timeout,
            chain: self.interceptors.around(&endpoint.interceptors),
            counters: Counters::default(),
            log: RateLimit::new(Duration::from_secs(1)),
            admitted: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
        };
        Ok((Arc::new(running), endpoint.work))
    }
}

/// Tokens with one dot between them; what is empty has none.
pub(crate) fn joined(left: &str, right: &str) -> String {
    match (left, right) {
        ("", only) | (only, "") => only.to_owned(),
        (left, right) => format!("{left}.{right}"),
    }
}

/// Refuses what the micro protocol does not take as a name.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let right = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(right) {
        return Ok(());
    }
    let text = format!("the name of the {what} is made of letters, digits, _ and -, at least one");
    Err(Error::new(ErrorKind::InvalidInput, text).with(what, name))
}

/// A service whose subscriptions are being made; they end with it when it is dropped.
struct Starting<'a>(Option<&'a Service>);

impl Starting<'_> {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some(service) = self.0 {
            for subscription in service.subscriptions() {
                subscription.close();
            }
        }
    }
}

/// A service that runs. Cheap to clone; dropping it leaves the service running.
#[derive(Clone)]
pub struct Service(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) rpc: Rpc,
    pub(super) config: ServiceConfig,
    pub(super) id: String,
    pub(super) started: SystemTime,
    keeper: Arc<Keeper>,
    pub(super) endpoints: Vec<Arc<Running>>,
    /// Those of the endpoints first.
    subscriptions: Mutex<Vec<Subscription>>,
}

impl Service {
    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.config.name
    }

    /// What tells this instance from others of the service.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What it answers to INFO.
    #[must_use]
    pub fn info(&self) -> ServiceInfo {
        ServiceInfo::of(&self.0)
    }

    /// What it answers to STATS: its counts since it started.
    #[must_use]
    pub fn stats(&self) -> ServiceStats {
        ServiceStats::of(&self.0)
    }

    /// How the buckets fare that its methods keep their responses in, without asking the server.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreStatus> {
        self.0.keeper.status()
    }

    /// How it is doing, without asking the server.
    #[must_use]
    pub fn health(&self) -> ServiceHealth {
        let ended = self.subscriptions().iter().any(Subscription::has_ended);
        let full = self.0.endpoints.iter().filter(|endpoint| endpoint.is_full());
        let load = self.0.endpoints.iter().map(|endpoint| endpoint.load());
        let (running, waiting) =
            load.fold((0, 0), |(running, waiting), load| (running + load.0, waiting + load.1));
        ServiceHealth {
            serving: !ended,
            running,
            waiting,
            full: full.map(|endpoint| endpoint.about.method.clone()).collect(),
        }
    }

    /// Ends the service without losing a call: takes no new ones, answers all that are under way or
    /// wait, and what is stored of them is stored. Limited by the handle's timeout, or its own.
    ///
    /// # Errors
    /// `Timeout` naming what still runs; the drain goes on.
    ///
    /// # Cancel safety
    /// The drain goes on when this is dropped.
    pub fn drain(&self) -> Call<Task<Result<()>>> {
        let service = self.clone();
        Task::call(move |timeout| async move {
            let limit = timeout.map_or_else(|| service.0.rpc.pubsub().default_timeout(), Ok);
            let deadline = after(limit?);
            let subscriptions = service.subscriptions();
            for subscription in &subscriptions {
                subscription.leave(deadline);
            }
            for subscription in &subscriptions {
                if within(deadline, subscription.ended()).await.is_err() {
                    let text = "calls still run, or the server does not answer; the service ends \
                                with them";
                    return Err(Error::new(ErrorKind::Timeout, text)
                        .operation("drain")
                        .with("service", service.name())
                        .with("subject", subscription.topic()));
                }
            }
            Ok(())
        })
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        self.0.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, subscription: Subscription) {
        self.0.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).push(subscription);
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.0.config.name)
            .field("id", &self.0.id)
            .field("endpoints", &self.0.endpoints)
            .finish_non_exhaustive()
    }
}

/// How a service is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceHealth {
    /// All its subscriptions are there: it takes calls whenever its connection is up.
    pub serving: bool,
    /// Calls that run.
    pub running: usize,
    /// Calls that wait for others to end.
    pub waiting: usize,
    /// Endpoints that refuse calls because as many run and wait as can.
    pub full: Vec<String>,
}
