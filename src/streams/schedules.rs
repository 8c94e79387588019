//! The subject under which a stream keeps what it publishes later: a schedule needs one of its own,
//! in the stream of its target.

use super::StreamConfig;
use crate::pubsub::subject::matches;

impl StreamConfig {
    /// Adds the subject of the schedules, if the stream has such and keeps it not yet.
    pub(super) fn add_schedules(&mut self, prefix: &str) {
        let own = schedules(prefix, &self.name);
        if self.schedules == Some(true) && !self.keeps(&own) {
            self.subjects.push(own);
        }
    }

    /// Takes the subject of the schedules over from a stream that is there, where this one says
    /// nothing of schedules.
    pub(super) fn keep_schedules(&mut self, found: &StreamConfig) {
        if self.schedules.is_some() || found.schedules != Some(true) || self.subjects.is_empty() {
            return;
        }
        if let Some(own) = found.schedules_subject()
            && !self.keeps(own)
        {
            self.subjects.push(own.to_owned());
        }
    }

    /// The subject of the schedule `id` (whole tokens) in this stream, as it is with its full
    /// subjects; `None` when it keeps no schedules. `prefix` is the handle's, for streams with a
    /// wider subject.
    pub(crate) fn schedule_subject(&self, prefix: &str, id: &str) -> Option<String> {
        let own = match self.schedules_subject() {
            Some(own) => own.to_owned(),
            None => Some(schedules(prefix, &self.name)).filter(|own| self.keeps(own))?,
        };
        Some(format!("{}{id}", own.trim_end_matches('>')))
    }

    /// The one among its subjects that was added for the schedules.
    fn schedules_subject(&self) -> Option<&str> {
        let end = schedules("", &self.name);
        self.subjects.iter().map(String::as_str).find(|subject| subject.ends_with(&end))
    }

    /// Whether all that `subject`, which ends with `>`, covers is kept.
    fn keeps(&self, subject: &str) -> bool {
        let covers = |pattern: &String| pattern.ends_with('>') && matches(pattern, subject);
        self.subjects.iter().any(covers)
    }
}

fn schedules(prefix: &str, stream: &str) -> String {
    format!("{prefix}schedules.{stream}.>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_a_subject_of_their_own() {
        let mut own = StreamConfig::new("S", ["app.orders.>"]).schedules(true);
        own.add_schedules("app.");
        own.add_schedules("app.");
        assert_eq!(own.subjects, ["app.orders.>", "app.schedules.S.>"]);
        let at = |config: &StreamConfig, prefix: &str| config.schedule_subject(prefix, "a.1");
        // Whoever has another prefix finds it, too.
        assert_eq!(at(&own, "").as_deref(), Some("app.schedules.S.a.1"));

        let mut wide = StreamConfig::new("S", ["app.>"]).schedules(true);
        wide.add_schedules("app.");
        assert_eq!(wide.subjects, ["app.>"]);
        assert_eq!(at(&wide, "app.").as_deref(), Some("app.schedules.S.a.1"));
        assert_eq!(at(&wide, ""), None);

        // It would not keep all of them; the check tells that the two overlap.
        let mut narrow = StreamConfig::new("S", ["schedules.S.*"]).schedules(true);
        narrow.add_schedules("");
        assert!(narrow.check().is_err());

        let mut none = StreamConfig::new("S", ["orders.*"]);
        none.add_schedules("");
        assert_eq!(at(&none, ""), None);
        none.keep_schedules(&own);
        assert_eq!(none.subjects, ["orders.*", "app.schedules.S.>"]);
        let mut off = StreamConfig::new("S", ["orders.*"]).schedules(false);
        off.keep_schedules(&own);
        assert_eq!(off.subjects, ["orders.*"]);
    }
}
