//! The metrics without the feature `metrics`: types without size and functions without code.

use std::marker::PhantomData;
use std::time::Duration;

use crate::connector::{DrainReport, State};
use crate::error::{Error, Result};
use crate::kv::driver::{Change, Found};
use crate::pubsub::driver::DeliveryEvents;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun;

impl Begun {
    #[inline(always)]
    pub(crate) fn now() -> Self {
        Begun
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Connection;

impl Connection {
    pub(crate) fn new(_: &str, _: &str) -> Self {
        Connection
    }

    #[inline(always)]
    pub(crate) fn state(&self, _: State) {}

    #[inline(always)]
    pub(crate) fn tell_state(&self) {}

    #[inline(always)]
    pub(crate) fn reconnects(&self, _: u64) {}

    #[inline(always)]
    pub(crate) fn round_trip(&self, _: Duration) {}

    #[inline(always)]
    pub(crate) fn dropped(&self) {}

    #[inline(always)]
    pub(crate) fn drained(&self, _: &DrainReport) {}
}

#[derive(Debug, Clone)]
pub(crate) struct PubSub;

impl PubSub {
    pub(crate) fn new(_: &str, _: &str) -> Self {
        PubSub
    }

    #[inline(always)]
    pub(crate) fn published(&self, _: &Result<()>) {}

    #[inline(always)]
    pub(crate) fn acked<T>(&self, _: Begun, _: &Result<T>) {}

    #[inline(always)]
    pub(crate) fn stored<T>(&self, _: &Result<T, &Error>) {}

    #[inline(always)]
    pub(crate) fn requested<T>(&self, _: Begun, _: &Result<T>) {}

    #[inline(always)]
    pub(crate) fn subscription(&self, _: &str) -> Subscription {
        Subscription
    }

    #[inline(always)]
    pub(crate) fn durable(&self, _: &str, _: &str, _: &str) -> Subscription {
        Subscription
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Subscription;

#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Handled,
    Failed,
    Panicked,
}

impl Subscription {
    #[inline(always)]
    pub(crate) fn received(&self) {}

    #[inline(always)]
    pub(crate) fn begin(&self) -> AtWork<'_> {
        AtWork(PhantomData)
    }

    #[inline(always)]
    pub(crate) fn count(&self, _: End) {}

    #[inline(always)]
    pub(crate) fn became(&self, _: Fate, _: u64) {}

    #[inline(always)]
    pub(crate) fn consumer(&self, _: &mut DeliveryEvents, _: DeliveryEvents) {}
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Redelivered,
    Retried,
    Rejected,
    DeadLettered,
    NotStored,
    LetGo,
    Unsettled,
}

#[must_use]
pub(crate) struct AtWork<'a>(PhantomData<&'a ()>);

impl AtWork<'_> {
    #[inline(always)]
    pub(crate) fn end(self) {}
}

#[derive(Debug)]
pub(crate) struct Kv;

#[derive(Debug, Clone, Copy)]
pub(crate) enum KvOperation {
    Get,
    GetMany,
    Write,
    Transaction,
    History,
}

impl KvOperation {
    #[inline(always)]
    pub(crate) fn of(_: &Change) -> Self {
        KvOperation::Write
    }
}

impl Kv {
    pub(crate) fn new(_: &str, _: &str) -> Self {
        Kv
    }

    #[inline(always)]
    pub(crate) fn begin(&self, _: &str, _: KvOperation) -> Asked {
        Asked
    }

    #[inline(always)]
    pub(crate) fn near(&self, _: &str) -> NearMetrics {
        NearMetrics
    }

    #[inline(always)]
    pub(crate) fn locks(&self, _: &str) -> LockMetrics {
        LockMetrics
    }
}

#[must_use]
pub(crate) struct Asked;

impl Asked {
    #[inline(always)]
    pub(crate) fn read(self, _: &Result<Found>) {}

    #[inline(always)]
    pub(crate) fn read_many(self, _: &[Result<Found>]) {}

    #[inline(always)]
    pub(crate) fn done<T>(self, _: &Result<T>) {}

    #[inline(always)]
    pub(crate) fn written(self, _: usize, _: &Result<Vec<u64>>) {}
}

#[derive(Debug)]
pub(crate) struct NearMetrics;

impl NearMetrics {
    #[inline(always)]
    pub(crate) fn looked_up(&self, _: bool, _: bool) {}

    #[inline(always)]
    pub(crate) fn updated(&self) {}

    #[inline(always)]
    pub(crate) fn size(&self, _: &mut NearSize, _: usize, _: usize, _: u64) {}
}

#[derive(Debug, Default)]
pub(crate) struct NearSize {}

#[derive(Debug)]
pub(crate) struct LockMetrics;

impl LockMetrics {
    #[inline(always)]
    pub(crate) fn waited<T>(&self, _: &Result<T>) {}

    #[inline(always)]
    pub(crate) fn held(self) -> LockHeld {
        LockHeld
    }
}

#[derive(Debug)]
pub(crate) struct LockHeld;

impl LockHeld {
    #[inline(always)]
    pub(crate) fn lost(&self) {}

    #[inline(always)]
    pub(crate) fn end(self) {}
}

/// Nothing that is kept for metrics takes room.
const _: () = {
    assert!(size_of::<(Connection, PubSub, Subscription, Kv, NearMetrics, NearSize)>() == 0);
    assert!(size_of::<(LockMetrics, LockHeld, Asked, AtWork<'_>, Begun)>() == 0);
};
