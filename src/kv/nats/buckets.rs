//! The buckets that this process has met: found once, found again or made anew when they vanish.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::bucket::{Bucket, STREAM_PREFIX, stream_name};
use super::config::{
    apply, bucket_config, check_supported, keep_codec, kept_codec, new_stream, options,
};
use crate::connector::{Capabilities, Feature, Link};
use crate::deadline::within;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::{self, Info};
use crate::kv::config::check_bucket_name;
use crate::kv::{BucketConfig, BucketStatus, KeyCodec};

/// Handles by bucket name. No lock but a bucket's own is held while the server is asked.
#[derive(Debug)]
pub(super) struct Buckets {
    link: Arc<Link>,
    /// For buckets that do not say how their keys are written.
    codec: KeyCodec,
    slots: RwLock<HashMap<String, Arc<Slot>>>,
}

/// What is known of one bucket name.
#[derive(Debug, Default)]
struct Slot {
    bucket: RwLock<Option<Arc<Bucket>>>,
    opening: tokio::sync::Mutex<Opening>,
}

/// What only the one who opens or makes a bucket needs.
#[derive(Debug, Default)]
struct Opening {
    /// The config that this process made the bucket with, or would have if it had not been there.
    made_with: Option<BucketConfig>,
    /// When the last question that was answered with "no such bucket" was asked.
    missing_at: Option<Instant>,
}

impl Buckets {
    pub(super) fn new(link: Arc<Link>, codec: KeyCodec) -> Self {
        Buckets { link, codec, slots: RwLock::default() }
    }

    /// The codec of a bucket that does not exist yet.
    pub(super) fn default_codec(&self) -> KeyCodec {
        self.codec
    }

    /// The bucket, or `None` when the server says that there is none.
    pub(super) async fn open(&self, name: &str, deadline: Instant) -> Result<Option<Arc<Bucket>>> {
        if let Some(bucket) = self.cached(name) {
            return Ok(Some(bucket));
        }
        let begun = Instant::now();
        let slot = self.slot(name);
        let found = match slot.lock(deadline).await {
            Ok(mut opening) => self.find(name, &slot, &mut opening, begun, deadline).await,
            Err(error) => Err(error),
        };
        if !matches!(found, Ok(Some(_))) {
            self.release(name, slot);
        }
        found
    }

    /// The bucket, made if there is none and `check` agrees: as this process made it before, or
    /// with nothing but defaults.
    pub(super) async fn open_or_make(
        &self,
        name: &str,
        check: impl FnOnce() -> Result<()>,
        deadline: Instant,
    ) -> Result<Arc<Bucket>> {
        if let Some(bucket) = self.cached(name) {
            return Ok(bucket);
        }
        let begun = Instant::now();
        let slot = self.slot(name);
        let opened = async {
            let mut opening = slot.lock(deadline).await?;
            if let Some(bucket) = self.find(name, &slot, &mut opening, begun, deadline).await? {
                return Ok(bucket);
            }
            check()?;
            let config = opening.made_with.clone().unwrap_or_else(|| BucketConfig::new(name));
            match self.make(&config, deadline).await {
                Ok(info) => {
                    opening.made_with = Some(config);
                    Ok(self.keep(name, &slot, &info))
                }
                // Somebody else was faster, with another config: theirs stands.
                Err(error) if error.is_already_exists() => {
                    let now = Instant::now();
                    let found = self.find(name, &slot, &mut opening, now, deadline).await?;
                    found.ok_or(error)
                }
                Err(error) => Err(error),
            }
        };
        let opened = opened.await;
        if opened.is_err() {
            self.release(name, slot);
        }
        opened
    }

    /// Makes the bucket unless there is one; whether it made it.
    pub(super) async fn make_missing(
        &self,
        config: &BucketConfig,
        deadline: Instant,
    ) -> Result<bool> {
        let name = config.name.as_str();
        let server = self.link.capabilities(deadline).await?;
        self.change_slot(name, deadline, async |slot, opening| {
            if let Some(info) = jetstream::info(&self.link, &stream_name(name), deadline).await? {
                self.keep(name, slot, &info);
                opening.made_with.get_or_insert_with(|| config.clone());
                return Ok(false);
            }
            check_supported(config, self.codec, &server)?;
            match self.make(config, deadline).await {
                Ok(info) => {
                    opening.made_with = Some(config.clone());
                    self.keep(name, slot, &info);
                    check_options(config, &info).map(|()| true)
                }
                // Somebody else was faster.
                Err(error) if error.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Makes the bucket, or changes it to what `config` sets.
    pub(super) async fn create(&self, config: &BucketConfig, deadline: Instant) -> Result<()> {
        let name = config.name.as_str();
        let server = self.link.capabilities(deadline).await?;
        check_supported(config, self.codec, &server)?;
        self.change_slot(name, deadline, async |slot, opening| {
            let info = match jetstream::info(&self.link, &stream_name(name), deadline).await? {
                Some(info) => self.change(config, info, &server, deadline).await?,
                None => match self.make(config, deadline).await {
                    // Somebody else was faster.
                    Err(error) if error.is_already_exists() => {
                        let info =
                            jetstream::info(&self.link, &stream_name(name), deadline).await?;
                        self.change(config, info.ok_or(error)?, &server, deadline).await?
                    }
                    made => made?,
                },
            };
            let merged = opening.made_with.take().map(|earlier| earlier.merged(config));
            opening.made_with = Some(merged.unwrap_or_else(|| config.clone()));
            self.keep(name, slot, &info);
            check_options(config, &info)
        })
        .await
    }

    /// The bucket as it is now.
    pub(super) async fn status(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<BucketStatus>> {
        self.change_slot(name, deadline, async |slot, _| {
            let Some(info) = jetstream::info(&self.link, &stream_name(name), deadline).await?
            else {
                slot.clear();
                return Ok(None);
            };
            self.keep(name, slot, &info);
            let mut status = BucketStatus::new(bucket_config(name, &info, self.codec));
            status.messages = info.state.messages;
            status.bytes = info.state.bytes;
            status.revision = info.state.last_seq;
            status.created = info.created();
            Ok(Some(status))
        })
        .await
    }

    /// Deletes the bucket, and forgets how it was made; whether there was one.
    pub(super) async fn delete(&self, name: &str, deadline: Instant) -> Result<bool> {
        self.change_slot(name, deadline, async |slot, opening| {
            let deleted = jetstream::delete(&self.link, &stream_name(name), deadline).await;
            // Without an answer it may be gone, too.
            slot.clear();
            opening.made_with = None;
            deleted
        })
        .await
    }

    /// The names of all buckets.
    pub(super) async fn names(&self, deadline: Instant) -> Result<Vec<String>> {
        let mut names = jetstream::names(&self.link, None, deadline).await?;
        names.retain_mut(|name| match name.strip_prefix(STREAM_PREFIX) {
            Some(bucket) => {
                *name = bucket.to_owned();
                check_bucket_name(name).is_ok()
            }
            None => false,
        });
        Ok(names)
    }

    /// Works on one bucket while nobody else in this process opens, makes or deletes it.
    async fn change_slot<T>(
        &self,
        name: &str,
        deadline: Instant,
        work: impl AsyncFnOnce(&Slot, &mut Opening) -> Result<T>,
    ) -> Result<T> {
        let slot = self.slot(name);
        let done = match slot.lock(deadline).await {
            Ok(mut opening) => work(&slot, &mut opening).await,
            Err(error) => Err(error),
        };
        self.release(name, slot);
        done
    }

    /// The bucket as it is now, and `None` when there is none.
    pub(super) async fn refresh(
        &self,
        name: &str,
        known: &Arc<Bucket>,
        deadline: Instant,
    ) -> Result<Option<Arc<Bucket>>> {
        self.forget(name, known);
        self.open(name, deadline).await
    }

    /// Forgets a handle that did not work, so that the next use asks the server again.
    pub(super) fn forget(&self, name: &str, bucket: &Arc<Bucket>) {
        let slot = self.slot(name);
        let mut known = slot.bucket.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, bucket)) {
            *known = None;
        }
    }

    /// The bucket as far as it is known, without asking.
    pub(super) fn cached(&self, name: &str) -> Option<Arc<Bucket>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(name)?.cached()
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name) {
            return slot.clone();
        }
        drop(slots);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.entry(name.to_owned()).or_default().clone()
    }

    /// Gives up the slot of a bucket that was not found, unless somebody else uses it or it holds
    /// the config to make the bucket with: names that are only asked for take no memory.
    fn release(&self, name: &str, slot: Arc<Slot>) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        drop(slot);
        if let Some(slot) = slots.get_mut(name).and_then(Arc::get_mut)
            && slot.bucket.get_mut().unwrap_or_else(PoisonError::into_inner).is_none()
            && slot.opening.get_mut().made_with.is_none()
        {
            slots.remove(name);
        }
    }

    /// Asks the server, unless somebody else did meanwhile.
    async fn find(
        &self,
        name: &str,
        slot: &Slot,
        opening: &mut Opening,
        begun: Instant,
        deadline: Instant,
    ) -> Result<Option<Arc<Bucket>>> {
        if let Some(bucket) = slot.cached() {
            return Ok(Some(bucket));
        }
        if opening.missing_at.is_some_and(|asked| asked >= begun) {
            return Ok(None);
        }
        let asked = Instant::now();
        match jetstream::info(&self.link, &stream_name(name), deadline).await {
            Ok(Some(info)) => Ok(Some(self.keep(name, slot, &info))),
            Ok(None) => {
                opening.missing_at = Some(asked);
                Ok(None)
            }
            // Users that may only read or write keys can: what cannot be known is assumed.
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                let bucket = Arc::new(Bucket::assumed(&self.link, name, self.codec));
                slot.set(bucket.clone());
                Ok(Some(bucket))
            }
            Err(error) => Err(error),
        }
    }

    fn keep(&self, name: &str, slot: &Slot, info: &Info) -> Arc<Bucket> {
        let bucket = Arc::new(Bucket::new(&self.link, name, info, self.codec));
        slot.set(bucket.clone());
        bucket
    }

    async fn make(&self, config: &BucketConfig, deadline: Instant) -> Result<Info> {
        let server = self.link.capabilities(deadline).await?;
        let codec = config.key_codec.unwrap_or(self.codec);
        let stream = new_stream(config, codec, &server);
        jetstream::create(&self.link, &stream_name(&config.name), &stream, deadline).await
    }

    async fn change(
        &self,
        config: &BucketConfig,
        info: Info,
        server: &Capabilities,
        deadline: Instant,
    ) -> Result<Info> {
        let kept = kept_codec(&info);
        let codec = kept.unwrap_or(self.codec);
        if config.key_codec.is_some_and(|wanted| wanted != codec) && !info.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the key codec of a bucket that holds keys cannot change",
            )
            .with("key_codec", codec.as_str()));
        }
        if config.per_key_ttl == Some(false) && info.flag("allow_msg_ttl") {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a bucket that gives single values a lifetime (per_key_ttl) always will",
            ));
        }
        let options = options(config);
        let can_keep = server.supports(Feature::StreamMetadata);
        let keep = config.key_codec.filter(|wanted| can_keep && kept != Some(*wanted));
        if keep.is_none() && options.first_missing(&info).is_none() {
            return Ok(info);
        }
        let mut stream = info.config;
        apply(&options, &mut stream);
        if let Some(codec) = keep {
            keep_codec(&mut stream, codec);
        }
        jetstream::update(&self.link, &stream_name(&config.name), &stream, deadline).await
    }
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

impl Slot {
    fn cached(&self) -> Option<Arc<Bucket>> {
        self.bucket.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, bucket: Arc<Bucket>) {
        *self.bucket.write().unwrap_or_else(PoisonError::into_inner) = Some(bucket);
    }

    fn clear(&self) {
        *self.bucket.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn lock(&self, deadline: Instant) -> Result<MutexGuard<'_, Opening>> {
        within(deadline, self.opening.lock()).await.map_err(|_| {
            Error::new(
                ErrorKind::Timeout,
                "another call was still finding or making the bucket at the deadline",
            )
        })
    }
}
