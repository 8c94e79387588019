//! Where a call goes: a driver's bucket, or an object in it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::check_bucket_name;
use super::driver::{Driver, Limits};
use super::{MAX_NAME_LEN, Objects, Scope};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};

/// The bucket of a handle that names none.
const DEFAULT_BUCKET: &str = "default";
/// How long a call or step may take where neither it nor its handle says so.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A bucket: the driver and the bucket's full name, with what the handle says beside it.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) operation: &'static str,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) scope: Arc<Scope>,
    pub(super) bucket: Arc<str>,
}

impl Target {
    pub(super) fn new(operation: &'static str, objects: &Objects) -> Result<Self> {
        let name = objects.scope.bucket.as_deref().unwrap_or(DEFAULT_BUCKET);
        let bucket = full_name(&objects.scope, name);
        check_bucket_name(&bucket).map_err(|error| error.operation(operation))?;
        let (driver, scope) = (objects.driver.clone(), objects.scope.clone());
        Ok(Target { operation, driver, scope, bucket: bucket.into() })
    }

    fn timeout(&self) -> Duration {
        self.scope.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    pub(super) fn deadline(&self, timeout: Option<Duration>) -> Instant {
        after(timeout.unwrap_or_else(|| self.timeout()))
    }

    pub(super) fn limits(&self, timeout: Option<Duration>) -> Limits {
        let step = timeout.unwrap_or_else(|| self.timeout());
        Limits::steps(step).until(timeout.map(after))
    }

    pub(super) fn explain(&self, error: Error) -> Error {
        error.operation(self.operation).with("bucket", &*self.bucket)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("driver", &self.driver.name())
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// The name of a handle's bucket in the store.
pub(super) fn full_name(scope: &Scope, name: &str) -> String {
    [scope.bucket_prefix.as_deref().unwrap_or_default(), name].concat()
}

/// An object's name in a bucket.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) target: Target,
    pub(super) name: String,
}

impl Slot {
    pub(super) fn new(operation: &'static str, objects: &Objects, name: String) -> Result<Self> {
        let target = Target::new(operation, objects)?;
        let slot = Slot { target, name };
        check_name(&slot.name).map_err(|error| slot.explain(error))?;
        Ok(slot)
    }

    pub(super) fn explain(&self, error: Error) -> Error {
        self.target.explain(error).with("object", &self.name)
    }
}

/// Checks the name of an object.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "the object has no name"));
    }
    if name.len() > MAX_NAME_LEN {
        let message = format!("an object's name has at most {MAX_NAME_LEN} bytes");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}
