//! Peak-sensitive moving average of latency, in one word. Source: Finagle's and linkerd's peak EWMA.

/// See balancing.md: value as f32 µs and time as u32 ms in one `AtomicU64`.
#[derive(Debug, Default)]
pub struct PeakEwma {}
