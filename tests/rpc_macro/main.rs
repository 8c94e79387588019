//! Services made of traits.

use nats_connector::rpc::{self, service, Request, Response};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Customer { pub id: u64 }
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetOrder { pub id: String, pub customer: Customer, pub r#type: bool }
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order { pub id: String }

/// Orders.
#[service(name = "orders", prefix = "api.v1", version = "1.2.0", description = "what is \"ordered\"", timeout = "5s", metadata(team = "billing"))]
pub trait Orders {
    /// One order.
    #[rpc(timeout = "2s", metadata("x-y" = "z", type = "v"), concurrency = 8, kv(bucket = "orders", key = "order.{customer.id}.{id}.{type}", ttl = "1h", history = 5, max_bytes = "64MiB", storage = "memory", escape))]
    async fn get_order(&self, req: GetOrder) -> rpc::Result<Order>;

    /// The same with headers.
    #[cfg(not(windows))]
    async fn with_headers(&self, req: Request<GetOrder>) -> Result<Response<Order>, std::io::Error> {
        Ok(Order { id: req.into_inner().id }.into())
    }

    async fn ping(&self) -> rpc::Result<()>;

    #[rpc(skip)]
    fn helper(&self) -> u32 { 5 }
}

#[test]
fn it() {
    println!("{:?} {:?}", OrdersMethods::new(), OrdersMethods::config());
}
