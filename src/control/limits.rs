//! What the control plane does for the limits of routes: forgets clients that are as good as new, tells of
//! bans and lifts them.

use std::time::Duration;

use ipnet::IpNet;

use crate::admin::{Refusal, view};
use crate::limits::bans::Ban;

use super::core::Control;
use super::events::{BanStep, Kind};

/// Bans that are told one by one in a second; how many more there are is said with the last.
const TOLD: usize = 10;

impl Control {
    /// Once a second.
    pub(super) fn sweep_limits(&self) {
        let snapshot = self.plane.current();
        self.tell_of_bans();
        if let Some(away) = self.plane.together().news() {
            let why = if away { self.plane.together().why() } else { String::new() };
            self.events.send(None, Kind::SharedLimits { away, why });
        }
        for limits in snapshot.routes.iter().filter_map(|route| route.limits.as_ref()) {
            limits.rates().iter().for_each(|rate| rate.limit.sweep());
        }
    }

    fn tell_of_bans(&self) {
        let news = self.plane.bans().news(self.clock.now(), TOLD);
        for (step, few) in [(BanStep::Begun, news.begun), (BanStep::Ended, news.ended)] {
            self.tell_bans(step, &few.first, few.all);
        }
    }

    /// Of `all`, the first [`TOLD`] at least.
    fn tell_bans(&self, step: BanStep, bans: &[(IpNet, Ban)], all: usize) {
        for (index, (network, ban)) in bans.iter().take(TOLD).enumerate() {
            let more = if index + 1 == TOLD { all - TOLD } else { 0 };
            let lasts = Duration::from_micros(ban.until.saturating_sub(ban.since));
            let kind = Kind::Ban {
                address: network.to_string(),
                step,
                route: ban.route.to_string(),
                limit: ban.limit.to_string(),
                for_ms: lasts.as_millis() as u64,
                more,
            };
            self.events.send(None, kind);
        }
    }

    /// Who is not let in, at most so many.
    pub(super) fn bans(&self, limit: usize) -> view::Bans {
        let all = self.plane.bans().all();
        let wall = |at| self.clock.wall(at).into();
        let bans = all.iter().take(limit).map(|(network, ban)| view::Ban {
            address: network.to_string(),
            since: wall(ban.since),
            until: wall(ban.until),
            route: ban.route.to_string(),
            limit: ban.limit.to_string(),
        });
        view::Bans { active: all.len(), bans: bans.collect() }
    }

    /// Lets a network in again, or every network that an address is in.
    pub(super) fn lift_ban(&self, network: IpNet) -> Result<(), Refusal> {
        let lifted = self.plane.bans().lift(network);
        if lifted.is_empty() {
            return Err(Refusal::NotFound(format!("{network} is not banned.")));
        }
        self.tell_bans(BanStep::Lifted, &lifted, lifted.len());
        Ok(())
    }
}
