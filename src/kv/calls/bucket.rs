//! Buckets: find, make, change, ask, delete.

use crate::call::{Call, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::slot::Target;
use crate::kv::{BucketConfig, BucketStatus, Capabilities, Difference, Kv};

/// A bucket that was found or made: [`Kv::get_or_create_bucket`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Provisioned {
    /// A handle on it.
    pub bucket: Kv,
    /// It was made by this call.
    pub made: bool,
    /// The options of a bucket that was there, where they are not as asked for.
    pub differences: Vec<Difference>,
}

impl Kv {
    /// A handle on the bucket `name`, which must exist.
    ///
    /// # Errors
    ///
    /// `NotFound` when it does not; else as [`set`](Self::set).
    pub fn bind_bucket(&self, name: impl AsRef<str>) -> Call<Task<Result<Kv>>> {
        let handle = self.bucket(name);
        let target = Target::new("kv bind bucket", &handle);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let found = target.store.driver.bucket_status(&target.bucket, deadline).await;
            match found.map_err(|error| target.explain(error))? {
                Some(_) => Ok(handle),
                None => Err(target.explain(Error::new(
                    ErrorKind::NotFound,
                    "the bucket does not exist; make it with create_bucket or \
                     get_or_create_bucket",
                ))),
            }
        })
    }

    /// Makes the bucket of `config` unless there is one of that name, which stays as it is: how it
    /// differs is told.
    ///
    /// # Errors
    ///
    /// As [`create_bucket`](Self::create_bucket).
    pub fn get_or_create_bucket(&self, config: BucketConfig) -> Call<Task<Result<Provisioned>>> {
        let asked = Asked::new("kv get or create bucket", self, config);
        Task::call(move |timeout| async move {
            let Asked { target, handle: bucket, config } = asked?;
            let deadline = target.deadline(timeout);
            let provision = async {
                let made = target.store.driver.make_bucket(&config, deadline).await?;
                if made {
                    return Ok((made, Vec::new()));
                }
                let found = target.store.driver.bucket_status(&target.bucket, deadline).await?;
                let found = found.ok_or_else(|| {
                    Error::new(ErrorKind::Conflict, "the bucket was deleted meanwhile")
                })?;
                Ok((made, config.differences(&found.config)))
            };
            let (made, differences) = provision.await.map_err(|error| target.explain(error))?;
            for difference in &differences {
                tracing::warn!(
                    bucket = &*target.bucket,
                    "the bucket is not as asked: {difference}"
                );
            }
            Ok(Provisioned { bucket, made, differences })
        })
    }

    /// Makes a bucket, or changes the one of that name to what `config` sets; gives a handle on it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name or option that cannot be, also for a change that the store does
    /// not allow (storage, or the key codec of a bucket with keys); `Unsupported` for an option
    /// that the server lacks.
    pub fn create_bucket(&self, config: BucketConfig) -> Call<Task<Result<Kv>>> {
        let asked = Asked::new("kv create bucket", self, config);
        Task::call(move |timeout| async move {
            let Asked { target, handle, config } = asked?;
            let deadline = target.deadline(timeout);
            let created = target.store.driver.create_bucket(&config, deadline).await;
            created.map(|()| handle).map_err(|error| target.explain(error))
        })
    }

    /// This handle's bucket as it is now, `None` when it does not exist. The store is asked each
    /// time.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn bucket_status(&self) -> Call<Task<Result<Option<BucketStatus>>>> {
        let target = Target::new("kv bucket status", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let status = target.store.driver.bucket_status(&target.bucket, deadline).await;
            status.map_err(|error| target.explain(error))
        })
    }

    /// Deletes the bucket `name` with all it holds; whether there was one.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn delete_bucket(&self, name: impl AsRef<str>) -> Call<Task<Result<bool>>> {
        let target = Target::new("kv delete bucket", &self.bucket(name));
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let deleted = target.store.driver.delete_bucket(&target.bucket, deadline).await;
            deleted.map_err(|error| target.explain(error))
        })
    }

    /// The names of all buckets under the handle's bucket prefix, without it, sorted.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn buckets(&self) -> Call<Task<Result<Vec<String>>>> {
        let target = Target::new("kv buckets", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let buckets = target.store.driver.buckets(target.deadline(timeout)).await;
            let buckets = buckets.map_err(|error| error.operation(target.operation))?;
            let prefix = target.scope.bucket_prefix.as_deref().unwrap_or_default();
            let strip = |name: String| name.strip_prefix(prefix).map(str::to_owned);
            let mut names: Vec<String> = buckets.into_iter().filter_map(strip).collect();
            names.sort_unstable();
            Ok(names)
        })
    }

    /// What the driver can do with this handle's bucket.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn capabilities(&self) -> Call<Task<Result<Capabilities>>> {
        let target = Target::new("kv capabilities", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let asked = target.store.driver.capabilities(&target.bucket, deadline).await;
            asked.map_err(|error| target.explain(error))
        })
    }
}

/// A bucket to be made, checked, under its full name.
struct Asked {
    target: Target,
    handle: Kv,
    config: BucketConfig,
}

impl Asked {
    fn new(operation: &'static str, kv: &Kv, mut config: BucketConfig) -> Result<Self> {
        let handle = kv.bucket(&config.name);
        let target = Target::new(operation, &handle)?;
        config.name = target.bucket.to_string();
        config.check().map_err(|error| target.explain(error))?;
        Ok(Asked { target, handle, config })
    }
}
