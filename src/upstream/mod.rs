//! Services seen from the data path: backends, connections, bodies on their way to them.

pub mod backend;
pub mod body;
pub mod budget;
pub mod conn;
pub mod gate;
pub mod io;
pub mod learned;
pub mod outlier;
pub mod queue;
pub mod reported;
pub mod resend;
pub mod tee;
