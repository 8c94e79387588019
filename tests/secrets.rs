//! No secret is ever logged or printed, at any level and by any crate, nor are payloads, message ids
//! and values of headers by this one. One test, in a process of its own: everything that the process
//! logs is captured.

use std::fmt::Write as _;
use std::fs;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use nats_connector::layers::{Dedupe, Retry, Timeout, Traced};
use nats_connector::pubsub::driver::ConsumerConfig;
use nats_connector::pubsub::{Message, Outcome, Outgoing, Publish};
use nats_connector::rpc::{
    self, Endpoint, Method, Next, RawCall, Request, Response, RpcError, Served, ServiceConfig,
};
use nats_connector::streams::StreamConfig;
use nats_connector::{Connector, Error, Settings};
use testkit::logs::Logs;
use testkit::{Authority, NKey, Operator, Server};

/// Something of each kind that must not be seen, and something that must.
const PASSWORD: &str = "pass-of-Ann-7f3a";
const WRONG: &str = "wrong-word-91bc";
const TOKEN: &str = "token-of-all-52de";
const IN_URL: &str = "userinfo-word-08ef";
const CONTROL: &str = "control-name-c0de";

/// What messages have.
const PAYLOAD: &str = "payload-word-3ab1";
const MESSAGE_ID: &str = "message-id-77dd";
const HEADER: &str = "header-value-e19c";

const PATIENCE: Duration = Duration::from_secs(30);

/// All that was printed of values.
#[derive(Default)]
struct Printed(String);

impl Printed {
    fn add(&mut self, value: &dyn std::fmt::Debug) {
        write!(self.0, "{value:?}\n{value:#?}\n").unwrap();
    }
}

impl Printed {
    fn add_error(&mut self, error: &Error) {
        self.add(error);
        writeln!(self.0, "{error}").unwrap();
    }
}

/// A message with everything that is to be seen nowhere.
fn told<D>(publish: Publish<D>) -> Publish<D> {
    publish.header("Customer", HEADER)
}

/// Durable messaging with all its parts, of which all that can be printed is.
async fn durable(printed: &mut Printed, connector: &Connector) {
    let pubsub = connector.pubsub();
    let order = || told(pubsub.publish("orders.created", PAYLOAD));
    let config = StreamConfig::new("ORDERS", ["orders.*"])
        .schedules(true)
        .fast_ingest(true)
        .atomic_publish(true);
    let call = pubsub.stream(config);
    printed.add(&call);
    printed.add(&call.await.unwrap());
    printed.add(&pubsub.streams().status("ORDERS").await.unwrap());

    // Published: one, many in each way, later; and what fails.
    let call = order().jetstream().message_id(MESSAGE_ID);
    printed.add(&call);
    printed.add(&call.await.unwrap());
    printed.add(&Outgoing::from(order().jetstream().message_id(MESSAGE_ID)));
    printed.add(&Outgoing::from(order()));
    let expected = order().jetstream().message_id(MESSAGE_ID.to_owned() + "2");
    printed.add_error(&expected.expect_last_sequence(77).await.unwrap_err());
    for count in [10, 1_000] {
        let many = (0..count).map(|_| order());
        let call = pubsub.publish_many(many.collect::<Vec<_>>()).message_ids(MESSAGE_ID);
        let call = call.without_fast_ingest();
        printed.add(&call);
        printed.add(&call.await.unwrap());
    }
    let fast = pubsub.publish_many((0..1_000).map(|_| order()).collect::<Vec<_>>());
    printed.add(&fast.await.unwrap());
    let atomic = pubsub.publish_many([order(), order()]).all_or_nothing();
    printed.add(&atomic.await.unwrap());
    let nowhere = told(pubsub.publish("nowhere", PAYLOAD)).jetstream().message_id(MESSAGE_ID);
    let report = pubsub.publish_many([Outgoing::from(nowhere)]).await.unwrap();
    assert_eq!(report.failed, 1);
    printed.add(&report);
    printed.add_error(&report.into_result().unwrap_err());
    let later = order().after(Duration::from_secs(3600)).name("one");
    printed.add(&later);
    let scheduled = later.await.unwrap();
    printed.add(&scheduled);
    assert!(scheduled.cancel().await.unwrap());
    printed.add_error(&order().cron("never").await.unwrap_err());

    // As drivers have them.
    let driver = pubsub.driver().unwrap();
    let streams = driver.streams().unwrap();
    let soon = || tokio::time::Instant::now() + PATIENCE;
    let stored = streams.message_from("ORDERS", "orders.created", 1, soon()).await.unwrap();
    printed.add(&stored.unwrap());
    let looker = ConsumerConfig::new("ORDERS", "looker");
    let mut consuming = streams.consume(&looker, false, soon()).await.unwrap();
    printed.add(&consuming);
    let delivery = std::future::poll_fn(|cx| consuming.deliveries.poll_next(1, cx)).await;
    printed.add(&delivery.unwrap());
    consuming.deliveries.close().await;
    assert!(pubsub.streams().delete_consumer("ORDERS", "looker").await.unwrap());
    assert!(pubsub.streams().purge("ORDERS").await.unwrap() > 2_000);

    // Handled behind every layer: done, undecodable, rejected, failing.
    let bucket = connector.kv().bucket("seen");
    bucket.set("other", &1).await.unwrap();
    let handler = |message: Message| async move {
        match message.header("What") {
            Some("number") => message.decode::<u32>().map(|_| Outcome::Ack),
            Some("reject") => Ok(Outcome::reject(CONTROL)),
            Some("fail") => Ok(Outcome::Retry(Some(Duration::from_millis(1)))),
            Some("panic") => panic!("the handler cannot"),
            _ => message.decode::<String>().map(|_| Outcome::Ack),
        }
    };
    let dedupe = Dedupe::new(bucket, "billing");
    let call = pubsub
        .subscribe("orders.*", handler)
        .layer(Timeout::new(PATIENCE))
        .layer(dedupe.clone())
        .layer(Retry::times(2).backoff(nats_connector::Backoff::fixed(Duration::from_millis(1))))
        .layer(Traced::new("billing"))
        .durable("billing")
        .max_deliver(2)
        .backoff_by(|_| Duration::from_millis(1));
    printed.add(&call);
    let billing = call.await.unwrap();
    for (n, what) in ["ok", "number", "reject", "fail", "panic"].into_iter().enumerate() {
        let id = format!("{MESSAGE_ID}-{n}-{what}");
        order().header("What", what).jetstream().message_id(id).await.unwrap();
    }
    testkit::eventually(PATIENCE, || async {
        let stats = billing.stats();
        stats.handled >= 1 && stats.dead == 4
    })
    .await;
    printed.add(&billing);
    printed.add(&billing.stats());
    printed.add(&dedupe);
    billing.drain().await.unwrap();

    let dead = pubsub.dead_letters("billing");
    let letters: Vec<_> = dead.list().await.unwrap().try_collect().await.unwrap();
    printed.add(&dead);
    printed.add(&letters);
    let number = letters.iter().find(|letter| letter.header("What") == Some("number")).unwrap();
    assert_eq!(number.decode::<String>().unwrap(), PAYLOAD);
    printed.add_error(&number.decode::<u32>().unwrap_err());
    writeln!(printed.0, "{}", number.cause()).unwrap();
    printed.add(&dead.replay(number.sequence()).await.unwrap());
    printed.add_error(&dead.replay(letters[3].sequence()).to("nowhere").await.unwrap_err());
    let report = dead.replay_all().to("nowhere").await.unwrap();
    assert_eq!(report.failed.len(), 3);
    printed.add(&report);
    assert_eq!(dead.discard_all().await.unwrap(), 3);
}

/// Calls that end in each way, of which all that can be printed is.
async fn calls(printed: &mut Printed, connector: &Connector) {
    async fn look(call: RawCall, next: Next) -> rpc::Result<Served> {
        tracing::info!(?call, ?next, "a call");
        let served = next.run(call).await;
        tracing::info!(?served, "has ended");
        served
    }
    let method = Method::<String, String>::json("tell");
    let endpoint = Endpoint::unary(&method, |request: Request<String>| async move {
        tracing::info!(?request, "served");
        let what = request.headers().get("What").map(|it| it.as_str().to_owned());
        match what.as_deref() {
            Some("fail") => {
                let error = RpcError::internal("cannot").with_body(PAYLOAD);
                Err(error.with_header("Customer", HEADER)?)
            }
            Some("panic") => panic!("the handler cannot"),
            Some("slow") => std::future::pending().await,
            _ => Ok(Response::new(request.into_inner()).header("Customer", HEADER)?),
        }
    });
    let endpoint = endpoint.timeout(Duration::from_millis(200)).intercept(look);
    let config = ServiceConfig::new("teller");
    printed.add(&endpoint);
    let builder = connector.rpc().service(config.clone()).endpoint(endpoint);
    printed.add(&builder);
    let service = builder.serve().await.unwrap();
    let client = connector.rpc().client(config.clone()).intercept(look);
    printed.add(&client);
    for what in ["tell", "fail", "panic", "slow"] {
        let call = client.call(&method, PAYLOAD.to_owned());
        let call = call.header("What", what).header("Customer", HEADER);
        printed.add(&call);
        match call.await {
            Ok(response) => printed.add(&response),
            Err(error) => {
                printed.add(&error);
                writeln!(printed.0, "{error}").unwrap();
            }
        }
    }
    // Neither side can read the other.
    let wrong = Method::<String, u32>::json("tell");
    printed.add(&client.call(&wrong, PAYLOAD.to_owned()).await.unwrap_err());
    let wrong = Method::<Vec<String>, String>::json("tell");
    printed.add(&client.call(&wrong, vec![PAYLOAD.to_owned()]).await.unwrap_err());
    let evil = client.call(&method, String::new()).header("Customer", &format!("{HEADER}\n"));
    printed.add(&evil);
    printed.add(&evil.await.unwrap_err());
    printed.add(&service);
    printed.add(&service.stats());
    printed.add(&service.info());
    printed.add(&service.health());
    assert_eq!(service.stats().endpoints[0].num_requests, 6);
    service.drain().await.unwrap();
}

/// An object with all that is told of it, of which all that can be printed is.
async fn objects(printed: &mut Printed, connector: &Connector) {
    let files = connector.objects().bucket("files");
    let put = files.put_bytes("a", PAYLOAD).header("Customer", HEADER).metadata("customer", HEADER);
    printed.add(&put);
    printed.add(&put.await.unwrap());
    let update = files.update("a").header("Customer", HEADER).metadata("customer", HEADER);
    printed.add(&update);
    printed.add(&update.await.unwrap());
    let evil = files.put_bytes("b", PAYLOAD).header("Customer", format!("{HEADER}\n"));
    printed.add(&evil);
    printed.add_error(&evil.await.unwrap_err());
    printed.add(&files.info("a").await.unwrap());
    let reader = files.reader("a").await.unwrap().expect("it is there");
    printed.add(&reader);
    assert_eq!(reader.read_all().await.unwrap(), PAYLOAD);
    let mut watcher = files.watch().await.unwrap();
    printed.add(&watcher);
    printed.add(&watcher.next().await);
    let typed = files.get::<u64>("a").await;
    printed.add_error(&typed.unwrap_err());
}

/// Connects, uses the connection, and prints everything on the way.
async fn visit(printed: &mut Printed, pairs: &[(&str, &str)]) -> bool {
    let builder = pairs.iter().fold(Settings::builder(), |builder, (key, value)| {
        builder.set(format!("NATS.{key}"), value)
    });
    let builder = builder.set("NATS.NAME", CONTROL).set("NATS.RECONNECT_WAIT", "10ms");
    printed.add(&builder);
    let settings = match builder.build() {
        Ok(settings) => settings,
        Err(error) => {
            printed.add(&error);
            printed.0 += &error.to_string();
            return false;
        }
    };
    printed.add(&settings);
    printed.add(settings.auth());
    write!(printed.0, "{}", settings.table()).unwrap();
    match Connector::connect(&settings).await {
        Ok(connector) => {
            printed.add(&connector);
            printed.add(&connector.pubsub());
            let ignore = |_: Message| async {};
            connector.pubsub().subscribe("a", ignore).await.unwrap();
            connector.pubsub().publish("a", "hello").await.unwrap();
            connector.client().unwrap().force_reconnect().await.unwrap();
            testkit::eventually(std::time::Duration::from_secs(60), || async {
                connector.health().await.is_ready()
            })
            .await;
            printed.add(&connector.health().await);
            printed.add(&*connector.capabilities().await.unwrap());
            printed.add(&connector.drain().await);
            true
        }
        Err(error) => {
            printed.add(&error);
            printed.0 += &error.to_string();
            false
        }
    }
}

#[tokio::test]
async fn no_secret_is_logged_or_printed() {
    let logs = Logs::global();
    let mut printed = Printed::default();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let operator = Operator::new();
    let key = NKey::new();
    let stranger = NKey::new();
    let (good, other) = (operator.credentials("app"), Operator::new().credentials("app"));
    let (good_creds, other_creds) = (file("good.creds", &good), file("other.creds", &other));
    let damaged = format!("{}X\n", key.seed);
    let (seed, bad_seed) = (file("user.nk", &key.seed), file("other.nk", &stranger.seed));
    let broken_seed = file("broken.nk", &damaged);

    let users = Server::builder().user("ann", PASSWORD).user("bob", IN_URL).start().await;
    let tokens = Server::builder().token(TOKEN).start().await;
    let nkeys = Server::builder().nkey(&key.public).start().await;
    let jwts = Server::builder().operator(&operator).start().await;
    let authority = Authority::new();
    let tls = Server::builder().tls(&authority.server()).user("ann", PASSWORD).start().await;
    let [users, tokens, nkeys, jwts, tls] = [&users, &tokens, &nkeys, &jwts, &tls].map(Server::url);
    let ca = authority.file();
    let ca = ca.to_str().unwrap();
    let with = |url: &str, userinfo: &str| url.replace("://", &format!("://{userinfo}@"));
    let (in_url, wrong_in_url) =
        (with(&users, &format!("bob:{IN_URL}")), with(&users, &format!("bob:{WRONG}")));
    let token_in_url = with(&tokens, TOKEN);
    let bad_url = with("nats://127.0.0.1:4222:4222", &format!("bob:{IN_URL}"));
    let two_users = format!("{in_url},{wrong_in_url}");

    let visits: [(bool, &[(&str, &str)]); 16] = [
        (true, &[("SERVER", &users), ("USERNAME", "ann"), ("PASSWORD", PASSWORD)]),
        (false, &[("SERVER", &users), ("USERNAME", "ann"), ("PASSWORD", WRONG)]),
        (false, &[("SERVER", &users), ("PASSWORD", PASSWORD)]),
        (true, &[("SERVER", &in_url)]),
        (false, &[("SERVER", &wrong_in_url)]),
        (false, &[("SERVER", &bad_url)]),
        (false, &[("SERVER", &two_users)]),
        (true, &[("SERVER", &token_in_url)]),
        (true, &[("SERVER", &tokens), ("TOKEN", TOKEN), ("USERNAME", "a"), ("PASSWORD", PASSWORD)]),
        (false, &[("SERVER", &tokens), ("TOKEN", WRONG)]),
        (true, &[("SERVER", &nkeys), ("NKEY_FILE", &seed)]),
        (false, &[("SERVER", &nkeys), ("NKEY_FILE", &bad_seed)]),
        (false, &[("SERVER", &nkeys), ("NKEY_FILE", &broken_seed)]),
        (true, &[("SERVER", &jwts), ("CREDENTIALS", &good_creds)]),
        (false, &[("SERVER", &jwts), ("CREDENTIALS", &other_creds)]),
        (true, &[("SERVER", &tls), ("TLS_CA", ca), ("USERNAME", "ann"), ("PASSWORD", PASSWORD)]),
    ];
    for (welcome, pairs) in visits {
        assert_eq!(visit(&mut printed, pairs).await, welcome, "{:?}", pairs.last().unwrap().0);
    }

    let streams = Server::builder().jetstream().user("ann", PASSWORD).start().await;
    let settings = Settings::builder()
        .set("NATS.SERVER", streams.url())
        .set("NATS.USERNAME", "ann")
        .set("NATS.PASSWORD", PASSWORD)
        .build()
        .unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    durable(&mut printed, &connector).await;
    calls(&mut printed, &connector).await;
    objects(&mut printed, &connector).await;
    connector.drain().await;

    // What is captured is really everything: names are there, and the client's own words.
    let logged = logs.text();
    assert!(printed.0.contains(CONTROL));
    tracing::trace!(password = CONTROL, "proof that the capture would see one");
    assert!(logs.text().contains(CONTROL));
    assert!(logged.contains("TRACE") && logged.contains("async_nats"));

    let line = |text: &str, begin: &str| {
        let mut lines = text.lines();
        lines.find(|line| line.starts_with(begin)).expect("a line of its own").to_owned()
    };
    let mut secrets = [PASSWORD, WRONG, TOKEN, IN_URL, damaged.trim()].map(str::to_owned).to_vec();
    for seed in [&key.seed, &stranger.seed, &line(&good, "SU"), &line(&other, "SU")] {
        secrets.push(seed.clone());
        // Nor a good part of one.
        secrets.push(seed[4..24].to_owned());
    }
    secrets.extend([line(&good, "eyJ"), line(&other, "eyJ")]);
    assert_nowhere(&secrets, &logged, &printed.0);

    // The client itself traces whole messages, which proves that the capture would see them.
    let own = |line: &&str| !line.contains(" TRACE async_nats::");
    let (ours, theirs): (Vec<&str>, Vec<&str>) = logged.lines().partition(own);
    let messages = [PAYLOAD, MESSAGE_ID, HEADER].map(str::to_owned);
    for word in &messages {
        assert!(theirs.iter().any(|line| line.contains(word.as_str())), "{word}");
    }
    assert!(ours.iter().any(|line| line.contains("a message is a dead letter now")));
    // A span of the layer for traces has the message id, as its conventions ask for.
    let ours = ours.join("\n");
    let in_span = format!("messaging.message.id=\"{MESSAGE_ID}");
    assert!(ours.contains(&in_span));
    assert_nowhere(&messages, &ours.replace(&in_span, ""), &printed.0);
}

fn assert_nowhere(words: &[String], logged: &str, printed: &str) {
    for (number, word) in words.iter().enumerate() {
        for (place, text) in [("log", logged), ("print", printed)] {
            let found = text.lines().find(|line| line.contains(word.as_str()));
            let shown = found.map(|line| line.replace(word.as_str(), "<SECRET>"));
            assert_eq!(shown, None, "secret {number} in a {place}");
        }
    }
}
