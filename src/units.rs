//! Durations, sizes and ratios as people write them.
