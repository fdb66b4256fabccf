//! Services seen from the data path: backends, connections, tries.

pub mod backend;
pub mod budget;
pub mod gate;
