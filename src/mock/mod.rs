//! An in-process Kafka cluster for tests and examples.
