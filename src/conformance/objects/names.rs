//! Names of objects: any text.

use super::*;

/// Every name is another object, whatever it is made of.
pub async fn names(objects: &Objects) {
    let raw = Raw::new(objects, "names");
    let long = "ü".repeat(512);
    let names = [
        "plain",
        "Plain",
        "PLAIN",
        "a.b.c",
        "a/b/c.txt",
        "/",
        "..",
        ".",
        "*",
        ">",
        "a.>",
        "with space",
        " leading",
        "trailing ",
        " ",
        "tab\there",
        "line\r\nbreak",
        "nul\0",
        "größe",
        "名前",
        "😀",
        "e\u{301}",
        "é",
        "$O.bucket.M.x",
        "=+_-",
        "?#%41",
        "A",
        "%41",
        "\"quoted\\\"",
        &long,
        &long[2..],
    ];
    for (n, name) in names.iter().enumerate() {
        let put = raw.objects.put_bytes(*name, n.to_string()).await;
        assert_eq!(ok(name, put).name, **name, "the name is told");
    }
    for (n, name) in names.iter().enumerate() {
        same_bytes(name, raw.objects.get_bytes(*name).await, n.to_string().as_bytes());
        let info = ok(name, raw.objects.info(*name).await);
        assert_eq!(info.map(|info| info.name).as_deref(), Some(*name), "info tells the name");
    }
    let mut expected: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    expected.sort_unstable();
    same("list all", raw.names().await, &expected);
    same("delete one", raw.objects.delete("*").await, &true);
    expected.retain(|name| name != "*");
    same("list the others", raw.names().await, &expected);
    same_bytes("the others are there", raw.objects.get_bytes(">").await, b"9");
}
