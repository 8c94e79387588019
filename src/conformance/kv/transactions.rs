//! Several writes at once, or none of them.

use super::*;

/// A transaction makes all its changes or none.
pub async fn transactions(kv: &Kv) {
    let raw = Raw::new(kv, "transactions");
    let run = |writes| raw.driver.transaction(&raw.bucket, writes, soon());
    let capabilities = capabilities(&raw.kv).await;
    if !capabilities.transactions {
        let writes = vec![write("a", put("1"), Condition::Always)];
        refused("a transaction", ErrorKind::Unsupported, run(writes).await);
        same("nothing was stored", raw.kv.exists("a").await, &false);
        return;
    }
    let values = async |keys: [&str; 3]| {
        let found = future::join_all(keys.map(|key| raw.kv.get_raw(key))).await;
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        let found = found.into_iter().map(|it| ok("get", it).map(text).unwrap_or_default());
        found.collect::<Vec<String>>()
    };
    let made = run(vec![
        write("a", put("1"), Condition::Always),
        write("b:b", put("2"), Condition::Revision(0)),
        write("never", Change::Delete, Condition::Always),
    ]);
    let made = ok("one in no bucket", made.await);
    assert_eq!(made.len(), 3, "each change has a revision");
    assert!(made[0] < made[1], "revisions grow: {made:?}");
    assert_eq!(values(["a", "b:b", "never"]).await, ["1", "2", ""], "all is there");
    let entry = ok("entry", raw.kv.entry_raw("b:b").await).map(|entry| entry.revision);
    assert_eq!(entry, Some(made[1]), "a revision is that of its key");

    let writes = vec![
        write("a", put("3"), Condition::Revision(made[0])),
        write("c", put("3"), Condition::Always),
        write("b:b", put("3"), Condition::Revision(made[1] + 100)),
    ];
    refused("one wrong revision", ErrorKind::Conflict, run(writes).await);
    assert_eq!(values(["a", "b:b", "c"]).await, ["1", "2", ""], "none took place");
    let writes = vec![
        write("a", Change::Delete, Condition::Always),
        write("b:b", put("3"), Condition::Revision(0)),
    ];
    refused("one key that is there", ErrorKind::Conflict, run(writes).await);
    assert_eq!(values(["a", "b:b", "c"]).await, ["1", "2", ""], "none took place");

    let writes = vec![
        write("a", put("4"), Condition::Revision(made[0])),
        write("b:b", Change::Delete, Condition::Revision(made[1])),
        write("c", put("4"), Condition::Revision(0)),
    ];
    ok("one of each kind", run(writes).await);
    assert_eq!(values(["a", "b:b", "c"]).await, ["4", "", "4"], "all took place");
    ok("a purge", run(vec![write("c", Change::Purge, Condition::Always)]).await);
    assert_eq!(values(["a", "b:b", "c"]).await, ["4", "", ""], "a purge took place");

    let names: Vec<String> = (0..100).map(|n| format!("many:{n}")).collect();
    let many = |condition| {
        let write = move |name| write(name, put("x"), condition);
        names.iter().map(|name| write(name)).collect::<Vec<_>>()
    };
    let revisions = ok("a hundred", run(many(Condition::Revision(0))).await);
    assert!(revisions.is_sorted_by(|a, b| a < b), "their revisions grow");
    refused("again as new ones", ErrorKind::Conflict, run(many(Condition::Revision(0))).await);
    let found = future::join_all(names.iter().map(|name| raw.kv.entry_raw(name))).await;
    let found = found.into_iter().map(|it| ok("entry", it).map(|it| it.revision));
    assert_eq!(found.collect::<Option<Vec<_>>>(), Some(revisions), "each is as it was written");

    // Two that stand on the same values: one takes place.
    let race = |n: &'static str| {
        run(vec![
            write("left", put(n), Condition::Revision(0)),
            write("right", put(n), Condition::Revision(0)),
        ])
    };
    let (one, two) = future::join(race("one"), race("two")).await;
    let winner = match (one, two) {
        (Ok(_), lost) => {
            refused("the second", ErrorKind::Conflict, lost);
            "one"
        }
        (lost, won) => {
            ok("one of two", won);
            refused("the second", ErrorKind::Conflict, lost);
            "two"
        }
    };
    assert_eq!(values(["left", "right", "c"]).await, [winner, winner, ""], "one wrote both");
}

/// The same by handles, within their prefix.
pub async fn transaction_calls(kv: &Kv) {
    let kv = kv.bucket(unique("together")).with_prefix("app");
    if !capabilities(&kv).await.transactions {
        refused("a transaction", ErrorKind::Unsupported, kv.transaction().set("a", &1).await);
        same("nothing was stored", kv.exists("a").await, &false);
        return;
    }
    same("nothing to do", kv.transaction().await, &Vec::new());
    let made = kv.transaction().set("a", &1).create("b", &2).set_raw("c", "3").await;
    let made = ok("three at once", made);
    let there = kv.transaction().set("a", &9).create("b", &9).await;
    refused("one that is there", ErrorKind::AlreadyExists, there);
    let stale = kv.transaction().set("a", &9).set_if_revision("b", &9, made[0]).await;
    refused("one of another revision", ErrorKind::Conflict, stale);
    let twice = kv.transaction().set("a", &9).delete("a").await;
    refused("one key twice", ErrorKind::InvalidInput, twice);
    let found = ok("get many", kv.get_many(["a", "b", "c"]).await);
    same("none took place", found.all(), &vec![Some(1), Some(2), Some(3)]);
    let all = kv.transaction().set_if_revision("a", &4, made[0]).delete("b");
    ok("all of them", all.delete_if_revision("c", made[2]).await);
    let found = ok("get many", kv.get_many(["a", "b", "c"]).await);
    same("all took place", found.all(), &vec![Some(4), None, None]);
}
