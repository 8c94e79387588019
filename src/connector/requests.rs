//! Request and reply over one inbox: every waiting request is a map entry that leaves with its
//! future, so requests that time out cost nothing afterwards. (The client's own multiplexer keeps
//! an entry until an answer comes.)

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_nats::{Message, StatusCode, Subject};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind, Result};

/// The requests that wait for an answer.
#[derive(Debug)]
pub(crate) struct Requests {
    prefix: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiter>>,
    /// The server does not permit the inbox.
    refused: AtomicBool,
}

#[derive(Debug)]
struct Waiter {
    subject: Subject,
    answer: Answer,
}

/// Where answers go: to a request that has one, or to one that has many.
#[derive(Debug)]
enum Answer {
    One(oneshot::Sender<Result<Message>>),
    Many(mpsc::UnboundedSender<Result<Message>>),
}

impl Answer {
    /// The caller may have given up in this moment.
    fn send(self, answer: Result<Message>) {
        match self {
            Answer::One(sender) => drop(sender.send(answer)),
            Answer::Many(sender) => drop(sender.send(answer)),
        }
    }
}

/// One request's place in the map; dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    requests: &'a Requests,
    token: u64,
    answer: oneshot::Receiver<Result<Message>>,
    /// The place is given up already.
    answered: bool,
}

/// The place of a request that has many answers; dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Answers<'a> {
    requests: &'a Requests,
    token: u64,
    answers: mpsc::UnboundedReceiver<Result<Message>>,
}

impl Requests {
    /// For answers under `<inbox prefix>.<unique>`.
    pub(crate) fn new(inbox_prefix: &str) -> Self {
        let unique = format!("{:016x}", rand::random::<u64>());
        Requests {
            prefix: format!("{inbox_prefix}.{unique}"),
            next: AtomicU64::new(0),
            waiting: Mutex::new(HashMap::new()),
            refused: AtomicBool::new(false),
        }
    }

    /// The subject to subscribe to for all answers.
    pub(crate) fn inbox(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// A subject of this connection's own that nobody subscribes to.
    pub(crate) fn nobody(&self) -> Subject {
        format!("{}.b.{}", self.prefix, self.next_token()).into()
    }

    /// An inbox of its own for what sends many messages; it takes `<inbox>.<anything>`.
    pub(crate) fn feed(&self) -> String {
        format!("{}.f.{}", self.prefix, self.next_token())
    }

    /// Makes room for the answer to a request to `subject`.
    pub(crate) fn register(&self, subject: Subject) -> (Pending<'_>, Subject) {
        let token = self.next_token();
        (self.wait(token, subject), self.reply(token))
    }

    /// Makes room for the answers to a request to `subject`.
    pub(crate) fn register_many(&self, subject: Subject) -> (Answers<'_>, Subject) {
        let token = self.next_token();
        let (sender, answers) = mpsc::unbounded_channel();
        self.lock().insert(token, Waiter { subject, answer: Answer::Many(sender) });
        (Answers { requests: self, token, answers }, self.reply(token))
    }

    /// Makes room for a message of this connection to itself; gives the subject to send it to.
    pub(crate) fn register_echo(&self) -> (Pending<'_>, Subject) {
        let token = self.next_token();
        let subject = self.reply(token);
        (self.wait(token, subject.clone()), subject)
    }

    fn next_token(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn reply(&self, token: u64) -> Subject {
        format!("{}.{token}", self.prefix).into()
    }

    fn wait(&self, token: u64, subject: Subject) -> Pending<'_> {
        let (sender, answer) = oneshot::channel();
        self.lock().insert(token, Waiter { subject, answer: Answer::One(sender) });
        Pending { requests: self, token, answer, answered: false }
    }

    /// Hands an answer to the request that waits for it; a late one is dropped.
    pub(crate) fn answer(&self, message: Message) {
        let token = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
        let Some(token) = token else { return };
        let mut waiting = self.lock();
        let Entry::Occupied(waiter) = waiting.entry(token) else { return };
        let answer = match message.status {
            Some(StatusCode::NO_RESPONDERS) => Err(no_responders(&waiter.get().subject)),
            _ => Ok(message),
        };
        if let Answer::Many(sender) = &waiter.get().answer {
            // The caller may have given up in this moment.
            let _ = sender.send(answer);
            return;
        }
        let waiter = waiter.remove();
        shrink(&mut waiting);
        drop(waiting);
        waiter.answer.send(answer);
    }

    /// Ends the waiting requests to `subject` (all, without one) with an error; whether there were
    /// any.
    pub(crate) fn fail(&self, subject: Option<&str>, error: impl Fn(&Subject) -> Error) -> bool {
        let mut waiting = self.lock();
        let tokens: Vec<u64> = waiting
            .iter()
            .filter(|(_, waiter)| subject.is_none_or(|subject| waiter.subject.as_str() == subject))
            .map(|(token, _)| *token)
            .collect();
        for token in &tokens {
            if let Some(waiter) = waiting.remove(token) {
                waiter.answer.send(Err(error(&waiter.subject)));
            }
        }
        !tokens.is_empty()
    }

    /// The server does not permit the inbox: ends the waiting requests, and later ones at once,
    /// until the [`next connection`](Self::permit).
    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.fail(None, |_| self.refusal());
    }

    /// Another connection may permit the inbox.
    pub(crate) fn permit(&self) {
        self.refused.store(false, Ordering::Relaxed);
    }

    /// Fails while the inbox is refused.
    pub(crate) fn may_have_answers(&self) -> Result<()> {
        if self.refused.load(Ordering::Relaxed) { Err(self.refusal()) } else { Ok(()) }
    }

    #[cold]
    fn refusal(&self) -> Error {
        Error::new(
            ErrorKind::Unauthorized,
            "subscribing to the inbox is not permitted, so no answer can arrive; permit it or set \
             NATS.INBOX_PREFIX to one that is",
        )
        .with("subject", self.inbox())
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Takes a request out of the map.
    fn forget(&self, token: u64) {
        let mut waiting = self.lock();
        waiting.remove(&token);
        shrink(&mut waiting);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A burst of requests must not keep its memory for ever.
fn shrink(waiting: &mut HashMap<u64, Waiter>) {
    if waiting.is_empty() && waiting.capacity() > 1024 {
        waiting.shrink_to(64);
    }
}

fn no_responders(subject: &Subject) -> Error {
    Error::no_responders("nobody serves this subject: no subscriber, or no stream for it")
        .with("subject", subject.as_str())
}

impl Pending<'_> {
    /// Waits for the answer.
    pub(crate) async fn answer(&mut self) -> Result<Message> {
        let answer = (&mut self.answer).await;
        self.answered = true;
        answer.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Closed, "the connection was closed while waiting"))
        })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.requests.forget(self.token);
        }
    }
}

impl Answers<'_> {
    /// The next answer, if it is there.
    pub(crate) fn ready(&mut self) -> Option<Result<Message>> {
        self.answers.try_recv().ok()
    }

    /// Waits for the next answer.
    pub(crate) async fn next(&mut self) -> Result<Message> {
        let answer = self.answers.recv().await;
        answer.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Closed, "the connection was closed while waiting"))
        })
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.requests.forget(self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_up_requests_leave_nothing() {
        let requests = Requests::new("_INBOX");
        let pending: Vec<_> = (0..10_000).map(|_| requests.register("a".into())).collect();
        assert_eq!(requests.len(), 10_000);
        drop(pending);
        assert_eq!(requests.len(), 0);
        assert!(requests.lock().capacity() <= 1024);
    }

    #[tokio::test]
    async fn many_answers_come_in_order_until_the_place_is_given_up() {
        let requests = Requests::new("_INBOX");
        let (mut answers, reply) = requests.register_many("a".into());
        let message = |payload: &'static str, status| Message {
            subject: reply.clone(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status,
            description: None,
            length: 0,
        };
        requests.answer(message("1", None));
        requests.answer(message("2", None));
        requests.answer(message("", Some(StatusCode::NO_RESPONDERS)));
        assert_eq!(answers.next().await.unwrap().payload, "1");
        assert_eq!(answers.next().await.unwrap().payload, "2");
        assert!(answers.next().await.unwrap_err().is_no_responders());
        drop(answers);
        requests.answer(message("late", None));
        assert_eq!(requests.len(), 0);
    }

    #[tokio::test]
    async fn failing_a_subject_leaves_the_others() {
        let requests = Requests::new("_INBOX");
        let (mut a, _) = requests.register("a".into());
        let (_b, _) = requests.register("b".into());
        requests.fail(Some("a"), |s| Error::new(ErrorKind::Unauthorized, "").with("s", &**s));
        assert_eq!(a.answer().await.unwrap_err().kind(), ErrorKind::Unauthorized);
        assert_eq!(requests.len(), 1);
    }
}
