//! Objects beside the raw client's, over a network of 10 ms there and back.

use std::time::Duration;

use testkit::{Proxy, Server};

use super::{compare, wanted};

/// An object of 4 MiB stored from memory, in chunks of 128 KiB on both sides.
pub(super) async fn put(server: &Server) {
    const NAME: &str = "object put of 4 MiB at 10 ms";
    const LEN: usize = 4 * 1024 * 1024;
    if !wanted(NAME) {
        return;
    }
    let proxy = Proxy::start(server.address());
    let raw = async_nats::connect(proxy.url()).await.unwrap();
    let raw = async_nats::jetstream::new(raw);
    let settings = nats_connector::Settings::builder().set("NATS.SERVER", proxy.url());
    let ours = nats_connector::Connector::connect(&settings.build().unwrap()).await.unwrap();
    let ours = ours.objects().create_bucket("bench").await.unwrap();
    let raw = raw.get_object_store("bench").await.unwrap();
    proxy.set_delay(Duration::from_millis(5));
    let data = bytes::Bytes::from(vec![7_u8; LEN]);
    compare(
        NAME.to_owned(),
        || {
            let (raw, data) = (raw.clone(), data.clone());
            async move {
                raw.put("raw", &mut &data[..]).await.unwrap();
            }
        },
        || {
            let put = ours.put_bytes("ours", data.clone());
            async move {
                put.await.unwrap();
            }
        },
    )
    .await;
}
