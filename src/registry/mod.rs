//! Lifecycle of instances.
