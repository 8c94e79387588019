//! Finding services: who is there, what they do and have done (ADR-32), of any implementation.

use std::marker::PhantomData;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::server::check_name;
use super::{Rpc, ServiceInfo, ServicePing, ServiceStats};
use crate::call::{Call, Operation};
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::Message;
use crate::pubsub::driver::OutboundMessage;

/// How long a search lasts unless told.
const SEARCH: Duration = Duration::from_secs(2);
/// It ends when nobody answers for this long after somebody has, unless told.
const QUIET: Duration = Duration::from_millis(500);

/// Asks services for themselves; made by [`Rpc::discover`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nats_connector::Result<()> {
/// # let nats = nats_connector::Connector::memory();
/// use nats_connector::rpc::ServiceConfig;
///
/// let rpc = nats.rpc();
/// rpc.service(ServiceConfig::new("orders").version("1.2.0")).serve().await?;
/// let found = rpc.discover().name("orders").services().await?;
/// assert_eq!(found[0].version, "1.2.0");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Discover {
    rpc: Rpc,
    name: Option<String>,
    id: Option<String>,
}

impl Discover {
    pub(super) fn new(rpc: Rpc) -> Self {
        Discover { rpc, name: None, id: None }
    }

    /// Only services of this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only the instance of this id; needs the [`name`](Self::name) too.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Who is there, in the order of names and ids.
    ///
    /// It ends when nobody answers for 500 ms after somebody has ([`quiet`](Call::quiet)), at once
    /// when the instance of the id has answered or the server knows that nobody is there, and at the
    /// latest after 2 s, or its time limit, with what was found. Answers that cannot be read are left
    /// out.
    ///
    /// # Errors
    /// `InvalidInput` for a name or id that cannot be one; `Unauthorized` naming the subject,
    /// `Unavailable`, `Timeout` when the server does not answer, `Closed`.
    ///
    /// # Cancel safety
    /// Dropped, it leaves nothing.
    pub fn services(&self) -> Call<Search<ServicePing>> {
        self.search("PING")
    }

    /// What services do: as [`services`](Self::services).
    pub fn infos(&self) -> Call<Search<ServiceInfo>> {
        self.search("INFO")
    }

    /// What services have done: as [`services`](Self::services).
    pub fn stats(&self) -> Call<Search<ServiceStats>> {
        self.search("STATS")
    }

    fn search<T: Found>(&self, verb: &'static str) -> Call<Search<T>> {
        Call::new(Search { discover: self.clone(), verb, quiet: QUIET, found: PhantomData })
    }

    fn subject(&self, verb: &str) -> Result<String> {
        let mut subject = format!("$SRV.{verb}");
        match (&self.name, &self.id) {
            (None, Some(_)) => {
                let text = "an id is asked for without the name of its service; give the name too";
                return Err(Error::new(ErrorKind::InvalidInput, text));
            }
            (name, id) => {
                for (what, token) in [("service", name), ("id", id)] {
                    if let Some(token) = token {
                        check_name(what, token)?;
                        subject.push('.');
                        subject.push_str(token);
                    }
                }
            }
        }
        Ok(subject)
    }
}

/// What a search can find; only this crate implements it.
pub trait Found: DeserializeOwned + std::fmt::Debug + Send + 'static {
    #[doc(hidden)]
    fn key(&self) -> (&str, &str);
}

impl Found for ServicePing {
    fn key(&self) -> (&str, &str) {
        (&self.name, &self.id)
    }
}

impl Found for ServiceInfo {
    fn key(&self) -> (&str, &str) {
        (&self.name, &self.id)
    }
}

impl Found for ServiceStats {
    fn key(&self) -> (&str, &str) {
        (&self.name, &self.id)
    }
}

/// A search for services, by [`Discover`].
#[derive(Debug)]
pub struct Search<T> {
    discover: Discover,
    verb: &'static str,
    quiet: Duration,
    found: PhantomData<fn() -> T>,
}

impl<T: Found> Call<Search<T>> {
    /// Ends the search when nobody answers for this long after somebody has. Default: 500 ms.
    pub fn quiet(self, gap: Duration) -> Self {
        self.map_operation(|search| search.quiet = gap)
    }
}

impl<T: Found> Search<T> {
    async fn run(self, timeout: Option<Duration>) -> Result<Vec<T>> {
        let subject = self.discover.subject(self.verb)?;
        let pubsub = self.discover.rpc.pubsub();
        let deadline = after(timeout.unwrap_or(SEARCH));
        let inbox = pubsub.inbox()?;
        let mut answers = pubsub.messages(inbox.clone()).ignore_prefix().await?;
        let subject = async_nats::Subject::from(subject);
        let message = OutboundMessage {
            subject: subject.clone(),
            reply: Some(inbox),
            headers: None,
            payload: bytes::Bytes::new(),
        };
        pubsub.send(message, None).await.map_err(|error| error.with("subject", &*subject))?;

        let mut found: Vec<T> = Vec::new();
        let mut until = deadline;
        while let Ok(Some(answer)) = within(until, answers.next()).await {
            if is_no_responders(&answer) {
                break;
            }
            match serde_json::from_slice::<T>(answer.payload()) {
                Ok(one) => found.push(one),
                Err(error) => tracing::debug!(%subject, %error, "an answer cannot be read"),
            }
            if self.discover.id.is_some() {
                break;
            }
            until = deadline.min(Instant::now() + self.quiet);
        }
        if found.is_empty() {
            // A request that was refused looks like one that nobody answers. What else was refused is
            // not the search's fault.
            match pubsub.flush().await {
                Err(error)
                    if error.kind() == ErrorKind::Unauthorized
                        && error.context("subject") != Some(subject.as_str()) =>
                {
                    tracing::warn!(%error, "was refused before a search for services");
                }
                flushed => flushed?,
            }
        }
        found.sort_by(|one, other| one.key().cmp(&other.key()));
        Ok(found)
    }
}

/// What a driver tells the reply subject of a message that nobody received.
fn is_no_responders(answer: &Message) -> bool {
    answer.payload().is_empty() && answer.header("Status") == Some("503")
}

impl<T: Found> Operation for Search<T> {
    type Output = Result<Vec<T>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Vec<T>>> {
        Box::pin(
            async move { self.run(timeout).await.map_err(|error| error.operation("discover")) },
        )
    }
}
