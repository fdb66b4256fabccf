//! `[service.NAME.overload]`: what happens while every backend is full.

use crate::config::reader::Reader;
use crate::config::tree::{Node, Value};
use crate::config::types::{Overload, QueueLimit};
use crate::config::values::{self, Wrong, wrong};

/// Most requests that may wait for one service.
const MAX_QUEUE: i64 = 1_000_000;

/// Whether it is learned.
const LEARNED: [(&str, bool); 2] = [("adaptive", true), ("off", false)];

pub fn read(r: &mut Reader<'_>) -> Overload {
    Overload {
        concurrency: r.one_of("concurrency", &LEARNED).or("adaptive"),
        rate_limit: r.one_of("rate_limit", &LEARNED).or("adaptive"),
        queue: r.field("queue", queue).or("auto"),
        queue_timeout: r.period("queue_timeout").or("100ms"),
    }
}

fn queue(value: &Value) -> Result<QueueLimit, Wrong> {
    if matches!(&value.node, Node::String(word) if word == "auto") {
        return Ok(QueueLimit::Auto);
    }
    match values::integer(value, &(0..=MAX_QUEUE)) {
        Ok(most) => Ok(QueueLimit::Requests(most as u32)),
        Err(_) => wrong(
            value,
            format!("it is not a length of a queue; write \"auto\" or one from 0 to {MAX_QUEUE}"),
        ),
    }
}
