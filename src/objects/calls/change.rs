//! What changes about an object without its bytes: delete, rename, describe, link.

use std::time::Duration;

use futures::future::BoxFuture;

use super::get::check_link;
use super::put::add_header;
use crate::call::{Call, Operation, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::objects::config::check_bucket_name;
use crate::objects::driver::{Change, Consistency};
use crate::objects::target::{Slot, Target, check_name, full_name};
use crate::objects::{Link, ObjectInfo, Objects};

/// A change of what is told of an object: [`Objects::update`].
#[derive(Debug)]
pub struct Update {
    slot: Result<Slot>,
    change: Change,
}

impl Update {
    fn fail(&mut self, error: Error) {
        if let Ok(slot) = &self.slot {
            self.slot = Err(slot.explain(error));
        }
    }
}

impl Call<Update> {
    /// Gives it another name. It keeps its bytes; links to the old name lead to nothing.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.map_operation(|update| {
            let name = name.into();
            match check_name(&name) {
                Ok(()) => update.change.name = Some(name),
                Err(error) => update.fail(error),
            }
        })
    }

    /// Says what it is, in place of what was said; the empty text takes that off.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.map_operation(|update| update.change.description = Some(text.into()))
    }

    /// Keeps a header with it. The first one of a call takes off all that it had.
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.map_operation(|update| {
            let all = update.change.headers.get_or_insert_default();
            if let Err(error) = add_header(all, name.as_ref(), value.as_ref()) {
                update.fail(error);
            }
        })
    }

    /// Takes off all headers that it had.
    pub fn clear_headers(self) -> Self {
        self.map_operation(|update| update.change.headers = Some(Default::default()))
    }

    /// Keeps a name and a value with it. The first one of a call takes off all that it had.
    pub fn metadata(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map_operation(|update| {
            update.change.metadata.get_or_insert_default().insert(name.into(), value.into());
        })
    }

    /// Takes off all metadata that it had.
    pub fn clear_metadata(self) -> Self {
        self.map_operation(|update| update.change.metadata = Some(Default::default()))
    }
}

impl Operation for Update {
    type Output = Result<Option<ObjectInfo>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let Update { slot, change } = self;
            let slot = slot?;
            let Target { driver, bucket, .. } = &slot.target;
            let deadline = slot.target.deadline(timeout);
            let changed = driver.change(bucket, &slot.name, change, deadline).await;
            changed.map_err(|error| slot.explain(error))
        })
    }
}

/// A link to be made: [`Objects::link`].
#[derive(Debug)]
pub struct LinkTo {
    slot: Result<Slot>,
    bucket: Option<String>,
    name: Option<String>,
}

impl Call<LinkTo> {
    /// Links to an object in another bucket, by the name that the handle would know it by.
    pub fn in_bucket(self, bucket: impl Into<String>) -> Self {
        self.map_operation(|link| link.bucket = Some(bucket.into()))
    }
}

impl Operation for LinkTo {
    type Output = Result<ObjectInfo>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        Box::pin(async move {
            let LinkTo { slot, bucket, name } = self;
            let slot = slot?;
            let limits = slot.target.limits(timeout);
            let link = async {
                let bucket = match bucket {
                    Some(bucket) => full_name(&slot.target.scope, &bucket),
                    None => slot.target.bucket.to_string(),
                };
                check_bucket_name(&bucket)?;
                name.as_deref().map_or(Ok(()), check_name)?;
                let to = Link { bucket, name };
                check_link(&slot, &to, limits).await?;
                let Target { driver, bucket, .. } = &slot.target;
                driver.link(bucket, &slot.name, to, limits.deadline()).await
            };
            link.await.map_err(|error| slot.explain(error))
        })
    }
}

impl Objects {
    /// Deletes the object or the link `name`; whether there was one. What a link leads to stays.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a sealed bucket; else as [`info`](Self::info).
    pub fn delete(&self, name: impl Into<String>) -> Call<Task<Result<bool>>> {
        let slot = Slot::new("objects delete", self, name.into());
        Task::call(move |timeout| async move {
            let slot = slot?;
            let Target { driver, bucket, .. } = &slot.target;
            let deadline = slot.target.deadline(timeout);
            let deleted = driver.delete(bucket, &slot.name, deadline).await;
            deleted.map_err(|error| slot.explain(error))
        })
    }

    /// Changes what is told of the object or link `name`, which keeps its bytes; gives it as it is
    /// then, `None` when there is none.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when its new name is another's; `Conflict` when it was replaced meanwhile;
    /// else as [`delete`](Self::delete).
    pub fn update(&self, name: impl Into<String>) -> Call<Update> {
        let slot = Slot::new("objects update", self, name.into());
        Call::new(Update { slot, change: Change::default() })
    }

    /// [`update`](Self::update) that gives the object `name` the name `to`.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn rename(&self, name: impl Into<String>, to: impl Into<String>) -> Call<Update> {
        let slot = Slot::new("objects rename", self, name.into());
        Call::new(Update { slot, change: Change::default() }).name(to)
    }

    /// Makes `name` stand for the object `to` of the same bucket, or
    /// [of another](Call::in_bucket), which need not exist yet. A link of that name is replaced.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when `name` is an object's; `InvalidInput` for a link that would lead to
    /// itself; else as [`delete`](Self::delete).
    pub fn link(&self, name: impl Into<String>, to: impl Into<String>) -> Call<LinkTo> {
        let slot = Slot::new("objects link", self, name.into());
        Call::new(LinkTo { slot, bucket: None, name: Some(to.into()) })
    }

    /// Makes `name` stand for the bucket `bucket`: [`linked_bucket`](Self::linked_bucket) gives a
    /// handle on it.
    ///
    /// # Errors
    ///
    /// As [`link`](Self::link).
    pub fn link_bucket(&self, name: impl Into<String>, bucket: impl Into<String>) -> Call<LinkTo> {
        let slot = Slot::new("objects link bucket", self, name.into());
        Call::new(LinkTo { slot, bucket: Some(bucket.into()), name: None })
    }

    /// A handle on the bucket that the link `name` leads to; `None` when there is no such link.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when `name` is no link to a bucket; else as [`info`](Self::info).
    pub fn linked_bucket(&self, name: impl Into<String>) -> Call<Task<Result<Option<Objects>>>> {
        let (slot, handle) = (Slot::new("objects linked bucket", self, name.into()), self.clone());
        Task::call(move |timeout| async move {
            let slot = slot?;
            let Target { driver, bucket, .. } = &slot.target;
            let deadline = slot.target.deadline(timeout);
            let info = driver.info(bucket, &slot.name, Consistency::Any, deadline).await;
            match info.map_err(|error| slot.explain(error))? {
                None => Ok(None),
                Some(ObjectInfo { link: Some(Link { bucket, name: None }), .. }) => {
                    Ok(Some(handle.with_bucket_prefix("").bucket(bucket)))
                }
                Some(_) => Err(slot.explain(Error::new(
                    ErrorKind::InvalidInput,
                    "it is not a link to a bucket; read it as an object",
                ))),
            }
        })
    }
}
