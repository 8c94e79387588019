//! Responses that are kept as attributes say, and how clients reach them.

use std::time::Duration;

use futures::StreamExt;
use nats_connector::kv::Storage;
use nats_connector::{Connector, ErrorKind, rpc, service};
use testkit::Server;

use super::{GetOrder, Order, PATIENCE, connect, get, raw};

#[service(name = "orders")]
trait Orders {
    #[rpc(kv(
        bucket = "orders",
        key = "order.{customer.id}.{id}",
        policy = "required",
        receipt,
        ttl = "1h",
        history = 5,
        storage = "memory",
        max_bytes = "1MiB",
        description = "every order",
    ))]
    async fn get_order(&self, req: GetOrder) -> rpc::Result<Order>;

    /// In both places, under other keys.
    #[rpc(
        kv(bucket = "both", key = "{id}", escape, policy = "before_reply"),
        objects(
            bucket = "invoices",
            key = "invoice/{id}",
            escape,
            policy = "required",
            max_chunk_size = 4096
        )
    )]
    async fn invoice(&self, req: GetOrder) -> rpc::Result<String>;

    #[rpc(kv(bucket = "drafts", key = "{id}", client_only))]
    async fn draft(&self, req: GetOrder) -> rpc::Result<Order>;
}

struct It;

impl Orders for It {
    async fn get_order(&self, req: GetOrder) -> rpc::Result<Order> {
        Ok(Order { id: req.id, total: 9.5 })
    }

    async fn invoice(&self, req: GetOrder) -> rpc::Result<String> {
        Ok(req.id.repeat(10_000))
    }

    async fn draft(&self, req: GetOrder) -> rpc::Result<Order> {
        Ok(Order { id: req.id, total: 0.0 })
    }
}

async fn kept(connector: &Connector) {
    let service = OrdersServer::new(It).service(&connector.rpc()).serve().await.unwrap();
    let client = OrdersClient::new(&connector.rpc());
    let orders = client.kv_get_order();

    assert_eq!(client.get_order_key(&get("1")).unwrap(), "order.7.1");
    assert_eq!(orders.get_for(&get("1")).await.unwrap(), None);
    let answer = client.get_order(get("1")).await.unwrap();
    let order = answer.into_inner();
    assert_eq!(orders.get("order.7.1").await.unwrap().as_ref(), Some(&order));
    let refused = client.get_order(get("a.b")).await.unwrap_err();
    assert!(refused.to_string().contains("id"), "{refused}");

    client.invoice(get("a.b")).await.unwrap();
    assert_eq!(client.invoice_key(&get("a.b")).unwrap(), "a=2Eb");
    assert_eq!(client.objects_invoice().key(&get("a.b")).unwrap(), "invoice/a=2Eb");
    let whole = "a.b".repeat(10_000);
    assert_eq!(client.kv_invoice().get_for(&get("a.b")).await.unwrap(), Some(whole.clone()));
    assert_eq!(client.objects_invoice().get_for(&get("a.b")).await.unwrap(), Some(whole));

    client.draft(get("1")).await.unwrap();
    assert_eq!(client.kv_draft().get("1").await.unwrap(), None);
    let mut drafts = client.kv_draft().watch(">").await.unwrap();
    client.kv_draft().put_for(&get("1"), &order).await.unwrap();
    let next = tokio::time::timeout(PATIENCE, drafts.next()).await.unwrap();
    assert!(next.unwrap().is_ok());

    service.drain().await.unwrap();
    let stored = orders.call_or_get(get("1")).await.unwrap();
    assert!(stored.is_stored());
    assert_eq!(stored.into_inner(), order);
    let error = client.kv_get_order().key(&get("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn on_a_server() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    kept(&connector).await;

    // The buckets are those of the attributes, and hold what went over the wire.
    let status = connector.kv().bucket("orders").bucket_status().await.unwrap();
    let context = async_nats::jetstream::new(raw(&server).await);
    let stream = context.get_stream("KV_orders").await.unwrap();
    let config = &stream.cached_info().config;
    assert_eq!(config.max_age, Duration::from_secs(3600), "{status:?}");
    assert_eq!((config.max_messages_per_subject, config.max_bytes), (5, 1 << 20));
    assert_eq!(config.storage, async_nats::jetstream::stream::StorageType::Memory);
    assert_eq!(config.description.as_deref(), Some("every order"));
    let bucket = context.get_key_value("orders").await.unwrap();
    let value = bucket.get("order.7.1").await.unwrap().unwrap();
    assert_eq!(value.as_ref(), br#"{"id":"1","total":9.5}"#);
    let objects = context.get_object_store("invoices").await.unwrap();
    let chunks = objects.info("invoice/a=2Eb").await.unwrap().chunks;
    assert_eq!(chunks, (3 * 10_000 + 2_usize).div_ceil(4096));
}

#[tokio::test]
async fn in_process() {
    kept(&Connector::memory()).await;
}

#[test]
fn expressions_stand_where_texts_do() {
    const BUCKET: &str = "orders";
    #[service(name = NAME, metadata(team = TEAM))]
    trait Later {
        #[rpc(kv(bucket = BUCKET, key = "{id}", storage = Storage::Memory, history = 2 + 3))]
        async fn get_order(&self, req: GetOrder) -> rpc::Result<Order>;
    }
    const NAME: &str = "later";
    const TEAM: &str = "billing";
    let config = rpc::ServiceConfig::new("later").metadata("team", "billing");
    assert_eq!(LaterMethods::config(), config);
    let shown = format!("{:?}", LaterMethods::new());
    assert!(
        shown.contains("history: Some(5)") && shown.contains("storage: Some(Memory)"),
        "{shown}"
    );
}
