//! Which server to try next, when, and when to give up.
//!
//! The client asks before every attempt. A round goes through all known servers; rounds after the
//! first wait `RECONNECT_WAIT` with jitter, and so does the first after a connection that did not
//! last that long. `MAX_RECONNECT` counts attempts in a row for each server that the settings list.
//! The first connect is neither delayed nor counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{ReconnectToServer, Server, ServerAddr, ServerInfo};
use rand::seq::SliceRandom;

use super::status::{RateLimit, Status};
use crate::settings::{MaxReconnect, Settings};

/// The jitter before the first attempt after a loss, so that a fleet does not come back as one.
const FIRST_JITTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Reconnect {
    /// Attempts of one outage; `None` without limit.
    budget: Option<usize>,
    /// The servers that the settings list: the first connect tries each once on top of the budget.
    listed: usize,
    /// The first connect goes on in the background, in one client.
    retry_first: bool,
    wait: Duration,
    randomize: bool,
    status: Arc<Status>,
    /// For log lines about failed attempts.
    limit: RateLimit,
    outage: Mutex<Outage>,
}

/// The attempts since the connection was lost.
#[derive(Debug, Default)]
struct Outage {
    /// The connection that was lost: server and client id; empty before the first connect.
    lost: Option<(String, u64)>,
    attempts: usize,
    round: Vec<ServerAddr>,
    rounds: usize,
    /// The last server tried: when connected, the current one.
    last: Option<ServerAddr>,
    /// When that was.
    tried: Option<Instant>,
    /// The lost connection did not last for `wait`: one that is lost again and again must not make
    /// a fast loop.
    short_lived: bool,
    /// A server that asked its clients to leave.
    avoid: Option<ServerAddr>,
}

impl Reconnect {
    pub(crate) fn new(settings: &Settings, status: Arc<Status>) -> Self {
        let listed = settings.servers().len();
        let budget = match settings.max_reconnect() {
            MaxReconnect::Never => Some(0),
            MaxReconnect::Attempts(n) => Some((n as usize).saturating_mul(listed)),
            MaxReconnect::Unlimited => None,
        };
        Reconnect {
            budget,
            listed,
            retry_first: settings.retry_on_initial_connect(),
            wait: settings.reconnect_wait(),
            randomize: settings.randomize(),
            status,
            limit: RateLimit::new(Duration::from_secs(10)),
            outage: Mutex::default(),
        }
    }

    /// The client's own limit, into which [`stop`] lets it run: its task ends then. It
    /// takes 0 for no limit at all.
    pub(crate) fn client_limit(&self) -> Option<usize> {
        let free = if self.retry_first { self.listed } else { 0 };
        self.budget.map(|budget| budget.saturating_add(free).max(1))
    }

    /// Prefers other servers than the current one in the next outage.
    pub(crate) fn avoid_current(&self) {
        let mut outage = self.lock();
        outage.avoid = outage.last.clone();
    }

    /// The current server's address, when it is known.
    pub(crate) fn current(&self) -> Option<String> {
        self.lock().last.as_ref().map(|server| server.as_url_str().to_owned())
    }

    /// What to do after the connection that `info` describes was lost.
    pub(crate) fn next(&self, pool: &[Server], info: &ServerInfo) -> Next {
        let first_connect = info.server_id.is_empty();
        let lost = (info.server_id.clone(), info.client_id);
        let mut outage = self.lock();
        if outage.lost.as_ref() != Some(&lost) {
            let (avoid, last, tried) = (outage.avoid.take(), outage.last.take(), outage.tried);
            let short_lived = tried.is_some_and(|tried| tried.elapsed() < self.wait);
            *outage =
                Outage { lost: Some(lost), avoid, last, tried, short_lived, ..Outage::default() };
        }
        // Failures of the first connect are told by its own error, unless it goes on behind.
        if outage.attempts > 0 && (self.retry_first || !first_connect) {
            self.note_failure(pool, outage.last.as_ref());
        }
        let free = if first_connect { self.listed } else { 0 };
        if self.budget.is_some_and(|budget| outage.attempts >= budget.saturating_add(free)) {
            drop(outage);
            self.give_up();
            return stop(pool);
        }
        if self.status.is_closed() {
            return Next::Never;
        }
        outage.attempts += 1;
        let mut delay = Duration::ZERO;
        if outage.round.is_empty() {
            outage.rounds += 1;
            let at_once = outage.rounds == 1 && (outage.avoid.is_some() || !outage.short_lived);
            delay = match (at_once, first_connect) {
                (true, true) => Duration::ZERO,
                (true, false) => FIRST_JITTER.min(self.wait).mul_f64(rand::random()),
                (false, _) => self.wait.mul_f64(1.0 + 0.2 * rand::random::<f64>()),
            };
            outage.round = self.order(pool, outage.avoid.as_ref());
        }
        match outage.round.pop() {
            Some(addr) => {
                outage.last = Some(addr.clone());
                outage.tried = Some(Instant::now() + delay);
                Next::Try(ReconnectToServer { addr, delay: Some(delay) })
            }
            None => Next::Never,
        }
    }

    /// Records why the last attempt failed.
    fn note_failure(&self, pool: &[Server], tried: Option<&ServerAddr>) {
        let Some(server) = pool.iter().find(|server| Some(&server.addr) == tried) else { return };
        // The client keeps the error of every attempt but of those that fail in the name lookup.
        let why = server.last_error.as_deref().unwrap_or("name lookup failed");
        let error = format!("{}: {why}", server.addr.as_url_str());
        if let Some(held_back) = self.limit.pass() {
            tracing::warn!(held_back, error, "cannot connect, trying on");
        }
        self.status.set_last_error(error);
    }

    /// Closes the connector for good.
    pub(crate) fn give_up(&self) {
        if self.status.close() {
            let last_error = self.status.last_error().unwrap_or_default();
            tracing::error!(
                last_error,
                "reconnects are exhausted, the connector is closed; \
                 call register() or connect() again, or raise NATS.MAX_RECONNECT"
            );
        }
    }

    /// The servers of one round, the last one first to be tried.
    fn order(&self, pool: &[Server], avoid: Option<&ServerAddr>) -> Vec<ServerAddr> {
        let mut round: Vec<ServerAddr> = pool.iter().map(|server| server.addr.clone()).collect();
        if self.randomize {
            round.shuffle(&mut rand::rng());
        }
        round.sort_by_key(|addr| Some(addr) == avoid);
        round.reverse();
        round
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the client run into its own limit.
fn stop(pool: &[Server]) -> Next {
    pool.first().map_or(Next::Never, |server| {
        Next::Try(ReconnectToServer { addr: server.addr.clone(), delay: Some(Duration::ZERO) })
    })
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Try this server after its delay.
    Try(ReconnectToServer),
    /// Nothing, for ever: closed with attempts left. The client has no other way to stop.
    Never,
}
