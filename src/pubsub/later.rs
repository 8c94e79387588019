//! Publishing later: once at a time, or again and again.
//!
//! A stream made with [`schedules(true)`](crate::streams::StreamConfig::schedules) keeps what is to be
//! published later beside its messages and publishes it itself when it is due, also when the process
//! that asked for it has ended.

mod when;

use std::time::{Duration, SystemTime};

use async_nats::{HeaderMap, Subject};
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::driver::Streams;
use super::publish::Draft;
use super::publish_acked::store;
use super::subject::check_publish;
use super::{Core, IntoTopic, PubSub, Publish};
use crate::call::{Call, Operation, Task};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::streams::{Retention, StreamConfig};
use when::{When, never_comes};

/// The longest name of a schedule, in bytes.
const MAX_NAME: usize = 255;

/// Publishing later, made by [`Publish::at`], [`Publish::after`], [`Publish::every`] and
/// [`Publish::cron`].
#[derive(Debug)]
pub struct PublishLater {
    draft: Draft,
    when: When,
    name: Option<String>,
    time_zone: Option<String>,
    ttl: Option<Duration>,
}

/// A message that a stream will publish.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scheduled {
    /// The stream that keeps it and will publish it.
    pub stream: String,
    /// The full subject that the schedule is kept under until then.
    pub subject: Subject,
    /// The schedule's sequence in the stream.
    pub sequence: u64,
    /// Its name: the one given, or a random one.
    pub name: String,
    handle: PubSub,
}

impl<D> Publish<D> {
    /// Publishes at this time, once. A time that is past means now.
    ///
    /// The message goes to the stream that stores the topic, which publishes it when it is due: up to
    /// half a second later, and by the server's clock. So it is delivered to consumers of the stream
    /// ([durable subscriptions](Call::durable)), and **not to plain subscribers**. A consumer of all
    /// that the stream has (`>`) gets the schedule itself, too. A time that comes while the server is
    /// down is made up for when it is up again.
    ///
    /// What is delivered is the message as it was given, with its headers. The server adds
    /// `Nats-Scheduler` (the subject of the schedule) and `Nats-Schedule-Next` (`purge`, or the time
    /// of the next one), `Nats-TTL` for one with a lifetime, and takes out `Nats-Msg-Id` and
    /// `Nats-Expected-*`.
    ///
    /// Needs nats-server 2.12 and a stream made with
    /// [`schedules(true)`](crate::streams::StreamConfig::schedules). The stream's limits hold for
    /// what waits in it: a stream that is full (`max_messages`, `max_bytes`) gives up schedules as it
    /// does messages, the oldest first.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(pubsub: nats_connector::pubsub::PubSub) -> nats_connector::Result<()> {
    /// let reminder = pubsub.publish("reminders.due", &7).after(Duration::from_secs(3600)).await?;
    /// // No longer needed:
    /// let in_time = reminder.cancel().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn at(self, time: SystemTime) -> Call<PublishLater> {
        self.later(When::At(time))
    }

    /// Publishes after this time, once; counted from the moment that the call is awaited, by the clock
    /// of this process. Otherwise as [`at`](Self::at).
    pub fn after(self, delay: Duration) -> Call<PublishLater> {
        self.later(When::After(delay))
    }

    /// Publishes again and again at this interval, whole seconds of at least one, until it is
    /// [cancelled](PubSub::cancel_schedule). The first time is one interval from now. Needs
    /// nats-server 2.14.
    ///
    /// Give it a [`name`](Call::name), so that every instance of a service, each time that it starts,
    /// asks for the same one schedule. After an outage of the server what was missed is published
    /// once, not as often as it was missed. Otherwise as [`at`](Self::at).
    pub fn every(self, interval: Duration) -> Call<PublishLater> {
        self.later(When::Every(interval))
    }

    /// Publishes again and again by a calendar: a cron expression of 6 fields (second, minute, hour,
    /// day of the month, month, day of the week from Sunday = 0), or `@hourly`, `@daily`, `@weekly`,
    /// `@monthly`, `@yearly`. In UTC, unless a [`time_zone`](Call::time_zone) is given. Otherwise as
    /// [`every`](Self::every).
    ///
    /// ```no_run
    /// # async fn example(pubsub: nats_connector::pubsub::PubSub) -> nats_connector::Result<()> {
    /// pubsub
    ///     .publish("reports.daily", &())
    ///     .cron("0 30 9 * * mon-fri")
    ///     .time_zone("Europe/Berlin")
    ///     .name("daily-report")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cron(self, expression: impl Into<String>) -> Call<PublishLater> {
        self.later(When::Cron(expression.into()))
    }

    fn later(self, when: When) -> Call<PublishLater> {
        let draft = self.into_draft();
        Call::new(PublishLater { draft, when, name: None, time_zone: None, ttl: None })
    }
}

/// Options of publishing later.
///
/// Awaiting it gives a [`Scheduled`]; then the stream has it. Errors beside those of
/// [`PubSub::publish`]: `NotFound` when no stream stores the topic; `Unsupported` where driver, server
/// or stream cannot do it, naming what it takes; `InvalidInput` for a time after the year 2262, an
/// interval below a second, a cron expression or time zone that is none; `Unavailable`; `Timeout`
/// (the schedule may be there; asking again with the same name is safe).
///
/// # Cancel safety
/// Dropped once polled, the schedule may have been made.
impl Call<PublishLater> {
    /// Names the schedule: letters, digits, `-` and `_`. A topic has one schedule of a name; asking
    /// again replaces it, from whichever process. Without a name each call makes a schedule of its
    /// own.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.map_operation(|later| later.name = Some(name.into()))
    }

    /// The time zone of a [cron](Publish::cron) expression by its IANA name, as in `Europe/Berlin`,
    /// which the server must know.
    pub fn time_zone(self, zone: impl Into<String>) -> Self {
        self.map_operation(|later| later.time_zone = Some(zone.into()))
    }

    /// How long each published message lives, from the moment that it is published: whole seconds, a
    /// fraction rounds up. Needs a stream made with
    /// [`message_ttl(true)`](crate::streams::StreamConfig::message_ttl).
    pub fn ttl(self, ttl: Duration) -> Self {
        self.map_operation(|later| later.ttl = Some(ttl))
    }
}

impl Scheduled {
    /// Cancels it: whether there was something to cancel. `false`: it was published, if once, or
    /// somebody else has cancelled it. Cancelled in the very moment that it is due, a message may be
    /// on its way already and is published all the same.
    ///
    /// # Errors
    /// `NotFound` when the stream is gone, `Unavailable`, `Timeout`.
    ///
    /// # Cancel safety
    /// Dropped once polled, it may have been cancelled.
    pub fn cancel(&self) -> Call<Task<Result<bool>>> {
        let Scheduled { stream, subject, handle, .. } = self.clone();
        Task::call(move |timeout| async move {
            let core = handle.core();
            let deadline = after(timeout.unwrap_or(core.timeout));
            let cancelled = take_out(streams(core)?, &stream, &subject, deadline).await;
            cancelled.map_err(|error| error.operation("cancel a schedule").with("stream", stream))
        })
    }
}

impl PubSub {
    /// Cancels the schedule of this name, whichever process made it, as
    /// [`Scheduled::cancel`] does. The topic is the one that it publishes to.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed topic or name, `NotFound` when no stream stores the topic,
    /// `Unsupported` where driver or stream cannot publish later, `Unavailable`, `Timeout`.
    ///
    /// # Cancel safety
    /// Dropped once polled, it may have been cancelled.
    pub fn cancel_schedule(
        &self,
        topic: impl IntoTopic,
        name: impl Into<String>,
    ) -> Call<CancelSchedule> {
        Call::new(CancelSchedule {
            handle: self.clone(),
            topic: topic.into_topic(),
            name: name.into(),
            ignore_prefix: false,
        })
    }
}

/// Cancelling a schedule by its name, made by [`PubSub::cancel_schedule`].
#[derive(Debug)]
pub struct CancelSchedule {
    handle: PubSub,
    topic: Subject,
    name: String,
    ignore_prefix: bool,
}

/// Options of cancelling a schedule.
impl Call<CancelSchedule> {
    /// Takes the topic as the full subject.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|cancel| cancel.ignore_prefix = true)
    }
}

impl Operation for PublishLater {
    type Output = Result<Scheduled>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        let topic = self.draft.topic().to_owned();
        Box::pin(async move {
            let scheduled = self.run(timeout).await;
            scheduled.map_err(|error| error.operation("publish later").with("topic", topic))
        })
    }
}

impl Operation for CancelSchedule {
    type Output = Result<bool>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        let topic = self.topic.to_string();
        Box::pin(async move {
            let cancelled = self.run(timeout).await;
            cancelled.map_err(|error| error.operation("cancel a schedule").with("topic", topic))
        })
    }
}

impl PublishLater {
    async fn run(self, timeout: Option<Duration>) -> Result<Scheduled> {
        let PublishLater { draft, when, name, time_zone, ttl } = self;
        let now = SystemTime::now();
        let text = when.text(now)?;
        let name = name.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        check_name(&name)?;
        let (handle, mut message, limit) = draft.finish(timeout)?;
        let (core, deadline) = (handle.core(), after(limit));
        let streams = streams(core)?;
        if let Some(nats) = &core.nats {
            nats.link().capabilities(deadline).await?.require(when.feature())?;
        }
        let config = stream_of(streams, &message.subject, deadline).await?;
        check_stream(&config, when.waits(now), ttl)?;
        let subject = schedule(&handle, &config, &name, &message.subject)?;

        let headers = message.headers.get_or_insert_default();
        headers.insert("Nats-Schedule", text.as_str());
        headers.insert("Nats-Schedule-Target", message.subject.as_str());
        if let Some(zone) = &time_zone {
            set_time_zone(headers, &when, zone)?;
        }
        if let Some(ttl) = ttl {
            headers.insert("Nats-Schedule-TTL", seconds(ttl)?.to_string());
        }
        if config.message_ttl == Some(true) {
            // Or the stream's max_age would take the schedule away.
            headers.insert("Nats-TTL", "never");
        }
        // What was published before an answer got lost must not be scheduled anew.
        let id = format!("schedule:{:032x}", rand::random::<u128>());
        headers.insert("Nats-Msg-Id", id.as_str());
        message.subject = subject.clone();
        let ack = store(&handle, &message, true, deadline)
            .await
            .map_err(|error| explain(error, &when, time_zone.as_deref()))?;
        Ok(Scheduled { stream: ack.stream, subject, sequence: ack.sequence, name, handle })
    }
}

impl CancelSchedule {
    async fn run(self, timeout: Option<Duration>) -> Result<bool> {
        let CancelSchedule { handle, topic, name, ignore_prefix } = self;
        check_name(&name)?;
        let handle = handle.bind()?;
        let target = if ignore_prefix { topic } else { handle.subject(&topic) };
        check_publish(&target)?;
        let core = handle.core();
        let deadline = after(timeout.unwrap_or(core.timeout));
        let streams = streams(core)?;
        let config = stream_of(streams, &target, deadline).await?;
        check_schedules(&config)?;
        let subject = schedule(&handle, &config, &name, &target)?;
        take_out(streams, &config.name, &subject, deadline).await
    }
}

fn streams(core: &Core) -> Result<&dyn Streams> {
    core.driver.streams().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("the {} driver has no streams to publish later", core.driver.name()),
        )
    })
}

/// The stream that stores what is published to this subject.
async fn stream_of(
    streams: &dyn Streams,
    subject: &Subject,
    deadline: Instant,
) -> Result<StreamConfig> {
    if let Some(name) = streams.stream_of(subject, deadline).await?
        && let Some(status) = streams.stream(&name, deadline).await?
    {
        return Ok(status.config);
    }
    Err(Error::new(
        ErrorKind::NotFound,
        "no stream stores this topic; create a stream with this subject and .schedules(true)",
    ))
}

async fn take_out(
    streams: &dyn Streams,
    stream: &str,
    subject: &Subject,
    deadline: Instant,
) -> Result<bool> {
    Ok(streams.purge_stream(stream, Some(subject), deadline).await? > 0)
}

/// The subject of a schedule. The name comes first, so that it and the topic cannot run together.
fn schedule(
    handle: &PubSub,
    config: &StreamConfig,
    name: &str,
    target: &Subject,
) -> Result<Subject> {
    let id = format!("{name}.{target}");
    let Some(subject) = config.schedule_subject(handle.prefix(), &id) else {
        return Err(refuse(
            config,
            "the stream has no subject to keep schedules under; update it by \
             pubsub.stream(config.schedules(true)).update(), which adds one",
        ));
    };
    check_publish(&subject)?;
    Ok(subject.into())
}

fn check_name(name: &str) -> Result<()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(known) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the name of a schedule has 1 to 255 letters, digits, `-` and `_`; choose such a name",
        )
        .with("name", name));
    }
    Ok(())
}

fn check_schedules(config: &StreamConfig) -> Result<()> {
    if config.schedules == Some(true) {
        return Ok(());
    }
    Err(refuse(
        config,
        "the stream does not publish later; create or update it with .schedules(true)",
    ))
}

/// What a stream would take and not do.
fn check_stream(
    config: &StreamConfig,
    waits: Option<Duration>,
    ttl: Option<Duration>,
) -> Result<()> {
    check_schedules(config)?;
    if config.retention == Some(Retention::Interest) {
        return Err(refuse(
            config,
            "a stream with retention by interest drops what is to be published later, as no consumer \
             is for it; use a stream with another retention",
        ));
    }
    if config.message_ttl == Some(true) {
        return Ok(());
    }
    if ttl.is_some() {
        return Err(refuse(
            config,
            "the stream's messages have no lifetimes of their own; create or update it with \
             .message_ttl(true)",
        ));
    }
    let max_age = config.max_age.filter(|age| !age.is_zero());
    if max_age.is_some_and(|age| waits.is_none_or(|waits| waits >= age)) {
        return Err(refuse(
            config,
            "the stream's max_age would take the schedule away before it is done; create or update \
             the stream with .message_ttl(true), which lets schedules stay, or with a longer max_age",
        ));
    }
    Ok(())
}

fn refuse(config: &StreamConfig, message: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, message).with("stream", config.name.as_str())
}

fn set_time_zone(headers: &mut HeaderMap, when: &When, zone: &str) -> Result<()> {
    let invalid = |message| Err(Error::new(ErrorKind::InvalidInput, message));
    if !matches!(when, When::Cron(_)) {
        return invalid("only a cron expression has a time zone; leave .time_zone() out");
    }
    if zone.is_empty() || !zone.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid("not a time zone; give an IANA name, as in Europe/Berlin");
    }
    headers.insert("Nats-Schedule-Time-Zone", zone);
    Ok(())
}

fn seconds(ttl: Duration) -> Result<u64> {
    match ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0) {
        0 => Err(Error::new(
            ErrorKind::InvalidInput,
            "a TTL of zero; leave .ttl() out for messages that stay",
        )),
        seconds => Ok(seconds),
    }
}

/// The server's refusals of what could not be checked here.
fn explain(error: Error, when: &When, zone: Option<&str>) -> Error {
    match (error.context("err_code"), when) {
        (Some("10189"), When::Cron(expression)) => never_comes(expression).with_source(error),
        (Some("10223"), _) => Error::new(
            ErrorKind::InvalidInput,
            "the server does not know this time zone; give an IANA name, as in Europe/Berlin",
        )
        .with("time_zone", zone.unwrap_or_default())
        .with_source(error),
        _ => error,
    }
}
