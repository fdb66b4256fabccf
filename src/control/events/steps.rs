//! What becomes of things that take a while: how far they are when they are told.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainStep {
    Begun,
    Undone,
    Idle,
    Forced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BanStep {
    Begun,
    /// Its time is over.
    Ended,
    /// By an operator.
    Lifted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PressureStep {
    /// Something is refused.
    Begun,
    /// More is refused than ever since it began.
    Worse,
    /// Nothing was refused for a while.
    Ended,
}
