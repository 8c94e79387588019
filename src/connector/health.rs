//! How a connector is doing, for people and for probes.

use std::time::Duration;

use super::status::State;

/// How a connector is doing, as [`Connector::health`](crate::Connector::health) finds it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// The connection's state.
    pub state: State,
    /// The server connected to, without userinfo; `None` while there is none; in process `memory:`.
    pub server: Option<String>,
    /// The time of a round trip made for this answer; `None` when there was none.
    pub round_trip: Option<Duration>,
    /// Connects after the first.
    pub reconnects: u64,
    /// The last error that the server, the connection or the credentials gave.
    pub last_error: Option<String>,
    /// Messages dropped because a subscription was too slow, since the start.
    pub dropped_messages: u64,
    /// JetStream answers for this account; `None` when it could not be asked.
    pub jetstream: Option<bool>,
}

impl Health {
    /// For a readiness probe: connected, and the server answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Connected && self.round_trip.is_some()
    }

    /// For a liveness probe: not closed for good. A lost connection is no reason to be restarted.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state != State::Closed
    }
}
