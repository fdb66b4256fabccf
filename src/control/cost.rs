//! What backends came to: every tick is booked, and told by `/v1/cost`. The books are `scale::cost`'s.

use std::time::SystemTime;

use crate::admin::view;
use crate::config::types as config;
use crate::scale::cost::{Hour, Ledger, Spent, hints};
use crate::scale::{Sample, Wall};

use super::core::Control;
use super::journal::Scribe;
use super::lock;
use super::managed::Managed;

const HOUR: f64 = 3600.0;

/// The books of one service.
#[derive(Debug, Default)]
pub struct Books {
    pub ledger: Ledger,
    /// `None`: they are kept in memory only.
    pub scribe: Option<Scribe>,
}

impl Books {
    /// Books one tick. `needs`: what its load needs, where a policy can tell; `used`: cores and bytes of the
    /// backend that uses the most.
    pub fn tick(
        &mut self,
        sample: &Sample,
        params: &config::Scaling,
        needs: Option<u32>,
        used: (f64, u64),
    ) {
        let spent = Spent {
            span: sample.span,
            running: sample.counts.size() + sample.counts.draining,
            needs,
            min: params.min,
            max: params.max,
            requests: sample.traffic.finished as f64,
            used,
        };
        let written = self.ledger.add(sample.wall, &spent);
        if let (Some(hour), Some(scribe)) = (written, &self.scribe) {
            scribe.hour(&hour);
        }
    }

    /// What is not written yet.
    pub fn close(&self) {
        if let (Some(hour), Some(scribe)) = (self.ledger.present(), &self.scribe) {
            scribe.hour(hour);
        }
    }

    /// What was spent this month, with its price of now; `None` without a price.
    pub fn month(&self, now: Wall, price: f64) -> Option<f64> {
        let hours = Hour::sum(self.ledger.since(now.month()));
        (price > 0.0).then(|| hours.ran / HOUR * price)
    }
}

impl Control {
    /// What all services came to since then.
    pub fn costs(&self, since: SystemTime) -> view::Costs {
        let now = SystemTime::now();
        let all: Vec<_> = lock(&self.managed).values().cloned().collect();
        let services = all.iter().filter_map(|one| self.cost(one, since.into(), now.into()));
        view::Costs { since: since.into(), until: now.into(), services: services.collect() }
    }

    fn cost(&self, managed: &Managed, since: Wall, now: Wall) -> Option<view::Cost> {
        let params = {
            let registry = lock(&self.registry);
            registry.pool(&managed.service)?.config().scaling.clone()?
        };
        let scaling = lock(&managed.scaling);
        let ledger = &scaling.books.ledger;
        let hours: Vec<Hour> = ledger.since(since.hour()).copied().collect();
        let sum = Hour::sum(hours.iter());
        let month = Hour::sum(ledger.since(now.month()));
        let backend_hours = view::BackendHours {
            ran: sum.ran / HOUR,
            static_max: sum.most / HOUR,
            least: sum.least / HOUR,
        };
        let share = |of: f64| (of > 0.0).then(|| sum.ran / of);
        Some(view::Cost {
            service: managed.service.to_string(),
            observed_hours: sum.seen / HOUR,
            requests: sum.requests,
            backend_hours,
            saved_ratio: share(sum.most).map(|share| 1.0 - share),
            above_least_ratio: share(sum.least).map(|share| share - 1.0),
            spend: spend(&params.cost, &sum, &month, now),
            hints: hints(&hours, params.min, params.max)
                .into_iter()
                .map(|hint| view::Hint { text: hint.text, toml: hint.toml })
                .collect(),
        })
    }

    /// What is booked and not written yet, at the end.
    pub(super) fn close_books(&self) {
        for managed in lock(&self.managed).values() {
            lock(&managed.scaling).books.close();
        }
    }
}

fn spend(cost: &config::Cost, sum: &Hour, month: &Hour, now: Wall) -> Option<view::Spend> {
    let price = cost.per_backend_hour;
    let money = |backend_seconds: f64| backend_seconds / HOUR * price;
    // Time in which tidegate did not run is not guessed at: what was seen goes on.
    let left = now.month_left();
    let rate = if month.seen > 0.0 { money(month.ran) / month.seen } else { 0.0 };
    (price > 0.0).then(|| view::Spend {
        currency: cost.currency.clone(),
        per_backend_hour: price,
        ran: money(sum.ran),
        static_max: money(sum.most),
        least: money(sum.least),
        per_million_requests: (sum.requests > 0.0).then(|| money(sum.ran) / sum.requests * 1e6),
        month: money(month.ran),
        month_forecast: money(month.ran) + rate * left.as_secs_f64(),
        month_budget: (cost.budget_per_month > 0.0).then_some(cost.budget_per_month),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_hours_times_the_price_of_today() {
        let hour = |ran: f64| Hour {
            seen: 3600.0,
            ran,
            most: 36_000.0,
            least: ran / 2.0,
            requests: 500.0,
            ..Hour::default()
        };
        let cost =
            config::Cost { per_backend_hour: 0.5, currency: "EUR".into(), budget_per_month: 100.0 };
        // Ten hours before the end of January 1970.
        let now = Wall((31 * 24 - 10) * 3_600_000);
        let spend = spend(&cost, &hour(7200.0), &hour(3600.0), now).expect("a price");
        assert_eq!((spend.ran, spend.static_max, spend.least), (1.0, 5.0, 0.5));
        assert_eq!(spend.per_million_requests, Some(2000.0));
        assert_eq!((spend.month, spend.month_forecast), (0.5, 0.5 + 10.0 * 0.5));
        assert_eq!(spend.month_budget, Some(100.0));
        let free = config::Cost { per_backend_hour: 0.0, ..cost };
        assert_eq!(super::spend(&free, &hour(1.0), &hour(1.0), now), None);
    }
}
