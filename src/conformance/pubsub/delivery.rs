//! Who gets a message, and in what order.

use std::sync::Arc;

use super::probe::Probe;
use crate::pubsub::driver::Driver;

/// Every subscription to a subject gets every message, a duplicate one too; others get none.
pub async fn fan_out(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "fan_out");
    let first = probe.subscribe("a", None).await;
    let second = probe.subscribe("a", None).await;
    let other = probe.subscribe("b", None).await;
    for payload in ["1", "2", "3"] {
        probe.publish("a", payload).await;
    }
    for inbox in [first, second] {
        let all = inbox.all().await;
        probe.check("each subscriber gets each message once", all == ["1", "2", "3"], all);
    }
    let all = other.all().await;
    probe.check("another subject gets nothing", all.is_empty(), all);
}

/// `*` stands for one token, `>` for one or more at the end.
pub async fn wildcards(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "wildcards");
    for (pattern, expected) in [
        ("a.*", &["a.b", "a.c"][..]),
        ("a.>", &["a.b", "a.c", "a.b.c"]),
        ("*.b", &["a.b", "x.b"]),
        ("*.*.c", &["a.b.c"]),
        ("*.>", &["a.b", "a.c", "a.b.c", "x.b"]),
        ("a", &["a"]),
    ] {
        let inbox = probe.subscribe(pattern, None).await;
        for subject in ["a", "a.b", "a.c", "a.b.c", "x.b"] {
            probe.publish(subject, subject).await;
        }
        let all = inbox.all().await;
        probe.check(pattern, all == expected, all);
    }

    let mut inbox = probe.subscribe(">", None).await;
    probe.publish("deep.er", "x").await;
    let message = inbox.message("a message by wildcard").await;
    let wanted = probe.subject("deep.er");
    probe.check("its subject is the full one", message.subject == wanted, message.subject);
}

/// Overlapping subscriptions are served each on its own.
pub async fn overlapping_subscriptions(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "overlapping_subscriptions");
    let mut inboxes = Vec::new();
    for pattern in ["a.b", "a.b", "a.*", ">", "*.b"] {
        inboxes.push((pattern, probe.subscribe(pattern, None).await));
    }
    for payload in ["1", "2"] {
        probe.publish("a.b", payload).await;
    }
    for (pattern, inbox) in inboxes {
        let all = inbox.all().await;
        probe.check(pattern, all == ["1", "2"], all);
    }
}

/// Each queue group gets each message once, by one of its members, and all members get some; a plain
/// subscriber beside them gets all.
pub async fn queue_groups(driver: &Arc<dyn Driver>) {
    const MESSAGES: usize = 300;
    let probe = Probe::new(driver, "queue_groups");
    let mut groups = Vec::new();
    for (queue, members) in [("workers", 3), ("auditors", 2)] {
        let mut inboxes = Vec::new();
        for _ in 0..members {
            inboxes.push(probe.subscribe("jobs", Some(queue)).await);
        }
        groups.push((queue, inboxes));
    }
    let plain = probe.subscribe("jobs", None).await;

    let expected: Vec<String> = (0..MESSAGES).map(|n| format!("{n:04}")).collect();
    for payload in &expected {
        probe.publish("jobs", payload.clone()).await;
    }
    for (queue, members) in groups {
        let mut together = Vec::new();
        for member in members {
            let all = member.all().await;
            // Chance leaves one of three without any in less than one run of 10^50.
            probe.check("each member of a group gets some", !all.is_empty(), queue);
            probe.check("a member keeps the order", all.is_sorted(), &all);
            together.extend(all);
        }
        together.sort();
        probe.check(queue, together == expected, together);
    }
    let all = plain.all().await;
    probe.check("a plain subscriber beside groups gets all", all == expected, all);

    let by_subject = probe.subscribe("mixed.a", Some("workers")).await;
    let by_pattern = probe.subscribe("mixed.*", Some("workers")).await;
    for payload in &expected {
        probe.publish("mixed.a", payload.clone()).await;
    }
    let mut together = by_subject.all().await;
    together.extend(by_pattern.all().await);
    together.sort();
    probe.check("the name alone makes a group", together == expected, together);
}

/// 1,000 messages of one publisher to one subject arrive in order.
pub async fn order(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "order");
    let exact = probe.subscribe("numbers", None).await;
    let pattern = probe.subscribe("*", None).await;
    let expected: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    for payload in &expected {
        probe.publish("numbers", payload.clone()).await;
    }
    for inbox in [exact, pattern] {
        let all = inbox.all().await;
        probe.check("1,000 messages in order", all == expected, all);
    }
}
