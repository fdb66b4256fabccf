//! Services seen from the data path: backends, connections, bodies on their way to them.

pub mod admission;
pub mod backend;
pub mod body;
pub mod budget;
pub mod conn;
pub mod counted;
pub mod gate;
pub mod hold;
pub mod http1;
pub mod http2;
pub mod io;
pub mod learned;
pub mod limit;
pub mod link;
pub mod outgoing;
pub mod outlier;
pub mod pool;
pub mod proxy_header;
pub mod queue;
pub mod raw;
pub mod received;
pub mod reported;
pub mod resend;
pub mod socket;
mod stall;
pub mod tee;
