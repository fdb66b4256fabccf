//! Tests of the whole check.
