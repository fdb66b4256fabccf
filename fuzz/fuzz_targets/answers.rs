//! See `tidegate::fuzzing::answers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::fuzzing::answers(data));
