//! Where a trait may stand, and what may be in it.

use nats_connector::rpc::{self, Codec, KeyPart, KeyText, Request, RpcError};
use nats_connector::{Connector, service};
use serde::{Deserialize, Serialize};

use super::{GetOrder, get};

mod api {
    pub(crate) mod orders {
        use serde::{Deserialize, Serialize};

        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct Find {
            pub(crate) r#type: String,
        }

        // Shadows what the attribute's code could mean by it.
        #[expect(dead_code, reason = "what matters is its name")]
        pub(crate) struct Vec;
        #[expect(dead_code, reason = "what matters is its name")]
        pub(crate) struct Arc;
        #[expect(dead_code, reason = "what matters is its name")]
        pub(crate) type Result = ();

        #[nats_connector::service(codec = nats_connector::rpc::MessagePack)]
        pub(crate) trait Finder {
            /// Finds.
            #[rpc(name = "type")]
            async fn r#type(&self, find: Find) -> nats_connector::rpc::Result<String>;

            #[cfg(not(test))]
            async fn never(&self, find: ThereIsNoSuchType) -> nats_connector::rpc::Result<Nor>;

            #[cfg(test)]
            async fn one(&self) -> std::result::Result<u8, std::convert::Infallible>;
            #[cfg(not(test))]
            async fn one(&self) -> std::result::Result<u16, std::convert::Infallible>;
        }
    }
}

use api::orders::{Find, Finder, FinderClient, FinderMethods, FinderServer};

struct Finds;

impl Finder for Finds {
    async fn r#type(&self, find: Find) -> rpc::Result<String> {
        Ok(find.r#type)
    }

    async fn one(&self) -> Result<u8, std::convert::Infallible> {
        Ok(1)
    }
}

#[tokio::test]
async fn in_another_module() {
    let connector = Connector::memory();
    let service = FinderServer::new(Finds).service(&connector.rpc()).serve().await.unwrap();
    assert_eq!(service.name(), "finder");
    let client = FinderClient::new(&connector.rpc());
    let find = Find { r#type: "fast".to_owned() };
    assert_eq!(client.r#type(find).await.unwrap().into_inner(), "fast");
    assert_eq!(client.one().await.unwrap().into_inner(), 1);
    assert_eq!(FinderMethods::default().r#type.name(), "type");
    assert_eq!(service.info().endpoints.len(), 2);
}

macro_rules! repeat {
    ($service:ident, $name:literal, $method:ident, $message:ty, $limit:expr) => {
        #[service(name = $name, timeout = $limit)]
        trait $service {
            async fn $method(&self, message: $message) -> rpc::Result<$message>;
        }
    };
}

const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);
repeat!(Echo, "echo", same, String, LIMIT);

#[tokio::test]
async fn made_by_a_macro() {
    struct It;
    impl Echo for It {
        async fn same(&self, message: String) -> rpc::Result<String> {
            Ok(message)
        }
    }
    let connector = Connector::memory();
    let _service = EchoServer::new(It).service(&connector.rpc()).serve().await.unwrap();
    let client = EchoClient::new(&connector.rpc());
    assert_eq!(client.same("x".to_owned()).await.unwrap().get(), "x");
    assert_eq!(EchoMethods::config(), rpc::ServiceConfig::new("echo").timeout(LIMIT));
}

/// A format of its own: the digits of a number.
#[derive(Clone)]
struct Digits;

impl Codec<u64> for Digits {
    fn encode(&self, message: &u64) -> nats_connector::Result<bytes::Bytes> {
        Ok(message.to_string().into())
    }

    fn decode(&self, bytes: &bytes::Bytes) -> nats_connector::Result<u64> {
        let text = String::from_utf8_lossy(bytes);
        text.parse().map_err(|error| {
            let text = "not a number";
            nats_connector::Error::new(nats_connector::ErrorKind::Decode, text).with_source(error)
        })
    }
}

#[tokio::test]
async fn a_codec_of_ones_own_within_a_function() {
    #[service(codec = Digits)]
    trait Sums {
        async fn next(&self, number: Request<u64>) -> rpc::Result<u64>;
        #[rpc(codec = "json")]
        async fn text(&self, number: u64) -> rpc::Result<String>;
    }
    struct It;
    impl Sums for It {
        async fn next(&self, number: Request<u64>) -> rpc::Result<u64> {
            number.get().checked_add(1).ok_or_else(|| RpcError::invalid_argument("too large"))
        }

        async fn text(&self, number: u64) -> rpc::Result<String> {
            Ok(number.to_string())
        }
    }
    let connector = Connector::memory();
    let _service = SumsServer::new(It).service(&connector.rpc()).serve().await.unwrap();
    let client = SumsClient::new(&connector.rpc());
    assert_eq!(client.next(41).await.unwrap().into_inner(), 42);
    assert_eq!(client.text(41).await.unwrap().get(), "41");
    let error = client.next(u64::MAX).await.unwrap_err();
    assert!(error.is(rpc::code::INVALID_ARGUMENT), "{error}");
}

/// For those who hand this crate on under a name of their own.
mod through_another_crate {
    mod framework {
        pub(super) use nats_connector as nats;
    }

    #[framework::nats::service(crate = framework::nats)]
    trait Pings {
        async fn ping(&self) -> framework::nats::rpc::Result<()>;
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Color {
    Red,
}

impl KeyPart for Color {
    fn key_part(&self) -> Option<std::borrow::Cow<'_, str>> {
        Some("RED".into())
    }
}

struct Painted(GetOrder, Color, Option<bool>);

#[test]
fn keys_of_templates() {
    let key = rpc::key!(GetOrder, "order.{customer.id}.{id}");
    assert_eq!(key(&get("a-1")).unwrap(), "order.7.a-1");
    let error = key(&get("a.1")).unwrap_err().to_string();
    assert!(error.contains("id"), "{error}");
    assert!(key(&get("")).is_err());

    let escaped = rpc::key!(GetOrder, "{id}", escape);
    assert_eq!(escaped(&get("a.1")).unwrap(), "a=2E1");

    let nested = rpc::key!(Painted, "{1}/{0.customer.id}-{2}");
    assert_eq!(nested(&Painted(get("1"), Color::Red, Some(true))).unwrap(), "RED/7-true");
    assert!(nested(&Painted(get("1"), Color::Red, None)).is_err());

    let by_hand = |request: &GetOrder| KeyText::new().text("x.").field("id", &request.id)?.finish();
    assert_eq!(by_hand(&get("1")).unwrap(), rpc::key!(GetOrder, "x.{id}")(&get("1")).unwrap());
}
