//! The stream of a store of counters: found or made, added to, read.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::Subject;
use serde_json::json;
use tokio::time::Instant;

use super::CountersConfig;
use super::add::unknown;
use super::nats::{self, Ack, Opened};
use crate::connector::{Feature, Link};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::kv::driver::Consistency;
use crate::kv::retry::Retry;

/// How long the first try of a call may take; each later one twice as long.
const FIRST_TRY: Duration = Duration::from_secs(1);

/// A store's stream.
pub(super) struct Stream {
    link: Arc<Link>,
    name: String,
    opened: RwLock<Option<Arc<Opened>>>,
    opening: tokio::sync::Mutex<()>,
}

impl Stream {
    pub(super) fn new(link: Arc<Link>, store: &str) -> Self {
        let name = format!("COUNTERS_{store}");
        Stream { link, name, opened: RwLock::default(), opening: tokio::sync::Mutex::default() }
    }

    /// Adds `sum` to a key under the message id `id`, once, whatever happens on the way; the value
    /// after it.
    ///
    /// `Timeout` when it may have been made; no other error when it was.
    pub(super) async fn add(
        &self,
        key: &str,
        sum: i128,
        id: &str,
        config: &CountersConfig,
        mut deadline: Instant,
    ) -> Result<i128> {
        let mut retry = Retry::until(deadline);
        let mut try_for = FIRST_TRY;
        // A try that may have been stored.
        let mut doubtful = false;
        loop {
            let until = deadline.min(Instant::now() + try_for);
            try_for *= 2;
            let opened = match self.open_to_add(config, until).await {
                Ok(opened) => Ok(opened),
                Err(error) if error.is_timeout() => Err(error),
                Err(error) if doubtful && error.is_retryable() => Err(error),
                Err(error) if doubtful => return Err(unknown().with_source(error)),
                Err(error) => return Err(error),
            };
            let failed = match opened {
                Ok(opened) => match self.add_once(&opened, key, sum, id, until).await {
                    Ok(Ack { value: Some(value), .. }) => return Ok(value),
                    Ok(Ack { seq, .. }) => {
                        return self.value_after(&opened, key, seq, deadline).await;
                    }
                    Err(error) if error.is_no_responders() || error.is_not_found() => {
                        // Nothing was stored.
                        self.forget(&opened);
                        error
                    }
                    Err(error) if nats::is_doubtful(&error) => {
                        if !doubtful {
                            doubtful = true;
                            // At the last try, too, the server must know the id.
                            deadline = deadline.min(Instant::now() + opened.window / 2);
                            retry = Retry::until(deadline);
                        }
                        error
                    }
                    Err(error) if doubtful => return Err(unknown().with_source(error)),
                    Err(error) => return Err(error),
                },
                Err(error) => error,
            };
            if !retry.pause().await {
                return Err(if doubtful {
                    unknown().with_source(failed)
                } else {
                    unavailable(failed)
                });
            }
        }
    }

    async fn open_to_add(&self, config: &CountersConfig, until: Instant) -> Result<Arc<Opened>> {
        let opened = self.open_or_make(config, until).await?;
        self.link.ready(until).await?;
        Ok(opened)
    }

    async fn add_once(
        &self,
        opened: &Opened,
        key: &str,
        sum: i128,
        id: &str,
        until: Instant,
    ) -> Result<Ack> {
        let subject = Subject::from(format!("{}{key}", opened.write));
        let headers = Some(nats::add_headers(sum, id));
        let answer = self.link.request(subject, headers, Default::default(), until).await?;
        nats::acknowledged(&answer.payload, &self.name)
    }

    /// The value that an add made whose acknowledgement does not tell it: of the message itself, or
    /// of the key's last one when it is gone already.
    async fn value_after(
        &self,
        opened: &Opened,
        key: &str,
        seq: u64,
        deadline: Instant,
    ) -> Result<i128> {
        let mut retry = Retry::until(deadline);
        let mut try_for = FIRST_TRY;
        loop {
            let until = deadline.min(Instant::now() + try_for);
            try_for *= 2;
            let read = async {
                let message =
                    jetstream::message(&self.link, &self.name, &json!({ "seq": seq }), until)
                        .await?;
                let message = match message {
                    Some(message) => Some(message),
                    None => self.last(opened, key, until).await?,
                };
                // Reset since.
                message.map_or(Ok(0), nats::stored)
            };
            match read.await {
                Err(error) if error.is_retryable() && retry.pause().await => {}
                read => return read.map_err(|error| unknown().with_source(error)),
            }
        }
    }

    /// The value of a key; a missing store is a miss.
    pub(super) async fn read(
        &self,
        key: &str,
        consistency: Consistency,
        config: &CountersConfig,
        deadline: Instant,
    ) -> Result<Option<i128>> {
        let read = |opened: Arc<Opened>, until| async move {
            if opened.direct && consistency == Consistency::Any {
                let subject = Subject::from(format!("{}{key}", opened.read));
                let answer = self.link.request(subject, None, Default::default(), until).await?;
                return nats::direct(&answer);
            }
            let message = self.last(&opened, key, until).await?;
            message.map(nats::stored).transpose()
        };
        Ok(self.ask(config, deadline, read).await?.flatten())
    }

    async fn last(
        &self,
        opened: &Opened,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<async_nats::jetstream::stream::RawMessage>> {
        let subject = format!("{}{key}", opened.subjects);
        jetstream::last_message(&self.link, &self.name, &subject, deadline).await
    }

    /// The stored forms of the keys that begin with `under`: nothing, or whole tokens and a dot.
    pub(super) async fn keys(
        &self,
        under: &str,
        config: &CountersConfig,
        deadline: Instant,
    ) -> Result<Vec<String>> {
        let list = |opened: Arc<Opened>, until| async move {
            let filter = format!("{}{under}>", opened.subjects);
            let subjects = nats::subjects(&self.link, &self.name, &filter, until).await?;
            let strip = |subject: String| Some(subject.strip_prefix(&opened.subjects)?.to_owned());
            Ok(subjects.into_iter().filter_map(strip).collect())
        };
        Ok(self.ask(config, deadline, list).await?.unwrap_or_default())
    }

    /// Takes away all that the filter, a key or `>` at the end, covers; whether there was any.
    pub(super) async fn purge(
        &self,
        filter: &str,
        config: &CountersConfig,
        deadline: Instant,
    ) -> Result<bool> {
        let purge = |opened: Arc<Opened>, until| async move {
            let filter = format!("{}{filter}", opened.subjects);
            let purged = jetstream::purge(&self.link, &self.name, Some(&filter), until).await?;
            Ok(purged > 0)
        };
        Ok(self.ask(config, deadline, purge).await?.unwrap_or_default())
    }

    /// Deletes the stream; whether there was one.
    pub(super) async fn delete(&self, deadline: Instant) -> Result<bool> {
        let deleted = jetstream::delete(&self.link, &self.name, deadline).await;
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = None;
        deleted
    }

    /// Asks the stream, again while it moves; `None` when there is none. Each try has its own limit:
    /// what is sent while there is no leader gets no answer.
    async fn ask<T, F>(
        &self,
        config: &CountersConfig,
        deadline: Instant,
        ask: impl Fn(Arc<Opened>, Instant) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let mut retry = Retry::until(deadline);
        let mut try_for = FIRST_TRY;
        loop {
            let until = deadline.min(Instant::now() + try_for);
            try_for *= 2;
            let error = match self.open(config, until).await {
                Ok(None) => return Ok(None),
                Ok(Some(opened)) => match ask(opened.clone(), until).await {
                    Err(error) if nats::is_gone(&error) => {
                        self.forget(&opened);
                        error
                    }
                    Err(error) if error.is_timeout() => error,
                    asked => return asked.map(Some),
                },
                Err(error) if error.is_timeout() => error,
                Err(error) => return Err(error),
            };
            if !retry.pause().await {
                return Err(if error.is_timeout() { error } else { unavailable(error) });
            }
        }
    }

    async fn open(
        &self,
        config: &CountersConfig,
        deadline: Instant,
    ) -> Result<Option<Arc<Opened>>> {
        match self.cached() {
            Some(opened) => Ok(Some(opened)),
            None => self.find(config, false, deadline).await,
        }
    }

    async fn open_or_make(
        &self,
        config: &CountersConfig,
        deadline: Instant,
    ) -> Result<Arc<Opened>> {
        if let Some(opened) = self.cached() {
            return Ok(opened);
        }
        let found = self.find(config, true, deadline).await?;
        found.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the store of counters was deleted meanwhile")
        })
    }

    /// Asks the server, unless somebody else did meanwhile; makes the stream if that is wanted.
    async fn find(
        &self,
        config: &CountersConfig,
        make: bool,
        deadline: Instant,
    ) -> Result<Option<Arc<Opened>>> {
        let opening = within(deadline, self.opening.lock()).await;
        let _opening = opening.map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                "another call was still finding or making the store at the deadline",
            )
        })?;
        if let Some(opened) = self.cached() {
            return Ok(Some(opened));
        }
        let server = self.link.capabilities(deadline).await?;
        server.require(Feature::Counters)?;
        let info = match jetstream::info(&self.link, &self.name, deadline).await? {
            None if make => Some(self.make(config, server.domain(), deadline).await?),
            found => found,
        };
        let Some(info) = info else { return Ok(None) };
        let opened = Arc::new(Opened::new(&self.link, &self.name, &info)?);
        for (option, found, wanted) in nats::differences(config, &info) {
            tracing::warn!(
                stream = self.name,
                option,
                found,
                wanted,
                "the store of counters is not as asked"
            );
        }
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = Some(opened.clone());
        Ok(Some(opened))
    }

    async fn make(
        &self,
        config: &CountersConfig,
        domain: Option<&str>,
        deadline: Instant,
    ) -> Result<jetstream::Info> {
        let stream = nats::new_stream(config, &self.name, domain);
        match jetstream::create(&self.link, &self.name, &stream, deadline).await {
            // Somebody else was faster.
            Err(error) if error.is_already_exists() => {
                let found = jetstream::info(&self.link, &self.name, deadline).await?;
                found.ok_or(error)
            }
            made => made,
        }
    }

    fn cached(&self) -> Option<Arc<Opened>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self, gone: &Arc<Opened>) {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.as_ref().is_some_and(|opened| Arc::ptr_eq(opened, gone)) {
            *opened = None;
        }
    }
}

fn unavailable(error: Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the store's stream did not take the call until the deadline; does it have a leader?",
    )
    .with_source(error)
}
