//! A service of a trait: calls, a stream, errors, and responses that are kept, so that they can be
//! read when the service is down.
//!
//! ```text
//! cargo run --example rpc_orders --features macros      # against nats-server with JetStream
//! cargo test --example rpc_orders --features macros     # in memory
//! ```

#![cfg_attr(not(test), expect(clippy::print_stdout, reason = "an example talks to its user"))]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nats_connector::rpc::{self, Request, Response, RpcError, Sender};
use nats_connector::{BoxError, Connector, service};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Customer {
    id: u64,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: Customer,
    total: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    customer: Customer,
    total: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct GetOrder {
    customer: u64,
    id: u64,
}

/// The orders of a shop. Who serves it and who calls it share this trait, mostly by a crate.
#[service(name = "orders", prefix = "shop.orders", version = "1.0.0", timeout = "5s")]
trait Orders {
    /// Takes an order. The header `voucher` makes it cheaper.
    async fn place(&self, req: Request<Place>) -> rpc::Result<Response<Order>>;

    /// One order. The answer is kept for an hour before it goes out.
    #[rpc(kv(
        bucket = "orders",
        key = "order.{customer}.{id}",
        ttl = "1h",
        policy = "before_reply"
    ))]
    async fn get_order(&self, req: GetOrder) -> rpc::Result<Order>;

    /// All orders of a customer, one after another.
    #[rpc(window = 16)]
    async fn list(&self, customer: u64, out: Sender<Order>) -> rpc::Result<()>;
}

/// What answers the calls.
#[derive(Default)]
struct Shop {
    orders: Mutex<BTreeMap<u64, Order>>,
}

impl Orders for Shop {
    async fn place(&self, req: Request<Place>) -> rpc::Result<Response<Order>> {
        let has_voucher = req.headers().get("voucher").is_some();
        let Place { customer, total } = req.into_inner();
        if !total.is_finite() || total <= 0.0 {
            return Err(RpcError::invalid_argument("an order costs something"));
        }
        let total = if has_voucher { total / 2.0 } else { total };
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let id = orders.len() as u64 + 1;
        let order = Order { id, customer, total };
        orders.insert(id, order.clone());
        let response = Response::new(order);
        if has_voucher { Ok(response.header("voucher", "used")?) } else { Ok(response) }
    }

    async fn get_order(&self, req: GetOrder) -> rpc::Result<Order> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let order = orders.get(&req.id).filter(|order| order.customer.id == req.customer);
        order.cloned().ok_or_else(|| RpcError::not_found(format!("no order {}", req.id)))
    }

    async fn list(&self, customer: u64, mut out: Sender<Order>) -> rpc::Result<()> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for order in orders.into_values().filter(|order| order.customer.id == customer) {
            out.send(order).await?; // waits for a reader that is slow
        }
        Ok(())
    }
}

/// Places orders and reads them again; then the service ends, and what it answered is still there.
async fn run(connector: &Connector) -> Result<Vec<String>, BoxError> {
    let mut said = Vec::new();
    let rpc = connector.rpc();
    let service = OrdersServer::new(Shop::default()).service(&rpc).serve().await?;
    let orders = OrdersClient::new(&rpc);

    let ada = Customer { id: 7, name: "Ada".to_owned() };
    for total in [9.5, 20.0] {
        orders.place(Place { customer: ada.clone(), total }).await?;
    }
    let cheap = Place { customer: ada.clone(), total: 100.0 };
    let cheap = orders.place(cheap).header("voucher", "half").await?;
    let used = cheap.headers().get("voucher").is_some();
    said.push(format!(
        "order {} costs {} (voucher used: {used})",
        cheap.get().id,
        cheap.get().total
    ));

    let free = orders.place(Place { customer: ada, total: 0.0 }).await;
    said.push(free.map_or_else(|error| error.to_string(), |order| format!("{order:?}")));
    let missing = orders.get_order(GetOrder { customer: 7, id: 99 }).await;
    said.push(missing.map_or_else(|error| error.to_string(), |order| format!("{order:?}")));

    let mut all = orders.list(7).await?;
    while let Some(order) = all.next().await {
        let order = order?;
        said.push(format!("{} has order {} of {}", order.customer.name, order.id, order.total));
    }

    let first = GetOrder { customer: 7, id: 1 };
    orders.get_order(first.clone()).await?;
    service.drain().await?;

    // The service is gone: the call says so, and the store has what it answered before.
    let call = orders.get_order(first.clone()).await;
    let down = call.is_err_and(|error| error.is_no_responders());
    let key = orders.get_order_key(&first)?;
    let answer = orders.kv_get_order().call_or_get(first).await?;
    let total = answer.get().total;
    said.push(format!("service down: {down}; {key} is {total} (stored: {})", answer.is_stored()));
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders() {
        let said = run(&Connector::memory()).await.unwrap();
        assert_eq!(
            said,
            [
                "order 3 costs 50 (voucher used: true)",
                "INVALID_ARGUMENT: an order costs something",
                "NOT_FOUND: no order 99",
                "Ada has order 1 of 9.5",
                "Ada has order 2 of 20",
                "Ada has order 3 of 50",
                "service down: true; order.7.1 is 9.5 (stored: true)",
            ]
        );
    }
}

#[cfg(not(test))]
#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let connector = Connector::from_settings().await?;
    for line in run(&connector).await? {
        println!("{line}");
    }
    std::process::exit(i32::from(!connector.drain().await.is_clean()));
}
