//! Stores the responses of a service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use serde_json::Value;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::lanes::{Lanes, Ticket};
use super::{Counts, Persist, Place, Policy, Receipt, Shelf, StoreStatus, Stores, plan};
use crate::connector::status::RateLimit;
use crate::deadline::{after, poll_once, within};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Key, KeyCodec};
use crate::rpc::interceptor::About;
use crate::rpc::server::Keep;
use crate::rpc::{Reply, RpcError, code};

/// What waits for the store after its reply was sent, at most, in units of [`UNIT`] bytes: 64 MiB.
const ROOM: u32 = 64 * 1024 * 1024 / UNIT as u32;
const UNIT: usize = 4096;
/// What a write takes at least, so that at most 1,024 wait.
const LEAST: u32 = ROOM / 1024;

/// How long a service's start waits for its buckets.
const START_TIME: Duration = Duration::from_secs(5);

/// Keeps what the methods of one service answer.
pub(crate) struct Keeper {
    shelves: Vec<Shelf>,
    lanes: Arc<Lanes>,
    room: Arc<Semaphore>,
    log: RateLimit,
}

/// The response of one call, on its way to where it is kept.
struct Keeping {
    keeper: Arc<Keeper>,
    counts: Arc<Counts>,
    about: Arc<About>,
    writes: Vec<Write>,
    /// The right to reply before others that write the same keys.
    orders: Vec<OwnedMutexGuard<()>>,
}

/// One of the places that a response goes to.
pub(crate) struct Write {
    shelf: usize,
    policy: Policy,
    receipt: bool,
    limit: Duration,
    ticket: Ticket,
}

/// What is left to write after the reply.
struct Writing {
    keeping: Keeping,
    payload: Bytes,
    turns: Vec<Turn>,
}

/// A write with its place in the row.
struct Turn {
    write: Write,
    deadline: Instant,
    turn: Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>,
    room: OwnedSemaphorePermit,
}

impl Keeper {
    /// What keeps the responses of these methods.
    ///
    /// # Errors
    /// `InvalidInput` where methods want one bucket otherwise, and for options that cannot be.
    pub(crate) fn new<'a>(
        stores: &Stores,
        methods: impl IntoIterator<Item = (&'a str, &'a Place)>,
    ) -> Result<Arc<Self>> {
        let planned = plan(methods)?;
        let shelves = planned.into_iter().map(|planned| Shelf::new(planned, stores)).collect();
        Ok(Arc::new(Keeper {
            shelves,
            lanes: Arc::default(),
            room: Arc::new(Semaphore::new(ROOM as usize)),
            log: RateLimit::new(Duration::from_secs(1)),
        }))
    }

    /// Makes the buckets that are missing. What fails is logged, and tried again with the next write.
    pub(crate) async fn start(&self, timeout: Option<Duration>) {
        let deadline = after(timeout.unwrap_or(START_TIME).min(START_TIME));
        join_all(self.shelves.iter().map(|shelf| async move {
            if let Err(error) = shelf.open(deadline).await {
                let (store, bucket) = (shelf.place().kind(), shelf.place().bucket());
                tracing::error!(
                    store, bucket, %error,
                    "no bucket for the responses of a service; it serves without, and tries again \
                     with the next response"
                );
            }
        }))
        .await;
    }

    /// Waits until nothing waits to be stored.
    pub(crate) async fn idle(&self) {
        // Every write holds some of it; nobody closes it.
        drop(self.room.acquire_many(ROOM).await);
    }

    /// What a method's statistics tell, if it keeps anything.
    pub(crate) fn to_json(&self, method: &str, counts: &Counts) -> Option<Value> {
        if !counts.keeps() {
            return None;
        }
        let status = self.status();
        let own = status.iter().filter(|store| store.methods.iter().any(|name| name == method));
        let mut kept = counts.to_json();
        kept["stores"] = own.map(StoreStatus::to_json).collect();
        Some(kept)
    }

    /// How the buckets fare.
    pub(crate) fn status(&self) -> Vec<StoreStatus> {
        self.shelves.iter().map(Shelf::status).collect()
    }

    /// Where the response of a call will go.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the key of a place that is required cannot be made.
    pub(crate) fn writes<Req>(
        &self,
        about: &About,
        counts: &Counts,
        places: &[Persist<Req>],
        request: &Req,
    ) -> Result<Vec<Write>, RpcError> {
        let mut writes = Vec::new();
        for persist in places.iter().filter(|persist| !persist.client_only) {
            let Some(shelf) = self.shelf_of(&persist.place) else { continue };
            match key_of(persist, request) {
                Ok(key) => writes.push(Write {
                    shelf,
                    policy: persist.policy,
                    receipt: persist.receipt,
                    limit: persist.timeout,
                    ticket: self.lanes.join((shelf, key.into())),
                }),
                Err(error) => {
                    let error = self.shelves[shelf].explain(error);
                    if persist.policy == Policy::Required {
                        let text = format!("the response could not be kept: {error}");
                        return Err(RpcError::new(code::INVALID_ARGUMENT, text).with_source(error));
                    }
                    self.failed(about, counts, shelf, &error);
                }
            }
        }
        // In the same order by every call, so that no two wait for each other.
        writes.sort_by(|a, b| a.ticket.spot().cmp(b.ticket.spot()));
        Ok(writes)
    }

    /// Before the handler runs. `None` when there is nothing to keep.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `INTERNAL` when a bucket that is required is not there.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        about: &Arc<About>,
        counts: &Arc<Counts>,
        writes: Vec<Write>,
    ) -> Result<Option<Box<dyn Keep>>, RpcError> {
        for write in writes.iter().filter(|write| write.policy == Policy::Required) {
            let shelf = &self.shelves[write.shelf];
            if let Err(error) = shelf.open(after(write.limit)).await {
                self.failed(about, counts, write.shelf, &error);
                return Err(not_kept(error));
            }
        }
        if writes.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(Keeping {
            keeper: self.clone(),
            counts: counts.clone(),
            about: about.clone(),
            writes,
            orders: Vec::new(),
        })))
    }

    fn shelf_of(&self, place: &Place) -> Option<usize> {
        self.shelves.iter().position(|shelf| shelf.place().is_same_bucket(place))
    }

    fn failed(&self, about: &About, counts: &Counts, shelf: usize, error: &Error) {
        counts.failed(error);
        if let Some(held_back) = self.log.pass() {
            let place = self.shelves[shelf].place();
            let (service, method) = (&about.service, &about.method);
            tracing::warn!(
                service, method, store = place.kind(), bucket = place.bucket(), %error, held_back,
                "a response was not kept"
            );
        }
    }

    async fn put(&self, write: &Write, value: Bytes, deadline: Instant) -> Result<Receipt> {
        let (shelf, key) = (&self.shelves[write.shelf], write.ticket.key());
        let revision = shelf.put(key, value, deadline).await?;
        let place = shelf.place();
        Ok(Receipt::new(place.kind(), place.bucket(), key, revision))
    }
}

impl Keeping {
    /// Stores the response where that comes before the reply. From here until
    /// [`replied`](Self::replied) no other reply with these keys is sent.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `INTERNAL` where a place is required and failed.
    async fn before_reply(
        &mut self,
        payload: &Bytes,
        headers: &mut HeaderMap,
    ) -> Result<(), RpcError> {
        for write in &self.writes {
            // Later, this reply and its write may overtake another's: still better than no reply.
            if let Ok(order) = within(write.limit, write.ticket.order()).await {
                self.orders.push(order);
            }
        }
        let keeping = &*self;
        let early = self.writes.iter().filter(|write| write.policy != Policy::AfterReply);
        let written = join_all(early.map(|write| async move {
            let _pending = keeping.counts.begin();
            let deadline = after(write.limit);
            let stored = match within(deadline, write.ticket.write()).await {
                Ok(_turn) => keeping.keeper.put(write, payload.clone(), deadline).await,
                Err(_) => Err(keeping.late(write)),
            };
            (write, stored)
        }))
        .await;
        let mut refusal = None;
        for (write, stored) in written {
            let stored = match stored {
                Ok(receipt) => {
                    self.counts.stored();
                    if write.receipt { receipt.add_to(headers) } else { Ok(()) }
                }
                Err(error) => {
                    self.keeper.failed(&self.about, &self.counts, write.shelf, &error);
                    Err(error)
                }
            };
            if let Err(error) = stored
                && write.policy == Policy::Required
            {
                refusal.get_or_insert(not_kept(error));
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// The reply was sent: takes the place in the row for what is to be stored now, and waits until
    /// there is room for it. `None` when nothing is left to do.
    async fn replied(mut self, payload: Bytes) -> Option<Writing> {
        let late = std::mem::take(&mut self.writes);
        let mut turns = Vec::new();
        for write in late.into_iter().filter(|write| write.policy == Policy::AfterReply) {
            let deadline = after(write.limit);
            let mut turn = Box::pin(write.ticket.write());
            // The place in the row; a lock that is had at once is had.
            let turn: Pin<Box<dyn Future<Output = _> + Send>> = match poll_once(turn.as_mut()).await
            {
                std::task::Poll::Ready(guard) => Box::pin(std::future::ready(guard)),
                std::task::Poll::Pending => turn,
            };
            turns.push((write, deadline, turn));
        }
        self.orders.clear();
        let mut admitted = Vec::new();
        for (write, deadline, turn) in turns {
            match self.room(&write, payload.len(), deadline).await {
                Ok(room) => admitted.push(Turn { write, deadline, turn, room }),
                Err(error) => {
                    self.counts.refused();
                    let shelf = &self.keeper.shelves[write.shelf];
                    let error = shelf.explain(error).with("key", write.ticket.key());
                    self.keeper.failed(&self.about, &self.counts, write.shelf, &error);
                }
            }
        }
        (!admitted.is_empty()).then_some(Writing { keeping: self, payload, turns: admitted })
    }

    async fn room(
        &self,
        write: &Write,
        bytes: usize,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(ROOM).clamp(LEAST, ROOM);
        let room = &self.keeper.room;
        let full = |text| Error::new(ErrorKind::Unavailable, text);
        match room.clone().try_acquire_many_owned(units) {
            Ok(permit) => Ok(permit),
            Err(_) if self.keeper.shelves[write.shelf].is_down() => {
                Err(full("too many responses wait for a store that does not answer"))
            }
            Err(_) => match within(deadline, room.clone().acquire_many_owned(units)).await {
                Ok(Ok(permit)) => Ok(permit),
                _ => Err(full("too many responses waited for the store, for too long")),
            },
        }
    }

    fn late(&self, write: &Write) -> Error {
        let error = Error::new(
            ErrorKind::Timeout,
            "earlier responses of this key were still being stored at the end of its time",
        );
        self.keeper.shelves[write.shelf].explain(error).with("key", write.ticket.key())
    }
}

impl Writing {
    /// Stores what is left.
    async fn run(self) {
        let Writing { keeping, payload, turns } = self;
        let (keeping, payload) = (&keeping, &payload);
        join_all(turns.into_iter().map(|turn| async move {
            let Turn { write, deadline, turn, room: _room } = turn;
            let _pending = keeping.counts.begin();
            let stored = match within(deadline, turn).await {
                Ok(_turn) => keeping.keeper.put(&write, payload.clone(), deadline).await,
                Err(_) => Err(keeping.late(&write)),
            };
            match stored {
                Ok(_) => keeping.counts.stored(),
                Err(error) => {
                    let Keeping { keeper, about, counts, .. } = keeping;
                    keeper.failed(about, counts, write.shelf, &error);
                }
            }
        }))
        .await;
    }
}

impl Keep for Keeping {
    fn before<'a>(&'a mut self, reply: &'a mut Reply) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(async move {
            let mut headers = reply.headers.take().unwrap_or_default();
            let kept = self.before_reply(&reply.payload, &mut headers).await;
            reply.headers = (!headers.is_empty()).then_some(headers);
            kept
        })
    }

    fn after(self: Box<Self>, reply: Reply) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Some(writing) = self.replied(reply.payload).await {
                // The call is over for its endpoint; a drain waits for the room that this takes.
                tokio::spawn(writing.run());
            }
        })
    }
}

/// The key of a response, checked as far as can be before there is one.
fn key_of<Req>(persist: &Persist<Req>, request: &Req) -> Result<String> {
    let key = (persist.key)(request)?;
    if let Place::Kv(_) = persist.place {
        let checked = KeyCodec::Raw.encode(Key::new("", &key), &mut String::new());
        checked.map_err(|error| error.with("key", &key))?;
    } else if key.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "the key is empty"));
    }
    Ok(key)
}

/// What a caller is told whose response had to be kept and was not.
fn not_kept(error: Error) -> RpcError {
    let code = match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Closed => code::UNAVAILABLE,
        _ => code::INTERNAL,
    };
    RpcError::new(code, format!("the response could not be kept: {error}")).with_source(error)
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("shelves", &self.shelves).finish_non_exhaustive()
    }
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeping").field("about", &self.about).finish_non_exhaustive()
    }
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writing").field("keeping", &self.keeping).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::kv::Kv;
    use crate::rpc::Kind;

    /// The responses of calls with one key, each by its policy.
    async fn keeping(
        keeper: &Arc<Keeper>,
        policies: impl IntoIterator<Item = Policy>,
    ) -> Vec<Box<dyn Keep>> {
        let (service, method) = ("profiles".to_owned(), "save".to_owned());
        let about = Arc::new(About { service, method, kind: Kind::Unary });
        let counts = Arc::new(Counts::of(true));
        let mut all = Vec::new();
        for policy in policies {
            let place = Persist::kv("users", |_: &()| Ok("user.1".to_owned())).policy(policy);
            let writes = keeper.writes(&about, &counts, &[place], &()).unwrap();
            all.push(keeper.begin(&about, &counts, writes).await.unwrap().unwrap());
        }
        all
    }

    fn keeper(kv: Kv) -> Arc<Keeper> {
        let place = Place::Kv("users".into());
        let stores = Stores { kv: Some(kv), objects: None };
        Keeper::new(&stores, [("save", &place)]).unwrap()
    }

    #[tokio::test]
    async fn a_reply_waits_until_the_one_before_it_has_its_place_in_the_row() {
        let kv = Kv::memory();
        let keeper = keeper(kv.clone());
        let policies = [Policy::AfterReply, Policy::BeforeReply, Policy::AfterReply];
        let mut all = keeping(&keeper, policies).await.into_iter();
        let mut next = || all.next().unwrap();
        let (mut a, mut b, mut c) = (next(), next(), next());
        let [mut first, mut second, mut third] = ["first", "second", "third"].map(Reply::new);

        // The first may be sent; nobody else may before it has.
        a.before(&mut first).await.unwrap();
        let mut second = pin!(b.before(&mut second));
        assert!(poll_once(second.as_mut()).await.is_pending());
        let mut third = pin!(c.before(&mut third));
        assert!(poll_once(third.as_mut()).await.is_pending());
        a.after(first).await;
        // The second is stored behind the first, and only then sent.
        second.await.unwrap();
        let found = kv.bucket("users").get_raw("user.1").await.unwrap();
        assert_eq!(found.as_deref(), Some(&b"second"[..]));
        assert!(poll_once(third.as_mut()).await.is_pending());
    }

    #[tokio::test]
    async fn a_reply_that_is_never_sent_holds_nobody_up() {
        let keeper = keeper(Kv::memory());
        let mut all = keeping(&keeper, [Policy::AfterReply, Policy::AfterReply]).await;
        all[0].before(&mut Reply::new("lost")).await.unwrap();
        drop(all.remove(0));
        all[0].before(&mut Reply::new("sent")).await.unwrap();
        all.remove(0).after(Reply::new("sent")).await;
        keeper.idle().await;
        assert_eq!(keeper.room.available_permits(), ROOM as usize);
    }
}
