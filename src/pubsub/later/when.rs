//! When a message is published later: checked here, and as servers read it.

use std::time::{Duration, SystemTime};

use crate::connector::Feature;
use crate::error::{Error, ErrorKind, Result};

/// The longest interval, about a century. Servers count in nanoseconds since 1970 and publish without
/// a pause when that overflows.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The last second that servers can count to, in the year 2262; what is later they publish at once.
const LAST: Duration = Duration::from_secs(i64::MAX as u64 / 1_000_000_000);

/// When to publish.
#[derive(Debug, Clone)]
pub(super) enum When {
    At(SystemTime),
    After(Duration),
    Every(Duration),
    Cron(String),
}

impl When {
    /// What the server must be able to do.
    pub(super) fn feature(&self) -> Feature {
        match self {
            When::At(_) | When::After(_) => Feature::Schedules,
            When::Every(_) | When::Cron(_) => Feature::RepeatingSchedules,
        }
    }

    /// How long the schedule has to be kept from `now` on; `None`: for good.
    pub(super) fn waits(&self, now: SystemTime) -> Option<Duration> {
        match self {
            When::At(at) => Some(at.duration_since(now).unwrap_or_default()),
            When::After(delay) => Some(*delay),
            When::Every(_) | When::Cron(_) => None,
        }
    }

    /// The text of the schedule, `now` being the time from which a delay is counted.
    pub(super) fn text(&self, now: SystemTime) -> Result<String> {
        match self {
            When::At(at) => at_text(*at),
            When::After(delay) => at_text(now.checked_add(*delay).ok_or_else(too_late)?),
            When::Every(interval) => every_text(*interval),
            When::Cron(expression) => check_cron(expression).map(|()| expression.clone()),
        }
    }
}

fn at_text(at: SystemTime) -> Result<String> {
    // Before 1970 is as good as 1970: it is past.
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if since > LAST {
        return Err(too_late());
    }
    let at = SystemTime::UNIX_EPOCH + since;
    Ok(format!("@at {}", humantime::format_rfc3339_nanos(at)))
}

fn too_late() -> Error {
    invalid(
        "the time is after the year 2262, where the clocks of servers end; choose an earlier one",
    )
}

fn every_text(interval: Duration) -> Result<String> {
    if interval < Duration::from_secs(1) || interval.subsec_nanos() > 0 {
        return Err(invalid(
            "an interval is whole seconds, at least one: servers round what is finer; choose another \
             one",
        ));
    }
    if interval > LONGEST {
        return Err(invalid("the interval is longer than 100 years; choose a shorter one"));
    }
    Ok(format!("@every {}s", interval.as_secs()))
}

/// Finds the usual mistakes before anything is sent; the server has the last word.
fn check_cron(expression: &str) -> Result<()> {
    const NAMED: [&str; 7] =
        ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if NAMED.contains(&expression) {
        return Ok(());
    }
    let fields = expression.split_whitespace().count();
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"*?,-/ ".contains(&byte);
    if fields != 6 || !expression.bytes().all(known) {
        return Err(not_a_cron(expression));
    }
    Ok(())
}

fn not_a_cron(expression: &str) -> Error {
    invalid(
        "not a cron expression; give 6 fields, seconds first (second minute hour day month weekday, \
         as in `0 30 9 * * mon-fri`), or @hourly, @daily, @weekly, @monthly, @yearly",
    )
    .with("cron", expression)
}

/// For what looks like a cron expression and is refused by the server.
pub(super) fn never_comes(expression: &str) -> Error {
    invalid(
        "the server does not take this cron expression: a field is out of its range, or the time \
         never comes (as 31 February); the fields are second minute hour day month weekday",
    )
    .with("cron", expression)
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const SECOND: Duration = Duration::from_secs(1);

    fn text(when: &When) -> Result<String> {
        when.text(NOW)
    }

    #[test]
    fn times_are_written_to_the_nanosecond() {
        let at = When::At(NOW + Duration::new(1_700_000_000, 123_456_789));
        assert_eq!(text(&at).unwrap(), "@at 2023-11-14T22:13:20.123456789Z");
        let after = When::After(Duration::from_millis(1500));
        assert_eq!(text(&after).unwrap(), "@at 1970-01-01T00:00:01.500000000Z");
        let before = NOW.checked_sub(SECOND).unwrap();
        assert_eq!(text(&When::At(before)).unwrap(), "@at 1970-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn what_overflows_in_servers_is_refused() {
        assert!(text(&When::At(NOW + LAST)).unwrap().starts_with("@at 2262-04-11T23:47:16"));
        assert!(text(&When::Every(LONGEST)).is_ok());
        for when in [
            When::At(NOW + LAST + SECOND),
            When::After(LAST + SECOND),
            When::After(Duration::MAX),
            When::Every(LONGEST + SECOND),
            When::Every(Duration::ZERO),
            When::Every(Duration::from_millis(999)),
            When::Every(Duration::from_millis(1500)),
        ] {
            assert_eq!(text(&when).unwrap_err().kind(), ErrorKind::InvalidInput, "{when:?}");
        }
        assert_eq!(text(&When::Every(90 * SECOND)).unwrap(), "@every 90s");
    }

    #[test]
    fn usual_mistakes_in_cron_expressions_are_found() {
        for good in ["0 30 9 * * *", "*/10 * * * * mon-FRI", "0 0 0 1,15 jan ?", "@daily"] {
            assert_eq!(text(&When::Cron(good.to_owned())).unwrap(), good);
        }
        let injected = "0 30 9 * * *\r\nX: y";
        for bad in ["", "30 9 * * *", "0 30 9 * * * *", "@every 5s", "@at 5", "@dayly", injected] {
            let error = text(&When::Cron(bad.to_owned())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
            assert!(error.message().contains("6 fields"), "{error}");
        }
    }

    #[test]
    fn a_schedule_waits_from_now_on() {
        assert_eq!(When::At(NOW + SECOND).waits(NOW), Some(SECOND));
        assert_eq!(When::At(NOW).waits(NOW + SECOND), Some(Duration::ZERO));
        assert_eq!(When::Every(SECOND).waits(NOW), None);
    }
}
