//! kv
mod key;
pub use key::{Key, KeyCodec, MAX_KEY_LEN};
