//! Any text as a key and as a stored key, in every codec: a key comes back as it was, no two share
//! a stored form, and what the escaping codecs write is a key that every NATS client takes.
//!
//! `cargo +nightly fuzz run keys`
#![no_main]

use libfuzzer_sys::fuzz_target;
use nats_connector::kv::{Key, KeyCodec};

fuzz_target!(|input: (&str, &str)| {
    let (one, other) = input;
    for codec in [KeyCodec::Escape, KeyCodec::Path, KeyCodec::Raw] {
        let stored = |name| {
            let mut out = String::new();
            codec.encode(Key::new("", name), &mut out).ok().map(|()| out)
        };
        if let Some(first) = stored(one) {
            assert_eq!(codec.decode(&first), one, "{codec}");
            if codec != KeyCodec::Raw {
                let legal = |b: u8| b.is_ascii_alphanumeric() || b"-/_=.".contains(&b);
                assert!(first.bytes().all(legal), "{codec}: {first}");
                assert!(first.split('.').all(|token| !token.is_empty()), "{codec}: {first}");
            }
            if let Some(second) = stored(other) {
                assert_eq!(first == second, one == other, "{codec}");
            }
        }
        // Whatever a bucket holds can be listed.
        let _ = codec.decode(one);
    }
});
