//! Durable subscriptions: a stream's messages, each handled at least once, by one of the members
//! that share a durable consumer.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::driver::{ConsumerConfig, Start, Streams};
use super::subject::{check_publish, check_subscribe, matches, overlap};
use super::subscription::{Added, MAX_CONCURRENCY, Subscribe, Subscription};
use super::{Handler, IntoTopic, Message, PubSub};
use crate::backoff::Backoff;
use crate::call::{Call, Operation};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::streams::check_name as check_stream;

mod backoff;
mod causes;
pub(crate) mod dead;
mod delivered;
mod intake;
mod lanes;
mod member;
mod room;

use backoff::Waits;
use causes::Causes;
use dead::DeadLetters;
pub(crate) use delivered::Delivered;
pub use delivered::DeliveryInfo;
use intake::Intake;
use lanes::{Key, Lanes};
pub(super) use member::Member;
use member::{Counts, Rules, start};
use room::Room;

const ACK_WAIT: Duration = Duration::from_secs(30);
const SHORTEST_ACK_WAIT: Duration = Duration::from_millis(100);
const MAX_DELIVER: u64 = 5;
const MAX_IN_FLIGHT: usize = 10_000;
/// Servers count what is in flight in 32 or 64 bits.
const MOST_IN_FLIGHT: usize = 1_000_000_000;
const EXTEND_FOR: Duration = Duration::from_secs(600);
/// The longest name of a consumer, in bytes.
const MAX_NAME: usize = 255;

/// A durable subscription to make, by [`durable`](Call::durable).
pub struct Durable<H> {
    name: String,
    handle: PubSub,
    topics: Vec<Subject>,
    ignore_prefix: bool,
    handler: H,
    /// What its layers need.
    checks: Vec<BoxFuture<'static, Result<()>>>,
    /// The first thing that can never work.
    fault: Option<Error>,
    stream: Option<String>,
    start: Start,
    overwrite: bool,
    ack_wait: Duration,
    max_deliver: Deliver,
    max_in_flight: usize,
    batch: Option<usize>,
    concurrency: usize,
    key: Option<Key>,
    waits: Waits,
    extend_for: Duration,
    dead_letters: Letters,
}

/// How often a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deliver {
    Default,
    AtMost(u64),
    WithoutLimit,
}

/// Where dead letters go.
#[derive(Debug)]
enum Letters {
    /// To the topic of the durable name.
    Own,
    To(Subject),
    Nowhere,
}

impl<H: Handler> Call<Subscribe<H>> {
    /// Makes the subscription a durable one: a member of the JetStream consumer `name`, which is
    /// made if there is none. It gets the messages that a stream stored, also those from before and
    /// those that came while nobody was there, each until it is handled. All members of a name, in
    /// this process and others, share the messages.
    ///
    /// What the handler gives decides: `()` or `Ok` settles the message; an error, a panic or
    /// [`Outcome::Retry`](super::Outcome::Retry) has it delivered again after a
    /// [`backoff`](Call::backoff); a reject, or the failure of the last of
    /// [`max_deliver`](Call::max_deliver) deliveries, makes it a
    /// [dead letter](Call::dead_letters). While its handler runs a message is not delivered again.
    ///
    /// At least once: a message whose settlement is lost, with the process or the connection, is
    /// delivered again. Messages that a member held when it died count as delivered to it, whether
    /// their handlers had begun or not.
    ///
    /// `.concurrency(n)` and `.ignore_prefix()` that were set before are kept. The name has no dots,
    /// white space, slashes or wildcards, and no prefix is put before it.
    ///
    /// Awaiting it gives a [`Subscription`]. When it ends, by
    /// [`drain`](Subscription::drain), [`unsubscribe`](Subscription::unsubscribe) or the connector's
    /// drain, handlers at work finish, and messages that wait go to other members at once. The
    /// consumer stays at the server, and goes on where it was when somebody subscribes again.
    ///
    /// # Errors
    /// `InvalidInput` naming the option, before anything is sent; `NotFound` when no stream has the
    /// topic; `Conflict` when the consumer cannot be what was asked for; `AlreadyExists` when a
    /// stream for dead letters cannot be made; `Unsupported` where the driver or the server has no
    /// streams; `Unauthorized`, `Unavailable`, `Timeout`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropped before it is done, there is no member; the consumer and the stream for dead letters
    /// may have been made.
    pub fn durable(self, name: impl Into<String>) -> Call<Durable<H>> {
        let name = name.into();
        self.map(|subscribe| Durable::new(subscribe, name))
    }
}

impl<H: Handler> Durable<H> {
    fn new(subscribe: Subscribe<H>, name: String) -> Self {
        let Subscribe { place, handler, concurrency, checks } = subscribe;
        let mut durable = Durable {
            name,
            handle: place.handle,
            topics: vec![place.topic],
            ignore_prefix: place.ignore_prefix,
            handler,
            checks,
            fault: None,
            stream: None,
            start: Start::All,
            overwrite: false,
            ack_wait: ACK_WAIT,
            max_deliver: Deliver::Default,
            max_in_flight: MAX_IN_FLIGHT,
            batch: None,
            concurrency,
            key: None,
            waits: Waits::default(),
            extend_for: EXTEND_FOR,
            dead_letters: Letters::Own,
        };
        if let Some(queue) = place.queue {
            let message = "a durable subscription in a queue group; leave .queue() out, its members \
                           share the messages by themselves";
            durable.refuse(Error::new(ErrorKind::InvalidInput, message).with("queue", queue));
        }
        durable
    }

    fn refuse(&mut self, error: Error) {
        self.fault.get_or_insert(error);
    }
}

/// Options of a durable subscription. A consumer that is there keeps the options that it has, which
/// [`Subscription::differences`] tells, unless [`overwrite`](Self::overwrite) asks for these.
impl<H: Handler> Call<Durable<H>> {
    /// The stream to read. Default: the one that stores the topic.
    pub fn stream(self, name: impl Into<String>) -> Self {
        self.map_operation(|durable| durable.stream = Some(name.into()))
    }

    /// Reads another topic of the same stream too. Topics must not overlap. Several need nats-server
    /// 2.10.
    pub fn also(self, topic: impl IntoTopic) -> Self {
        self.map_operation(|durable| durable.topics.push(topic.into_topic()))
    }

    /// Which messages a new consumer begins with. Default: all that the stream has.
    pub fn start(self, start: Start) -> Self {
        self.map_operation(|durable| durable.start = start)
    }

    /// Changes a consumer that is there to these options, as far as it can be changed.
    pub fn overwrite(self) -> Self {
        self.map_operation(|durable| durable.overwrite = true)
    }

    /// How long the server waits for a member that says nothing before it delivers a message again:
    /// how long it takes until others get what a member held that died. At least 100 ms, default
    /// 30 s. Handlers may take longer: see [`extend_for`](Self::extend_for).
    pub fn ack_wait(self, wait: Duration) -> Self {
        self.map_operation(|durable| durable.ack_wait = wait)
    }

    /// How often a message is handled before it becomes a dead letter. At least once, default 5.
    ///
    /// The server's count of deliveries decides, so that members and restarts share it. A delivery
    /// beyond the last one belongs to a message whose member died at its last: it becomes a dead
    /// letter without being handled again. With 1, a member asks for no message before it can
    /// handle it.
    pub fn max_deliver(self, deliveries: u64) -> Self {
        self.map_operation(|durable| durable.max_deliver = Deliver::AtMost(deliveries))
    }

    /// Delivers a failing message again and again. Only rejected ones become dead letters.
    pub fn unlimited_deliveries(self) -> Self {
        self.map_operation(|durable| durable.max_deliver = Deliver::WithoutLimit)
    }

    /// The most messages that all members together hold. 1 to 1,000,000,000, default 10,000.
    /// With 1, messages are handled strictly in the stream's order, whatever happens.
    pub fn max_in_flight(self, messages: usize) -> Self {
        self.map_operation(|durable| durable.max_in_flight = messages)
    }

    /// The most messages that this member holds, 1 to 1,000,000,000. Default: as many as it handles in about a second,
    /// which it finds out by itself, up to [`max_in_flight`](Self::max_in_flight).
    pub fn batch(self, messages: usize) -> Self {
        self.map_operation(|durable| durable.batch = Some(messages))
    }

    /// Lets up to `n` handlers run at once, on as many threads as there are. 1 to 65,536; default 1.
    pub fn concurrency(self, n: usize) -> Self {
        self.map_operation(|durable| durable.concurrency = n)
    }

    /// Handles messages of the same key one after the other, in the stream's order: each key belongs
    /// to one of [`concurrency`](Self::concurrency) lanes. With one lane all messages are in order.
    ///
    /// A message that failed is tried again in its lane, after its backoff, so that none of its key
    /// overtakes it; the others of its lane wait too. The order is that of this member: a group with
    /// several has none. What comes again because a member died or lost its connection comes after
    /// what followed it; where that must not be, use `.max_in_flight(1)`.
    pub fn ordered_by<K: Hash>(self, key: impl Fn(&Message) -> K + Send + Sync + 'static) -> Self {
        self.map_operation(|durable| durable.key = Some(Key::of(key)))
    }

    /// [`ordered_by`](Self::ordered_by) the subject.
    pub fn ordered_by_subject(self) -> Self {
        self.map_operation(|durable| durable.key = Some(Key::Subject))
    }

    /// How long a message that was not handled waits for its next delivery. Default: 1 s, doubled
    /// each time up to a minute, with a random part.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.map_operation(|durable| durable.waits = Waits::Backoff(backoff))
    }

    /// The same, computed from the number of deliveries so far, which begins with 1.
    pub fn backoff_by(self, wait: impl Fn(u64) -> Duration + Send + Sync + 'static) -> Self {
        self.map_operation(|durable| durable.waits = Waits::Computed(Arc::new(wait)))
    }

    /// How long a message is kept from being delivered again while it waits for its handler or the
    /// handler runs; what takes longer is delivered again, to this or another member. Default
    /// 10 minutes; zero: only as long as [`ack_wait`](Self::ack_wait) says.
    pub fn extend_for(self, limit: Duration) -> Self {
        self.map_operation(|durable| durable.extend_for = limit)
    }

    /// Where messages go that cannot be handled. Default: `dead.<name>`.
    ///
    /// A dead letter has the message's payload and headers, without those that begin with `Nats-`,
    /// and `Dead-Letter-Cause`, `-Deliveries`, `-Subject`, `-Stream`, `-Sequence`, `-Consumer`,
    /// `-Time` (when the stream stored the message) and `-Message-Id` (if it had one). It is
    /// published until a stream has acknowledged it, with a message id, so that the stream has it
    /// once; only then the message is given up. One that no stream takes (too large, not permitted,
    /// stream full) stays where it was and is tried again, with an error in the log.
    ///
    /// Where no stream stores the topic, one is made for it: `DEAD_LETTERS`, behind the prefix in
    /// capitals, with all topics below `dead.`, or with this topic if it is another one.
    pub fn dead_letters(self, topic: impl IntoTopic) -> Self {
        self.map_operation(|durable| durable.dead_letters = Letters::To(topic.into_topic()))
    }

    /// Keeps no dead letters: failing messages are delivered again without limit, rejected ones are
    /// given up with an error in the log.
    pub fn without_dead_letters(self) -> Self {
        self.map_operation(|durable| durable.dead_letters = Letters::Nowhere)
    }

    /// Takes the topics, also that of dead letters, as full subjects.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|durable| durable.ignore_prefix = true)
    }
}

impl<H: Handler> Durable<H> {
    async fn open(mut self, timeout: Option<Duration>) -> Result<Subscription> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let max_deliver = self.check()?;
        let handle = self.handle.bind()?;
        let prefix = if self.ignore_prefix { "" } else { handle.prefix() };
        let filters = self.filters(prefix)?;
        let mut dead_letters = self.dead_letters(prefix, &filters)?;
        let core = handle.core();
        let streams = core.driver.streams().ok_or_else(|| no_streams(core.driver.name()))?;
        for check in self.checks {
            check.await?;
        }
        let deadline = after(timeout.unwrap_or(core.timeout));
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => stream_of(streams, &filters, deadline).await?,
        };
        let metrics = core.metrics.durable(&filters.join(","), &stream, &self.name);
        let added = Added::new(&handle, &filters[0], metrics);
        if let Some(dead_letters) = &mut dead_letters {
            dead_letters.ensure(streams, &stream, deadline).await?;
        }
        let mut config = ConsumerConfig::new(stream, self.name);
        config.filters = filters;
        config.start = self.start;
        config.ack_wait = self.ack_wait;
        config.max_in_flight = self.max_in_flight;
        let consuming = streams.consume(&config, self.overwrite, deadline).await?;
        for difference in &consuming.differences {
            tracing::warn!(
                stream = config.stream, consumer = config.name, %difference,
                "a durable consumer is not as it was asked for; .overwrite() changes it"
            );
        }

        let task = added.keep()?;
        let most = match max_deliver {
            Some(1) => self.concurrency,
            _ => self.max_in_flight,
        };
        let most = self.batch.unwrap_or(most).min(most);
        let room = Room::new(self.concurrency, most, consuming.ack_wait, self.key.is_some());
        let lanes =
            self.key.map(|key| Lanes { key, count: self.concurrency, handle: handle.clone() });
        let consumer = delivered::Consumer { stream: config.stream, name: config.name };
        let member = Arc::new(Member {
            rules: Rules {
                ordered: lanes.is_some(),
                max_deliver,
                waits: self.waits,
                dead_letters,
                ack_wait: consuming.ack_wait,
                extend_for: self.extend_for,
            },
            intake: Intake::new(consuming.deliveries, consumer, self.concurrency, lanes, room),
            handle: handle.clone(),
            task: task.clone(),
            counts: Counts::default(),
            causes: Causes::default(),
            stopping: watch::channel(false).0,
        });
        start(member.clone(), self.handler, self.concurrency);
        Ok(Subscription::durable(handle, task, member, consuming.differences))
    }

    /// Checks what needs no driver; gives the limit of deliveries.
    fn check(&self) -> Result<Option<u64>> {
        check_name(&self.name)?;
        let too_small = |option: &'static str, least: &str| {
            Error::new(ErrorKind::InvalidInput, format!("too small; use at least {least}"))
                .with("option", option)
        };
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            return Err(bad_concurrency(self.concurrency));
        }
        if self.ack_wait < SHORTEST_ACK_WAIT {
            return Err(too_small("ack_wait", "100ms"));
        }
        if self.max_deliver == Deliver::AtMost(0) {
            return Err(too_small("max_deliver", "1"));
        }
        let counts = [("max_in_flight", Some(self.max_in_flight)), ("batch", self.batch)];
        for (option, count) in counts {
            if let Some(count) = count.filter(|count| !(1..=MOST_IN_FLIGHT).contains(count)) {
                let message = format!("{count} messages; use 1 to 1,000,000,000");
                return Err(Error::new(ErrorKind::InvalidInput, message).with("option", option));
            }
        }
        if let Some(stream) = &self.stream {
            check_stream(stream)?;
        }
        match (&self.dead_letters, self.max_deliver) {
            (Letters::Nowhere, Deliver::AtMost(_)) => {
                let message = "a limit of deliveries without dead letters would lose messages; leave \
                               one of the two out";
                Err(Error::new(ErrorKind::InvalidInput, message).with("option", "max_deliver"))
            }
            (Letters::Nowhere, _) | (_, Deliver::WithoutLimit) => Ok(None),
            (_, Deliver::AtMost(limit)) => Ok(Some(limit)),
            (_, Deliver::Default) => Ok(Some(MAX_DELIVER)),
        }
    }

    /// The full subjects to read.
    fn filters(&self, prefix: &str) -> Result<Vec<String>> {
        let filters: Vec<_> = self.topics.iter().map(|topic| [prefix, topic].concat()).collect();
        for (i, filter) in filters.iter().enumerate() {
            check_subscribe(filter)?;
            if let Some(other) = filters[..i].iter().find(|other| overlap(other, filter)) {
                let message = "two topics of a durable subscription have subjects in common; make \
                               them disjoint";
                return Err(Error::new(ErrorKind::InvalidInput, message)
                    .with("topic", filter)
                    .with("other", other));
            }
        }
        Ok(filters)
    }

    fn dead_letters(&self, prefix: &str, filters: &[String]) -> Result<Option<DeadLetters>> {
        let dead_letters = match &self.dead_letters {
            Letters::Own => DeadLetters::of(&self.name, None, prefix),
            Letters::To(topic) => DeadLetters::of(&self.name, Some(topic), prefix),
            Letters::Nowhere => return Ok(None),
        };
        check_publish(&dead_letters.subject)?;
        if let Some(filter) = filters.iter().find(|filter| matches(filter, &dead_letters.subject)) {
            let message = "a durable subscription would get its own dead letters; choose another \
                           topic for them by .dead_letters(topic)";
            return Err(Error::new(ErrorKind::InvalidInput, message)
                .with("topic", filter)
                .with("dead_letters", dead_letters.subject.as_str()));
        }
        Ok(Some(dead_letters))
    }
}

impl<H: Handler> Operation for Durable<H> {
    type Output = Result<Subscription>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Subscription>> {
        let name = self.name.clone();
        Box::pin(async move {
            let opened = self.open(timeout).await;
            opened.map_err(|error| error.operation("subscribe").with("durable", name))
        })
    }
}

/// The one stream that stores all these subjects.
async fn stream_of(streams: &dyn Streams, filters: &[String], deadline: Instant) -> Result<String> {
    let mut found: Option<String> = None;
    for filter in filters {
        let Some(stream) = streams.stream_of(filter, deadline).await? else {
            let message = "no stream stores this topic; make one with this subject first, or name \
                           one by .stream(name)";
            return Err(Error::new(ErrorKind::NotFound, message).with("topic", filter));
        };
        match &found {
            Some(other) if *other != stream => {
                let message = "the topics are in different streams; use a durable subscription for \
                               each";
                return Err(Error::new(ErrorKind::InvalidInput, message)
                    .with("topic", filter)
                    .with("stream", stream)
                    .with("other", other));
            }
            _ => found = Some(stream),
        }
    }
    // There is at least one filter.
    Ok(found.unwrap_or_default())
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || name.contains(bad) {
        let message = "a bad name for a durable subscription; use 1 to 255 bytes without dots, white \
                       space, slashes and wildcards";
        return Err(Error::new(ErrorKind::InvalidInput, message).with("name", name));
    }
    Ok(())
}

fn no_streams(driver: &str) -> Error {
    let message = format!("the {driver} driver has no streams; subscribe without .durable()");
    Error::new(ErrorKind::Unsupported, message)
}

/// For a concurrency that no subscription has.
pub(super) fn bad_concurrency(concurrency: usize) -> Error {
    let message = format!("a concurrency of {concurrency}; use 1 to {MAX_CONCURRENCY}");
    Error::new(ErrorKind::InvalidInput, message)
}

impl<H> fmt::Debug for Durable<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable")
            .field("name", &self.name)
            .field("topics", &self.topics)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_when_a_subject_fits_both() {
        for (a, b, common) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "*.b", true),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("a.b", "a.c", false),
            ("a.*", "a", false),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.c", false),
        ] {
            assert_eq!((overlap(a, b), overlap(b, a)), (common, common), "{a} {b}");
        }
    }
}
