//! Methods that stream, told by their types alone.

use futures::StreamExt;
use nats_connector::rpc::{self, Receiver, Request, Response, RpcError, Sender, code};
use nats_connector::{Connector, service};
use testkit::Server;

use super::connect;

#[service(prefix = "api.sums")]
trait Sums {
    /// Counts up to a number, and fails at 13.
    #[rpc(window = 8)]
    async fn count(&self, to: u64, out: Sender<u64>) -> rpc::Result<()>;

    /// What the request's header says, twice.
    async fn twice(&self, request: Request<()>, out: Sender<String>) -> rpc::Result<()>;

    async fn hello(&self, mut out: Sender<String>) -> rpc::Result<()> {
        out.send("hello".to_owned()).await
    }

    async fn sum(&self, numbers: Receiver<u64>) -> rpc::Result<u64>;

    /// The greatest, which has a name.
    #[rpc(name = "greatest")]
    async fn max(&self, numbers: Request<Receiver<u64>>) -> rpc::Result<Response<u64>>;

    /// The sums so far.
    async fn sums(&self, numbers: Receiver<u64>, out: Sender<u64>) -> rpc::Result<()>;
}

struct It;

impl Sums for It {
    async fn count(&self, to: u64, mut out: Sender<u64>) -> rpc::Result<()> {
        for number in 1..=to {
            if number == 13 {
                return Err(RpcError::new("UNLUCKY", "thirteen"));
            }
            out.send(number).await?;
        }
        Ok(())
    }

    async fn twice(&self, request: Request<()>, mut out: Sender<String>) -> rpc::Result<()> {
        let word = request.headers().get("word").map(|it| it.as_str().to_owned());
        let word = word.ok_or_else(|| RpcError::invalid_argument("no word"))?;
        out.send(word.clone()).await?;
        out.send(word).await
    }

    async fn sum(&self, mut numbers: Receiver<u64>) -> rpc::Result<u64> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(sum)
    }

    async fn max(&self, numbers: Request<Receiver<u64>>) -> rpc::Result<Response<u64>> {
        let name = numbers.headers().get("name").map(|it| it.as_str().to_owned());
        let mut numbers = numbers.into_inner();
        let mut max = 0;
        while let Some(number) = numbers.next().await {
            max = max.max(number?);
        }
        Ok(Response::new(max).header("name", &name.unwrap_or_default())?)
    }

    async fn sums(&self, mut numbers: Receiver<u64>, mut out: Sender<u64>) -> rpc::Result<()> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
            out.send(sum).await?;
        }
        Ok(())
    }
}

async fn every_way(connector: &Connector) {
    let service = SumsServer::new(It).service(&connector.rpc()).serve().await.unwrap();
    let client = SumsClient::new(&connector.rpc());

    let counted: Vec<_> = client.count(10).await.unwrap().collect().await;
    let counted: Vec<_> = counted.into_iter().map(Result::unwrap).collect();
    assert_eq!(counted, (1..=10).collect::<Vec<_>>());
    let mut counting = client.count(100).await.unwrap();
    for number in 1..13 {
        assert_eq!(counting.next().await.unwrap().unwrap(), number);
    }
    assert!(counting.next().await.unwrap().unwrap_err().is("UNLUCKY"));
    assert!(counting.next().await.is_none());

    let words = client.twice(()).header("word", "x").await.unwrap();
    assert_eq!(words.map(Result::unwrap).collect::<Vec<_>>().await, ["x", "x"]);
    let mut words = client.twice(()).await.unwrap();
    assert!(words.next().await.unwrap().unwrap_err().is(code::INVALID_ARGUMENT));
    assert_eq!(client.hello().await.unwrap().next().await.unwrap().unwrap(), "hello");

    let mut sum = client.sum().await.unwrap();
    for number in 1..=100 {
        sum.send(number).await.unwrap();
    }
    assert_eq!(sum.finish().await.unwrap().into_inner(), 5_050);
    let mut max = client.max().header("name", "peak").await.unwrap();
    for number in [3, 9, 4] {
        max.send(number).await.unwrap();
    }
    let max = max.finish().await.unwrap();
    assert_eq!(max.headers().get("name").map(|it| it.as_str()), Some("peak"));
    assert_eq!(max.into_inner(), 9);

    let (mut numbers, mut sums) = client.sums().await.unwrap();
    for (number, sum) in [(1, 1), (2, 3), (3, 6)] {
        numbers.send(number).await.unwrap();
        assert_eq!(sums.next().await.unwrap().unwrap(), sum);
    }
    numbers.finish().await.unwrap();
    assert!(sums.next().await.is_none());
    service.drain().await.unwrap();
}

#[tokio::test]
async fn on_a_server() {
    let server = Server::builder().start().await;
    let connector = connect(&server).await;
    every_way(&connector).await;
}

#[tokio::test]
async fn in_process() {
    every_way(&Connector::memory()).await;
}
