//! QPACK without its dynamic table (RFC 9204): how the fields of requests and answers are written.
//!
//! Both sides do without the table: ours has capacity 0, which is what a client is told by silence, and a
//! client's is never used. So no stream waits for another, no client makes us keep anything, and what a
//! section of fields comes to depends on its own bytes alone.

mod decode;
mod encode;
mod huffman;
mod table;

pub use decode::{BadSection, integer, section};
pub use encode::{answer, literal, trailers};
