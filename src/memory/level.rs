//! How far memory is used up, and so what is done about it: a pure function of what was read and when.
//!
//! The steps are those of Envoy's overload manager (shrink the heap, stop requests, stop connections), by what is
//! resident. Two things keep it from refusing for nothing. Freed memory may stay with the allocator, so no step but
//! the first is taken before the allocator was asked to give back. And what an allocator cannot give back (pages of
//! which little is used) would hold a level for ever: one that brings nothing is left again, see `Relief`.

use crate::clock::Micros;

/// What is done, each with all that is done before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Calm,
    /// From 80 % of the limit: freed memory is given back, and connections to backends that nobody uses.
    Trim,
    /// From 90 %: `sheddable` requests are refused.
    Shed,
    /// From 95 %: only `critical` requests are let in, and connections that nobody used lately end.
    Critical,
    /// From 100 %: no new connections.
    Full,
    /// From 105 %: no requests. Only those that have a connection could still ask, for whatever they like.
    Over,
}

const LEVELS: [Level; 5] = [Level::Trim, Level::Shed, Level::Critical, Level::Full, Level::Over];

/// A level is left so much of the limit below where it begins.
const HYSTERESIS: f64 = 0.05;
/// Memory is given back so often at most: it costs some milliseconds of every worker.
const EVERY: Micros = 1_000_000;
/// So much of the limit more or less is a change.
const GRAIN: f64 = 0.02;
/// A level that changed nothing for so long is left; twice as long after each time that this was wrong.
const PATIENCE: Micros = 30_000_000;
const PATIENCE_MOST: Micros = 480_000_000;
/// It is over when nothing was refused for so long.
const QUIET: Micros = 5_000_000;

impl Level {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Trim => "trim",
            Self::Shed => "shed",
            Self::Critical => "critical",
            Self::Full => "full",
            Self::Over => "over",
        }
    }

    /// 0, the calm one, to 5: as in the metrics.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Share of the limit at which it begins.
    fn begins(self) -> f64 {
        match self {
            Self::Calm => 0.0,
            Self::Trim => 0.80,
            Self::Shed => 0.90,
            Self::Critical => 0.95,
            Self::Full => 1.0,
            Self::Over => 1.05,
        }
    }

    /// So many steps lower, but memory is given back as long as there is any reason to.
    fn lower(self, steps: u8) -> Self {
        let at = self.number().saturating_sub(steps).max(Self::Trim.number());
        LEVELS.into_iter().find(|level| level.number() == at).map_or(self, |level| level.min(self))
    }
}

/// Follows the memory of a process with a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Monitor {
    limit: u64,
    /// By size alone.
    reached: Level,
    /// When freed memory was given back last.
    given_back: Option<Micros>,
    relief: Option<Relief>,
    told: Option<Told>,
}

/// Something is refused.
///
/// A level that neither let memory fall nor kept it from growing for [`PATIENCE`] is of no use: whoever is under way
/// holds what there is, or nobody does and the allocator cannot give it back. Then the one below it has to do, and after
/// as long the one below that, until memory grows again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Relief {
    /// Memory did not change since then.
    since: Micros,
    /// The memory that it did not change from.
    around: u64,
    /// So many levels are left.
    steps: u8,
    patience: Micros,
}

/// What was told of a pressure that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    worst: Level,
    peak: u64,
    /// When something was refused last.
    refused: Micros,
}

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something is refused from now on.
    Begun(Level),
    /// More is refused than ever since.
    Worse { level: Level, peak: u64 },
    /// Nothing is refused any more; it was at most so bad.
    Over { worst: Level, peak: u64 },
}

impl Monitor {
    /// `limit`: in bytes, not 0.
    pub fn new(limit: u64) -> Self {
        Self { limit, reached: Level::Calm, given_back: None, relief: None, told: None }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Another limit; what is refused is judged anew by it.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        self.reached = Level::Calm;
        self.relief = None;
    }

    /// Nobody looks any more: what is left to be told.
    pub fn end(self) -> Option<News> {
        self.told.map(|Told { worst, peak, .. }| News::Over { worst, peak })
    }

    /// What is to be done now.
    pub fn level(&self) -> Level {
        self.reached.lower(self.relief.map_or(0, |relief| relief.steps))
    }

    /// Whether memory has to be given back before [`look`](Self::look) can judge.
    pub fn wants_back(&self, used: u64, now: Micros) -> bool {
        let due = self.given_back.is_none_or(|at| now.saturating_sub(at) >= EVERY);
        due && self.by_size(used) > Level::Calm
    }

    /// It was.
    pub fn gave_back(&mut self, now: Micros) {
        self.given_back = Some(now);
    }

    /// Judges so many bytes in use.
    pub fn look(&mut self, used: u64, now: Micros) -> Option<News> {
        self.reached = self.by_size(used);
        if self.reached < Level::Shed {
            self.relief = None;
        } else {
            let grain = (self.limit as f64 * GRAIN) as u64;
            self.relief.get_or_insert(Relief::new(used, now)).look(used, now, grain, self.reached);
        }
        self.tell(used, now)
    }

    fn by_size(&self, used: u64) -> Level {
        let share = used as f64 / self.limit as f64;
        let is_reached = |level: &Level| {
            let slack = if *level <= self.reached { HYSTERESIS } else { 0.0 };
            share >= level.begins() - slack
        };
        LEVELS.into_iter().rev().find(is_reached).unwrap_or_default()
    }

    fn tell(&mut self, used: u64, now: Micros) -> Option<News> {
        let level = self.level();
        let refuses = level >= Level::Shed;
        let Some(told) = &mut self.told else {
            self.told = refuses.then_some(Told { worst: level, peak: used, refused: now });
            return refuses.then_some(News::Begun(level));
        };
        told.peak = told.peak.max(used);
        if refuses {
            told.refused = now;
        }
        if level > told.worst {
            told.worst = level;
            return Some(News::Worse { level, peak: told.peak });
        }
        let Told { worst, peak, refused } = *told;
        (now.saturating_sub(refused) >= QUIET).then(|| {
            self.told = None;
            News::Over { worst, peak }
        })
    }
}

impl Relief {
    fn new(used: u64, now: Micros) -> Self {
        Self { since: now, around: used, steps: 0, patience: PATIENCE }
    }

    fn look(&mut self, used: u64, now: Micros, grain: u64, reached: Level) {
        if used > self.around.saturating_add(grain) {
            if std::mem::take(&mut self.steps) > 0 {
                self.patience = (self.patience * 2).min(PATIENCE_MOST);
            }
            (self.since, self.around) = (now, used);
        } else if used.saturating_add(grain) < self.around {
            // It falls: what is done helps, and what was left is not missed.
            (self.since, self.around) = (now, used);
        }
        let most = reached.number() - Level::Trim.number();
        if now.saturating_sub(self.since) >= self.patience && self.steps < most {
            self.steps += 1;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests;
