//! Buckets: find, make, change, ask, seal, delete.

use std::time::Duration;

use crate::call::{Call, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::objects::target::Target;
use crate::objects::{BucketConfig, BucketStatus, Capabilities, Difference, Objects};

/// A bucket that was found or made: [`Objects::get_or_create_bucket`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Provisioned {
    /// A handle on it.
    pub bucket: Objects,
    /// It was made by this call.
    pub made: bool,
    /// The options of a bucket that was there, where they are not as asked for.
    pub differences: Vec<Difference>,
}

impl Objects {
    /// A handle on the bucket `name`, which must exist.
    ///
    /// # Errors
    ///
    /// `NotFound` when it does not; else as [`info`](Self::info).
    pub fn bind_bucket(&self, name: impl AsRef<str>) -> Call<Task<Result<Objects>>> {
        let handle = self.bucket(name);
        let target = Target::new("objects bind bucket", &handle);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let found = target.driver.bucket_status(&target.bucket, deadline).await;
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
    pub fn get_or_create_bucket(
        &self,
        config: impl Into<BucketConfig>,
    ) -> Call<Task<Result<Provisioned>>> {
        let asked = Asked::new("objects get or create bucket", self, config.into());
        Task::call(move |timeout| async move {
            let Asked { target, handle: bucket, config } = asked?;
            let deadline = target.deadline(timeout);
            let provision = async {
                let made = target.driver.make_bucket(&config, deadline).await?;
                if made {
                    return Ok((made, Vec::new()));
                }
                let found = target.driver.bucket_status(&target.bucket, deadline).await?;
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
    /// `InvalidInput` for a name or option that cannot be, also for a change that the store does not
    /// allow (storage); `Unsupported` for an option that the server lacks, and for a sealed bucket;
    /// else as [`info`](Self::info).
    pub fn create_bucket(&self, config: impl Into<BucketConfig>) -> Call<Task<Result<Objects>>> {
        let asked = Asked::new("objects create bucket", self, config.into());
        Task::call(move |timeout| async move {
            let Asked { target, handle, config } = asked?;
            let deadline = target.deadline(timeout);
            let created = target.driver.create_bucket(&config, deadline).await;
            created.map(|()| handle).map_err(|error| target.explain(error))
        })
    }

    /// This handle's bucket as it is now, `None` when it does not exist. The store is asked each
    /// time.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn bucket_status(&self) -> Call<Task<Result<Option<BucketStatus>>>> {
        let target = Target::new("objects bucket status", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let status = target.driver.bucket_status(&target.bucket, deadline).await;
            status.map_err(|error| target.explain(error))
        })
    }

    /// Closes the bucket `name` to every change, for good: it can be read and deleted. What changes
    /// it fails with `Unsupported` from then on.
    ///
    /// # Errors
    ///
    /// `NotFound` without such a bucket; else as [`info`](Self::info).
    pub fn seal_bucket(&self, name: impl AsRef<str>) -> Call<Task<Result<()>>> {
        let target = Target::new("objects seal bucket", &self.bucket(name));
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let sealed = target.driver.seal(&target.bucket, deadline).await;
            sealed.map_err(|error| target.explain(error))
        })
    }

    /// Deletes the bucket `name` with all it holds; whether there was one.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn delete_bucket(&self, name: impl AsRef<str>) -> Call<Task<Result<bool>>> {
        let target = Target::new("objects delete bucket", &self.bucket(name));
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let deleted = target.driver.delete_bucket(&target.bucket, deadline).await;
            deleted.map_err(|error| target.explain(error))
        })
    }

    /// The names of all buckets under the handle's bucket prefix, without it, sorted.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn buckets(&self) -> Call<Task<Result<Vec<String>>>> {
        let target = Target::new("objects buckets", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let buckets = target.driver.buckets(target.deadline(timeout)).await;
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
    /// As [`info`](Self::info).
    pub fn capabilities(&self) -> Call<Task<Result<Capabilities>>> {
        let target = Target::new("objects capabilities", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let asked = target.driver.capabilities(&target.bucket, deadline).await;
            asked.map_err(|error| target.explain(error))
        })
    }

    /// Takes out bytes that belong to no object and were stored at least `age` ago: from how many
    /// uploads these were.
    ///
    /// An upload that fails or is dropped takes out what it has stored; one whose process is killed
    /// cannot, and leaves bytes that nobody sees until the bucket's lifetime ends. `age` must be more
    /// than any upload may pause: what is older is not told from an upload that is still under way.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn purge_orphans(&self, age: Duration) -> Call<Task<Result<u64>>> {
        let target = Target::new("objects purge orphans", self);
        Task::call(move |timeout| async move {
            let target = target?;
            let deadline = target.deadline(timeout);
            let purged = target.driver.purge_orphans(&target.bucket, age, deadline).await;
            purged.map_err(|error| target.explain(error))
        })
    }
}

/// A bucket to be made, checked, under its full name.
struct Asked {
    target: Target,
    handle: Objects,
    config: BucketConfig,
}

impl Asked {
    fn new(operation: &'static str, objects: &Objects, mut config: BucketConfig) -> Result<Self> {
        let mut handle = objects.bucket(&config.name);
        if let Some(bytes) = config.max_chunk_size {
            handle = handle.with_max_chunk_size(bytes);
        }
        let target = Target::new(operation, &handle)?;
        config.name = target.bucket.to_string();
        config.check().map_err(|error| target.explain(error))?;
        Ok(Asked { target, handle, config })
    }
}
