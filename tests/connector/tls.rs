//! TLS in all its ways, WebSocket, and errors that say that it is TLS.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nats_connector::{Connector, ErrorKind};
use testkit::{Authority, Certificate, Proxy, Server, ServerBuilder, eventually};

use crate::{LONG, connect, refused};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn works(pairs: &[(&str, &str)]) -> Connector {
    let connector = connect(pairs).await;
    connector.pubsub().flush().await.unwrap();
    connector
}

/// No connection, and the error says that TLS is why, with `parts` of the reason and the advice.
async fn tls_fails(pairs: &[(&str, &str)], parts: &[&str]) {
    let error = refused(pairs).await;
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{message}");
    for part in [&["TLS failed"], parts].concat() {
        assert!(message.contains(part), "{message} lacks {part}");
    }
}

#[tokio::test]
async fn the_authority_in_tls_ca_is_trusted_and_no_other() {
    let authority = Authority::new();
    let server = Server::builder().tls(&authority.server()).start().await;
    let (tls, ca) = (server.url(), authority.file());
    let plain = tls.replace("tls://", "nats://");
    for url in [&tls, &plain] {
        works(&[("SERVER", url), ("TLS_CA", text(&ca))]).await;
        works(&[("SERVER", url), ("TLS_CA", text(&ca)), ("TLS_REQUIRED", "true")]).await;
    }
    let stranger = Authority::new();
    let other = stranger.file();
    tls_fails(&[("SERVER", &tls), ("TLS_CA", text(&other))], &["UnknownIssuer", "NATS.TLS_CA"])
        .await;
    tls_fails(&[("SERVER", &tls)], &["UnknownIssuer", "NATS.TLS_CA"]).await;
}

#[tokio::test]
async fn expired_certificates_and_other_hosts_are_refused() {
    let authority = Authority::new();
    let ca = authority.file();
    let refuses = async |certificate: &Certificate, reason: &str| {
        let server = Server::builder().tls(certificate).start().await;
        tls_fails(&[("SERVER", &server.url()), ("TLS_CA", text(&ca))], &[reason, "NATS.TLS_CA"])
            .await;
    };
    refuses(&authority.expired_server(), "expired").await;
    refuses(&authority.server_for("elsewhere.example"), "not valid for name").await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let server = Server::builder().user("ann", "pw").start().await;
    let proxy = Proxy::start(server.address());
    let user = [("USERNAME", "ann"), ("PASSWORD", "pw")];
    let url = proxy.url();
    let required = [&[("SERVER", url.as_str()), ("TLS_REQUIRED", "true")], &user[..]].concat();
    let advice = ["the server answers without TLS", "NATS.TLS_REQUIRED", "NATS.SERVER"];
    tls_fails(&required, &advice).await;
    let url = url.replace("nats://", "tls://");
    tls_fails(&[&[("SERVER", url.as_str())], &user[..]].concat(), &advice).await;
}

#[tokio::test]
async fn mutual_tls() {
    let authority = Authority::new();
    let server = Server::builder().tls(&authority.server()).client_certificates(&authority);
    let server = server.start().await;
    let (url, ca) = (server.url(), authority.file());
    let known = authority.client("ann");
    let base = [("SERVER", url.as_str()), ("TLS_CA", text(&ca))];
    let with = |certificate: &Certificate| {
        [("TLS_CERT", certificate.certificate()), ("TLS_KEY", certificate.key())]
            .map(|(key, path)| (key, text(path).to_owned()))
    };
    let known = with(&known);
    let known = known.each_ref().map(|(key, path)| (*key, path.as_str()));
    works(&[&base[..], &known[..]].concat()).await;

    for _ in 0..5 {
        tls_fails(&base, &["NATS.TLS_CERT"]).await;
    }
    let others = Authority::new();
    let stranger = with(&others.client("eve"));
    let stranger = stranger.each_ref().map(|(key, path)| (*key, path.as_str()));
    tls_fails(&[&base[..], &stranger[..]].concat(), &["NATS.TLS_CERT"]).await;
}

#[tokio::test]
async fn tls_first_on_both_sides_or_an_error_that_names_it() {
    let authority = Authority::new();
    let ca = authority.file();
    let first = Server::builder().tls(&authority.server()).tls_first().start().await;
    let usual = Server::builder().tls(&authority.server()).start().await;
    let (first_url, usual_url) = (first.url(), usual.url());
    let base = [("TLS_CA", text(&ca)), ("CONNECT_TIMEOUT", "20s")];
    let to = |url| [&[("SERVER", url)], &base[..]].concat();
    let tls_first = |url| [&[("TLS_FIRST", "true")], &to(url)[..]].concat();
    works(&tls_first(&first_url)).await;

    let error = refused(&to(&first_url)).await.to_string();
    assert!(error.contains("NATS.TLS_FIRST"), "{error}");
    tls_fails(&tls_first(&usual_url), &["answers without TLS", "NATS.TLS_FIRST"]).await;
}

#[tokio::test]
async fn files_without_certificates_or_keys_are_named_before_any_connect() {
    let authority = Authority::new();
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        text(&path).to_owned()
    };
    let client = authority.client("ann");
    let (cert, key) = (text(client.certificate()), text(client.key()));
    let empty = file("empty.pem", "");
    let damaged = file("bad.pem", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    let missing = text(&folder.path().join("missing.pem")).to_owned();
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case<'_>; 6] = [
        (&[("TLS_CA", &empty)], "TLS_CA", "no certificate found"),
        (&[("TLS_CA", key)], "TLS_CA", "no certificate found"),
        (&[("TLS_CA", &damaged)], "TLS_CA", "damaged"),
        (&[("TLS_CA", &missing)], "TLS_CA", "cannot be read"),
        (&[("TLS_CERT", &empty), ("TLS_KEY", key)], "TLS_CERT", "no certificate found"),
        (&[("TLS_CERT", cert), ("TLS_KEY", cert)], "TLS_KEY", "no private key found"),
    ];
    let url = proxy.url();
    for (pairs, setting, expected) in cases {
        let error = refused(&[&[("SERVER", url.as_str())], pairs].concat()).await;
        assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
        let message = error.to_string();
        let (_, path) = pairs.iter().find(|(key, _)| *key == setting).unwrap();
        for part in [&format!("NATS.{setting}"), *path, expected] {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
    assert_eq!(proxy.accepted(), 0);
}

fn with_tls_websocket(certificate: &Certificate) -> ServerBuilder {
    Server::builder().config(&format!(
        "websocket {{ listen: \"127.0.0.1:-1\", tls {{ cert_file: {:?}, key_file: {:?} }} }}",
        certificate.certificate(),
        certificate.key()
    ))
}

#[tokio::test]
async fn websocket_without_tls() {
    let mut server = Server::builder().websocket().user("ann", "pw").start().await;
    let url = server.websocket_url();
    let base = [("SERVER", url.as_str()), ("RECONNECT_WAIT", "50ms"), ("MAX_RECONNECT", "-1")];
    let right = [("USERNAME", "ann"), ("PASSWORD", "pw")];
    let connector = works(&[&base[..], &right[..]].concat()).await;
    server.restart().await;
    eventually(LONG, || async { connector.pubsub().flush().await.is_ok() }).await;

    let wrong = [("USERNAME", "ann"), ("PASSWORD", "nope")];
    let error = refused(&[&base[..], &wrong[..]].concat()).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");

    let error = refused(&[&base[..], &[("TLS_REQUIRED", "true")]].concat()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
    let message = error.to_string();
    assert!(message.contains("NATS.TLS_REQUIRED") && message.contains("wss"), "{message}");
}

#[tokio::test]
async fn websocket_over_tls() {
    let authority = Authority::new();
    let server = with_tls_websocket(&authority.server()).start().await;
    let (url, ca) = (server.websocket_url().replace("ws://", "wss://"), authority.file());
    works(&[("SERVER", &url), ("TLS_CA", text(&ca))]).await;
    works(&[("SERVER", &url), ("TLS_CA", text(&ca)), ("TLS_REQUIRED", "true")]).await;
    let stranger = Authority::new();
    let other = stranger.file();
    tls_fails(&[("SERVER", &url), ("TLS_CA", text(&other))], &["UnknownIssuer", "NATS.TLS_CA"])
        .await;
}

#[tokio::test]
async fn a_server_that_renews_its_certificate_is_reconnected_to() {
    let authority = Authority::new();
    let mut server = Server::builder().tls(&authority.server()).start().await;
    let ca = authority.file();
    let connector = works(&[
        ("SERVER", &server.url()),
        ("TLS_CA", text(&ca)),
        ("RECONNECT_WAIT", "50ms"),
        ("MAX_RECONNECT", "-1"),
        ("REQUEST_TIMEOUT", "2s"),
    ])
    .await;
    server.kill().await;
    eventually(LONG, || async { !connector.health().await.is_ready() }).await;
    server.restart().await;
    eventually(LONG, || async { connector.health().await.is_ready() }).await;
    assert!(connector.health().await.round_trip.unwrap() < Duration::from_secs(2));
}
