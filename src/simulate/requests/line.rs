//! Requests that wait for a slot, in the order in which they came.

use std::collections::VecDeque;

use super::{Nanos, SECOND};
use crate::simulate::setting::PATIENCE;

/// The moments at which they came.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<Nanos>);

impl Line {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, now: Nanos) {
        self.0.push_back(now);
    }

    pub(super) fn pop(&mut self) -> Option<Nanos> {
        self.0.pop_front()
    }

    /// Lets those go who waited longer than anyone's patience; says how many.
    pub(super) fn expire(&mut self, now: Nanos) -> usize {
        let before = self.0.len();
        let oldest = now.saturating_sub((PATIENCE * SECOND as f64) as Nanos);
        while self.0.front().is_some_and(|came| *came < oldest) {
            self.0.pop_front();
        }
        before - self.0.len()
    }
}
