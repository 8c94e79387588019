//! Where a response was stored, as its reply tells.

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pubsub::headers::checked;

/// The header of a reply that tells where the response was stored, once for each place.
const HEADER: &str = "Nats-Response-Stored";

/// Where a response was stored: in the reply's header `Nats-Response-Stored`, as JSON, where
/// [`Persist::receipt`](super::Persist::receipt) asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// `kv` or `objects`.
    pub store: String,
    /// The bucket.
    pub bucket: String,
    /// The key, or the object's name.
    pub key: String,
    /// The revision that it has there.
    pub revision: u64,
}

impl Receipt {
    pub(super) fn new(store: &str, bucket: &str, key: &str, revision: u64) -> Self {
        let [store, bucket, key] = [store, bucket, key].map(str::to_owned);
        Receipt { store, bucket, key, revision }
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) -> Result<()> {
        let text = crate::serializer::Serializer::json().encode(self)?;
        let (name, value) = checked(HEADER, &String::from_utf8_lossy(&text))?;
        headers.append(name, value);
        Ok(())
    }

    /// The receipts of a reply; none where none was asked for, and where the response could not be
    /// stored.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Vec<Receipt> {
        let read = |value: &async_nats::HeaderValue| serde_json::from_str(value.as_str()).ok();
        headers.get_all(HEADER).filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_go_through_headers() {
        let mut headers = HeaderMap::new();
        let kept = [
            Receipt::new("kv", "users", "user.1", 7),
            Receipt::new("objects", "files", "a\r\nb ä", 8),
        ];
        for receipt in &kept {
            receipt.add_to(&mut headers).unwrap();
        }
        headers.append(HEADER, "not one");
        assert_eq!(Receipt::of(&headers), kept);
    }
}
