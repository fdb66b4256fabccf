//! Tells of clients that were sent away for doing too much, or too slowly: the counting is the data plane's,
//! here it becomes an event, at most one a minute for each listener and kind. A flood is many of one kind, and
//! the log must not be the next thing that it fills.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Micros;
use crate::telemetry::counter::Label;
use crate::telemetry::{Flood, ListenerStats};

use super::core::Control;
use super::events::Kind;
use super::lock;

/// Between two events of one listener and kind.
const PAUSE: Micros = 60_000_000;

/// What was told so far, by listener.
#[derive(Debug, Default)]
pub struct Floods(HashMap<Arc<str>, [Told; Flood::COUNT]>);

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    count: u64,
    /// No other before this.
    until: Micros,
}

impl Floods {
    /// What there is to tell of a listener now: kind, and how many since it was told last.
    fn news(
        &mut self,
        listener: &Arc<str>,
        stats: &ListenerStats,
        now: Micros,
    ) -> Vec<(Flood, u64)> {
        let told = self.0.entry(listener.clone()).or_default();
        let fresh = Flood::ALL.iter().filter_map(|&kind| {
            let (told, count) = (&mut told[kind.index()], stats.floods(kind));
            // A listener that was taken away and came back counts from the start.
            told.count = told.count.min(count);
            let more = count - told.count;
            if more == 0 || now < told.until {
                return None;
            }
            *told = Told { count, until: now + PAUSE };
            Some((kind, more))
        });
        fresh.collect()
    }
}

impl Control {
    /// Once a second.
    pub(super) fn tell_of_floods(&self) {
        let (snapshot, now) = (self.plane.current(), self.clock.now());
        let mut floods = lock(&self.floods);
        floods.0.retain(|name, _| snapshot.listeners.iter().any(|l| l.config.name == *name));
        for listener in &snapshot.listeners {
            let name = &listener.config.name;
            for (kind, ended) in floods.news(name, &listener.stats, now) {
                let listener = name.to_string();
                self.events.send(None, Kind::Flood { listener, flood: kind.as_str(), ended });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_once_and_then_once_a_minute() {
        let (mut floods, stats) = (Floods::default(), ListenerStats::default());
        let name: Arc<str> = "http".into();
        assert_eq!(floods.news(&name, &stats, 0), []);
        stats.flood(Flood::Ping);
        assert_eq!(floods.news(&name, &stats, 1), [(Flood::Ping, 1)]);
        stats.flood(Flood::Ping);
        stats.flood(Flood::Ping);
        stats.flood(Flood::SlowHead);
        assert_eq!(floods.news(&name, &stats, 2), [(Flood::SlowHead, 1)]);
        assert_eq!(floods.news(&name, &stats, PAUSE), []);
        assert_eq!(floods.news(&name, &stats, PAUSE + 1), [(Flood::Ping, 2)]);
        assert_eq!(floods.news(&name, &ListenerStats::default(), 3 * PAUSE), []);
    }
}
