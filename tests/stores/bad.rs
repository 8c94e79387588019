//! Mistakes are told at load, with store, field, source and what is expected.

use nats_connector::stores::{StoreConfig, Stores};
use nats_connector::{ErrorKind, Format, Settings};

use super::{error_of, lines};

#[test]
fn wrong_values_are_named() {
    for (text, expected) in [
        ("STORES.S.TTL=soon", r#"STORES.S.TTL: "soon" from settings.conf:1 is not a duration"#),
        ("STORES.S.TTL=5", "expected 0 for ever, or at least 100ms"),
        ("STORES.S.TTL=99ms", "at least 100ms"),
        ("STORES.S.HISTORY=65", "expected 1 to 64"),
        ("STORES.S.REPLICAS=0", "expected 1 to 5"),
        ("STORES.S.STORAGE=disk", "expected one of file, memory"),
        ("STORES.S.MAX_BYTES=10k", "expected a number of bytes"),
        ("STORES.S.KEY_CODEC=base64", "expected one of escape, path, raw"),
        ("STORES.S.SERIALIZER=xml", "expected one of json, messagepack, text"),
        ("STORES.S.BUCKET=a.b", "letters, digits, _ and - only"),
        ("STORES.S.DOMAIN=NATS_X", "a domain of settings"),
        ("STORES.S.DRIVER=mongo", "expected one of nats, memory, redis"),
        ("STORES.S.DOMAIN=AUDTI", "no source has a setting of the domain AUDTI"),
        ("STORES.S.DB=x", "the number of a database"),
        ("STORES.S.POOL_SIZE=0", "expected 1 to 10000"),
        ("STORES.S.TLS_CERT=c.pem", "STORES.S.TLS_KEY is not set; set both or neither"),
        ("STORES.S.DRIVER=memory\nSTORES.S.ADDR=h:1", "is for the driver redis; the driver of"),
        ("STORES.S.DRIVER=redis\nSTORES.S.HISTORY=2", "is for the driver nats or memory"),
        ("STORES.S.DRIVER=redis\nSTORES.S.TTL=1h", "STORES.S.TTL: on Redis a lifetime belongs to"),
        (
            "STORES.S.DRIVER=redis\nSTORES.S.ADDR=http://u:secret@h",
            "STORES.S.ADDR: the value from settings.conf:2:",
        ),
        ("STORES.S.DRIVER=redis\nSTORES.S.ADDR=redis://h/1\nSTORES.S.DB=2", "keep one of the two"),
        ("STORES.S.USERNAME=u", "STORES.S.PASSWORD is not set"),
        ("STORES.S.ADDR=h:1", "is for the driver redis; the driver of this store is nats"),
        ("STORES.S.DRIVER=memory\nSTORES.S.DOMAIN=NATS", "is for the driver nats; the driver"),
        ("STORES.S.TTL=${NONE}", "environment variable NONE, which is not set"),
        ("STORES.S.TTL=1s\nSTORES_S_TTL=2s", "given twice, by settings.conf:1 and settings.conf:2"),
        ("STORES=x", "is where stores are named"),
        ("STORES.S=x", "is not a setting of a store; expected STORES.<NAME>.<FIELD>"),
        ("STORES._S.TTL=1s", "does not name a store"),
        ("NATS.SERVER=ftp://x\nSTORES.S.TTL=1s", "NATS.SERVER"),
    ] {
        let error = error_of(lines(text));
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn unknown_fields_are_told_with_the_nearest() {
    for (text, expected) in [
        (
            "STORES.S.TLT=1s",
            "STORES.S.TLT from settings.conf:1: a store has no field TLT; did you mean STORES.S.TTL?",
        ),
        ("STORES.S.TYPE=redis", "did you mean STORES.S.DRIVER?"),
        ("STORES.S.USER.NAME=x", "STORES.S.USERNAME"),
        ("STORES.S.CACHE.TTL=1s", "a store has no field CACHE_TTL"),
        (
            "STORES.S.TTL=1s\nSTORES_S_COLOR=x",
            "STORES_S_COLOR from settings.conf:2: a store has no field COLOR; reference.conf lists all",
        ),
    ] {
        let error = error_of(lines(text));
        assert!(error.contains(expected), "{text}: {error}");
    }
    let sources = lines("STORES.S.TTL=1s").args_from(["--STORES_S_HISTROY=1"]);
    let error = error_of(sources);
    assert!(error.contains("argument --STORES_S_HISTROY") && error.contains("HISTORY?"), "{error}");
    let yaml = "stores:\n  my store:\n    ttl: 1s\n";
    let error = error_of(Settings::builder().text("s.yml", Format::Yaml, yaml));
    assert!(error.contains("does not name a store"), "{error}");
}

#[test]
fn all_problems_are_told_together() {
    let error = error_of(lines("STORES.A.TTL=x\nSTORES.B.HISTORY=x\nSTORES.B.ADDR=h:1"));
    assert!(error.starts_with("3 settings are wrong: (1) STORES.A.TTL"), "{error}");
    assert!(
        error.contains("(2) STORES.B.ADDR") || error.contains("(2) STORES.B.HISTORY"),
        "{error}"
    );
}

#[test]
fn stores_that_contradict_each_other_are_told() {
    let error =
        error_of(lines("STORES.A.BUCKET=b\nSTORES.B.BUCKET=b\nSTORES.A.TTL=1s\nSTORES.B.TTL=2s"));
    let expected =
        "the stores a and b have one bucket and describe it differently: ttl is 1s and 2s";
    assert!(error.contains(expected), "{error}");
    // Elsewhere it is another bucket; and what only one says is no contradiction.
    let right = "STORES.A.BUCKET=b\nSTORES.B.BUCKET=b\nSTORES.A.TTL=1s\nSTORES.B.HISTORY=2\n\
                 STORES.C.BUCKET=b\nSTORES.C.TTL=3s\nSTORES.C.DRIVER=memory";
    assert_eq!(Stores::from_settings(lines(right)).unwrap().names(), ["a", "b", "c"]);
}

#[test]
fn drivers_and_code_are_checked_too() {
    let memory = |_| async { Ok(nats_connector::kv::MemoryDriver::new()) };
    for name in ["nats", "Redis", ""] {
        let error = Stores::builder().register_driver(name, memory).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let twice = Stores::builder().register_driver("own", memory).register_driver("OWN", memory);
    assert_eq!(twice.build().unwrap_err().kind(), ErrorKind::InvalidInput);

    let unknown = Stores::builder()
        .register_driver("own", memory)
        .store("s", StoreConfig::new().driver("other"));
    let error = unknown.build().unwrap_err().to_string();
    assert!(error.contains("expected one of nats, memory, redis, own"), "{error}");
    let error = Stores::builder().store("a b", StoreConfig::new()).build().unwrap_err().to_string();
    assert!(error.contains("a b from code does not name a store"), "{error}");
    let config = StoreConfig::new().set("TLT", 1);
    let error = Stores::builder().store("s", config).build().unwrap_err().to_string();
    assert!(error.contains("STORES.s.TLT from code") && error.contains("TTL?"), "{error}");
    let config = StoreConfig::new().history(65);
    let error = Stores::builder().store("s", config).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSettings);
    assert!(error.to_string().contains("STORES.S.HISTORY"), "{error}");
}
