//! No secret is printed.

use nats_connector::stores::{StoreConfig, Stores};

use super::lines;

#[test]
fn secrets_never_print() {
    const SECRET: &str = "hunter2-secret";
    let text = format!(
        "STORES.S.PASSWORD={SECRET}\nSTORES.S.ADDR=redis://u:{SECRET}@h:1\nSTORES.S.DB=x\n\
         STORES.S.TLS_KEY=-----BEGIN {SECRET}\nSTORES.S.TLS_CERT=c\nSTORES.S.HIDDEN={SECRET}"
    );
    let builder = Stores::builder()
        .settings(lines(&text))
        .store("s", StoreConfig::new().set("PASSWORD", SECRET));
    let shown = format!("{builder:?}");
    assert!(shown.contains("PASSWORD") && !shown.contains(SECRET), "{shown}");
    let error = builder.build().unwrap_err();
    for shown in [format!("{error}"), format!("{error:?}")] {
        assert!(shown.contains("STORES.S.ADDR") && shown.contains("STORES.S.HIDDEN"), "{shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[tokio::test]
async fn a_store_shows_its_fields_by_name() {
    let (tell, told) = std::sync::mpsc::channel();
    let stores = Stores::builder()
        .settings(lines("STORES.S.DRIVER=own\nSTORES.S.API_KEY=s3cr3t"))
        .register_driver("own", move |settings| {
            tell.send(format!("{settings:?}")).unwrap();
            async { Ok(nats_connector::kv::MemoryDriver::new()) }
        })
        .build()
        .unwrap();
    stores.get("s").unwrap().exists("k").await.unwrap();
    let shown = told.try_recv().unwrap() + &format!("{stores:?}");
    assert!(shown.contains("API_KEY") && !shown.contains("s3cr3t"), "{shown}");
}
