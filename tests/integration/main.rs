//! All integration tests: one binary, so that it is linked once. One file a subject; what they
//! share is in `tests/support`.

// A test that cannot go on panics; that is its way of failing.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod added;
mod admin_api;
mod admin_tokens;
mod admin_users;
mod advice;
mod affinity;
mod attacks;
mod bad_config;
mod balancing;
mod balancing_figures;
mod bans;
mod bodies;
mod client_certificates;
mod commands;
mod connections;
mod cost;
mod discovery;
mod downstream;
mod floods;
mod frozen;
mod grpc;
mod h2;
mod h3;
mod handover;
mod headers;
mod healing;
mod hedging;
mod holding;
mod hostile;
mod hostile_answers;
mod hostile_h2;
mod instructions;
mod interim;
mod killed;
mod learning;
mod limits;
mod load;
mod many_clients;
mod memory;
mod metrics;
mod mirroring;
mod notify;
mod openapi;
mod operator;
mod orchestrators;
mod origin;
mod origin_protocols;
mod outlier;
mod overload;
mod parking;
mod peers;
mod privileges;
mod proxy_protocol;
mod proxy_protocol_out;
mod queueing;
mod quickstart;
mod rate_limits;
mod recording;
mod reload_effects;
mod reloads;
mod retries;
mod route_limits;
mod routes;
mod scaling;
mod sessions;
mod shared_limits;
mod signals;
mod simulate;
mod splitting;
mod standard_load;
mod stopping;
mod successors;
mod systemd;
mod timeouts;
mod tls;
mod unix_backends;
mod upgrades;
mod websockets;
