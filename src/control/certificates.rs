//! Tells in time that a certificate is about to be no longer valid: each is told once a step, not every day.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::clock::Micros;
use crate::tls::CertificateInfo;

use super::core::Control;
use super::events::Kind;
use super::lock;

/// Days before the end in which people are told; the last is that it has ended.
const STEPS: [i64; 6] = [21, 14, 7, 3, 1, 0];
/// Between two looks.
const PAUSE: Micros = 60_000_000;
const DAY: i64 = 86_400;

/// What was told so far: of each certificate the step, by its file and its end.
#[derive(Debug, Default)]
pub struct Certificates {
    told: HashMap<(PathBuf, SystemTime), i64>,
    due: Micros,
}

impl Certificates {
    /// What there is to tell now: which, and for how many whole days it is still valid.
    fn news<'c>(
        &mut self,
        all: &'c [CertificateInfo],
        now: SystemTime,
    ) -> Vec<(&'c CertificateInfo, i64)> {
        self.told.retain(|(file, end), _| {
            all.iter().any(|one| one.file == *file && one.not_after == *end)
        });
        let fresh = all.iter().filter_map(|one| {
            let days = seconds_left(one, now).div_euclid(DAY);
            let step = STEPS.iter().copied().filter(|step| days < *step).min()?;
            let key = (one.file.clone(), one.not_after);
            let before = self.told.insert(key, step);
            before.is_none_or(|before| step < before).then_some((one, days))
        });
        fresh.collect()
    }
}

fn seconds_left(certificate: &CertificateInfo, now: SystemTime) -> i64 {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    match certificate.not_after.duration_since(now) {
        Ok(left) => seconds(left),
        Err(over) => -seconds(over.duration()) - 1,
    }
}

impl Control {
    /// Once a second; looks once a minute.
    pub(super) fn tell_of_certificates(&self) {
        let now = self.clock.now();
        let mut certificates = lock(&self.certificates);
        if now < certificates.due {
            return;
        }
        certificates.due = now + PAUSE;
        let all = lock(&self.applied).certificates.clone();
        for (one, days) in certificates.news(&all, SystemTime::now()) {
            let (file, names) = (one.file.display().to_string(), one.names.clone());
            self.events.send(None, Kind::Certificate { file, names, days });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(file: &str, not_after: SystemTime) -> CertificateInfo {
        let names = vec!["a.example".to_owned()];
        CertificateInfo { file: file.into(), names, not_before: SystemTime::UNIX_EPOCH, not_after }
    }

    #[test]
    fn each_step_is_told_once() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let days = |n: u64| Duration::from_secs(n * DAY as u64);
        let all =
            [certificate("old.pem", start + days(30)), certificate("far.pem", start + days(400))];
        let mut told = Certificates::default();
        let mut seen = Vec::new();
        for hour in 0..24 * 33 {
            let now = start + Duration::from_secs(hour * 3600);
            seen.extend(told.news(&all, now).iter().map(|(one, left)| (one.file.clone(), *left)));
        }
        let old = |left| (PathBuf::from("old.pem"), left);
        assert_eq!(seen, [old(20), old(13), old(6), old(2), old(0), old(-1)]);
        // A new one at the same place is another one.
        let renewed = [certificate("old.pem", start + days(90))];
        assert!(told.news(&renewed, start + days(33)).is_empty());
        assert_eq!(told.told.len(), 0, "what is gone is forgotten");
        assert_eq!(told.news(&renewed, start + days(88)).len(), 1);
    }
}
