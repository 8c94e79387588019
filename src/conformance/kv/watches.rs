//! Watches: what is there, that this was all, and every change since.

use super::*;

/// What a reader of a watch knows: each key's value.
#[derive(Default)]
struct Known {
    values: BTreeMap<String, Bytes>,
    revision: u64,
    is_current: bool,
    resets: usize,
}

impl Known {
    fn learn(&mut self, step: &str, signal: Signal) {
        match signal {
            Signal::Current => self.is_current = true,
            Signal::Lagging => self.is_current = false,
            Signal::Reset => {
                (self.revision, self.is_current) = (0, false);
                self.resets += 1;
            }
            Signal::Update(update) => {
                let (last, told) = (self.revision, update.revision);
                // An end that was noticed by its trace's absence has no revision of its own.
                let is_end = !matches!(update.what, What::Put(_));
                let follows = told > last || is_end && (told == last || told == 0);
                assert!(follows, "{step}: {told} was told after {last}");
                self.revision = told.max(last);
                match update.what {
                    What::Put(entry) => {
                        assert_eq!(entry.revision, told, "{step}: one revision");
                        self.values.insert(update.key, entry.value.bytes);
                    }
                    _ => drop(self.values.remove(&update.key)),
                }
            }
        }
    }

    /// Reads until it knows that the values are as expected.
    async fn reach(&mut self, step: &str, feed: &mut Feed, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(key, value)| (*key).to_owned() + "=" + value);
        let expected: Vec<String> = expected.collect();
        let deadline = soon();
        while !(self.is_current && self.told() == expected) {
            assert!(Instant::now() < deadline, "{step}: it knows {:?}", self.told());
            match timeout_at(deadline, feed.next(step, deadline)).await {
                Ok(signal) => self.learn(step, signal),
                Err(_) => panic!("{step}: it knows {:?}, expected {expected:?}", self.told()),
            }
        }
    }

    fn told(&self) -> Vec<String> {
        let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
        self.values.iter().map(|(key, value)| format!("{key}={}", text(value))).collect()
    }
}

/// A watch begins with what is there, says that this was all, and goes on with each change.
pub async fn watch(kv: &Kv) {
    let raw = Raw::new(kv, "watch");
    if !capabilities(&raw.kv).await.watch {
        refused("watch", ErrorKind::Unsupported, raw.watch("", None).await);
        return;
    }
    let mut empty = ok("watch no bucket", raw.watch("", None).await);
    let signal = empty.next("watch an empty bucket", soon()).await;
    assert_eq!(signal, Signal::Current, "the end of nothing is told");
    let mut empty_known = Known { is_current: true, ..Known::default() };
    let status = ok("status", raw.kv.bucket_status().await);
    assert!(status.is_some(), "a watch makes the bucket");

    for (key, value) in [("a:1", "old"), ("a:1", "1"), ("b", "2"), ("gone", "3")] {
        ok("set", raw.kv.set_raw(key, value).await);
    }
    let app = raw.kv.clone().with_prefix("app");
    ok("set under a prefix", app.set_raw("a:1", "app").await);
    ok("delete", raw.kv.delete("gone").await);
    let whole = raw.driver.whole_name(&raw.bucket, Key::new("app", "a:1"));
    let Some(whole) = whole else { panic!("app a:1 has no whole name") };
    let all = [("a:1", "1"), (&*whole, "app"), ("b", "2")];
    empty_known.reach("what was written meanwhile", &mut empty, &all).await;

    let mut feed = ok("watch", raw.watch("", None).await);
    let (mut known, mut first) = (Known::default(), 0);
    while !known.is_current {
        let signal = feed.next("what is there", soon()).await;
        if let Signal::Update(update) = &signal {
            assert!(matches!(update.what, What::Put(_)), "only values are there: {update:?}");
            first += 1;
        }
        known.learn("what is there", signal);
    }
    assert_eq!(first, 3, "each value is told once");
    known.reach("what is there", &mut feed, &all).await;

    let change = async |feed: &mut Feed, step: &str, expected: u64, key: &str| {
        let Signal::Update(update) = feed.next(step, soon()).await else {
            panic!("{step}: no update was told")
        };
        assert_eq!((update.revision, &*update.key), (expected, key), "{step}");
        update.what
    };
    let set = ok("set", raw.kv.set_raw("a:1", "3").await);
    let what = change(&mut feed, "a change", set, "a:1").await;
    let What::Put(entry) = what else { panic!("a value was told as {what:?}") };
    assert_eq!((entry.value.bytes, entry.revision), (Bytes::from("3"), set), "the value is told");
    let end = async |feed: &mut Feed, step: &str, key: &str| {
        let Signal::Update(update) = feed.next(step, soon()).await else {
            panic!("{step}: no update was told")
        };
        assert_eq!(update.key, key, "{step}");
        update.what
    };
    ok("delete", raw.kv.delete("a:1").await);
    assert_eq!(end(&mut feed, "a delete", "a:1").await, What::Deleted, "a delete is told");
    ok("purge", raw.kv.purge("b").await);
    assert_eq!(end(&mut feed, "a purge", "b").await, What::Purged, "a purge is told");

    let pattern = ok("glob", Glob::new("user:*"));
    let mut some = ok("watch some", raw.watch("", Some(&pattern)).await);
    let mut below = ok("watch a prefix", raw.watch("app", None).await);
    let mut one = ok("watch one of a prefix", {
        let pattern = ok("glob", Glob::new("user:2"));
        raw.watch("app", Some(&pattern)).await
    });
    let (mut some_known, mut below_known) = (Known::default(), Known::default());
    let mut one_known = Known::default();
    for name in ["user:1", "user", "user:2"] {
        ok("set", raw.kv.set_raw(name, name).await);
        ok("set under a prefix", app.set_raw(name, format!("app {name}")).await);
    }
    let users = [("user:1", "user:1"), ("user:2", "user:2")];
    some_known.reach("a pattern", &mut some, &users).await;
    let in_app =
        [("a:1", "app"), ("user", "app user"), ("user:1", "app user:1"), ("user:2", "app user:2")];
    below_known.reach("a prefix", &mut below, &in_app).await;
    one_known.reach("one of a prefix", &mut one, &[("user:2", "app user:2")]).await;
}

/// However slowly it is read, a watch loses no key's latest change and tells none twice.
pub async fn watch_under_load(kv: &Kv) {
    let raw = Raw::new(kv, "watch_load");
    if !capabilities(&raw.kv).await.watch {
        return;
    }
    let names: Vec<String> = (0..40).map(|n| format!("key:{n:02}")).collect();
    let write = async |round: usize| {
        for (n, name) in names.iter().enumerate() {
            if (n + round).is_multiple_of(5) {
                ok("delete", raw.kv.delete(name).await);
            } else {
                ok("set", raw.kv.set_raw(name, format!("{round}")).await);
            }
        }
    };
    write(0).await;
    let (mut slow, mut known) = (ok("watch", raw.watch("", None).await), Known::default());
    known.learn("begin", slow.next("begin", soon()).await);
    let mut quick = ok("watch", raw.watch("", None).await);
    let mut quick_known = Known::default();
    let last = 12;
    let writes = async {
        for round in 1..=last {
            write(round).await;
        }
    };
    let expected: Vec<(&str, String)> = (names.iter().enumerate())
        .filter(|(n, _)| !(n + last).is_multiple_of(5))
        .map(|(_, name)| (name.as_str(), last.to_string()))
        .collect();
    let expected: Vec<(&str, &str)> =
        expected.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let step = "read at once";
    // The writes take as long as they take.
    tokio::select! {
        () = writes => {}
        () = async {
            loop {
                quick_known.learn(step, quick.next(step, soon()).await);
            }
        } => {}
    }
    quick_known.reach(step, &mut quick, &expected).await;
    known.reach("read later", &mut slow, &expected).await;
}

/// The end of a lifetime is told in time, also when nobody touches the bucket.
pub async fn watch_expiry(kv: &Kv) {
    let raw = Raw::new(kv, "watch_expiry");
    let claims = capabilities(&raw.kv).await;
    if !claims.watch || !claims.ttl {
        return;
    }
    ok("set a value that stays", raw.kv.set_raw("stays", "x").await);
    let mut feed = ok("watch", raw.watch("", None).await);
    let mut known = Known::default();
    known.reach("begin", &mut feed, &[("stays", "x")]).await;
    let ttl = Duration::from_secs(1);
    ok("set", raw.kv.set_raw("key", "y").ttl(ttl).await);
    let done = Instant::now();
    known.reach("the value", &mut feed, &[("key", "y"), ("stays", "x")]).await;
    let Signal::Update(end) = feed.next("the end of a lifetime", done + ttl * 3).await else {
        panic!("the end of a lifetime is no update")
    };
    assert_eq!((&*end.key, &end.what), ("key", &What::Expired), "the end is told");
    same("it is gone", raw.kv.exists("key").await, &false);
    // Nothing follows, and the next change is told.
    ok("set it again", raw.kv.set_raw("key", "z").await);
    known.learn("the end", Signal::Update(end));
    known.reach("the next value", &mut feed, &[("key", "z"), ("stays", "x")]).await;
}

/// A watch goes on in a bucket that was made anew, and what was in the old one is told as gone.
pub async fn watch_remade(kv: &Kv) {
    let raw = Raw::new(kv, "watch_remade");
    if !capabilities(&raw.kv).await.watch {
        return;
    }
    for key in ["a", "b", "c"] {
        ok("set", raw.kv.set_raw(key, "old").await);
    }
    let mut feed = ok("watch", raw.watch("", None).await);
    let mut known = Known::default();
    let old = [("a", "old"), ("b", "old"), ("c", "old")];
    known.reach("the old bucket", &mut feed, &old).await;
    same("delete the bucket", kv.delete_bucket(&raw.bucket).await, &true);
    ok("set in a new one", raw.kv.set_raw("b", "new").await);
    ok("set another", raw.kv.set_raw("d", "new").await);
    known.reach("the new bucket", &mut feed, &[("b", "new"), ("d", "new")]).await;
    assert!(known.resets > 0, "that it is another bucket is told");
    ok("delete", raw.kv.delete("b").await);
    known.reach("a change there", &mut feed, &[("d", "new")]).await;
}

/// The events of handles: values with their serializer, of the prefix and pattern alone.
pub async fn events(kv: &Kv) {
    let bucket = kv.bucket(unique("events"));
    let kv = bucket.clone().with_prefix("app").with_serializer(Serializer::message_pack());
    let claims = capabilities(&bucket).await;
    if !claims.watch {
        refused("watch", ErrorKind::Unsupported, kv.watch("user:*").await);
        refused("watch all", ErrorKind::Unsupported, kv.watch_all().await);
        return;
    }
    ok("set", kv.set("user:1", &user("Ada")).await);
    ok("set another", kv.set("other", &1).await);
    ok("set under no prefix", bucket.set("user:1", &1).await);
    let mut users = ok("watch", kv.watch("user:*").await);
    let mut updates = ok("watch updates", kv.watch_all().updates_only().await);
    let next = async |step: &str, watch: &mut Watcher| match timeout_at(soon(), watch.next()).await
    {
        Ok(Some(event)) => ok(step, event),
        other => panic!("{step}: found {other:?}"),
    };
    match next("what is there", &mut users).await {
        Event::Put(record) => {
            assert_eq!(record.key, "user:1", "without its prefix");
            same("decode", record.decode::<User>(), &user("Ada"));
        }
        other => panic!("what is there: found {other:?}"),
    }
    let event = next("that this was all", &mut users).await;
    assert!(matches!(event, Event::Current), "that this was all: found {event:?}");
    assert!(users.is_current(), "it is current");
    let event = next("no values", &mut updates).await;
    assert!(matches!(event, Event::Current), "only updates: found {event:?}");

    let revision = ok("set", kv.set("user:2", &user("Alan")).await);
    match next("a change", &mut users).await {
        Event::Put(record) => {
            assert_eq!((&*record.key, record.revision), ("user:2", revision), "a change");
            same("decode", record.decode::<User>(), &user("Alan"));
        }
        other => panic!("a change: found {other:?}"),
    }
    ok("set another", kv.set("other", &2).await);
    ok("delete", kv.delete("user:1").await);
    let event = next("a delete", &mut users).await;
    assert!(matches!(&event, Event::Deleted { key, .. } if key == "user:1"), "found {event:?}");
    ok("purge", kv.purge("user:2").await);
    let event = next("a purge", &mut users).await;
    assert!(matches!(&event, Event::Purged { key, .. } if key == "user:2"), "found {event:?}");
    // The value that was purged since may be told before, or not at all.
    let mut keys = Vec::new();
    while keys.last().is_none_or(|key| key != "user:2 Purged") {
        let event = next("each update", &mut updates).await;
        let what = if matches!(event, Event::Purged { .. }) { " Purged" } else { "" };
        keys.push(event.key().unwrap_or_default().to_owned() + what);
    }
    keys.retain(|key| key != "user:2");
    assert_eq!(keys, ["other", "user:1", "user:2 Purged"], "each update is told");
}
