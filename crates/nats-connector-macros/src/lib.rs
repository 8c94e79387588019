//! Attributes that make services of traits, for nats-connector.
