//! What is told of an object, changed: by compare-and-set, and in a task of its own, so that whoever
//! changes it also takes out the bytes that nobody needs any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::buckets::Buckets;
use super::message::{Meta, nuid};
use super::place::{Place, Seen};
use super::uploads::{LEFT_OVER, Ticket};
use crate::connector::Link;
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::kv::retry::Retry;
use crate::objects::driver::{Change, Consistency};
use crate::objects::{Link as LinkTo, ObjectInfo};
use bytes::Bytes;

/// How long a change of which nobody knows whether it was made is asked for after its caller was told
/// so, and how long bytes are tried to be taken out.
pub(super) const BACKGROUND: Duration = Duration::from_secs(30);
/// How long a change waits for its acknowledgement before it is sent again, at first.
const PATIENCE: Duration = Duration::from_secs(2);
/// An earlier sending of the same message is under way.
const IN_PROCESS: u64 = 10158;

/// What is to be told of an object, by what is told of it now; nothing when that is to stay.
pub(super) type Decide = Box<dyn FnMut(&Seen) -> Result<Option<Meta>> + Send>;

/// A change that was made.
pub(super) struct Told {
    pub(super) meta: Meta,
    pub(super) revision: u64,
    /// What was told before.
    replaced: Option<Meta>,
}

impl Told {
    pub(super) fn info(&self, place: &Place) -> ObjectInfo {
        let now = std::time::SystemTime::now();
        self.meta.info(&place.bucket, self.revision, Some(now))
    }
}

/// A change to be made.
pub(super) struct Job {
    pub(super) link: Arc<Link>,
    pub(super) place: Place,
    pub(super) name: String,
    /// What is told now, where it was read already.
    pub(super) seen: Option<Seen>,
    pub(super) decide: Decide,
    /// The bytes that belong to nobody unless the change is made.
    pub(super) bytes: Option<String>,
    pub(super) deadline: Instant,
}

/// A message that is sent until it is known what became of it.
struct Sent {
    meta: Meta,
    payload: Bytes,
    id: String,
    /// It may be stored.
    doubt: bool,
}

impl Job {
    /// Makes the change and takes out the bytes that it leaves to nobody. Gives what was changed;
    /// nothing when everything was to stay.
    pub(super) async fn run(self, ticket: Ticket) -> Result<Option<Told>> {
        let (caller, outcome) = oneshot::channel();
        ticket.spawn(self.work(caller));
        outcome.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Closed, "the runtime ends; the call may have had its effect"))
        })
    }

    async fn work(mut self, caller: oneshot::Sender<Result<Option<Told>>>) {
        let mut sent = None;
        let deadline = self.deadline;
        let mut outcome = self.change(&mut sent, &|| !caller.is_closed(), deadline).await;
        let mut caller = Some(caller);
        if let (Err(error), Some(Sent { doubt: true, .. })) = (&outcome, &sent) {
            // Whoever waits is told in time; what may be under way is still made certain.
            if let Some(caller) = caller.take() {
                let _ = caller.send(Err(error.again()));
            }
            outcome = self.change(&mut sent, &|| false, after(BACKGROUND)).await;
            if outcome.is_err() && sent.is_some_and(|sent| sent.doubt) {
                tracing::warn!(
                    bucket = self.place.bucket,
                    "nobody knows whether an object was changed; {LEFT_OVER}"
                );
                return;
            }
        }
        let left = match &outcome {
            Ok(Some(told)) => {
                let earlier = told.replaced.as_ref().filter(|earlier| earlier.has_chunks());
                let same = !told.meta.deleted
                    && earlier.is_some_and(|earlier| earlier.nuid == told.meta.nuid);
                earlier.filter(|_| !same).map(|earlier| earlier.nuid.clone())
            }
            _ => self.bytes.clone(),
        };
        if let Some(nuid) = left {
            take_out(&self.link, &self.place, &nuid).await;
        }
        if let Some(caller) = caller {
            let _ = caller.send(outcome);
        }
    }

    /// One compare-and-set after the other.
    async fn change(
        &mut self,
        sent: &mut Option<Sent>,
        goes_on: &(dyn Fn() -> bool + Sync),
        deadline: Instant,
    ) -> Result<Option<Told>> {
        let Job { link, place, name, seen, decide, .. } = self;
        let mut retry = Retry::until(deadline);
        let mut patience = PATIENCE;
        loop {
            let known = match seen {
                Some(known) => known,
                None => {
                    let read = place.read(link, name, Consistency::Latest, deadline).await?;
                    seen.insert(read)
                }
            };
            let message = match sent {
                Some(message) => message,
                None => {
                    let Some(mut meta) = decide(known)? else { return Ok(None) };
                    let payload = meta.write()?;
                    sent.insert(Sent { meta, payload, id: nuid(), doubt: false })
                }
            };
            let Sent { payload, id, .. } = &*message;
            let turn = deadline.min(after(patience));
            let told = place.tell(link, name, payload.clone(), known.revision, id, turn).await;
            let error = match told {
                Ok(revision) => return Ok(Some(made(message, revision, known))),
                Err(error) => error,
            };
            if error.is_conflict() {
                let now = place.read(link, name, Consistency::Latest, deadline).await?;
                if message.doubt && now.payload == message.payload {
                    return Ok(Some(made(message, now.revision, known)));
                }
                // This very message can never be stored any more.
                (*seen, *sent) = (Some(now), None);
                if !goes_on() {
                    return Ok(None);
                }
                if !retry.pause().await {
                    return Err(error);
                }
                continue;
            }
            let in_process = jetstream::has_code(&error, IN_PROCESS);
            message.doubt |= error.is_timeout() || in_process;
            patience *= 2;
            let again = error.is_timeout()
                || in_process
                || error.kind() == ErrorKind::Unavailable
                || jetstream::is_temporary(&error);
            if !again || !retry.pause().await || link.connected(deadline).await.is_err() {
                return Err(error);
            }
        }
    }
}

fn made(message: &Sent, revision: u64, before: &Seen) -> Told {
    Told { meta: message.meta.clone(), revision, replaced: before.meta().cloned() }
}

/// Takes out bytes that belong to nobody.
pub(super) async fn take_out(link: &Link, place: &Place, nuid: &str) {
    let deadline = after(BACKGROUND);
    let mut retry = Retry::until(deadline);
    loop {
        let purged = match link.connected(deadline).await {
            Ok(()) => place.purge(link, nuid, deadline).await,
            Err(error) => Err(error),
        };
        match purged {
            Ok(_) => return,
            // The bucket is gone with all it held.
            Err(error) if error.is_not_found() => return,
            Err(error)
                if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
                    && retry.pause().await => {}
            Err(error) => {
                tracing::warn!(bucket = place.bucket, %error, "{LEFT_OVER}");
                return;
            }
        }
    }
}

/// What the bucket tells of a name, for a write: the bucket is made when there is none.
pub(super) async fn look(
    link: &Arc<Link>,
    buckets: &Buckets,
    place: &Place,
    name: &str,
    deadline: Instant,
) -> Result<Seen> {
    let mut retry = Retry::until(deadline);
    loop {
        match place.last_of_leader(link, &place.meta(name), deadline).await {
            Err(error) if error.is_not_found() => {
                buckets.make_again(&place.bucket, deadline).await?;
                if !retry.pause().await {
                    return Err(error);
                }
            }
            found => return place.seen_last(found?),
        }
    }
}

pub(super) async fn delete(
    link: &Arc<Link>,
    place: Place,
    name: &str,
    deadline: Instant,
) -> Result<bool> {
    let delete = || {
        let job = Job {
            link: link.clone(),
            place: place.clone(),
            name: name.to_owned(),
            seen: None,
            decide: Box::new(|seen| Ok(seen.meta().cloned().map(Meta::deleted))),
            bytes: None,
            deadline,
        };
        job.run(link.uploads().change())
    };
    let deleted = match delete().await {
        // A full bucket of a server before 2.11 has no room for the word of it: the bytes go first.
        Err(error) if error.kind() == ErrorKind::TooLarge => {
            let seen = place.read(link, name, Consistency::Latest, deadline).await?;
            let Some(meta) = seen.meta().filter(|meta| meta.has_chunks()) else {
                return Err(error);
            };
            place.purge(link, &meta.nuid, deadline).await?;
            delete().await?
        }
        deleted => deleted?,
    };
    Ok(deleted.is_some())
}

pub(super) async fn link(
    link: &Arc<Link>,
    buckets: &Buckets,
    place: Place,
    name: &str,
    to: LinkTo,
    deadline: Instant,
) -> Result<ObjectInfo> {
    let seen = look(link, buckets, &place, name, deadline).await?;
    let linking = Meta::of_link(&place.bucket, name, to);
    let job = Job {
        link: link.clone(),
        place: place.clone(),
        name: name.to_owned(),
        seen: Some(seen),
        decide: Box::new(move |seen| match seen.meta() {
            Some(meta) if !meta.is_link() => Err(taken()),
            _ => Ok(Some(linking.clone())),
        }),
        bytes: None,
        deadline,
    };
    let told = job.run(link.uploads().change()).await?;
    told.map(|told| told.info(&place)).ok_or_else(changed)
}

pub(super) async fn change(
    link: &Arc<Link>,
    place: Place,
    name: &str,
    change: Change,
    deadline: Instant,
) -> Result<Option<ObjectInfo>> {
    match change.name.clone() {
        Some(to) if to != name => rename(link, place, name, &to, change, deadline).await,
        _ => {
            let job = Job {
                link: link.clone(),
                place: place.clone(),
                name: name.to_owned(),
                seen: None,
                decide: Box::new(move |seen| {
                    Ok(seen.meta().cloned().map(|meta| changed_by(meta, &change)))
                }),
                bytes: None,
                deadline,
            };
            let told = job.run(link.uploads().change()).await?;
            Ok(told.map(|told| told.info(&place)))
        }
    }
}

/// The new name is told of first, then the old one as deleted. When the object was replaced
/// meanwhile, its bytes are gone, and so is the new name again.
async fn rename(
    link: &Arc<Link>,
    place: Place,
    name: &str,
    to: &str,
    change: Change,
    deadline: Instant,
) -> Result<Option<ObjectInfo>> {
    let (link, to) = (link.clone(), to.to_owned());
    let old = place.read(&link, name, Consistency::Latest, deadline).await?;
    let Some(meta) = old.meta().cloned() else { return Ok(None) };
    let mut renamed = changed_by(meta, &change);
    renamed.name.clone_from(&to);
    let job = |name: &str, seen, decide| Job {
        link: link.clone(),
        place: place.clone(),
        name: name.to_owned(),
        seen,
        decide,
        bytes: None,
        deadline,
    };
    let nuid = renamed.nuid.clone();
    let new = job(
        &to,
        None,
        Box::new(move |seen: &Seen| match seen.meta() {
            Some(_) => Err(taken()),
            None => Ok(Some(renamed.clone())),
        }),
    );
    let revision = old.revision;
    let mut gone = job(
        name,
        Some(old),
        Box::new(move |seen: &Seen| match seen.meta() {
            Some(meta) if seen.revision == revision => Ok(Some(meta.clone().deleted())),
            _ => Err(changed()),
        }),
    );
    let back = job(
        &to,
        None,
        Box::new(move |seen: &Seen| match seen.meta() {
            Some(meta) if meta.nuid == nuid => Ok(Some(meta.clone().deleted())),
            _ => Ok(None),
        }),
    );
    let uploads = link.uploads().clone();
    let (caller, outcome) = oneshot::channel();
    let bucket = place.clone();
    // All of it, once begun.
    uploads.change().spawn(async move {
        let renamed = async {
            let told = new.run(uploads.change()).await?.ok_or_else(changed)?;
            let mut sent = None;
            match gone.change(&mut sent, &|| true, deadline).await {
                Ok(_) => Ok(Some(told.info(&bucket))),
                Err(error) => {
                    if error.is_conflict() {
                        let _ = back.run(uploads.change()).await;
                    }
                    Err(error)
                }
            }
        };
        let _ = caller.send(renamed.await);
    });
    outcome.await.unwrap_or_else(|_| Err(changed()))
}

fn changed_by(mut meta: Meta, change: &Change) -> Meta {
    if let Some(description) = &change.description {
        meta.description = Some(description.clone()).filter(|text| !text.is_empty());
    }
    if let Some(headers) = &change.headers {
        meta.headers.clone_from(headers);
    }
    if let Some(metadata) = &change.metadata {
        meta.metadata.clone_from(metadata);
    }
    meta
}

fn taken() -> Error {
    let message = "there is an object of this name; delete it first, or take another name";
    Error::new(ErrorKind::AlreadyExists, message)
}

fn changed() -> Error {
    Error::new(ErrorKind::Conflict, "the object was changed meanwhile; look at it and try again")
}
