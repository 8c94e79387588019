//! Real nats-servers for tests.
