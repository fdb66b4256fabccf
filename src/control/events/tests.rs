//! What is told, and how it reads.

use super::*;

#[test]
fn events_carry_their_data_with_a_kind() {
    let events = Events::default();
    let mut reader = events.subscribe();
    let service: Arc<str> = "app".into();
    events.send(
        Some(&service),
        Kind::Crash { backend: "a-1".into(), address: None, cause: "exit status: 1".into() },
    );
    let event = reader.try_recv().expect("just sent");
    let json = serde_json::to_value(&*event).expect("plain data");
    assert_eq!(json["id"], 1);
    assert_eq!(json["kind"], "backend");
    assert_eq!(json["service"], "app");
    assert_eq!(json["data"]["kind"], "crash");
    assert_eq!(json["data"]["cause"], "exit status: 1");
}

#[test]
fn lines_read_as_sentences() {
    let ready = Kind::BackendState {
        backend: "app-1".into(),
        address: Some(([127, 0, 0, 1], 20002).into()),
        state: "ready",
        after_ms: Some(310),
        ramp_ms: Some(30_000),
        reason: None,
    };
    assert_eq!(ready.line(), "backend 127.0.0.1:20002 ready after 0.31 s, ramping for 30 s");
    let ejected = Kind::BackendEjected {
        backend: "app-1".into(),
        address: Some(([127, 0, 0, 1], 20002).into()),
        reason: "consecutive",
        why: "5 consecutive failures, last: connection refused".into(),
        for_ms: 11_200,
        times: 1,
    };
    assert_eq!(
        ejected.line(),
        "backend 127.0.0.1:20002 ejected for 11 s: 5 consecutive failures, last: connection refused"
    );
    let scaled = Kind::Scaled { from: 11, to: 10, reason: "concurrency".into(), decision: 7 };
    assert_eq!(scaled.line(), "−1 → 10  concurrency");
    let flood = |step, ended, lasted_ms| {
        let (listener, flood) = ("http".into(), "slow_head");
        Kind::Flood { listener, flood, step, ended, lasted_ms }.line()
    };
    assert_eq!(flood(Step::Begun, 3, 0), "listener http: slow_head begun: 3 ended");
    assert_eq!(flood(Step::Ended, 9, 0), "listener http: slow_head is over: 9 ended within 1 s");
    let (route, limit) = ("app".into(), "per-client".into());
    let refused =
        Kind::RequestFlood { route, limit, step: Step::GoesOn, refused: 400, lasted_ms: 60_000 };
    assert_eq!(
        refused.line(),
        "route app: request flood over per-client goes on: 400 refused within 60 s"
    );
    let shed = Kind::Shed { step: Step::Begun, shed: 7, lasted_ms: 0 };
    assert_eq!(shed.line(), "overload begun: 7 shed");
    let memory = |step, level, mib: u64| Kind::MemoryPressure {
        step,
        level,
        bytes: mib << 20,
        limit_bytes: 512 << 20,
        peak_bytes: 500 << 20,
        refused: 7,
    };
    assert_eq!(
        memory(PressureStep::Worse, "critical", 490).line(),
        "490 MiB of 512 MiB memory in use (max_memory): only critical requests are let in"
    );
    assert_eq!(
        memory(PressureStep::Ended, "critical", 90).line(),
        "90 MiB of 512 MiB memory in use, at most 500 MiB: nothing is refused for it any more; 7 requests were"
    );
}

#[test]
fn a_slow_reader_loses_the_oldest_and_is_told() {
    let events = Events::default();
    let mut reader = events.subscribe();
    for _ in 0..CAPACITY + 5 {
        events.send(None, Kind::Reload { generation: 1, restart_required: vec![] });
    }
    assert!(matches!(
        reader.try_recv(),
        Err(broadcast::error::TryRecvError::Lagged(n)) if n >= 5
    ));
}

#[test]
fn everything_that_happens_can_be_notified_of() {
    let source = include_str!("../events.rs");
    let names = source.split("pub fn name(").nth(1).expect("the function of names");
    let names = names.split("pub fn").next().expect("what is before the next one");
    let mut names: Vec<_> =
        names.split("=> \"").skip(1).filter_map(|n| n.split('"').next()).collect();
    names.sort_unstable();
    assert_eq!(names, crate::config::types::EVENTS);
}
