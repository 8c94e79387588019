//! What can be given as a topic.

use async_nats::Subject;

/// A topic: a `&'static str` or `Subject`, which are not copied; a `String`, whose text is taken
/// over; a `&String` or `&Subject`. Other borrowed text: `text.to_owned()`.
pub trait IntoTopic {
    /// The topic's text.
    fn into_topic(self) -> Subject;
}

impl IntoTopic for &'static str {
    fn into_topic(self) -> Subject {
        Subject::from_static(self)
    }
}

impl IntoTopic for String {
    fn into_topic(self) -> Subject {
        self.into()
    }
}

impl IntoTopic for &String {
    fn into_topic(self) -> Subject {
        self.as_str().into()
    }
}

impl IntoTopic for Subject {
    fn into_topic(self) -> Subject {
        self
    }
}

impl IntoTopic for &Subject {
    fn into_topic(self) -> Subject {
        self.clone()
    }
}
