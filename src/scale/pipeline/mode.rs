//! `mode`: what of the decision is carried out. A pinned number is the operator's and passes `up_only`.

use crate::config::types::ScalingMode;

use super::{Change, Override, Reason, View};

pub fn apply(n: u32, view: &View<'_>) -> Option<Change> {
    let pinned = matches!(view.operator, Some(Override::Pin { .. }));
    let reason = match view.params.mode {
        ScalingMode::On => return None,
        ScalingMode::UpOnly if n >= view.from || pinned || view.from > view.params.max => {
            return None;
        }
        ScalingMode::UpOnly => Reason::UpOnly,
        ScalingMode::DryRun => Reason::DryRun,
        ScalingMode::Off => Reason::Off,
    };
    Some(Change { to: view.from, reason, until: None })
}
