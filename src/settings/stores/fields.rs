//! The one list of a store's settings.

use super::super::keys::{DURATION, Key, PATH, TEXT};

/// Every field, in the order in which reference.conf explains them. `<NAME>` is the store's.
pub(in super::super) const FIELDS: &[Key] = &[
    Key::new(
        "STORES.<NAME>.DRIVER",
        "nats | memory | redis | own",
        "What keeps the values: a NATS key-value bucket, this process, a Redis server (feature \
         redis), or a driver that the application registers under this name.",
    )
    .or("nats"),
    Key::new(
        "STORES.<NAME>.BUCKET",
        TEXT,
        "The bucket: letters, digits, _ and - only. Not set, it is the store's name in lower case; \
         on Redis, default.",
    ),
    Key::new(
        "STORES.<NAME>.PREFIX",
        TEXT,
        "Namespace of every key of the store, taken off again from listed ones. Not set, it is the \
         KEY_PREFIX of the connection's domain on NATS, and none elsewhere.",
    ),
    Key::new(
        "STORES.<NAME>.SERIALIZER",
        "json | messagepack | text",
        "How values become bytes. Not set, it is the SERIALIZER of the connection's domain on NATS, \
         and json elsewhere.",
    ),
    Key::new(
        "STORES.<NAME>.KEY_CODEC",
        "escape | path | raw",
        "How keys are written in the bucket, unless the bucket itself says so: see NATS.KEY_CODEC, \
         which counts where this is not set. For nats and memory.",
    ),
    Key::new(
        "STORES.<NAME>.TTL",
        DURATION,
        "How long the bucket keeps each value after it was written. For nats and memory, and for \
         redis with a BUCKET.",
    )
    .unit_of("time with its unit (500ms, 2s, 1m30s), at least 100ms; 0 for ever"),
    Key::new(
        "STORES.<NAME>.HISTORY",
        "integer",
        "How many values of each key the bucket keeps. For nats and memory.",
    )
    .unit_of("values, 1 to 64"),
    Key::new(
        "STORES.<NAME>.REPLICAS",
        "integer",
        "How many servers of a cluster keep a copy of the bucket. For nats and memory.",
    )
    .unit_of("copies, 1 to 5"),
    Key::new(
        "STORES.<NAME>.STORAGE",
        "file | memory",
        "Whether the bucket survives a restart of the servers that hold it. For nats and memory.",
    ),
    Key::new(
        "STORES.<NAME>.MAX_BYTES",
        "size",
        "How much the bucket may hold; a full one refuses writes. For nats and memory.",
    )
    .unit_of("bytes, or with KiB, MiB, GiB, TiB; 0 without limit"),
    Key::new(
        "STORES.<NAME>.DOMAIN",
        TEXT,
        "The settings of the NATS connection: with AUDIT those of AUDIT.SERVER and so on. Stores \
         that agree share one connection. For nats.",
    )
    .or("NATS"),
    Key::new(
        "STORES.<NAME>.ADDR",
        TEXT,
        "The Redis server: host:port, or redis:// or rediss:// (with TLS) before it. For redis.",
    )
    .or("localhost:6379"),
    Key::new(
        "STORES.<NAME>.USERNAME",
        TEXT,
        "The Redis user, together with PASSWORD; without one it is Redis' default user. For redis.",
    ),
    Key::new("STORES.<NAME>.PASSWORD", TEXT, "The password of the Redis user. For redis.").secret(),
    Key::new("STORES.<NAME>.DB", "integer", "The number of the Redis database. For redis.")
        .or("0")
        .unit_of("0 and up"),
    Key::new("STORES.<NAME>.POOL_SIZE", "integer", "Most connections to Redis at once. For redis.")
        .or("10")
        .unit_of("connections, 1 to 10000"),
    Key::new(
        "STORES.<NAME>.TLS_CA",
        PATH,
        "Certificate authorities in PEM to trust for Redis, in place of those of the system; turns \
         TLS on. For redis.",
    ),
    Key::new(
        "STORES.<NAME>.TLS_CERT",
        PATH,
        "The client's certificate chain in PEM, together with TLS_KEY; turns TLS on. For redis.",
    ),
    Key::new("STORES.<NAME>.TLS_KEY", PATH, "The private key of TLS_CERT in PEM. For redis."),
];

/// The only built-in drivers that a field is for; all of them where there are none.
pub(super) fn only_for(field: &str) -> &'static [&'static str] {
    match field {
        "DRIVER" | "BUCKET" | "PREFIX" | "SERIALIZER" => &[],
        "TTL" => &["nats", "memory", "redis"],
        "KEY_CODEC" | "HISTORY" | "REPLICAS" | "STORAGE" | "MAX_BYTES" => &["nats", "memory"],
        "DOMAIN" => &["nats"],
        _ => &["redis"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_by_its_end() {
        let split = |rest| super::super::BLOCK.split(rest);
        assert_eq!(split("USER_CACHE_TTL"), Some(("USER_CACHE", "TTL")));
        assert_eq!(split("A_TLS_KEY"), Some(("A", "TLS_KEY")));
        assert_eq!(split("TTL_TTL"), Some(("TTL", "TTL")));
        assert_eq!(
            (split("TTL"), split("_TTL"), split("USER_CACHE"), split("")),
            (None, None, None, None)
        );
        for a in FIELDS {
            for b in FIELDS {
                let ending = format!("_{}", b.short_name());
                assert!(!a.short_name().ends_with(&ending), "{} and {}", a.name(), b.name());
            }
        }
    }
}
