//! Every setting from every source, their precedence, and the formats of files.

use std::fs;
use std::time::Duration;

use nats_connector::{Format, Settings, SettingsBuilder};

/// A value other than the default for every setting, and the setting that must stand beside it.
const SAMPLES: &[(&str, &str, Option<&str>)] = &[
    ("NATS.SERVER", "nats://a:1,nats://b:2", None),
    ("NATS.NAME", "it's #1: \"x\" = $y", None),
    ("NATS.CREDENTIALS", "/a/user.creds", None),
    ("NATS.NKEY_FILE", "/a/user.nk", None),
    ("NATS.TOKEN", "p@ss: #word'\\", None),
    ("NATS.USERNAME", "0123", Some("NATS.PASSWORD")),
    ("NATS.PASSWORD", "123456", Some("NATS.USERNAME")),
    ("NATS.TLS_CERT", "c.pem", Some("NATS.TLS_KEY")),
    ("NATS.TLS_KEY", "k.pem", Some("NATS.TLS_CERT")),
    ("NATS.TLS_CA", "ca.pem", None),
    ("NATS.TLS_REQUIRED", "true", None),
    ("NATS.TLS_FIRST", "true", None),
    ("NATS.CONNECT_TIMEOUT", "1s", None),
    ("NATS.RETRY_ON_INITIAL_CONNECT", "true", None),
    ("NATS.MAX_RECONNECT", "-1", None),
    ("NATS.RECONNECT_WAIT", "1m 30s", None),
    ("NATS.RANDOMIZE", "false", None),
    ("NATS.PING_INTERVAL", "1h", None),
    ("NATS.REQUEST_TIMEOUT", "1ms", None),
    ("NATS.WHEN_DISCONNECTED", "wait", None),
    ("NATS.DRAIN_TIMEOUT", "1s", None),
    ("NATS.HOOK_TIMEOUT", "1s", None),
    ("NATS.SUBSCRIPTION_CAPACITY", "10", None),
    ("NATS.INBOX_PREFIX", "in", None),
    ("NATS.JETSTREAM_DOMAIN", "hub", None),
    ("NATS.JETSTREAM_PREFIX", "$JS.x", None),
    ("NATS.TOPIC_PREFIX", "app", None),
    ("NATS.KEY_PREFIX", "app", None),
    ("NATS.BUCKET_PREFIX", "app-", None),
    ("NATS.DEFAULT_BUCKET", "b", None),
    ("NATS.KEY_CODEC", "path", None),
    ("NATS.SERIALIZER", "text", None),
];

type Give = fn(SettingsBuilder, &str, &str) -> SettingsBuilder;

/// Every source and way to write a key and value there.
const SOURCES: &[(&str, Give)] = &[
    ("quoted line", |builder, key, value| {
        let text = format!("{key} = '{}'", value.replace('\'', "''"));
        builder.text("a.conf", Format::Lines, text)
    }),
    ("json", |builder, key, value| {
        let (domain, name) = key.split_once('.').unwrap();
        let text = format!("{{{domain:?}: {{{name:?}: {}}}}}", json_string(value));
        builder.text("a.json", Format::Json, text)
    }),
    ("dotted json", |builder, key, value| {
        let text = format!("{{{:?}: {}}}", key.to_lowercase(), json_string(value));
        builder.text("a.json", Format::Json, text)
    }),
    #[cfg(feature = "yaml")]
    ("yaml", |builder, key, value| {
        let (domain, name) = key.split_once('.').unwrap();
        let text = format!("{domain}:\n  {name}: {}", json_string(value));
        builder.text("a.yml", Format::Yaml, text)
    }),
    #[cfg(feature = "toml")]
    ("toml", |builder, key, value| {
        let (domain, name) = key.split_once('.').unwrap();
        let text = format!("[{domain}]\n{name} = {}", json_string(value));
        builder.text("a.toml", Format::Toml, text)
    }),
    ("variable", |builder, key, value| {
        builder.env_from([(key.replace('.', "_"), value.to_owned())])
    }),
    ("dotted variable", |builder, key, value| builder.env_from([(key, value)])),
    ("variable in lower case", |builder, key, value| {
        builder.env_from([(key.replace('.', "_").to_lowercase(), value.to_owned())])
    }),
    ("argument", |builder, key, value| builder.args_from([format!("--{key}={value}")])),
    ("two arguments", |builder, key, value| {
        builder.args_from([format!("--{key}"), value.to_owned()])
    }),
    ("argument with dashes", |builder, key, value| {
        let key = key.to_lowercase().replace(['.', '_'], "-");
        builder.args_from([format!("--{key}={value}")])
    }),
    ("bare argument", |builder, key, value| builder.args_from([format!("{key}={value}")])),
    ("code", |builder, key, value| builder.set(key, value)),
];

fn json_string(value: &str) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn every_setting_from_every_source() {
    let listed: Vec<&str> = Settings::keys()
        .iter()
        .map(|key| key.name())
        .filter(|name| *name != "NATS.CONTEXT")
        .collect();
    assert_eq!(SAMPLES.iter().map(|(key, ..)| *key).collect::<Vec<_>>(), listed);
    for (key, value, beside) in SAMPLES {
        let start = || beside.iter().fold(Settings::builder(), |b, key| b.set(*key, "beside"));
        let expected = start().set(*key, value).build().unwrap();
        let plain = Settings::builder().build().unwrap();
        assert_ne!(expected, plain, "{key}");
        for (source, give) in SOURCES {
            let settings = give(start(), key, value).build();
            let settings = settings.unwrap_or_else(|error| panic!("{source}: {error}"));
            assert!(settings == expected, "{key} from {source}: {settings:?}");
        }
    }
}

/// Every pair of sources: the later one in the order of precedence wins, in whatever order they are
/// given to the builder.
#[test]
fn later_sources_win() {
    const LEVELS: &[(&str, Give)] = &[
        ("first file", |b, key, value| b.text("a.conf", Format::Lines, format!("{key}={value}"))),
        ("second file", |b, key, value| b.text("b.conf", Format::Lines, format!("{key}={value}"))),
        ("environment", |b, key, value| b.env_from([(key, value)])),
        ("arguments", |b, key, value| b.args_from([format!("--{key}={value}")])),
        ("code", |b, key, value| b.set(key, value)),
    ];
    for (i, (low, give_low)) in LEVELS.iter().enumerate() {
        for (high, give_high) in &LEVELS[i + 1..] {
            let settings =
                give_high(give_low(Settings::builder(), "NATS.NAME", low), "NATS.NAME", high);
            assert_eq!(settings.build().unwrap().name(), Some(*high), "{low}, {high}");
            if *high != "second file" {
                let settings =
                    give_low(give_high(Settings::builder(), "NATS.NAME", high), "NATS.NAME", low);
                assert_eq!(settings.build().unwrap().name(), Some(*high), "{high}, {low}");
            }
        }
        // Each is above the defaults.
        let settings = give_low(Settings::builder(), "NATS.RECONNECT_WAIT", "7s").build().unwrap();
        assert_eq!(settings.reconnect_wait(), Duration::from_secs(7), "{low}");
    }
    let settings =
        Settings::builder().args_from(["--NATS.NAME=a", "--NATS.NAME=b"]).build().unwrap();
    assert_eq!(settings.name(), Some("b"));
}

#[test]
fn an_empty_value_brings_the_default_back() {
    let file =
        || Settings::builder().text("a.conf", Format::Lines, "NATS.NAME=a\nNATS.RANDOMIZE=no");
    let cleared = |builder: SettingsBuilder| {
        let settings = builder.build().unwrap();
        assert_eq!(settings.name(), None);
        assert!(settings.randomize());
    };
    cleared(file().args_from(["--NATS.NAME=", "--NATS.RANDOMIZE", ""]));
    cleared(file().set("NATS.NAME", "").set("NATS.RANDOMIZE", ""));
    cleared(file().text("b.json", Format::Json, r#"{"nats": {"name": null, "randomize": ""}}"#));
    cleared(file().text("b.conf", Format::Lines, "NATS.NAME=${X:}\nNATS.RANDOMIZE=''"));
    // An empty variable counts as not set.
    let settings = file().env_from([("NATS_NAME", "")]).build().unwrap();
    assert_eq!(settings.name(), Some("a"));
}

#[test]
fn arguments_of_the_application_are_left_alone() {
    let settings = Settings::builder()
        .args_from([
            "serve",
            "-v",
            "--port",
            "8080",
            "nats",
            "NATS.NAME",
            "--natsish=x",
            "HTTP.PORT=1",
            "-NATS.NAME",
            "app",
            "--",
            "--NATS.NAME=other",
            "--NATS.WRONG",
        ])
        .build()
        .unwrap();
    assert_eq!(settings.name(), Some("app"));
}

#[test]
fn keys_of_other_domains_are_not_looked_at() {
    let text = "HTTP.PORT=x\nNATSX.NAME=${UNCLOSED\nNATS.NAME=a\nAUDIT.NAME=${NOBODY}";
    let settings = crate::lines(text);
    assert_eq!(settings.name(), Some("a"));
    let json = r#"{"http": {"routes": [{"a": [1, {}]}], "x": null}, "nats": {"name": "a"}, "": 1}"#;
    let settings = Settings::builder().text("a.json", Format::Json, json).build().unwrap();
    assert_eq!(settings.name(), Some("a"));
}

#[test]
fn another_domain_has_its_own_keys() {
    let builder = || {
        Settings::builder()
            .text("a.conf", Format::Lines, "NATS.SERVER=a\nAUDIT.SERVER=b\naudit.name=file")
            .env_from([("NATS_NAME", "nats"), ("AUDIT_TOKEN", "t"), ("AUDIT_URL", "x")])
            .args_from(["--AUDIT.MAX_RECONNECT=0", "--NATS.NO_SUCH=1"])
    };
    let settings = builder().domain("audit").build().unwrap();
    assert_eq!(settings.domain_name(), "AUDIT");
    assert_eq!(settings.servers(), ["nats://b:4222"]);
    assert_eq!(settings.name(), Some("file"));
    assert_eq!(settings.max_reconnect(), nats_connector::MaxReconnect::Never);
    let [warning] = settings.warnings() else { panic!("{:?}", settings.warnings()) };
    assert!(warning.contains("AUDIT_URL (did you mean AUDIT_SERVER?)"), "{warning}");
    assert!(settings.table().to_string().contains("AUDIT.NAME = file  (a.conf:3)"));

    let error = builder().domain("AUDIT").set("AUDIT.NAM", 1).build().unwrap_err();
    assert!(error.to_string().contains("did you mean AUDIT.NAME?"), "{error}");
    let error = builder().build().unwrap_err();
    assert!(error.to_string().contains("NATS.NO_SUCH from argument"), "{error}");

    let settings = Settings::builder().domain("AUDTI").build().unwrap();
    assert_eq!(settings.warnings(), ["no source has a AUDTI setting; all are defaults"]);
}

#[test]
fn variables_are_expanded_in_files_and_arguments_only() {
    let environment =
        [("HOST", "db"), ("PW", "123456"), ("TRICK", "${HOST} # 'x"), ("NATS_NAME", "${HOST}")];
    let settings = Settings::builder()
        .text("a.conf", Format::Lines, "NATS.SERVER=${HOST}:${PORT:4000}\nNATS.TOKEN=${TRICK}")
        .args_from(["--NATS.TOPIC_PREFIX=${HOST}"])
        .env_from(environment)
        .set("NATS.KEY_PREFIX", "${HOST}")
        .build()
        .unwrap();
    assert_eq!(settings.servers(), ["nats://db:4000"]);
    assert_eq!(settings.topic_prefix(), "db");
    assert_eq!(settings.key_prefix(), "${HOST}");
    assert_eq!(settings.name(), Some("${HOST}"));
    let nats_connector::Auth::Token(token) = settings.auth() else { panic!() };
    assert_eq!(token.expose(), "${HOST} # 'x");

    // Expansion comes after parsing, so a value never changes its type or the shape of a file.
    for (format, text) in [
        (Format::Json, r#"{"nats": {"username": "u", "password": "${PW}"}}"#),
        #[cfg(feature = "yaml")]
        (Format::Yaml, "nats:\n  username: u\n  password: ${PW}"),
        #[cfg(feature = "toml")]
        (Format::Toml, "[nats]\nusername = 'u'\npassword = '${PW}'"),
    ] {
        for password in ["123456", "0x1f", "true", "abc #x", "p@ss: word", "*x", "null"] {
            let settings = Settings::builder()
                .text("a", format, text)
                .env_from([("PW", password)])
                .build()
                .unwrap();
            let nats_connector::Auth::UserPassword { password: read, .. } = settings.auth() else {
                panic!("{text}")
            };
            assert_eq!(read.expose(), password);
        }
    }
}

#[test]
fn lines_files() {
    let text = "\u{feff}# a comment\r\n\r\n  nats.name = app one # more\r\nNATS-TOKEN='a # b '\r\n\
                NATS.SERVER=\"h:1\"\r\nNATS.KEY_PREFIX=a#b";
    let settings = crate::lines(text);
    assert_eq!(settings.name(), Some("app one"));
    assert_eq!(settings.servers(), ["nats://h:1"]);
    assert_eq!(settings.key_prefix(), "a#b");
    let nats_connector::Auth::Token(token) = settings.auth() else { panic!() };
    assert_eq!(token.expose(), "a # b ");
}

/// Plain values keep their text, whatever type the format would give them.
#[test]
fn plain_values_keep_their_text() {
    let name = |format, text: &str| {
        let settings = Settings::builder().text("a", format, text).build().expect(text);
        settings.name().map(str::to_owned)
    };
    for number in ["123456", "1e3", "0.10", "-0", "12345678901234567890123", "true", "false"] {
        let text = format!("{{\"nats\": {{\"name\": {number}}}}}");
        assert_eq!(name(Format::Json, &text).as_deref(), Some(number));
    }
    #[cfg(feature = "yaml")]
    for plain in [
        "0123",
        "0x1f",
        "1e3",
        "1_000",
        "yes",
        "no",
        "on",
        "true",
        "123456",
        "1.10",
        "2026-01-01",
        "!!str ~",
    ] {
        let expected = plain.strip_prefix("!!str ").unwrap_or(plain);
        assert_eq!(
            name(Format::Yaml, &format!("nats: {{name: {plain}}}")).as_deref(),
            Some(expected)
        );
        assert_eq!(
            name(Format::Yaml, &format!("nats:\n  name: {plain} # c")).as_deref(),
            Some(expected)
        );
    }
    #[cfg(feature = "yaml")]
    for null in ["", "~", "null", "Null"] {
        assert_eq!(name(Format::Yaml, &format!("nats:\n  name: {null}\n")), None);
        let quoted = (!null.is_empty()).then(|| null.to_owned());
        assert_eq!(name(Format::Yaml, &format!("nats:\n  name: '{null}'\n")), quoted);
    }
    #[cfg(feature = "toml")]
    for plain in ["123456", "1e3", "0x1f", "1_000", "true", "1.10", "2026-01-01", "inf"] {
        assert_eq!(name(Format::Toml, &format!("nats.name = {plain} # c")).as_deref(), Some(plain));
    }
}

#[test]
fn lists_nesting_and_shapes() {
    let texts = [
        (Format::Json, r#"{"NATS": {"server": ["a:1", "b:2"], "tls": {"cert": "c", "key": "k"}}}"#),
        (Format::Json, r#"{"nats.server": "a:1,b:2", "nats": {"tls-cert": "c", "TLS.KEY": "k"}}"#),
        #[cfg(feature = "yaml")]
        (Format::Yaml, "nats:\n  server:\n    - a:1\n    - b:2\n  tls: {cert: c, key: k}\n"),
        #[cfg(feature = "yaml")]
        (
            Format::Yaml,
            "x: &s a:1\ny: {z: &t [1]}\nnats: {server: [*s, \"b:2\"], tls.cert: c, tls_key: k}\nw: *t",
        ),
        #[cfg(feature = "toml")]
        (Format::Toml, "[nats]\nserver = ['a:1', 'b:2']\n[nats.tls]\ncert = 'c'\nkey = 'k'"),
    ];
    for (format, text) in texts {
        let settings = Settings::builder().text("a", format, text).build().expect(text);
        assert_eq!(settings.servers(), ["nats://a:1", "nats://b:2"], "{text}");
        assert!(settings.tls().cert.is_some() && settings.tls().key.is_some(), "{text}");
    }
    let defaults = Settings::builder().build().unwrap();
    for (format, text) in [
        (Format::Lines, ""),
        (Format::Json, ""),
        (Format::Json, "{}"),
        (Format::Json, "null"),
        (Format::Json, r#"{"nats": {}}"#),
        (Format::Json, r#"{"nats": null}"#),
        (Format::Json, r#"{"nats": {"server": []}}"#),
        #[cfg(feature = "yaml")]
        (Format::Yaml, ""),
        #[cfg(feature = "yaml")]
        (Format::Yaml, "# nothing\nnats:\n"),
        #[cfg(feature = "toml")]
        (Format::Toml, "[nats]"),
    ] {
        let settings = Settings::builder().text("a", format, text).build().expect(text);
        assert_eq!(settings, defaults, "{text}");
    }
    // Far too deep is no setting, and no danger.
    let deep = |open: &str, close: &str, n| format!("{}1{}", open.repeat(n), close.repeat(n));
    for (format, text) in [
        (Format::Json, deep("{\"a\":", "}", 100_000)),
        (Format::Json, format!("{{\"a\":{}}}", deep("[", "]", 100_000))),
        #[cfg(feature = "yaml")]
        (Format::Yaml, format!("a: {}", deep("[", "]", 200))),
        #[cfg(feature = "yaml")]
        (Format::Yaml, format!("a:\n  {}", deep("- ", "", 20_000))),
    ] {
        let settings = Settings::builder().text("a", format, text).build().unwrap();
        assert_eq!(settings, defaults);
    }
}

#[test]
fn the_first_settings_file_of_a_directory_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let find = || Settings::builder().find_file(directory.path());
    assert_eq!(find().build().unwrap(), Settings::builder().build().unwrap());

    let files: &[(&str, &str)] = &[
        ("settings.json", r#"{"nats": {"name": "settings.json"}}"#),
        #[cfg(feature = "toml")]
        ("settings.toml", "nats.name = 'settings.toml'"),
        #[cfg(feature = "yaml")]
        ("settings.yaml", "nats.name: settings.yaml"),
        #[cfg(feature = "yaml")]
        ("settings.yml", "nats: {name: settings.yml}"),
        ("settings.conf", "NATS.NAME=settings.conf"),
    ];
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
        assert_eq!(find().build().unwrap().name(), Some(*name));
    }
    let other = directory.path().join("other.conf");
    fs::write(&other, "NATS.NAME=other").unwrap();
    let settings = find().env_from([("NATS_SETTINGS_FILE", &other)]).build().unwrap();
    assert_eq!(settings.name(), Some("other"));
    let settings = find().env_from([("NATS_SETTINGS_FILE", "")]).build().unwrap();
    assert_eq!(settings.name(), Some("settings.conf"));
    let settings = Settings::builder().file(&other).find_file(directory.path()).build().unwrap();
    assert_eq!(settings.name(), Some("settings.conf"), "the later file wins");
}
