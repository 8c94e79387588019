//! Contexts of the `nats` command line.

use std::fs;
use std::path::Path;

use nats_connector::{Auth, Format, Secret, Settings, SettingsBuilder};
use tempfile::TempDir;

/// A configuration home with one context, `prod`.
fn home_with(context: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("nats/context");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("prod.json"), context).unwrap();
    home
}

fn with(home: &Path) -> SettingsBuilder {
    Settings::builder()
        .env_from([("XDG_CONFIG_HOME", home), ("HOME", Path::new("/home/me"))])
        .env_from([("CERTS", "/certs"), ("PW", "from-env")])
        .set("NATS.CONTEXT", "prod")
}

fn load(context: &str) -> Settings {
    with(home_with(context).path()).build().expect(context)
}

fn error(context: &str) -> String {
    with(home_with(context).path()).build().expect_err(context).to_string()
}

#[test]
fn every_field_fills_its_setting() {
    let settings = load(
        r#"{
            "description": "production", "color_scheme": "red", "future_field": {"x": 1},
            "url": "nats://a:1,tls://b", "creds": "~/prod.creds", "token": "", "nsc": "",
            "cert": "$CERTS/cert.pem", "key": "${CERTS}/key.pem", "ca": "/ca.pem",
            "tls_first": true, "inbox_prefix": "_INBOX.me", "jetstream_domain": "hub"
        }"#,
    );
    assert_eq!(settings.context(), Some("prod"));
    assert_eq!(settings.servers(), ["nats://a:1", "tls://b:4222"]);
    assert_eq!(*settings.auth(), Auth::Credentials("/home/me/prod.creds".into()));
    assert_eq!(settings.tls().cert.as_deref(), Some(Path::new("/certs/cert.pem")));
    assert_eq!(settings.tls().key.as_deref(), Some(Path::new("/certs/key.pem")));
    assert_eq!(settings.tls().ca.as_deref(), Some(Path::new("/ca.pem")));
    assert!(settings.tls().first);
    assert_eq!(settings.inbox_prefix(), Some("_INBOX.me"));
    assert_eq!(settings.jetstream_domain(), Some("hub"));
    assert!(settings.warnings().is_empty(), "{:?}", settings.warnings());
    let table = settings.table().to_string();
    assert!(
        table.contains("NATS.JETSTREAM_DOMAIN = hub  (jetstream_domain in context "),
        "{table}"
    );

    let settings = load(r#"{"jetstream_api_prefix": "JS.acc", "nkey": "file:///n.nk"}"#);
    assert_eq!(settings.jetstream_prefix(), Some("JS.acc"));
    assert_eq!(*settings.auth(), Auth::NkeyFile("/n.nk".into()));
    assert_eq!(settings.servers(), ["nats://127.0.0.1:4222"]);
}

#[test]
fn secrets_may_be_elsewhere() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "from-file\n").unwrap();
    let path = file.path().display();
    for (field, expected) in [
        (r#""token": "plain""#.to_owned(), Auth::Token(Secret::new("plain"))),
        (r#""token": "env://PW""#.to_owned(), Auth::Token(Secret::new("from-env"))),
        (format!(r#""token": "file://{path}""#), Auth::Token(Secret::new("from-file"))),
        (
            r#""user": "me", "password": "env://PW""#.to_owned(),
            Auth::UserPassword { username: "me".into(), password: Secret::new("from-env") },
        ),
        (
            r#""url": "nats://me:pw@h""#.to_owned(),
            Auth::UserPassword { username: "me".into(), password: Secret::new("pw") },
        ),
    ] {
        let settings = load(&format!("{{{field}}}"));
        assert_eq!(*settings.auth(), expected, "{field}");
    }
}

#[test]
fn by_absolute_path_and_from_the_home_directory() {
    let home = home_with(r#"{"url": "nats://h"}"#);
    let path = home.path().join("nats/context/prod.json");
    let settings = Settings::builder().set("NATS.CONTEXT", path.display()).build().unwrap();
    assert_eq!(settings.servers(), ["nats://h:4222"]);

    fs::create_dir(home.path().join(".config")).unwrap();
    fs::rename(home.path().join("nats"), home.path().join(".config/nats")).unwrap();
    let settings = Settings::builder()
        .env_from([("HOME", home.path().to_str().unwrap()), ("NATS_CONTEXT", "prod")])
        .build()
        .unwrap();
    assert_eq!(settings.servers(), ["nats://h:4222"]);
}

/// What any source says comes before the context, and what belongs together is not mixed.
#[test]
fn the_context_fills_only_what_nothing_else_says() {
    let home = home_with(
        r#"{"url": "nats://context", "user": "me", "password": "pw", "cert": "c", "key": "k",
            "ca": "context-ca", "jetstream_domain": "hub", "inbox_prefix": "context"}"#,
    );
    let from_context = Auth::UserPassword { username: "me".into(), password: Secret::new("pw") };
    let lines = |text: &str| with(home.path()).text("a.conf", Format::Lines, text).build().unwrap();

    let settings = lines("NATS.SERVER=nats://file\nNATS.INBOX_PREFIX=file");
    assert_eq!(settings.servers(), ["nats://file:4222"]);
    assert_eq!(settings.inbox_prefix(), Some("file"));
    assert_eq!(*settings.auth(), from_context);
    assert_eq!(settings.tls().ca.as_deref(), Some(Path::new("context-ca")));

    let settings = lines("NATS.TOKEN=t\nNATS.JETSTREAM_PREFIX=JS");
    assert_eq!(*settings.auth(), Auth::Token(Secret::new("t")));
    assert_eq!(settings.jetstream_prefix(), Some("JS"));
    assert_eq!(settings.jetstream_domain(), None);
    assert!(settings.warnings().is_empty());

    let settings = lines("NATS.SERVER=nats://t@file");
    assert_eq!(*settings.auth(), Auth::Token(Secret::new("t")));
    assert!(settings.warnings().is_empty());

    let settings = lines("NATS.TLS_CERT=x\nNATS.TLS_KEY=y");
    assert_eq!(settings.tls().cert.as_deref(), Some(Path::new("x")));
    assert_eq!(settings.tls().key.as_deref(), Some(Path::new("y")));

    let settings = lines("NATS.USERNAME=\nNATS.INBOX_PREFIX=");
    assert_eq!(*settings.auth(), Auth::None);
    assert_eq!(settings.inbox_prefix(), None);
}

#[test]
fn what_cannot_be_followed_is_an_error() {
    for (context, expected) in [
        (r#"{"socks_proxy": "socks5://x"}"#, "sets socks_proxy, which is not supported"),
        (r#"{"user_jwt": "eyJ"}"#, "sets user_jwt, which is not supported"),
        (r#"{"user_seed": "SUA"}"#, "sets user_seed, which is not supported"),
        (r#"{"nsc": "nsc://a/b/c"}"#, "sets nsc, which is not supported"),
        (r#"{"windows_cert_store": "user"}"#, "sets windows_cert_store"),
        (r#"{"token": "op://vault/x"}"#, "token in context file"),
        (r#"{"token": "op://vault/x"}"#, "is a op:// reference, which is not followed here"),
        (r#"{"creds": "nsc://a/b/c"}"#, "is a nsc:// reference"),
        (r#"{"user": "u", "password": "data:;base64,eHg="}"#, "is a data: reference"),
        (r#"{"token": "env://NOBODY"}"#, "environment variable NOBODY, which is not set"),
        (r#"{"token": "file:///no/such/file"}"#, "/no/such/file, which cannot be read"),
        (r#"{"creds": "$NOBODY/x"}"#, "environment variable NOBODY"),
        (r#"{"creds": "${NOBODY"}"#, "without its closing }"),
        (r#"{"url": 1}"#, "url in context file"),
        (r#"{"tls_first": "x"}"#, "is not a boolean; expected true or false"),
        (r#"{"url": "http://x"}"#, "url in context"),
        (r#"{"user": "u"}"#, "NATS.USERNAME: set by user in context"),
        ("[1]", "is not a JSON map (line 1"),
        ("{\"token\": \"s3cr3t\" x", "is not a JSON map (line 1"),
    ] {
        let error = error(context);
        assert!(error.contains(expected), "{context}: {error}");
        assert!(error.contains("prod"), "{context}: {error}");
        assert!(!error.contains("s3cr3t") && !error.contains("eHg") && !error.contains("vault"));
    }
    let home = home_with("{}");
    let error = with(home.path()).set("NATS.CONTEXT", "other").build().unwrap_err().to_string();
    assert!(error.starts_with("NATS.CONTEXT: \"other\" from code: context file "), "{error}");
    assert!(error.contains("cannot be read"), "{error}");
}
