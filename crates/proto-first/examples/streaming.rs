//! Streams in each direction: numbers that are counted, numbers that are added, a chat.
//!
//! The service is in `proto/stream_demo/v1/service.proto`; `build.rs` makes the code. A sender is held
//! back while its reader is slow, and a reader gets every item or an error, never a part.
//!
//! ```text
//! cargo run -p proto-first --example streaming      # against a server
//! cargo test -p proto-first --example streaming     # in memory
//! ```

#![expect(clippy::print_stdout, reason = "the output is what it is for")]

use std::error::Error;

use nats_connector::rpc::{self, Receiver, Request, Response, RpcError, Sender};
use nats_connector::{Connector, shutdown};
use proto_first::proto::stream_demo::v1::{
    ChatMessage, CountUpRequest, CountUpResponse, PingRequest, PingResponse, StreamDemoService,
    StreamDemoServiceClient, StreamDemoServiceServer, SumRequest, SumResponse,
};

struct Streams;

impl StreamDemoService for Streams {
    async fn ping(&self, request: Request<PingRequest>) -> rpc::Result<Response<PingResponse>> {
        Ok(PingResponse { text: request.into_inner().text }.into())
    }

    async fn count_up(
        &self,
        request: Request<CountUpRequest>,
        mut responses: Sender<CountUpResponse>,
    ) -> rpc::Result<()> {
        let until = request.get().until;
        if until < 0 {
            return Err(RpcError::invalid_argument("until is negative"));
        }
        for number in 1..=until {
            responses.send(CountUpResponse { number }).await?;
        }
        Ok(())
    }

    async fn sum(
        &self,
        requests: Request<Receiver<SumRequest>>,
    ) -> rpc::Result<Response<SumResponse>> {
        let mut requests = requests.into_inner();
        let mut sum = SumResponse::default();
        while let Some(request) = requests.next().await {
            sum.total += request?.value;
            sum.count += 1;
        }
        Ok(sum.into())
    }

    async fn chat(
        &self,
        requests: Request<Receiver<ChatMessage>>,
        mut responses: Sender<ChatMessage>,
    ) -> rpc::Result<()> {
        let mut requests = requests.into_inner();
        while let Some(message) = requests.next().await {
            let ChatMessage { user, text } = message?;
            responses.send(ChatMessage { user, text: format!("you said: {text}") }).await?;
        }
        Ok(())
    }
}

async fn run(nats: &Connector) -> Result<(), Box<dyn Error>> {
    let rpc = nats.rpc();
    let service = StreamDemoServiceServer::new(Streams).service(&rpc).serve().await?;
    let client = StreamDemoServiceClient::new(&rpc);

    let mut numbers = client.count_up(CountUpRequest { until: 1_000 }).await?;
    let mut last = 0;
    while let Some(item) = numbers.next().await {
        let number = item?.number;
        assert_eq!(number, last + 1);
        last = number;
    }
    println!("counted to {last}");
    assert_eq!(last, 1_000);

    let mut sum = client.sum().await?;
    for value in [10, 20, 30] {
        sum.send(SumRequest { value }).await?;
    }
    let sum = sum.finish().await?.into_inner();
    println!("{} numbers are {}", sum.count, sum.total);
    assert_eq!((sum.count, sum.total), (3, 60));

    let (mut say, mut hear) = client.chat().await?;
    for text in ["hello", "are you there?"] {
        say.send(ChatMessage { user: "ada".to_owned(), text: text.to_owned() }).await?;
        let answer = hear.next().await.ok_or("the chat goes on")??;
        println!("{text} -> {}", answer.text);
        assert_eq!(answer.text, format!("you said: {text}"));
    }
    say.finish().await?;
    assert!(hear.next().await.is_none());

    // An error comes behind what was sent before it, and is never taken for the end.
    let mut refused = client.count_up(CountUpRequest { until: -1 }).await?;
    let error = refused.next().await.ok_or("an error is no end")?.err().ok_or("-1 is refused")?;
    println!("-1: {error}");
    assert!(error.is(rpc::code::INVALID_ARGUMENT));

    service.drain().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nats = nats_connector::register().await?;
    run(&nats).await?;
    shutdown::trigger();
    std::process::exit(shutdown::wait().await.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_go_each_way() {
        run(&Connector::memory()).await.unwrap();
    }

    #[tokio::test]
    async fn on_a_server_too() {
        let server = testkit::Server::builder().start().await;
        let settings = nats_connector::Settings::builder()
            .set("NATS.SERVER", server.url())
            .set("NATS.REQUEST_TIMEOUT", "30s");
        run(&Connector::connect(&settings.build().unwrap()).await.unwrap()).await.unwrap();
    }
}
