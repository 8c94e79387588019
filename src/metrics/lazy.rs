//! Handles that are made once, as soon as there is a recorder.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use ::metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit, with_recorder,
};

use super::list::{Kind, Metric};

/// The most label values of one kind; see the module's documentation.
const MOST: usize = 1000;
/// The label value of what is beyond.
const OTHER: &str = "other";

static METADATA: Metadata<'_> =
    Metadata::new("nats_connector", Level::INFO, Some("nats_connector"));

/// Makes handles with one set of labels.
pub(super) struct Maker<'a> {
    recorder: &'a dyn Recorder,
    labels: &'a [Label],
}

impl Maker<'_> {
    pub(super) fn counter(&self, metric: &Metric) -> Counter {
        self.counter_of(metric, [])
    }

    /// A counter with further labels.
    pub(super) fn counter_of<const N: usize>(
        &self,
        metric: &Metric,
        more: [(&'static str, &'static str); N],
    ) -> Counter {
        self.recorder.register_counter(&self.key(metric, &more), &METADATA)
    }

    pub(super) fn gauge(&self, metric: &Metric) -> Gauge {
        self.gauge_of(metric, [])
    }

    pub(super) fn gauge_of<const N: usize>(
        &self,
        metric: &Metric,
        more: [(&'static str, &'static str); N],
    ) -> Gauge {
        self.recorder.register_gauge(&self.key(metric, &more), &METADATA)
    }

    pub(super) fn histogram(&self, metric: &Metric) -> Histogram {
        self.histogram_of(metric, [])
    }

    pub(super) fn histogram_of<const N: usize>(
        &self,
        metric: &Metric,
        more: [(&'static str, &'static str); N],
    ) -> Histogram {
        self.recorder.register_histogram(&self.key(metric, &more), &METADATA)
    }

    /// The metric's key with all labels. It is described here: what a recorder knows nothing of
    /// needs no description.
    fn key(&self, metric: &Metric, more: &[(&'static str, &'static str)]) -> Key {
        let (name, unit) = (KeyName::from(metric.name), Unit::from_string(metric.unit));
        match metric.kind {
            Kind::Counter => self.recorder.describe_counter(name, unit, metric.meaning.into()),
            Kind::Gauge => self.recorder.describe_gauge(name, unit, metric.meaning.into()),
            Kind::Histogram => self.recorder.describe_histogram(name, unit, metric.meaning.into()),
        }
        let more = more.iter().map(|(name, value)| Label::from_static_parts(name, value));
        let labels: Vec<Label> = self.labels.iter().cloned().chain(more).collect();
        Key::from_parts(metric.name, labels)
    }
}

/// What is made of one set of labels.
pub(super) trait Handles {
    fn make(maker: &Maker<'_>) -> Self;
}

/// Handles, made when there is a recorder.
#[derive(Debug)]
pub(super) struct Lazy<T> {
    labels: Vec<Label>,
    made: OnceLock<T>,
}

impl<T: Handles> Lazy<T> {
    /// With a recorder there already they are made now, so that it knows what is still at zero.
    pub(super) fn new<const N: usize>(labels: [(&'static str, &str); N]) -> Self {
        let lazy = Lazy::unmade(labels);
        lazy.get();
        lazy
    }

    /// They are made when something is counted.
    pub(super) fn unmade<const N: usize>(labels: [(&'static str, &str); N]) -> Self {
        let labels = labels.map(|(name, value)| Label::new(name, value.to_owned())).to_vec();
        Lazy { labels, made: OnceLock::new() }
    }

    /// The handles, if there is a recorder.
    #[inline]
    pub(super) fn get(&self) -> Option<&T> {
        self.made.get().or_else(|| self.make())
    }

    /// Without a recorder the facade gives one without fields.
    #[cold]
    fn make(&self) -> Option<&T> {
        with_recorder(|recorder| {
            let is_there = size_of_val(recorder) > 0;
            let make = || T::make(&Maker { recorder, labels: &self.labels });
            is_there.then(|| self.made.get_or_init(make))
        })
    }

    /// Counts what is too seldom for a handle of its own.
    #[cold]
    pub(super) fn count<const N: usize>(&self, metric: &Metric, more: [(&'static str, &str); N]) {
        with_recorder(|recorder| {
            let more = more.map(|(name, value)| Label::new(name, value.to_owned()));
            let labels: Vec<Label> = self.labels.iter().cloned().chain(more).collect();
            Maker { recorder, labels: &labels }.counter(metric).increment(1);
        });
    }
}

/// What there is of each value of a label, for a bounded number of values.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    known: RwLock<HashMap<Box<str>, Arc<T>>>,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Bounded { known: RwLock::default() }
    }
}

impl<T> Bounded<T> {
    /// What there is of a value, or what `make` gives for it: for `other` beyond the bound.
    pub(super) fn of(&self, value: &str, make: impl FnOnce(&str) -> T) -> Arc<T> {
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(value) {
            return known.clone();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let value = if known.len() < MOST || known.contains_key(value) { value } else { OTHER };
        known.entry(value.into()).or_insert_with(|| Arc::new(make(value))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_bound_are_other() {
        let bounded = Bounded::default();
        for n in 0..MOST {
            assert_eq!(*bounded.of(&n.to_string(), str::to_owned), n.to_string());
        }
        assert_eq!(*bounded.of("one more", str::to_owned), OTHER);
        assert_eq!(*bounded.of("and one more", str::to_owned), OTHER);
        assert_eq!(*bounded.of("7", str::to_owned), "7");
        assert_eq!(bounded.known.read().unwrap().len(), MOST + 1);
    }
}
