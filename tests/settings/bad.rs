//! Every bad setting gives an error that names key, source and what is expected.

use std::ffi::OsString;
use std::fs;

use nats_connector::{ErrorKind, Format, Settings, SettingsBuilder};

use crate::error_of_lines;

/// A value in a file, and what the error says beside key and source.
const BAD_VALUES: &[(&str, &str, &[&str])] = &[
    ("NATS.SERVER", "http://host", &["server 1 of 1", "\"http://host\"", "nats://127.0.0.1:4222"]),
    ("NATS.SERVER", "nats://", &["has no host", "expected for example"]),
    ("NATS.SERVER", "nats://:4222", &["expected for example"]),
    ("NATS.SERVER", "nats://host:port", &["is not the address of a server"]),
    ("NATS.SERVER", "nats://host:99999", &["is not the address of a server"]),
    ("NATS.SERVER", "host:0", &["port 0", "expected for example"]),
    ("NATS.SERVER", "::1:4222", &["is not the address of a server"]),
    ("NATS.SERVER", "a,,b", &["server 2 of 3", "is empty"]),
    ("NATS.SERVER", "a,", &["server 2 of 2", "is empty"]),
    ("NATS.SERVER", "a b", &["white space"]),
    ("NATS.SERVER", "nats://host/path", &["text after the port"]),
    ("NATS.SERVER", "nats://host?tls=1", &["text after the port"]),
    ("NATS.SERVER", "wss://host/#x", &["text after the port"]),
    ("NATS.SERVER", "nats://a,ws://b", &["cannot be mixed"]),
    ("NATS.SERVER", "memory:,nats://a", &["server 1 of 2", "stands alone"]),
    ("NATS.SERVER", "nats://u:p@a,nats://u:q@b", &["server 2 of 2", "all servers of one cluster"]),
    ("NATS.SERVER", "nats://:p@a", &["a password but no user"]),
    ("NATS.SERVER", "nats://u:@a", &["a user but no password"]),
    ("NATS.SERVER", "nats://u:%ff@a", &["not UTF-8"]),
    ("NATS.NAME", "\"a\tb\"", &["a text on one line"]),
    ("NATS.TLS_REQUIRED", "maybe", &["\"maybe\"", "true or false"]),
    ("NATS.TLS_FIRST", "2", &["true or false"]),
    ("NATS.RANDOMIZE", "wahr", &["true or false"]),
    ("NATS.RETRY_ON_INITIAL_CONNECT", "y e s", &["true or false"]),
    ("NATS.CONNECT_TIMEOUT", "5", &["\"5\"", "is not a duration", "2s, 500ms, 1m30s"]),
    ("NATS.CONNECT_TIMEOUT", "0s", &["a duration above zero"]),
    ("NATS.RECONNECT_WAIT", "fast", &["\"fast\"", "is not a duration", "2s, 500ms, 1m30s"]),
    ("NATS.RECONNECT_WAIT", "-1s", &["is not a duration"]),
    ("NATS.PING_INTERVAL", "0ms", &["a duration above zero"]),
    ("NATS.REQUEST_TIMEOUT", "1 fortnight", &["is not a duration"]),
    ("NATS.REQUEST_TIMEOUT", "99999999999999999999s", &["is not a duration"]),
    ("NATS.DRAIN_TIMEOUT", "2years", &["up to a year"]),
    ("NATS.HOOK_TIMEOUT", "1s,", &["is not a duration"]),
    ("NATS.MAX_RECONNECT", "-2", &["-1 (unlimited), 0 (never)"]),
    ("NATS.MAX_RECONNECT", "1.5", &["\"1.5\"", "a number of attempts"]),
    ("NATS.MAX_RECONNECT", "unlimited", &["a number of attempts"]),
    ("NATS.MAX_RECONNECT", "4294967296", &["a number of attempts"]),
    ("NATS.WHEN_DISCONNECTED", "panic", &["\"panic\"", "one of fail, wait"]),
    ("NATS.SUBSCRIPTION_CAPACITY", "0", &["1 to 100000000"]),
    ("NATS.SUBSCRIPTION_CAPACITY", "64k", &["\"64k\"", "1 to 100000000"]),
    ("NATS.SUBSCRIPTION_CAPACITY", "100000001", &["1 to 100000000"]),
    ("NATS.INBOX_PREFIX", "_INBOX.", &["without wildcards"]),
    ("NATS.INBOX_PREFIX", "in box", &["without wildcards, white space"]),
    ("NATS.JETSTREAM_DOMAIN", "a.b", &["one part of a subject"]),
    ("NATS.JETSTREAM_DOMAIN", "*", &["one part of a subject"]),
    ("NATS.JETSTREAM_PREFIX", "$JS.>.API", &["without wildcards"]),
    ("NATS.TOPIC_PREFIX", "app.*", &["without wildcards", "app.orders"]),
    ("NATS.TOPIC_PREFIX", ".app", &["empty parts"]),
    ("NATS.BUCKET_PREFIX", "app.", &["letters, digits, _ and -"]),
    ("NATS.DEFAULT_BUCKET", "my bucket", &["letters, digits, _ and -"]),
    ("NATS.KEY_CODEC", "base64", &["one of escape, path, raw"]),
    ("NATS.SERIALIZER", "xml", &["one of json, messagepack, text"]),
    ("NATS.CONTEXT", "../x", &["expected a name or an absolute path"]),
    ("NATS.CONTEXT", "prod", &["the variable HOME is not set"]),
    ("NATS.CONTEXT", "/no/such/context.json", &["/no/such/context.json cannot be read"]),
    ("NATS.NAME", "${NOBODY}", &["environment variable NOBODY", "${NOBODY:}"]),
    ("NATS.NAME", "${NOBODY:x", &["without its closing }"]),
    ("NATS.PASSWORD", "${NOBODY}", &["environment variable NOBODY"]),
];

#[test]
fn bad_values() {
    for (key, value, expected) in BAD_VALUES {
        let error = Settings::builder()
            .text("settings.conf", Format::Lines, format!("# a line before\n{key}={value}\n"))
            .build()
            .expect_err(value);
        assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{key}={value}");
        let error = error.to_string();
        for part in [*key, "settings.conf:2"].iter().chain(*expected) {
            assert!(error.contains(part), "{key}={value}: no {part:?} in: {error}");
        }
    }
}

/// Bad values are found wherever they come from, and the source is named as people know it.
#[test]
fn bad_values_name_their_source() {
    let bad = |builder: SettingsBuilder, source: &str| {
        let error = builder.build().unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "NATS.RECONNECT_WAIT: \"fast\" from {source} is not a duration above zero and up \
                 to a year; expected for example 2s, 500ms, 1m30s"
            )
        );
    };
    let new = Settings::builder;
    bad(new().set("NATS.RECONNECT_WAIT", "fast"), "code");
    bad(
        new().env_from([("NATS_RECONNECT_WAIT", "fast")]),
        "environment variable NATS_RECONNECT_WAIT",
    );
    bad(
        new().env_from([("NATS.RECONNECT_WAIT", "fast")]),
        "environment variable NATS.RECONNECT_WAIT",
    );
    bad(new().args_from(["--NATS.RECONNECT_WAIT=fast"]), "argument --NATS.RECONNECT_WAIT");
    bad(new().args_from(["--nats-reconnect-wait", "fast"]), "argument --nats-reconnect-wait");
    bad(new().args_from(["NATS.RECONNECT_WAIT=fast"]), "argument NATS.RECONNECT_WAIT");
    bad(new().text("a.conf", Format::Lines, "\n\nNATS.RECONNECT_WAIT = fast"), "a.conf:3");
    bad(
        new().text("a.json", Format::Json, "{\n\"nats\": {\n \"reconnect_wait\":\n\"fast\"}}"),
        "a.json:4",
    );
    #[cfg(feature = "yaml")]
    bad(new().text("a.yml", Format::Yaml, "x: 1\nnats:\n  reconnect-wait: fast"), "a.yml:3");
    #[cfg(feature = "toml")]
    bad(new().text("a.toml", Format::Toml, "x = 1\n[nats]\nreconnect_wait = 'fast'"), "a.toml:3");
    // A value that another source replaces does no harm.
    let settings = new()
        .text("a.conf", Format::Lines, "NATS.RECONNECT_WAIT=fast")
        .set("NATS.RECONNECT_WAIT", "1s")
        .build();
    assert!(settings.is_ok());
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (line, expected) in [
        ("NATS.RECONECT_WAIT=1s", "did you mean NATS.RECONNECT_WAIT?"),
        ("nats.servers=a", "did you mean NATS.SERVER?"),
        ("NATS_URL=a", "did you mean NATS.SERVER?"),
        ("NATS.TLS.CRT=a", "did you mean NATS.TLS_CERT?"),
        ("NATS.USER=a", "did you mean NATS.USERNAME?"),
        ("NATS.CREDS=a", "did you mean NATS.CREDENTIALS?"),
        ("NATS.SOMETHING_ELSE=a", "reference.conf lists all"),
        ("NATS.=a", "is not a setting"),
        ("NATS=a", "is the domain of settings"),
        ("NATS.SETTINGS_FILE=a", "environment variable NATS_SETTINGS_FILE only"),
    ] {
        let error = error_of_lines(line);
        assert!(error.contains(expected), "{line}: {error}");
        let key = line.split('=').next().unwrap();
        assert!(error.contains(&format!("{key} from settings.conf:1")), "{line}: {error}");
    }
    let error = Settings::builder().args_from(["--NATS.RANDOMISE=no"]).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "NATS.RANDOMISE from argument --NATS.RANDOMISE is not a setting; did you mean \
         NATS.RANDOMIZE?"
    );
    let error = Settings::builder().set("SERVER", "a").build().unwrap_err();
    assert_eq!(error.to_string(), "SERVER from code is not a setting; did you mean NATS.SERVER?");
    let error = Settings::builder().domain("AUDIT").set("NATS.SERVER", "a").build().unwrap_err();
    assert!(error.to_string().starts_with("NATS.SERVER from code is not a setting"), "{error}");
}

#[test]
fn unknown_variables_are_one_warning() {
    let settings = Settings::builder()
        .env_from([
            ("NATS_RECONECT_WAIT", "1s"),
            ("NATS_URL", "nats://u:s3cr3t@host"),
            ("NATS_PORT_4222_TCP", "tcp://10.0.0.1:4222"),
            ("NATS_SETTINGS_FILE", "x"),
            ("NATS_NAME", "app"),
            ("NATSIO", "x"),
            ("PATH", "x"),
        ])
        .build()
        .unwrap();
    assert_eq!(settings.name(), Some("app"));
    assert_eq!(
        settings.warnings(),
        ["environment variables that are no settings are ignored: NATS_PORT_4222_TCP, \
          NATS_RECONECT_WAIT (did you mean NATS_RECONNECT_WAIT?), \
          NATS_URL (did you mean NATS_SERVER?)"]
    );
}

#[test]
fn half_a_pair_and_both_of_an_either() {
    for (text, expected) in [
        (
            "NATS.USERNAME=u",
            "NATS.USERNAME: set by settings.conf:1, but NATS.PASSWORD is not set; set both or \
             neither",
        ),
        (
            "\nNATS.PASSWORD=s3cr3t",
            "NATS.PASSWORD: set by settings.conf:2, but NATS.USERNAME is not set; set both or \
             neither",
        ),
        (
            "NATS.TOKEN=t\nNATS.USERNAME=u\nNATS.PASSWORD=",
            "NATS.USERNAME: set by settings.conf:2, but NATS.PASSWORD is not set; set both or \
             neither",
        ),
        (
            "NATS.TLS_CERT=c.pem",
            "NATS.TLS_CERT: set by settings.conf:1, but NATS.TLS_KEY is not set; set both or \
             neither",
        ),
        (
            "NATS.TLS_KEY=k.pem",
            "NATS.TLS_KEY: set by settings.conf:1, but NATS.TLS_CERT is not set; set both or \
             neither",
        ),
        (
            "NATS.JETSTREAM_DOMAIN=a\nNATS.JETSTREAM_PREFIX=b",
            "NATS.JETSTREAM_DOMAIN from settings.conf:1 and NATS.JETSTREAM_PREFIX from \
             settings.conf:2 exclude each other; set one of them",
        ),
        (
            "NATS.NAME=a\nnats_name=b",
            "NATS.NAME is given twice, by settings.conf:1 and settings.conf:2; remove one",
        ),
    ] {
        assert_eq!(error_of_lines(text), expected);
    }
    let error =
        Settings::builder().env_from([("NATS_NAME", "a"), ("nats_name", "a")]).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "NATS.NAME is given twice, by environment variable NATS_NAME and environment variable \
         nats_name; remove one"
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    assert_eq!(
        error_of_lines("NATS.RANDOMISE=no\nNATS.TLS_FIRST=maybe"),
        "2 settings are wrong: (1) NATS.RANDOMISE from settings.conf:1 is not a setting; did you \
         mean NATS.RANDOMIZE? (2) NATS.TLS_FIRST: \"maybe\" from settings.conf:2 is not a boolean; \
         expected true or false"
    );
}

#[test]
fn broken_lines_and_files() {
    for (text, expected) in [
        ("NATS.NAME", "settings.conf:1: expected KEY=value"),
        ("\n[nats]", "settings.conf:2: expected KEY=value"),
        ("export NATS.NAME=x", "settings.conf:1: a key is made of letters"),
        ("NATS.NAME='x", "settings.conf:1: the closing quote is missing"),
        ("NATS.NAME='x'y", "settings.conf:1: there is text after the closing quote"),
    ] {
        let error = error_of_lines(text);
        assert!(error.starts_with(expected), "{text}: {error}");
    }

    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("prod.conf");
    let error = Settings::builder().file(&missing).build().unwrap_err().to_string();
    assert!(error.contains("prod.conf cannot be read: "), "{error}");
    let error = Settings::builder()
        .env_from([("NATS_SETTINGS_FILE", &missing)])
        .find_file(directory.path())
        .build()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("from environment variable NATS_SETTINGS_FILE cannot be read"),
        "{error}"
    );
    let binary = directory.path().join("settings.conf");
    fs::write(&binary, b"NATS.NAME=\xff").unwrap();
    let error = Settings::builder().file(&binary).build().unwrap_err().to_string();
    assert!(error.contains("settings.conf cannot be read: "), "{error}");
}

#[test]
fn broken_json_yaml_and_toml() {
    let cases: &[(&str, Format, &str, &str)] = &[
        ("a.json", Format::Json, "{\n\"nats\": }", "a.json:2: not JSON: expected value"),
        ("a.json", Format::Json, "{} x", "a.json:1: not JSON: trailing characters"),
        ("a.json", Format::Json, "{\"a\": \n\"\\ud800\"}", "a.json:2: not JSON: "),
        ("a.json", Format::Json, "[1]", "a.json: the top level is not a map"),
        ("a.json", Format::Json, "{\"nats\": 1}", "is the domain of settings"),
        (
            "a.json",
            Format::Json,
            "{\"nats\": {\"name\": [[1]]}}",
            "NATS.NAME: the value from a.json:1 is a list of more than plain values",
        ),
        (
            "a.json",
            Format::Json,
            "{\"nats\": {\"tls\": {\"cert\": {\"x\": 1}}}}",
            "nats.tls.cert.x",
        ),
        #[cfg(feature = "yaml")]
        ("a.yml", Format::Yaml, "nats:\n  name: [", "a.yml:"),
        #[cfg(feature = "yaml")]
        ("a.yml", Format::Yaml, "a: 1\n---\nb: 1", "not one YAML document but several"),
        #[cfg(feature = "yaml")]
        ("a.yml", Format::Yaml, "just text", "a.yml: the top level is not a map"),
        #[cfg(feature = "yaml")]
        ("a.yml", Format::Yaml, "? [a]\n: 1", "a.yml:1: a key of a map is not plain text"),
        #[cfg(feature = "yaml")]
        (
            "a.yml",
            Format::Yaml,
            "x: &x [a]\nnats:\n  name: *x",
            "NATS.NAME: the value from a.yml:3 is a YAML alias of a list or map",
        ),
        #[cfg(feature = "yaml")]
        (
            "a.yml",
            Format::Yaml,
            "nats:\n  name: a\n  NAME: b",
            "given twice, by a.yml:2 and a.yml:3",
        ),
        #[cfg(feature = "toml")]
        ("a.toml", Format::Toml, "[nats]\nname = ", "a.toml:2: not TOML: "),
        #[cfg(feature = "toml")]
        ("a.toml", Format::Toml, "[nats]\nname = 'a'\nname = 'b'", "a.toml:3: not TOML: duplicate"),
        #[cfg(not(feature = "yaml"))]
        (
            "a.yml",
            Format::Yaml,
            "",
            "a.yml: to read YAML, build nats-connector with its feature `yaml`",
        ),
        #[cfg(not(feature = "toml"))]
        (
            "a.toml",
            Format::Toml,
            "",
            "a.toml: to read TOML, build nats-connector with its feature `toml`",
        ),
    ];
    for (name, format, text, expected) in cases {
        let error = Settings::builder().text(*name, *format, *text).build().expect_err(text);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}

#[test]
fn bad_arguments() {
    for (arguments, expected) in [
        (&["--NATS.NAME"][..], "NATS.NAME: the value from argument --NATS.NAME is missing"),
        (&["--NATS.NAME", "--NATS.TOKEN=x"], "--NATS.NAME is missing; expected --KEY=value"),
        (&["--NATS.NAME", "--"], "--NATS.NAME is missing"),
        (&["-NATS.NAMES=x"], "did you mean NATS.NAME?"),
        (&["--NATS.NAME=${"], "NATS.NAME: the value from argument --NATS.NAME has a ${"),
    ] {
        let error = Settings::builder().args_from(arguments).build().expect_err(expected);
        assert!(error.to_string().contains(expected), "{arguments:?}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn text_that_is_not_utf8() {
    use std::os::unix::ffi::OsStringExt;

    let bytes = |prefix: &str| OsString::from_vec([prefix.as_bytes(), b"\xff"].concat());
    let environment = [(OsString::from("NATS_NAME"), bytes(""))];
    let error = Settings::builder().env_from(environment).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "NATS.NAME: the value from environment variable NATS_NAME is not UTF-8"
    );
    for arguments in [vec![bytes("--NATS.NAME=")], vec!["--NATS.NAME".into(), bytes("")]] {
        let error = Settings::builder().args_from(arguments).build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "NATS.NAME: the value from argument --NATS.NAME is not UTF-8"
        );
    }
    // What others have there is nobody's business.
    let settings = Settings::builder()
        .env_from([(bytes("X"), bytes("x"))])
        .args_from([bytes("--other=")])
        .build();
    assert!(settings.is_ok());
}

#[test]
fn bad_domains() {
    for name in ["", "1A", "A B", "Ä", "A_", "NATS_AUDIT", "nats.audit"] {
        let error = Settings::builder().domain(name).build().expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidSettings);
        assert!(error.to_string().contains("cannot be a domain of settings"), "{error}");
        assert!(error.to_string().contains("expected for example AUDIT"), "{error}");
    }
}
