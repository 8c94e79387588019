//! A message as a durable subscription holds it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use async_nats::Subject;

use crate::pubsub::driver::{Delivery, InboundMessage};

/// Where a message of a durable subscription comes from, by
/// [`Message::delivery`](crate::pubsub::Message::delivery).
pub struct DeliveryInfo {
    consumer: Arc<Consumer>,
    sequence: u64,
    /// As the server counts.
    deliveries: u64,
    /// Further tries by this member, which the server knows nothing of.
    tries: AtomicU64,
    stored: SystemTime,
    pending: u64,
}

/// A durable consumer by its names.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) stream: String,
    pub(crate) name: String,
}

impl DeliveryInfo {
    pub(super) fn new(
        consumer: Arc<Consumer>,
        sequence: u64,
        deliveries: u64,
        stored: SystemTime,
        pending: u64,
    ) -> Self {
        let tries = AtomicU64::new(0);
        DeliveryInfo { consumer, sequence, deliveries, tries, stored, pending }
    }

    /// The stream that has the message.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.consumer.stream
    }

    /// The durable consumer that delivered it.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.consumer.name
    }

    /// Its sequence in the stream.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How often it was delivered to whichever member, this time included; 1 the first time.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.deliveries.saturating_add(self.tries.load(Ordering::Relaxed))
    }

    /// When the stream stored it, by the server's clock.
    #[must_use]
    pub fn stored(&self) -> SystemTime {
        self.stored
    }

    /// How many messages waited behind it for their first delivery when it was delivered.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Counts a try that the server does not know of.
    pub(super) fn try_again(&self) {
        self.tries.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for DeliveryInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryInfo")
            .field("stream", &self.consumer.stream)
            .field("consumer", &self.consumer.name)
            .field("sequence", &self.sequence)
            .field("deliveries", &self.deliveries())
            .finish_non_exhaustive()
    }
}

/// A delivery with what this member knows of it, in one allocation that the handler's message, the
/// record of what runs and the settling share.
pub(crate) struct Delivered {
    pub(crate) message: InboundMessage,
    pub(crate) receipt: Subject,
    pub(crate) info: DeliveryInfo,
    /// A handler's own error may hide that the payload is the reason.
    undecodable: AtomicBool,
    /// This member extends it; not any more once it is settled or was held for too long.
    held: AtomicBool,
}

impl Delivered {
    pub(super) fn new(delivery: Delivery, consumer: &Arc<Consumer>) -> Self {
        let Delivery { message, receipt, sequence, deliveries, stored, pending } = delivery;
        Delivered {
            message,
            receipt,
            info: DeliveryInfo::new(consumer.clone(), sequence, deliveries, stored, pending),
            undecodable: AtomicBool::new(false),
            held: AtomicBool::new(true),
        }
    }

    pub(crate) fn set_undecodable(&self, undecodable: bool) {
        self.undecodable.store(undecodable, Ordering::Relaxed);
    }

    pub(crate) fn is_undecodable(&self) -> bool {
        self.undecodable.load(Ordering::Relaxed)
    }

    /// From now on it is not extended: it is being settled, or has been held for too long.
    pub(super) fn release(&self) {
        self.held.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}
