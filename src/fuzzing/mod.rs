//! What the fuzz targets in fuzz/ call: each function takes any bytes, and panics where something does not
//! hold that has to hold for all of them. Only there with the feature `fuzzing` and in tests, where
//! the kept corpus goes through the same functions, so that they cannot rot.

mod answers;
mod configuration;
mod heads;
mod messages;
#[cfg(test)]
mod replay;

pub use answers::answers;
pub use configuration::configuration;
pub use heads::{headers, proxy_header, routing};
pub use messages::{frames, framing, request};

/// Its name, which is that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("configuration", configuration),
    ("proxy_header", proxy_header),
    ("routing", routing),
    ("headers", headers),
    ("framing", framing),
    ("frames", frames),
    ("request", request),
    ("answers", answers),
];
