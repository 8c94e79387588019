//! TLS, NKeys and JWTs.

use std::path::Path;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectOptions};
use testkit::{Authority, Certificate, NKey, Operator, Server};

const SOON: Duration = Duration::from_secs(60);

async fn connect(
    server: &Server,
    authority: &Path,
    client: Option<&Certificate>,
) -> Result<Client, ConnectError> {
    let mut options = ConnectOptions::new().add_root_certificates(authority.to_owned());
    if let Some(client) = client {
        let files = (client.certificate().to_owned(), client.key().to_owned());
        options = options.add_client_certificate(files.0, files.1);
    }
    options.connect(server.url()).await
}

#[track_caller]
fn assert_refused(outcome: Result<Client, ConnectError>, why: &str) {
    let error = format!("{:?}", outcome.unwrap_err());
    assert!(error.contains(why), "{why} is not in {error}");
}

#[tokio::test]
async fn tls_is_trusted_by_authority_host_and_date() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = Server::builder().tls(&authority.server()).start().await;
    assert!(good.url().starts_with("tls://"));
    connect(&good, &authority.file(), None).await.unwrap();
    assert_refused(connect(&good, &other.file(), None).await, "UnknownIssuer");

    for (bad, why) in [
        (authority.expired_server(), "Expired"),
        (authority.server_for("elsewhere.test"), "NotValidForName"),
    ] {
        let server = Server::builder().tls(&bad).start().await;
        assert_refused(connect(&server, &authority.file(), None).await, why);
    }
}

#[tokio::test]
async fn mutual_tls_wants_a_client_of_its_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server =
        Server::builder().tls(&authority.server()).client_certificates(&authority).start().await;
    let client = authority.client("app");
    connect(&server, &authority.file(), Some(&client)).await.unwrap();
    assert_refused(connect(&server, &authority.file(), None).await, "CertificateRequired");
    let foreign = connect(&server, &authority.file(), Some(&other.client("app"))).await;
    assert_refused(foreign, "UnknownCA");
}

#[tokio::test]
async fn tls_can_come_first() {
    let authority = Authority::new();
    let server = Server::builder().tls(&authority.server()).tls_first().start().await;
    let options = || ConnectOptions::new().add_root_certificates(authority.file());
    options().tls_first().connect(server.url()).await.unwrap();
    let late = options().connection_timeout(Duration::from_secs(1));
    late.connect(server.url()).await.unwrap_err();
}

#[tokio::test]
async fn an_nkey_is_asked_for() {
    let (known, unknown) = (NKey::new(), NKey::new());
    let server = Server::builder().nkey(&known.public).start().await;
    ConnectOptions::with_nkey(known.seed).connect(server.url()).await.unwrap();
    ConnectOptions::with_nkey(unknown.seed).connect(server.url()).await.unwrap_err();
    async_nats::connect(server.url()).await.unwrap_err();
}

#[tokio::test]
async fn credentials_are_believed_if_the_account_signed_them() {
    let (operator, stranger) = (Operator::new(), Operator::new());
    let server = Server::builder().jetstream().operator(&operator).start().await;
    let connect = async |credentials: String| {
        ConnectOptions::with_credentials(&credentials).unwrap().connect(server.url()).await
    };
    for user in ["one", "two"] {
        let client = connect(operator.credentials(user)).await.unwrap();
        async_nats::jetstream::new(client).query_account().await.unwrap();
    }
    connect(stranger.credentials("one")).await.unwrap_err();
    async_nats::connect(server.url()).await.unwrap_err();
}

#[tokio::test]
async fn credentials_can_expire() {
    let operator = Operator::new();
    let server = Server::builder().operator(&operator).start().await;
    let short = operator.credentials_for("short", Duration::from_secs(2));
    let options = || ConnectOptions::with_credentials(&short).unwrap();
    options().connect(server.url()).await.unwrap();
    testkit::eventually(SOON, || async { options().connect(server.url()).await.is_err() }).await;
}
