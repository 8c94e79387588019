//! One NATS connection as the drivers use it: gates, requests, round trips, capabilities.

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_nats::client::traits::Publisher as _;
use async_nats::connection::State as Wire;
use async_nats::message::OutboundMessage;
use async_nats::{Client, Event, HeaderMap, Message, PublishErrorKind, Subject, jetstream};
use bytes::Bytes;
use futures::StreamExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::capabilities::{ApiInfo, Capabilities};
use super::dial::{self, Shared};
use super::health::Health;
use super::leave::Sources;
use super::reconnect::Reconnect;
use super::requests::{Answers, Pending, Requests};
use super::status::{Denied, State, Status};
use super::tls;
use crate::deadline::{Deadline, after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics;
use crate::objects::nats::Uploads;
use crate::settings::{Settings, WhenDisconnected};
use crate::streams::Declared;

/// How long a question that may be asked again waits for its answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// A connected client with what every driver needs around it.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Shared,
    client: Client,
    jetstream: jetstream::Context,
    api_prefix: String,
    capabilities: Mutex<Option<(u64, Arc<Capabilities>)>>,
    /// Whether the connected server takes the exact way to leave a subscription, for the connection
    /// with this number; see `leave`.
    pub(super) exact_leave: tokio::sync::Mutex<Option<(u64, bool)>>,
    pub(super) sources: Sources,
    /// Held while a stream is changed: the server takes its config whole, so what two changes read
    /// before would undo one of them.
    pub(crate) changing_stream: tokio::sync::Mutex<()>,
    /// The streams that were declared here, which are made again when they are gone.
    declared: Arc<Declared>,
    uploads: Arc<Uploads>,
    /// Hands out answers. Its subscriber keeps the connection open, so it must not outlive this.
    listener: AbortHandle,
}

impl Link {
    /// Checks the files that the settings name, connects, and listens for answers.
    pub(crate) async fn connect(settings: &Settings) -> Result<Arc<Link>> {
        tls::check(settings)?;
        // Wrong credentials files are told before any server is tried.
        super::auth::prove(settings, b"check").await?;
        for warning in settings.warnings() {
            tracing::warn!("{warning}");
        }
        let metrics = metrics::Connection::new("nats", settings.domain_name());
        let status = Arc::new(Status::new(metrics));
        let shared = Shared {
            settings: settings.clone(),
            reconnect: Arc::new(Reconnect::new(settings, status.clone())),
            requests: Arc::new(Requests::new(settings.inbox_prefix().unwrap_or("_INBOX"))),
            status,
        };
        // The callbacks begin before there is a link, and must not keep it alive.
        let slot: Arc<Mutex<Weak<Link>>> = Arc::default();
        let told = slot.clone();
        let on_event = Arc::new(move |event: &Event| {
            let link = told.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
            let Some(link) = link else { return };
            match event {
                Event::LameDuckMode => {
                    tokio::spawn(async move { link.leave_server().await });
                }
                Event::ServerError(_) => link.sources.end_refused(&link.shared.status),
                Event::Connected | Event::Disconnected => {
                    link.count_reconnects();
                    link.sources.wake();
                }
                _ => {}
            }
        });
        let client = dial::dial(&shared, on_event).await?;
        let listener = listen(&shared, &client).await?;
        let jetstream = context(&client, settings);
        let api_prefix = api_prefix(settings);
        let link = Arc::new(Link {
            shared,
            client,
            jetstream,
            api_prefix,
            capabilities: Mutex::new(None),
            exact_leave: tokio::sync::Mutex::new(None),
            sources: Sources::default(),
            changing_stream: tokio::sync::Mutex::new(()),
            declared: Arc::default(),
            uploads: Arc::default(),
            listener,
        });
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&link);
        // The event that tells it may be under way still.
        link.wire();
        Ok(link)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    #[inline]
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    pub(crate) fn status(&self) -> &Arc<Status> {
        &self.shared.status
    }

    /// The full API subject of `call`, for example `STREAM.INFO.KV_users`.
    pub(crate) fn js_subject(&self, call: &str) -> Subject {
        format!("{}.{call}", self.api_prefix).into()
    }

    /// What goes before a stream's own subjects when a domain or an API prefix is set, as the KV
    /// clients do (ADR-8, ADR-19).
    pub(crate) fn js_put_prefix(&self) -> Option<&str> {
        (self.api_prefix != DEFAULT_API).then_some(self.api_prefix.as_str())
    }

    pub(crate) fn state(&self) -> State {
        let status = &self.shared.status;
        match self.wire() {
            _ if status.is_closed() => State::Closed,
            _ if status.is_draining() => State::Draining,
            Wire::Pending => State::Connecting,
            Wire::Connected => State::Connected,
            Wire::Disconnected => State::Disconnected,
        }
    }

    /// Whether calls may go through at once.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.shared.status.is_open()
    }

    /// The client's own state; what the events told is set right by it, since they can be late, or
    /// lost in a flood.
    fn wire(&self) -> Wire {
        let wire = self.client.connection_state();
        self.shared.status.set_open(wire == Wire::Connected);
        wire
    }

    /// The gate before every call: open when connected; while disconnected it fails, or waits until
    /// the deadline, as `NATS.WHEN_DISCONNECTED` says.
    pub(crate) async fn ready(&self, deadline: impl Into<Deadline>) -> Result<()> {
        if self.is_open() {
            return Ok(());
        }
        self.wait_connected(deadline.into()).await
    }

    #[cold]
    async fn wait_connected(&self, deadline: Deadline) -> Result<()> {
        if self.shared.status.is_closed() {
            return Err(self.closed());
        }
        let wire = self.wire();
        if wire == Wire::Connected {
            return Ok(());
        }
        if wire != Wire::Pending && self.settings().when_disconnected() == WhenDisconnected::Fail {
            return Err(self.unavailable());
        }
        self.connected(deadline).await
    }

    /// Waits for the connection, whatever the settings say.
    #[cold]
    pub(crate) async fn connected(&self, deadline: impl Into<Deadline>) -> Result<()> {
        let mut changes = self.shared.status.changes();
        let connected = async {
            loop {
                if self.shared.status.is_closed() {
                    return Err(self.closed());
                }
                if self.wire() == Wire::Connected {
                    return Ok(());
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
            }
        };
        within(deadline, connected).await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    fn unavailable(&self) -> Error {
        let waits = self.settings().when_disconnected() == WhenDisconnected::Wait;
        let message = match self.client.connection_state() {
            Wire::Pending => "not connected to NATS yet; try again later",
            _ if waits => "no connection to NATS came back within the deadline; try again later",
            _ => {
                "not connected to NATS, reconnecting; try again later, or set \
                 NATS.WHEN_DISCONNECTED=wait to wait until the deadline"
            }
        };
        let error = Error::new(ErrorKind::Unavailable, message);
        match self.shared.status.last_error() {
            Some(last) => error.with("last_error", last),
            None => error,
        }
    }

    /// Hands a message to the connection.
    pub(crate) async fn publish(
        &self,
        message: OutboundMessage,
        deadline: impl Into<Deadline>,
    ) -> Result<()> {
        self.send(pin!(self.client.publish_message(message)), deadline).await
    }

    /// Runs the client's own publishing, behind the gate and until the deadline.
    pub(crate) async fn send(
        &self,
        publish: Pin<&mut impl Future<Output = Result<(), async_nats::PublishError>>>,
        deadline: impl Into<Deadline>,
    ) -> Result<()> {
        let deadline = deadline.into();
        if !self.is_open() {
            self.wait_connected(deadline).await?;
        }
        match within(deadline, publish).await {
            Ok(published) => published.map_err(|error| self.publish_error(&error)),
            Err(_) => Err(self.congested()),
        }
    }

    #[cold]
    pub(crate) fn publish_error(&self, error: &async_nats::PublishError) -> Error {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                too_large(self.client.max_payload()).with_source(error.to_string())
            }
            PublishErrorKind::InvalidSubject => {
                Error::new(ErrorKind::InvalidInput, "the subject is not valid")
            }
            // The client's task has ended: it will not come back.
            PublishErrorKind::Send => {
                self.shared.status.close();
                self.closed()
            }
        }
    }

    /// Why it is closed: drained, or given up.
    #[cold]
    fn closed(&self) -> Error {
        if self.shared.status.is_draining() {
            return closed();
        }
        let last = self.shared.status.last_error().unwrap_or_default();
        Error::new(
            ErrorKind::Closed,
            "the connection was lost and NATS.MAX_RECONNECT attempts to get it back failed; connect \
             anew or call nats_connector::register() again, or set NATS.MAX_RECONNECT=-1",
        )
        .with("last_error", last)
    }

    fn congested(&self) -> Error {
        if self.wire() == Wire::Connected {
            Error::new(ErrorKind::Timeout, "the connection takes no more until the deadline")
        } else {
            self.unavailable()
        }
    }

    /// Sends a request and waits for its first answer.
    pub(crate) async fn request(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Message> {
        self.shared.requests.may_have_answers()?;
        let (pending, reply) = self.shared.requests.register(subject.clone());
        let message = OutboundMessage { subject, reply: Some(reply), payload, headers };
        self.exchange(pending, message, deadline).await
    }

    /// As [`request`](Self::request), for what changes nothing: it is sent again when no answer came
    /// for [`PATIENCE`], since a server that ends takes with it what it was asked, and when the
    /// connection is lost meanwhile, where calls wait for that. An answer to any of them is one: a slow
    /// server is not asked in vain.
    pub(crate) async fn ask(
        &self,
        subject: Subject,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Message> {
        let mut waiting = None;
        loop {
            let turn = deadline.min(Instant::now() + PATIENCE);
            match self.ask_once(&mut waiting, &subject, &payload, turn).await {
                Err(_) if turn < deadline && turn <= Instant::now() => {}
                Err(error)
                    if error.kind() == ErrorKind::Unavailable
                        && !error.is_no_responders()
                        && self.settings().when_disconnected() == WhenDisconnected::Wait
                        && Instant::now() < deadline => {}
                Err(error) if error.is_timeout() => {
                    return Err(self.no_answer().with("subject", subject.as_str()));
                }
                answered => return answered,
            }
        }
    }

    /// One turn of a question; `waiting` takes the answer also in a later one.
    async fn ask_once<'a>(
        &'a self,
        waiting: &mut Option<(Pending<'a>, Subject)>,
        subject: &Subject,
        payload: &Bytes,
        turn: Instant,
    ) -> Result<Message> {
        let requests = &self.shared.requests;
        requests.may_have_answers()?;
        let (pending, reply) = waiting.get_or_insert_with(|| requests.register(subject.clone()));
        let message = OutboundMessage {
            subject: subject.clone(),
            reply: Some(reply.clone()),
            payload: payload.clone(),
            headers: None,
        };
        self.publish(message, turn).await?;
        let answer = within(turn, pending.answer()).await;
        match answer {
            Ok(answer) => {
                *waiting = None;
                answer
            }
            Err(_) => Err(self.no_outcome().with("subject", subject.as_str())),
        }
    }

    /// As [`request`](Self::request), for what may change something. Every other error than
    /// `Timeout` means that nobody took the message: it was not sent, nobody serves its subject, or
    /// it is not permitted.
    pub(crate) async fn request_change(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Message> {
        self.shared.requests.may_have_answers()?;
        let (mut pending, reply) = self.shared.requests.register(subject.clone());
        let message = OutboundMessage { subject, reply: Some(reply), payload, headers };
        let subject = message.subject.clone();
        self.publish(message, deadline).await?;
        let lost = match within(deadline, pending.answer()).await {
            // What a lost connection ends; nobody knows whether it was taken.
            Ok(Err(error))
                if error.is_closed()
                    || (error.kind() == ErrorKind::Unavailable && !error.is_no_responders()) =>
            {
                error
            }
            Ok(answer) => return answer,
            Err(_) => match self.no_outcome() {
                error if error.is_timeout() => return Err(error.with("subject", subject.as_str())),
                error => error,
            },
        };
        Err(Error::new(
            ErrorKind::Timeout,
            "the connection was lost while waiting for the answer; the call may have had its effect",
        )
        .with("subject", subject.as_str())
        .with_source(lost))
    }

    /// Sends a request that several messages answer. It is for its caller to know the last one, and
    /// whether there is a gap: what arrives while the connection is lost, or too much of it, does
    /// not come.
    pub(crate) async fn request_many(
        &self,
        subject: Subject,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answers<'_>> {
        self.shared.requests.may_have_answers()?;
        let (answers, reply) = self.shared.requests.register_many(subject.clone());
        let message = OutboundMessage { subject, reply: Some(reply), payload, headers: None };
        self.publish(message, deadline).await?;
        Ok(answers)
    }

    async fn exchange(
        &self,
        mut pending: Pending<'_>,
        message: OutboundMessage,
        deadline: Instant,
    ) -> Result<Message> {
        let subject = message.subject.clone();
        self.publish(message, deadline).await?;
        match within(deadline, pending.answer()).await {
            Ok(answer) => answer,
            Err(_) => Err(self.no_outcome().with("subject", subject.as_str())),
        }
    }

    /// Why nothing came until the deadline, for what changes nothing.
    #[cold]
    pub(crate) fn no_answer(&self) -> Error {
        self.silence("no answer within the deadline")
    }

    /// As [`no_answer`](Self::no_answer), for what may change something.
    #[cold]
    fn no_outcome(&self) -> Error {
        self.silence("no answer within the deadline; the call may have had its effect")
    }

    fn silence(&self, message: &'static str) -> Error {
        match self.state() {
            State::Closed => self.closed(),
            State::Connected | State::Draining => Error::new(ErrorKind::Timeout, message),
            State::Connecting | State::Disconnected => self.unavailable(),
        }
    }

    /// A round trip: when it is done, the server has processed all that was sent before. It is a
    /// message to the own inbox; a request to a subject that nobody serves gets no answer as soon as
    /// somebody in the account subscribes to `>`. A refusal of its own subject proves it as well, so
    /// it works for users that may publish little.
    pub(crate) async fn barrier(&self, deadline: Instant) -> Result<()> {
        self.shared.requests.may_have_answers()?;
        let (pending, subject) = self.shared.requests.register_echo();
        let message = OutboundMessage {
            subject: subject.clone(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
        };
        match self.exchange(pending, message, deadline).await {
            Err(error)
                if error.kind() == ErrorKind::Unauthorized
                    && error.context("subject") == Some(subject.as_str()) =>
            {
                self.shared.status.take_denied(|denied| denied.subject == subject.as_str());
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// What the server has refused of all that was sent before, among what `matches`. Refusals come
    /// as events, and another task than that of the answers takes them in: it has nearly always had
    /// its turn when a second round trip is done. A refusal that is later is kept for the next call.
    pub(crate) async fn refusal(
        &self,
        deadline: Instant,
        matches: impl Fn(&Denied) -> bool,
    ) -> Result<Option<Denied>> {
        for _ in 0..2 {
            self.barrier(deadline).await?;
            let denied = self.shared.status.take_denied(&matches);
            if denied.is_some() {
                return Ok(denied);
            }
        }
        Ok(None)
    }

    /// What the connected server can do; asked once per connection.
    pub(crate) async fn capabilities(&self, deadline: Instant) -> Result<Arc<Capabilities>> {
        self.ready(deadline).await?;
        let connection = self.connects();
        let known = self.capabilities.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((of, capabilities)) = known
            && of == connection
        {
            return Ok(capabilities);
        }
        let answer = self.ask(self.js_subject("INFO"), Bytes::new(), deadline).await;
        let info = match answer {
            Ok(answer) => serde_json::from_slice::<ApiInfo>(&answer.payload)
                .ok()
                .filter(|info| info.error.is_none()),
            // No JetStream here, or none for this user.
            Err(error) if error.is_no_responders() || error.kind() == ErrorKind::Unauthorized => {
                None
            }
            Err(error) => return Err(error.operation("read capabilities")),
        };
        let server = self.client.server_info();
        let capabilities =
            Arc::new(Capabilities::new(&server.version, info.as_ref(), self.client.max_payload()));
        *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((connection, capabilities.clone()));
        Ok(capabilities)
    }

    /// The same without asking: as far as it is known by now.
    pub(crate) fn known_capabilities(&self) -> Arc<Capabilities> {
        let known = self.capabilities.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some((of, capabilities)) if of == self.connects() => capabilities,
            _ => {
                let server = self.client.server_info();
                let limit = self.client.max_payload();
                Arc::new(Capabilities::new(&server.version, None, limit))
            }
        }
    }

    pub(crate) async fn health(&self, deadline: Instant) -> Health {
        let begun = Instant::now();
        let round_trip = match self.state() {
            State::Connected | State::Draining => {
                self.barrier(deadline).await.ok().map(|()| begun.elapsed())
            }
            State::Connecting | State::Disconnected | State::Closed => None,
        };
        let jetstream = match round_trip {
            Some(_) => self.capabilities(deadline).await.ok().map(|can| can.jetstream()),
            None => None,
        };
        let reconnects = self.count_reconnects();
        self.status().metrics().tell_state();
        if let Some(round_trip) = round_trip {
            self.status().metrics().round_trip(round_trip);
        }
        let state = self.state();
        let server = match state {
            State::Connected | State::Draining => self.shared.reconnect.current(),
            State::Connecting | State::Disconnected | State::Closed => None,
        };
        Health {
            state,
            server,
            round_trip,
            reconnects,
            last_error: self.shared.status.last_error(),
            dropped_messages: self.shared.status.dropped.load(Ordering::Relaxed),
            jetstream,
        }
    }

    /// How many times this link connected.
    pub(crate) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Connects after the first.
    fn count_reconnects(&self) -> u64 {
        let reconnects = self.connects().saturating_sub(1);
        self.status().metrics().reconnects(reconnects);
        reconnects
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.shared.requests
    }

    pub(crate) fn reconnect(&self) -> &Reconnect {
        &self.shared.reconnect
    }

    pub(crate) fn declared(&self) -> &Arc<Declared> {
        &self.declared
    }

    /// The changes of objects that are under way.
    pub(crate) fn uploads(&self) -> &Arc<Uploads> {
        &self.uploads
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Ends the connection: the client's task stops, later calls fail with Closed.
    pub(crate) async fn close(&self, deadline: Instant) {
        let mut changes = self.shared.status.changes();
        let connected = self.client.connection_state() == Wire::Connected;
        self.shared.status.close();
        if connected {
            let end = async {
                let drained = self.client.drain().await;
                while drained.is_ok() && !self.shared.status.is_ended() {
                    if changes.changed().await.is_err() {
                        break;
                    }
                }
            };
            // The event that tells the end can be lost in a flood.
            let _ = within(deadline.min(after(Duration::from_secs(2))), end).await;
        }
        self.shared.requests.fail(None, |_| closed());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Subscribes to the inbox of all answers and hands them out until the connection ends.
async fn listen(shared: &Shared, client: &Client) -> Result<AbortHandle> {
    let requests = shared.requests.clone();
    let subscribe = client.subscribe(requests.inbox());
    let mut answers = within(shared.settings.connect_timeout(), subscribe)
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, "the new connection does not respond"))?
        .map_err(|error| Error::new(ErrorKind::Other, error.to_string()))?;
    let listener = tokio::spawn(async move {
        while let Some(message) = answers.next().await {
            requests.answer(message);
        }
        requests.fail(None, |_| closed());
    });
    Ok(listener.abort_handle())
}

const DEFAULT_API: &str = "$JS.API";

fn api_prefix(settings: &Settings) -> String {
    match (settings.jetstream_prefix(), settings.jetstream_domain()) {
        (Some(prefix), _) => prefix.trim_end_matches('.').to_owned(),
        (None, Some(domain)) => format!("$JS.{domain}.API"),
        (None, None) => DEFAULT_API.to_owned(),
    }
}

fn context(client: &Client, settings: &Settings) -> jetstream::Context {
    let builder = jetstream::ContextBuilder::new();
    let timeout = settings.request_timeout();
    match (settings.jetstream_prefix(), settings.jetstream_domain()) {
        (Some(prefix), _) => builder.api_prefix(prefix).timeout(timeout).build(client.clone()),
        (None, Some(domain)) => builder.domain(domain).timeout(timeout).build(client.clone()),
        (None, None) => builder.timeout(timeout).build(client.clone()),
    }
}

/// The error of every call after the end.
pub(crate) fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the connector is drained and closed; connect anew, unless the process shuts down",
    )
}

/// The error of a payload above the server's limit.
pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("payload and headers exceed the server's max_payload of {limit} bytes"),
    )
}
