//! Buckets as streams (ADR-20): found, made, changed, sealed, deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::place::{Place, STREAM_PREFIX};
use crate::connector::{Capabilities, Feature, Link};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::{self, Info, Options, nanos};
use crate::objects::config::check_bucket_name;
use crate::objects::{BucketConfig, BucketStatus, Storage};

/// Where a bucket's metadata keeps a number of its own, which tells two that make one bucket at the
/// same time apart: to the server, making the same stream twice is making it once.
const MADE_BY: &str = "nats-connector.made-by";
/// The stream's window for duplicates, where objects live longer.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The buckets of one connection.
#[derive(Debug)]
pub(super) struct Buckets {
    link: Arc<Link>,
    /// How this process made buckets, to make them again when they are gone.
    made_with: Mutex<HashMap<String, BucketConfig>>,
}

impl Buckets {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Buckets { link, made_with: Mutex::default() }
    }

    /// Makes a bucket that was not there when it was used: as this process made it before, or with
    /// nothing but defaults.
    pub(super) async fn make_again(&self, name: &str, deadline: Instant) -> Result<()> {
        let known = self.lock().get(name).cloned();
        let config = known.unwrap_or_else(|| BucketConfig::new(name));
        match self.make(&config, deadline).await {
            Ok(_) => Ok(()),
            // Somebody else was faster.
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the bucket unless there is one; whether it made it.
    pub(super) async fn make_missing(
        &self,
        config: &BucketConfig,
        deadline: Instant,
    ) -> Result<bool> {
        let place = Place::new(&config.name);
        // Old servers do not tell whether a stream was there; here one at a time can.
        let _turn = self.turn(deadline).await?;
        if jetstream::info(&self.link, &place.stream, deadline).await?.is_some() {
            self.lock().entry(config.name.clone()).or_insert_with(|| config.clone());
            return Ok(false);
        }
        match self.make(config, deadline).await {
            Ok(info) => {
                self.lock().insert(config.name.clone(), config.clone());
                check_options(config, &info).map(|()| true)
            }
            // Somebody else was faster.
            Err(error) if error.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the bucket, or changes it to what `config` sets.
    pub(super) async fn create(&self, config: &BucketConfig, deadline: Instant) -> Result<()> {
        let place = Place::new(&config.name);
        let server = self.link.capabilities(deadline).await?;
        check_supported(config, &server)?;
        let info = match jetstream::info(&self.link, &place.stream, deadline).await? {
            Some(_) => self.change(&place, &options(config), deadline).await?,
            None => match self.make(config, deadline).await {
                // Somebody else was faster.
                Err(error) if error.is_already_exists() => {
                    self.change(&place, &options(config), deadline).await?
                }
                made => made?,
            },
        };
        let mut made_with = self.lock();
        let merged = made_with.get(&config.name).map(|earlier| earlier.merged(config));
        made_with.insert(config.name.clone(), merged.unwrap_or_else(|| config.clone()));
        check_options(config, &info)
    }

    pub(super) async fn seal(&self, name: &str, deadline: Instant) -> Result<()> {
        let mut sealed = Options::default();
        sealed.set("sealed", "sealed", Some(json!(true)));
        self.change(&Place::new(name), &sealed, deadline).await.map(drop)
    }

    /// The bucket as it is now.
    pub(super) async fn status(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<BucketStatus>> {
        let info = jetstream::info(&self.link, &Place::new(name).stream, deadline).await?;
        Ok(info.map(|info| {
            let mut status = BucketStatus::new(bucket_config(name, &info));
            status.bytes = info.state.bytes;
            status.revision = info.state.last_seq;
            status.sealed = info.flag("sealed");
            status.created = info.created();
            status
        }))
    }

    /// Deletes the bucket, and forgets how it was made; whether there was one.
    pub(super) async fn delete(&self, name: &str, deadline: Instant) -> Result<bool> {
        self.lock().remove(name);
        jetstream::delete(&self.link, &Place::new(name).stream, deadline).await
    }

    /// The names of all buckets.
    pub(super) async fn names(&self, deadline: Instant) -> Result<Vec<String>> {
        let streams = jetstream::names(&self.link, None, deadline).await?;
        let names = streams.iter().filter_map(|name| name.strip_prefix(STREAM_PREFIX));
        let legal = names.filter(|name| check_bucket_name(name).is_ok());
        Ok(legal.map(str::to_owned).collect())
    }

    async fn make(&self, config: &BucketConfig, deadline: Instant) -> Result<Info> {
        let server = self.link.capabilities(deadline).await?;
        check_supported(config, &server)?;
        let stream = new_stream(config, &server);
        jetstream::create(&self.link, &Place::new(&config.name).stream, &stream, deadline).await
    }

    async fn change(&self, place: &Place, options: &Options, deadline: Instant) -> Result<Info> {
        let _turn = self.turn(deadline).await?;
        let info = jetstream::info(&self.link, &place.stream, deadline).await?;
        let info = info.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the bucket does not exist; make it first")
        })?;
        if options.first_missing(&info).is_none() {
            return Ok(info);
        }
        let mut stream = info.config;
        options.apply(&mut stream);
        jetstream::update(&self.link, &place.stream, &stream, deadline).await
    }

    /// Waits until nobody else of this process makes or changes a stream.
    async fn turn(&self, deadline: Instant) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        within(deadline, self.link.changing_stream.lock())
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "another stream was still being changed"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, BucketConfig>> {
        self.made_with.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream options that `config` sets.
fn options(config: &BucketConfig) -> Options {
    let mut options = Options::default();
    let mut set = |option, field, value: Option<Value>| options.set(option, field, value);
    set("ttl", "max_age", config.ttl.map(|ttl| json!(nanos(ttl))));
    set("ttl", "duplicate_window", config.ttl.map(|ttl| json!(nanos(duplicate_window(ttl)))));
    set("replicas", "num_replicas", config.replicas.map(|n| json!(n)));
    set("storage", "storage", config.storage.map(|storage| json!(storage.to_string())));
    let max_bytes = config.max_bytes.map(|n| if n == 0 { json!(-1) } else { json!(n) });
    set("max_bytes", "max_bytes", max_bytes);
    set("description", "description", config.description.as_ref().map(|text| json!(text)));
    let compression = config.compression.map(|on| json!(if on { "s2" } else { "none" }));
    set("compression", "compression", compression);
    options
}

/// The stream of a new bucket: what `config` sets, and for the rest what all clients make.
fn new_stream(config: &BucketConfig, server: &Capabilities) -> Map<String, Value> {
    let mut stream = Map::new();
    let mut set = |name: &str, value: Value| stream.insert(name.to_owned(), value);
    let name = &config.name;
    set("name", json!(Place::new(name).stream));
    set("subjects", json!([format!("$O.{name}.C.>"), format!("$O.{name}.M.>")]));
    set("retention", json!("limits"));
    set("discard", json!("new"));
    set("storage", json!("file"));
    set("num_replicas", json!(1));
    set("max_msgs", json!(-1));
    set("max_msgs_per_subject", json!(-1));
    set("max_bytes", json!(-1));
    set("max_msg_size", json!(-1));
    set("max_consumers", json!(-1));
    set("max_age", json!(0));
    set("duplicate_window", json!(nanos(DUPLICATE_WINDOW)));
    set("allow_rollup_hdrs", json!(true));
    set("allow_direct", json!(true));
    if server.supports(Feature::StreamMetadata) {
        set("metadata", json!({ MADE_BY: format!("{:016x}", rand::random::<u64>()) }));
    }
    options(config).apply(&mut stream);
    stream
}

/// A stream's config as that of the bucket `name`, all of it that a bucket has.
fn bucket_config(name: &str, info: &Info) -> BucketConfig {
    BucketConfig {
        name: name.to_owned(),
        ttl: Some(info.duration("max_age").unwrap_or_default()),
        description: Some(info.text("description").to_owned()),
        replicas: usize::try_from(info.number("num_replicas")).ok(),
        storage: match info.text("storage") {
            "file" => Some(Storage::File),
            "memory" => Some(Storage::Memory),
            _ => None,
        },
        compression: Some(!matches!(info.text("compression"), "" | "none")),
        max_bytes: Some(info.limit("max_bytes")),
        max_chunk_size: None,
    }
}

/// Refuses what the server is known to lack, before anything is sent.
fn check_supported(config: &BucketConfig, server: &Capabilities) -> Result<()> {
    if config.compression == Some(true) {
        server.require(Feature::StreamCompression)?;
    }
    Ok(())
}

/// Old servers leave out in silence what they do not know.
fn check_options(config: &BucketConfig, info: &Info) -> Result<()> {
    match options(config).first_missing(info) {
        None => Ok(()),
        Some(option) => Err(Error::new(
            ErrorKind::Unsupported,
            "the bucket is there, but the server that holds it left this option out: it is older \
             than the one connected to",
        )
        .with("option", option)),
    }
}

fn duplicate_window(ttl: Duration) -> Duration {
    if ttl.is_zero() { DUPLICATE_WINDOW } else { ttl.min(DUPLICATE_WINDOW) }
}
