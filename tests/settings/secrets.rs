//! Secrets do not print. Each test has a control: what is no secret is seen by the same check.

use nats_connector::{Auth, Format, Settings};

const SECRET: &str = "s3cr3t";

/// Everything that the settings print.
fn printed(settings: &Settings) -> String {
    format!(
        "{settings:?} {settings:#?} {} {:?} {:?} {:?} {:?} {:?}",
        settings.table(),
        settings.table(),
        settings.warnings(),
        settings.auth(),
        settings.servers(),
        settings.tls(),
    )
}

#[test]
fn nothing_prints_a_secret() {
    let builder = Settings::builder()
        .text("a.conf", Format::Lines, format!("NATS.TOKEN={SECRET}-1\nNATS.NAME=visible-1"))
        .env_from([
            ("NATS_USERNAME", "visible-2".to_owned()),
            ("NATS_PASSWORD", format!("{SECRET}-2")),
            ("NATS_UNKNOWN", format!("{SECRET}-3")),
        ])
        .args_from([format!("--NATS.SERVER=nats://u:{SECRET}-4@visible-3")])
        .set("NATS.CREDENTIALS", "visible-4.creds");
    assert!(!format!("{builder:?}").contains(SECRET));
    let settings = builder.build().unwrap();
    let printed = printed(&settings);
    for visible in ["visible-1", "visible-2", "visible-3", "visible-4.creds", "NATS_UNKNOWN"] {
        assert!(printed.contains(visible), "{visible}: {printed}");
    }
    assert!(!printed.contains(SECRET), "{printed}");
}

#[test]
fn every_way_to_authenticate_is_redacted_and_kept() {
    for (text, secret) in [
        (format!("NATS.TOKEN={SECRET}"), SECRET.to_owned()),
        (format!("NATS.USERNAME=u\nNATS.PASSWORD={SECRET}"), SECRET.to_owned()),
        (format!("NATS.SERVER=nats://u:{SECRET}@h"), SECRET.to_owned()),
        (format!("NATS.SERVER={SECRET}@h"), SECRET.to_owned()),
    ] {
        let settings = crate::lines(&text);
        assert!(!printed(&settings).contains(SECRET), "{text}");
        let kept = match settings.auth() {
            Auth::Token(token) => token.expose(),
            Auth::UserPassword { password, .. } => password.expose(),
            other => panic!("{other:?}"),
        };
        assert_eq!(kept, secret);
    }
}

#[test]
fn a_key_in_place_of_a_path_is_refused_unseen() {
    let seed = format!("SUA{}", "C3R4T".repeat(11));
    let pem = "-----BEGIN NATS USER JWT-----\neyJhbGciOi";
    for key in
        ["NATS.CREDENTIALS", "NATS.NKEY_FILE", "NATS.TLS_CERT", "NATS.TLS_KEY", "NATS.TLS_CA"]
    {
        for value in [seed.as_str(), pem] {
            let error = Settings::builder().set(key, value).build().unwrap_err();
            let printed = format!("{error} {error:?}");
            assert!(printed.contains(key), "{printed}");
            assert!(printed.contains("from code is a key or certificate itself"), "{printed}");
            assert!(!printed.contains("C3R4T") && !printed.contains("eyJ"), "{printed}");
        }
    }
    // The control: a path is shown.
    let settings = Settings::builder().set("NATS.NKEY_FILE", "SUA/C3R4T.nk").build().unwrap();
    assert!(printed(&settings).contains("C3R4T"));
}

#[test]
fn no_error_has_a_secret() {
    let lines = |text: &str| Settings::builder().text("a.conf", Format::Lines, text);
    let json = |text: &str| Settings::builder().text("a.json", Format::Json, text);
    let mut cases = vec![
        lines("NATS.SERVER=nats://u:s3cr3t@h:port"),
        lines("NATS.SERVER=nats://u:s3cr3t/x@h"),
        lines("NATS.SERVER=nats://u:s3cr3t#x@h,b"),
        lines("NATS.SERVER=nats://u:s3cr3t,x@h"),
        lines("NATS.SERVER=nats://u:pw s3cr3t@h"),
        lines("NATS.SERVER=nats://u:s3cr3t@"),
        lines("NATS.SERVER=http://u:s3cr3t@h"),
        lines("NATS.SERVER=nats://u:s3cr3t@a,nats://u:other@b"),
        lines("NATS.SERVER=nats://:s3cr3t@a"),
        lines("NATS.SERVER=nats://u:s3cr3t%ff@a"),
        lines("NATS.SERVER=nats://u:s3cr3t@a/path"),
        lines("NATS.SERVER=ws://u:s3cr3t@a,nats://b"),
        lines("NATS.PASSWORD=s3cr3t"),
        lines("NATS.PASSWORD=x${s3cr3t"),
        lines("NATS.PASSWORD=x${s3cr3t !}"),
        lines("NATS.PASSWORD='s3cr3t"),
        lines("NATS.PASSWORD='x's3cr3t"),
        lines("NATS.PASSWORD: s3cr3t"),
        lines("NATS.TOKEN=x\nNATS_TOKEN=s3cr3t"),
        json(r#"{"nats": {"token": "s3cr3t" x}}"#),
        json(r#"{"nats": {"token": ["s3cr3t", []]}}"#),
        json(r#"{"nats": {"token": "s3cr3t\ud800"}}"#),
        json(r#""s3cr3t""#),
        Settings::builder().args_from(["--NATS.PASSWORD=s3cr3t"]),
        Settings::builder().env_from([("NATS_PASSWORD", "s3cr3t")]),
    ];
    #[cfg(feature = "yaml")]
    cases.extend(
        ["nats: {token: s3cr3t", "nats:\n  token: \"s3cr3t", "nats:\n token: s3cr3t: x", "s3cr3t"]
            .map(|text| Settings::builder().text("a.yml", Format::Yaml, text)),
    );
    #[cfg(feature = "toml")]
    cases.extend(
        ["[nats]\ntoken = 's3cr3t", "[nats]\ntoken = s3cr3t", "nats.token = 's3cr3t' x"]
            .map(|text| Settings::builder().text("a.toml", Format::Toml, text)),
    );
    for (i, case) in cases.into_iter().enumerate() {
        let error = case.build().expect_err(&format!("case {i}"));
        let printed = format!("{error} {error:?} {error:#?}");
        assert!(!printed.contains(SECRET), "case {i}: {printed}");
        // The control: the error does say what it is about.
        assert!(printed.contains("NATS.") || printed.contains("a."), "case {i}: {printed}");
    }
    // The control: a value that is no secret is shown.
    let error = lines("NATS.SERVER=nats://s3cr3t:port").build().unwrap_err();
    assert!(error.to_string().contains(SECRET), "{error}");
    let error = lines("NATS.SERIALIZER=s3cr3t").build().unwrap_err();
    assert!(error.to_string().contains(SECRET), "{error}");
}
