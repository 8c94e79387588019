//! What stands around calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_connector::rpc::{
    self, Endpoint, Interceptor, Next, RawCall, Reply, Request, RpcError, Served, code,
};
use testkit::Server;

use crate::{Get, PATIENCE, Profile, connect, find, get, get_profile, profiles, serve, serve_with};

type Log = Arc<Mutex<Vec<String>>>;

/// Writes down what it sees on the way in and out.
fn logged(log: &Log, name: &'static str) -> impl Interceptor {
    let log = log.clone();
    move |mut call: RawCall, next: Next| {
        let log = log.clone();
        async move {
            let about = format!("{name} {}.{} {:?}", call.service(), call.method(), call.kind());
            log.lock().unwrap().push(about);
            let trace = call.header("Trace").unwrap_or_default().to_owned() + name;
            call.set_header("Trace", &trace)?;
            let mut ended = next.run(call).await;
            let code = ended.as_ref().map_or_else(|error| error.code().to_owned(), |_| "OK".into());
            log.lock().unwrap().push(format!("{name} {code}"));
            if let Ok(served) = &mut ended
                && let Some(reply) = served.reply_mut()
            {
                let seen = reply.headers().and_then(|it| it.get("Seen"));
                let seen = seen.map_or("", |it| it.as_str()).to_owned() + name;
                reply.set_header("Seen", &seen)?;
            }
            ended
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_stand_around_calls_at_both_sides_in_order() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let log = Log::default();
    let traced = Arc::new(Mutex::new(String::new()));
    let seen = traced.clone();
    let endpoint = Endpoint::unary(&get_profile(), move |request: Request<Get>| {
        let trace = request.headers().get("Trace").map(|it| it.as_str().to_owned());
        *seen.lock().unwrap() = trace.unwrap_or_default();
        find(request)
    });
    connector
        .rpc()
        .service(profiles())
        .intercept(logged(&log, "c"))
        .endpoint(endpoint.intercept(logged(&log, "d")).intercept(logged(&log, "e")))
        .serve()
        .await
        .unwrap();
    let client = connector.rpc().client(profiles());
    let client = client.intercept(logged(&log, "a")).intercept(logged(&log, "b"));
    let answer = client.call(&get_profile(), get("1")).await.unwrap();
    assert_eq!(*traced.lock().unwrap(), "abcde");
    assert_eq!(answer.headers().get("Seen").unwrap().as_str(), "edcba");
    let way = |code: &str| -> Vec<String> {
        let inwards = "abcde".chars().map(|name| format!("{name} profiles.get_profile Unary"));
        inwards.chain("edcba".chars().map(|name| format!("{name} {code}"))).collect()
    };
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), way("OK"));
    client.call(&get_profile(), get("nobody")).await.unwrap_err();
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), way("NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn they_refuse_and_answer_and_panic_without_harm() {
    async fn guard(call: RawCall, next: Next) -> rpc::Result<Served> {
        match call.header("Do") {
            Some("refuse") => Err(RpcError::new(code::UNAUTHENTICATED, "who are you")),
            Some("answer") => Ok(Reply::new(r#"{"id":"0","name":"from outside"}"#).into()),
            Some("panic") => panic!("in an interceptor"),
            Some("twice") => {
                let first = next.clone().run(call.clone()).await;
                assert!(first.is_ok());
                next.run(call).await
            }
            Some("status") => {
                let mut served = next.run(call).await?;
                served.reply_mut().unwrap().set_header("Status", "x")?;
                Ok(served)
            }
            _ => next.run(call).await,
        }
    }
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let endpoint = Endpoint::unary(&get_profile(), find).intercept(guard).concurrency(1);
    let service = serve_with(&connector.rpc(), endpoint).await;
    let client = connector.rpc().client(profiles());
    let call = |what: &str| client.call(&get_profile(), get("1")).header("Do", what);
    let error = call("refuse").await.unwrap_err();
    assert_eq!((error.code(), error.message()), ("UNAUTHENTICATED", "who are you"));
    assert_eq!(call("answer").await.unwrap().get().name, "from outside");
    let error = call("panic").await.unwrap_err();
    assert_eq!((error.code(), error.message()), ("INTERNAL", "the handler panicked"));
    assert_eq!(call("twice").await.unwrap().get().name, "Ann 1");
    assert!(call("status").await.unwrap_err().is(code::INVALID_ARGUMENT));
    call("").await.unwrap();
    assert_eq!(service.stats().endpoints[0].data["panics"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limits_hold_with_them() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    let log = Log::default();
    let stuck = get_profile().timeout(Duration::from_millis(100));
    let pending = |_: Request<Get>| std::future::pending::<rpc::Result<Profile>>();
    let endpoint = Endpoint::unary(&stuck, pending).intercept(logged(&log, "a"));
    let service = serve_with(&connector.rpc(), endpoint).await;
    let client = connector.rpc().client(profiles());
    let error = client.call(&get_profile(), get("1")).await.unwrap_err();
    assert!(error.is(code::DEADLINE_EXCEEDED) && error.is_remote());
    assert_eq!(log.lock().unwrap().last().unwrap(), "a DEADLINE_EXCEEDED");
    service.drain().timeout(PATIENCE).await.unwrap();

    // One that never goes on is bounded too, at either side.
    let never = |_: RawCall, _: Next| std::future::pending::<rpc::Result<Served>>();
    let endpoint = Endpoint::unary(&stuck, find).intercept(never);
    let service = serve_with(&connector.rpc(), endpoint).await;
    let error = client.call(&get_profile(), get("1")).await.unwrap_err();
    assert!(error.is(code::DEADLINE_EXCEEDED) && error.is_remote());
    service.drain().timeout(PATIENCE).await.unwrap();
    serve(&connector.rpc()).await;
    let client = client.intercept(never);
    let call = client.call(&get_profile(), get("1")).timeout(Duration::from_millis(50));
    let error = call.await.unwrap_err();
    assert!(error.is(code::DEADLINE_EXCEEDED) && !error.is_remote());
}
