//! Services made of traits.

/// Makes a service of a trait: `OrdersServer` to serve it and `OrdersClient` to call it, made of the
/// same calls that a service by hand is made of.
///
/// ```
/// use nats_connector::rpc::{self, RpcError};
/// use nats_connector::{Connector, service};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// pub struct GetOrder {
///     customer: u64,
///     id: String,
/// }
/// #[derive(Serialize, Deserialize)]
/// pub struct Order {
///     total: f64,
/// }
///
/// #[service(name = "orders", prefix = "api.v1.orders", version = "1.2.0")]
/// pub trait Orders {
///     /// One order.
///     #[rpc(timeout = "5s", kv(bucket = "orders", key = "order.{customer}.{id}", ttl = "1h"))]
///     async fn get_order(&self, req: GetOrder) -> rpc::Result<Order>;
/// }
///
/// struct InMemory;
///
/// impl Orders for InMemory {
///     async fn get_order(&self, req: GetOrder) -> rpc::Result<Order> {
///         match req.id.as_str() {
///             "1" => Ok(Order { total: 9.5 }),
///             id => Err(RpcError::not_found(format!("no order {id}"))),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rpc = Connector::memory().rpc();
/// OrdersServer::new(InMemory).service(&rpc).serve().await?;
///
/// let orders = OrdersClient::new(&rpc);
/// let order = orders.get_order(GetOrder { customer: 7, id: "1".to_owned() }).await?;
/// assert_eq!(order.get().total, 9.5);
/// # Ok(())
/// # }
/// ```
///
/// # Methods
///
/// A method is an `async fn` that takes `&self`. Its types tell what kind of call it is, by their last
/// names, whatever path leads to them:
///
/// | | takes | gives |
/// |---|---|---|
/// | unary | `T`, `Request<T>` or nothing | `Result<U>` or `Result<Response<U>>` |
/// | server stream | the same, and `Sender<U>` | `Result<()>` |
/// | client stream | `Receiver<T>` or `Request<Receiver<T>>` | as unary |
/// | both ways | the same, and `Sender<U>` | `Result<()>` |
///
/// With [`Request`](crate::rpc::Request) and [`Response`](crate::rpc::Response) come headers, subject
/// and deadline. A `Result` may have any error that [`BoxError`](crate::BoxError) is made of; an
/// [`RpcError`](crate::rpc::RpcError) in it keeps its code. A method that takes nothing has `()` as
/// its request. A method with a body is one that implementations may leave out.
///
/// The trait's methods become `fn`s that give `impl Future + Send`, which an `async fn` implements, and
/// it requires `Send + Sync + 'static`. It and its methods have no generic parameters. Attributes of
/// methods stay; `cfg` and documentation also go to all that is made of them.
///
/// # What is made
///
/// With the visibility of the trait, here called `Orders`:
///
/// - `OrdersServer<T>`: `new(implementation)`, `from_arc(implementation)`, `service(&rpc)` (a
///   [`ServiceBuilder`](crate::rpc::ServiceBuilder)), and `endpoints()` for a service that is put
///   together by hand.
/// - `OrdersClient`: `new(&rpc)`, `from_client(client)` (with interceptors, or another prefix), a
///   method for each of the trait's, and `client()` and `methods()` for calls by hand.
/// - `OrdersMethods`: `config()`, the [`ServiceConfig`](crate::rpc::ServiceConfig), and `new()`, the
///   [`Method`](crate::rpc::Method)s as its fields.
///
/// # Options of the service
///
/// All of them may be left out. Where a text, number or duration stands, another expression may, whose
/// value is checked when the service starts in place of now.
///
/// | | default | |
/// |---|---|---|
/// | `name = "orders"` | the trait's, in snake case | letters, digits, `_`, `-` |
/// | `prefix = "api.v1"` | the name | before the names of methods; `""` for none |
/// | `version = "1.4.0"` | `1.0.0` | a semantic one |
/// | `description = ".."` | none | |
/// | `timeout = "5s"` | none | of each call; a [method's](crate::rpc::Method::timeout) own goes first |
/// | `codec = "json"` | `"json"` | or `"message_pack"`, or an expression, a [`Codec`](crate::rpc::Codec) |
/// | `queue = "workers"` | `q` | the queue group; `false` for none |
/// | `concurrency = 8` | 256 | calls of an endpoint that run at once: 1 to 65,536 |
/// | `waiting = 100` | 1,024 | calls of an endpoint that wait: up to 1,000,000 |
/// | `metadata(team = "billing")` | none | names are words, or texts in quotes |
/// | `crate = path` | `::nats_connector` | where this crate is found |
///
/// # Options of a method
///
/// In `#[rpc(..)]`: `name` (default: the method's), `timeout`, `codec`, `queue`, `concurrency`,
/// `waiting` and `metadata(..)`, as above; `window = 64`, how far a [stream](crate::rpc::Method::window)
/// may be ahead of its reader; `skip` for a method that is no endpoint; and for unary
/// ones `kv(..)` and `objects(..)`, which keep each response of a call that succeeds:
///
/// | | | |
/// |---|---|---|
/// | `bucket = "orders"` | both | required |
/// | `key = "order.{customer.id}.{id}"` | both | required; fields of the request, as in [`key!`] |
/// | `escape` | both | [escapes](crate::rpc::KeyText::escaping) what would break a key |
/// | `policy = "after_reply"` | both | or `"before_reply"`, `"required"`: [`Policy`](crate::rpc::Policy) |
/// | `receipt` | both | [tells](crate::rpc::Persist::receipt) the caller where it was kept |
/// | `timeout = "5s"` | both | of a [write](crate::rpc::Persist::timeout) |
/// | `client_only` | both | [only clients](crate::rpc::Persist::client_only) write |
/// | `ttl = "1h"`, `replicas = 3`, `storage = "memory"`, `max_bytes = "64MiB"`, `compression`, `description = ".."` | both | of the bucket: [KV](crate::kv::BucketConfig), [objects](crate::objects::BucketConfig) |
/// | `history = 5`, `max_value_size = 1024` | `kv` | |
/// | `max_chunk_size = 65536` | `objects` | |
///
/// A field that does not exist is an error when it compiles, as is one that cannot stand in a key:
///
/// ```compile_fail
/// # use nats_connector::{rpc, service};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # pub struct GetOrder { customer: u64, weight: f64 }
/// #[service]
/// pub trait Orders {
///     // There is no field `id`.
///     #[rpc(kv(bucket = "orders", key = "order.{customer}.{id}"))]
///     async fn get_order(&self, req: GetOrder) -> rpc::Result<String>;
/// }
/// ```
///
/// ```compile_fail
/// # use nats_connector::{rpc, service};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # pub struct GetOrder { customer: u64, weight: f64 }
/// #[service]
/// pub trait Orders {
///     // A floating-point number is no part of a key: `KeyPart` is for those types that are.
///     #[rpc(kv(bucket = "orders", key = "order.{customer}.{weight}"))]
///     async fn get_order(&self, req: GetOrder) -> rpc::Result<String>;
/// }
/// ```
///
/// ```
/// # use nats_connector::{rpc, service};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # pub struct GetOrder { customer: u64, weight: f64 }
/// #[service]
/// pub trait Orders {
///     #[rpc(kv(bucket = "orders", key = "order.{customer}"))]
///     async fn get_order(&self, req: GetOrder) -> rpc::Result<String>;
/// }
/// ```
pub use nats_connector_macros::service;

/// Makes a function that gives the key of a request, for [`Persist`](crate::rpc::Persist): the type of
/// the request, a template, and `escape` where values may have characters that would break a key.
///
/// ```
/// use nats_connector::rpc::{Method, Persist, key};
/// # use serde::{Deserialize, Serialize};
///
/// # #[derive(Serialize, Deserialize)]
/// struct Customer {
///     id: u64,
/// }
/// # #[derive(Serialize, Deserialize)]
/// struct GetOrder {
///     customer: Customer,
///     id: String,
/// }
///
/// let get_order = Method::<GetOrder, f64>::json("get_order")
///     .persist(Persist::kv("orders", key!(GetOrder, "order.{customer.id}.{id}")));
///
/// let request = GetOrder { customer: Customer { id: 7 }, id: "a.1".to_owned() };
/// assert!(key!(GetOrder, "order.{id}")(&request).is_err());
/// assert_eq!(key!(GetOrder, "order.{id}", escape)(&request)?, "order.a=2E1");
/// # Ok::<(), nats_connector::Error>(())
/// ```
///
/// Between the fields stand letters, digits, `-`, `_`, `/`, `=` and single dots. `{a.b}` is the field
/// `b` of the field `a`, `{0}` the first of a tuple; braces themselves cannot stand in a key. A field
/// has a type that is a [`KeyPart`](crate::rpc::KeyPart), else it does not compile.
pub use nats_connector_macros::key;
