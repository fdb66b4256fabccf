//! Outlier ejection as the control plane sees it: rates are judged once a second, what workers did is told,
//! and what a reload turned off lets its backends back.
//!
//! Failures in a row are judged where they are seen, on the data plane; the arithmetic of both is
//! `upstream::outlier`'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Micros;
use crate::config::types::Config;
use crate::snapshot::ServiceView;
use crate::telemetry::counter::Label;
use crate::telemetry::window::Windows;
use crate::upstream::outlier::rule::{self, Counts};
use crate::upstream::outlier::{self, Back, Notice, Told};

use super::core::Control;
use super::events::Kind;
use super::lock;

impl Control {
    /// Once a second, after the windows were read.
    pub(super) fn judge_outliers(&self) {
        let snapshot = self.plane.current();
        let now = self.clock.now();
        let mut rng = fastrand::Rng::new();
        let windows = lock(&self.windows);
        for service in &snapshot.services {
            judge(service, &windows, &mut rng, now);
            remind(service);
            let lost = service.outliers.take_lost();
            if lost > 0 {
                tracing::warn!(
                    service = &*service.config.name,
                    "{lost} more backends were ejected or came back; there were too many at once to tell"
                );
            }
        }
    }

    /// Lets back what was ejected for something that is off in this configuration.
    pub(super) fn follow_outlier_settings(&self, config: &Config) {
        let now = self.clock.now();
        let registry = lock(&self.registry);
        for (name, service) in &config.services {
            let Some(pool) = registry.pool(name) else { continue };
            let off = |terms| !rule::is_on(outlier::reason(terms), &service.outlier);
            for backend in pool.entries().filter_map(|e| e.backend.as_ref()) {
                pool.outliers().uneject(backend, Back::Settings, off, service.slow_start, now);
            }
            pool.wake_queue();
        }
    }

    fn tell_of_ejection(&self, Notice { backend, told }: &Notice) {
        let (id, address) = (backend.id.to_string(), Some(backend.address.clone()));
        let (kind, why) = match told {
            Told::Ejected { why, lasts, times } => {
                let text = why.to_string();
                let kind = Kind::BackendEjected {
                    backend: id,
                    address,
                    reason: why.reason().as_str(),
                    why: text.clone(),
                    for_ms: lasts.as_millis() as u64,
                    times: *times,
                };
                (kind, Some(text))
            }
            Told::Back(back) => {
                let registry = lock(&self.registry);
                let slow_start = registry.pool(&backend.service).map(|p| p.config().slow_start);
                let ramp = slow_start.filter(|slow_start| !slow_start.is_zero());
                let ramp_ms = ramp.map(|ramp| ramp.as_millis() as u64);
                let why = back.as_str();
                (Kind::BackendUnejected { backend: id, address, why, ramp_ms }, None)
            }
        };
        lock(&self.registry).ejected_for(backend.uid, why);
        self.events.send(Some(&backend.service), kind);
        self.look_for_darkness(&backend.service);
    }
}

/// Tells of what happens, for as long as the process runs.
pub(super) async fn follow(control: Arc<Control>, mut notices: mpsc::Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        control.tell_of_ejection(&notice);
    }
}

/// Ejects whom the rates of the last seconds call outliers; what was before a backend came back does not count.
fn judge(service: &ServiceView, windows: &Windows, rng: &mut fastrand::Rng, now: Micros) {
    let rules = &service.config.outlier;
    if rules.success_rate_deviations <= 0.0 && rules.failure_percent == 0 {
        return;
    }
    let available: Vec<_> =
        service.backends.iter().map(|m| &m.backend).filter(|b| b.gate.is_available()).collect();
    let pool: Vec<Counts> = available
        .iter()
        .map(|backend| {
            let in_pool = (now / 1000).saturating_sub(backend.gate.terms().moment);
            let span = rule::WINDOW.min(Duration::from_millis(in_pool));
            let (requests, failures) = windows.backend_counts(backend.uid, span);
            Counts { requests, failures }
        })
        .collect();
    for (i, why) in rule::by_rates(&pool, rules) {
        let members = service.backends.iter().map(|member| &*member.backend);
        service.outliers.eject(available[i], why, rules, members, rng, now);
    }
}

/// Workers that look whom to try may know the pool as it was; this makes up for it.
fn remind(service: &ServiceView) {
    if service.outliers.ejected() == 0 {
        return;
    }
    for terms in service.backends.iter().filter_map(|m| m.backend.gate.ejection()) {
        service.outliers.wake_at(terms.moment.saturating_mul(1000));
    }
}
