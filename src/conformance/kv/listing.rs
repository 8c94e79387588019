//! The names of the keys.

use super::*;

/// Every name once, those of the prefix alone, and only of what has a value.
pub async fn listing(kv: &Kv) {
    let raw = Raw::new(kv, "listing");
    let list = async |prefix: &str, pattern: Option<&str>| -> BTreeSet<String> {
        let step = format!("list {prefix:?} {pattern:?}");
        let glob = pattern.map(|pattern| ok(&step, Glob::new(pattern)));
        let filter = Filter { prefix, glob: glob.as_ref() };
        let listing = ok(&step, raw.driver.list(&raw.bucket, filter, soon()).await);
        let names: Vec<String> = ok(&step, listing.try_collect().await);
        let count = names.len();
        let names = BTreeSet::from_iter(names);
        assert_eq!(names.len(), count, "{step}: each name is there once");
        let fits = |name: &String| glob.as_ref().is_none_or(|glob| glob.matches(name));
        names.into_iter().filter(fits).collect()
    };
    let set = |names: &[&str]| names.iter().copied().map(str::to_owned).collect::<BTreeSet<_>>();

    assert_eq!(list("", None).await, set(&[]), "no bucket");
    same("a listing makes no bucket", raw.kv.bucket_status().await, &None);
    let names = ["user:1", "user:2", "user:10", "user", "a b", "*", "é", "a.b", "=41", "user/x"];
    for name in names {
        ok("set", raw.kv.set(name, name).await);
        ok("set anew", raw.kv.set(name, name).await);
    }
    for (prefix, name) in [("app", "one"), ("app", "user:1"), ("app two", "two"), ("apple", "x")] {
        ok("set under a prefix", raw.kv.clone().with_prefix(prefix).set(name, &1).await);
    }
    ok("set", raw.kv.set("gone", &1).await);
    ok("delete", raw.kv.delete("gone").await);
    ok("set", raw.kv.set("purged", &1).await);
    ok("purge", raw.kv.purge("purged").await);

    assert_eq!(list("app", None).await, set(&["one", "user:1"]), "under a prefix");
    assert_eq!(list("app two", None).await, set(&["two"]), "under another");
    assert_eq!(list("nothing", None).await, set(&[]), "under one without keys");
    let whole = |prefix, name: &str| {
        let key = Key::new(prefix, name);
        raw.driver.whole_name(&raw.bucket, key).map(|name| name.into_owned())
    };
    let mut all = set(&names);
    for (prefix, name) in [("app", "one"), ("app", "user:1"), ("app two", "two"), ("apple", "x")] {
        let Some(name) = whole(prefix, name) else { panic!("{prefix} {name} has no whole name") };
        all.insert(name);
    }
    assert_eq!(list("", None).await, all, "the whole bucket");

    let patterns: [(&str, &[&str]); 9] = [
        ("user:*", &["user:1", "user:2", "user:10"]),
        ("user:?", &["user:1", "user:2"]),
        ("user:[2-9]", &["user:2"]),
        ("user*", &["user:1", "user:2", "user:10", "user", "user/x"]),
        (r"\*", &["*"]),
        ("user:1", &["user:1"]),
        ("nothing*", &[]),
        ("a?b", &["a b", "a.b"]),
        ("é*", &["é"]),
    ];
    for (pattern, expected) in patterns {
        let found = list("", Some(pattern)).await;
        let under = |name: &String| !all.contains(name) || names.contains(&name.as_str());
        let found: BTreeSet<String> = found.into_iter().filter(under).collect();
        assert_eq!(found, set(expected), "what fits {pattern:?}");
    }
    assert_eq!(list("app", Some("user*")).await, set(&["user:1"]), "what fits under a prefix");
    assert_eq!(list("app", Some("app*")).await, set(&[]), "a prefix is no part of a name");

    let many: BTreeSet<String> = (0..700).map(|n| format!("key:{n}")).collect();
    let under = raw.kv.clone().with_prefix("many");
    all_done("set many", many.iter().map(|name| under.set(name, &1)).collect()).await;
    assert_eq!(list("many", None).await, many, "many keys");
}

/// Keys, values, counts and deletes of a whole bucket, within its prefix.
pub async fn everything(kv: &Kv) {
    let bucket = kv.bucket(unique("everything"));
    let (one, two) = (bucket.clone().with_prefix("one"), bucket.clone().with_prefix("two"));
    let keys = async |step: &str, kv: &Kv| {
        let mut keys = ok(step, kv.keys().await);
        keys.sort_unstable();
        keys
    };
    let none: [&str; 0] = [];
    assert_eq!(keys("keys of no bucket", &one).await, none, "there are none");
    same("count them", one.item_count().await, &0);
    same("get all of no bucket", one.get_all::<u32>().await, &Default::default());
    same("flush no bucket", one.flush().await, &0);
    same("delete those that fit in no bucket", one.delete_matching("*").await, &0);
    refused("a pattern that is none", ErrorKind::InvalidInput, one.keys_matching("[a").await);

    for (n, name) in ["user:1", "user:2", "b", "gone"].into_iter().enumerate() {
        ok("set", one.set(name, &n).await);
        ok("set under another prefix", two.set(name, &(n + 10)).await);
    }
    ok("set null", one.set("null", &None::<u32>).await);
    ok("delete", one.delete("gone").await);
    assert_eq!(keys("keys", &one).await, ["b", "null", "user:1", "user:2"], "the keys");
    same("count", one.item_count().await, &4);
    same("count the other's", two.item_count().await, &4);
    same("count all", bucket.item_count().await, &8);
    let mut users = ok("keys that fit", one.keys_matching("user:*").await);
    users.sort_unstable();
    assert_eq!(users, ["user:1", "user:2"], "the keys that fit");
    let streamed: Vec<String> = ok("stream", two.keys().stream().try_collect().await);
    let streamed = BTreeSet::from_iter(streamed);
    assert!(streamed.iter().eq(["b", "gone", "user:1", "user:2"]), "the keys of a stream");

    let all = ok("get all", one.get_all::<Option<usize>>().await);
    let all = BTreeMap::from_iter(all);
    let expected = [("b", Some(2)), ("null", None), ("user:1", Some(0)), ("user:2", Some(1))];
    let expected = expected.map(|(key, value)| (key.to_owned(), value));
    assert_eq!(all, BTreeMap::from(expected), "all values, null too");
    let fits = ok("get those that fit", two.get_all_matching::<usize>("user:*").await);
    let fits = BTreeMap::from_iter(fits);
    let expected = [("user:1".to_owned(), 10), ("user:2".to_owned(), 11)];
    assert_eq!(fits, BTreeMap::from(expected), "the values that fit");
    ok("set a text", two.set("b", "text").await);
    refused("get all as numbers", ErrorKind::Decode, two.get_all::<usize>().await);

    same("delete those that fit", one.delete_matching("user:?").await, &2);
    assert_eq!(keys("what stays", &one).await, ["b", "null"], "those that do not fit stay");
    same("the other's stay", two.item_count().await, &4);
    same("flush", one.flush().await, &2);
    same("nothing stays", one.item_count().await, &0);
    same("flush again", one.flush().await, &0);
    same("the other's stay", two.item_count().await, &4);
    ok("set again", one.set("b", &1).await);
    assert_eq!(keys("after that", &one).await, ["b"], "what was set since");
    same("flush all", bucket.flush().await, &5);
    same("nothing stays", bucket.item_count().await, &0);
}
