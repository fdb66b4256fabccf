//! Several policies against one load with several seeds: all against the same arrivals.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::curve::Curve;
use super::load::Load;
use super::policy::Policy;
use super::requests;
use super::requests::Faults;
use super::run::{self, Course};
use super::score::{Score, Summary, needs};
use super::setting::Setting;

/// How closely it is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fidelity {
    /// Seconds of a fluid.
    Fluid,
    /// Single requests.
    Requests(Faults),
}

/// Who takes part.
pub struct Entrant<'a> {
    pub name: String,
    /// A fresh one for each seed.
    pub build: Box<dyn Fn() -> Box<dyn Policy> + Sync + 'a>,
}

/// What is played.
#[derive(Debug, Clone)]
pub struct Trial {
    pub setting: Setting,
    pub load: Load,
    /// Seeds `1..=seeds`; another `first` gives others.
    pub first_seed: u64,
    pub seeds: u64,
    pub fidelity: Fidelity,
}

/// One entrant's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub summary: Summary,
    pub scores: Vec<Score>,
    /// Of the first seed.
    pub curve: Curve,
}

impl Trial {
    /// All entrants in their order. The result does not depend on the number of threads.
    pub fn run(&self, entrants: &[Entrant<'_>], threads: usize) -> Vec<Outcome> {
        let needs = needs(&self.setting, &self.load.rates);
        let arrivals: Vec<Vec<f64>> = self.seeds().map(|seed| self.load.arrivals(seed)).collect();
        let jobs: Vec<(usize, usize)> = (0..entrants.len())
            .flat_map(|entrant| (0..arrivals.len()).map(move |seed| (entrant, seed)))
            .collect();
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(jobs.len()));
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, jobs.len().max(1)) {
                scope.spawn(|| {
                    while let Some((entrant, seed)) = jobs.get(next.fetch_add(1, Relaxed)) {
                        let mut policy = (entrants[*entrant].build)();
                        let played = self.play(*seed, &arrivals[*seed], &needs, &mut *policy);
                        let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        done.push(((*entrant, *seed), played));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_by_key(|(job, _)| *job);
        let mut outcomes = Vec::with_capacity(entrants.len());
        let mut done = done.into_iter();
        for entrant in entrants {
            let (scores, curves): (Vec<Score>, Vec<Curve>) =
                done.by_ref().take(arrivals.len()).map(|(_, played)| played).unzip();
            outcomes.push(Outcome {
                summary: Summary::new(&entrant.name, &scores),
                scores,
                curve: curves.into_iter().next().unwrap_or_else(|| Curve::new(1)),
            });
        }
        outcomes
    }

    fn seeds(&self) -> impl Iterator<Item = u64> {
        self.first_seed..self.first_seed + self.seeds.max(1)
    }

    fn play(
        &self,
        seed: usize,
        arrivals: &[f64],
        needs: &[u32],
        policy: &mut dyn Policy,
    ) -> (Score, Curve) {
        let Self { setting, load, .. } = self;
        let course = Course { setting, load, arrivals, needs };
        let mut curve = Curve::new(arrivals.len());
        let watch = |point: &super::score::Point| {
            if seed == 0 {
                curve.add(setting, point);
            }
        };
        let score = match self.fidelity {
            Fidelity::Fluid => run::fluid(&course, policy, watch),
            Fidelity::Requests(faults) => {
                let seed = self.first_seed + seed as u64;
                requests::run(&course, seed, faults, policy, watch)
            }
        };
        (score, curve)
    }
}

impl std::fmt::Debug for Entrant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entrant").field(&self.name).finish()
    }
}
