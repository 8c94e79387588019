//! Captured logs hold everything.

use testkit::logs::Logs;

#[test]
fn a_scope_sees_every_level_and_only_itself() {
    let (logs, guard) = Logs::scoped();
    tracing::trace!(field = "whispered", "low");
    tracing::info_span!("outer", inside = 7).in_scope(|| tracing::error!("high"));
    drop(guard);
    tracing::error!("too late");
    let text = logs.text();
    for seen in ["whispered", "low", "outer", "inside=7", "high"] {
        assert!(text.contains(seen), "{seen} is not in {text}");
    }
    assert!(!text.contains("too late"), "{text}");
}

#[test]
fn the_whole_process_is_seen() {
    let logs = Logs::global();
    std::thread::spawn(|| tracing::trace!("from another thread")).join().unwrap();
    assert!(logs.text().contains("from another thread"));
    tracing::trace!("same text for all");
    assert!(Logs::global().text().contains("same text for all"));
}
