//! See `tidegate::fuzzing::routing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::fuzzing::routing(data));
