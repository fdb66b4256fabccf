//! The kept corpus, and changes of it, through the functions that it is for.

use std::path::{Path, PathBuf};

use super::TARGETS;

/// The corpus of a target: names and contents, always in the same order.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let bytes = std::fs::read(&file).expect("a file of the corpus");
        (file, bytes)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn the_corpus_still_passes() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(inputs.len() >= 3, "{name} has {}", inputs.len());
        for (file, bytes) in inputs {
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(result.is_ok(), "{file:?}");
        }
    }
}

/// A small change: a byte, a piece taken out, doubled, or put in from another input.
fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut fastrand::Rng) {
    const TELLING: [&[u8]; 12] = [
        b"\r\n",
        b"\n",
        b":",
        b" ",
        b",",
        b"0",
        b"chunked",
        b"Content-Length: 3\r\n",
        b"%2e",
        b"/..",
        b"\0",
        b"\xff",
    ];
    let (from, to) = (rng.usize(..=input.len()), rng.usize(..=input.len()));
    let (from, to) = (from.min(to), from.max(to));
    match rng.u8(..6) {
        0 if !input.is_empty() => {
            let at = rng.usize(..input.len());
            input[at] = rng.u8(..);
        }
        1 if !input.is_empty() => {
            let at = rng.usize(..input.len());
            input[at] ^= 1 << rng.u8(..8);
        }
        2 => drop(input.drain(from..to.min(from + 16))),
        3 => {
            let piece = input[from..to].to_vec();
            input.splice(from..from, piece);
        }
        4 => {
            let piece = &other[rng.usize(..=other.len())..];
            input.splice(from..from, piece.iter().copied());
        }
        _ => {
            let piece = TELLING[rng.usize(..TELLING.len())];
            input.splice(from..from, piece.iter().copied());
        }
    }
    input.truncate(4096);
}

/// The corpus with some changes: the same ones each time, unless `TIDEGATE_FUZZ_ROUNDS` asks for more of them
/// (`cargo test mutations`), for who has no libFuzzer. `TIDEGATE_FUZZ_SEED` begins with others.
#[test]
fn mutations_of_the_corpus_pass() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("TIDEGATE_FUZZ_ROUNDS").unwrap_or(300);
    let mut rng = fastrand::Rng::with_seed(number("TIDEGATE_FUZZ_SEED").unwrap_or(1));
    let only = std::env::var("TIDEGATE_FUZZ_TARGET").ok();
    for (name, target) in TARGETS {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let corpus = inputs(name);
        for _ in 0..rounds {
            let mut input = corpus[rng.usize(..corpus.len())].1.clone();
            for _ in 0..rng.u8(1..6) {
                let other = &corpus[rng.usize(..corpus.len())].1;
                mutate(&mut input, other, &mut rng);
            }
            let result = std::panic::catch_unwind(|| target(&input));
            assert!(result.is_ok(), "{name}: {}", input.escape_ascii());
        }
    }
}

#[test]
fn any_small_input_passes() {
    let mut rng = fastrand::Rng::with_seed(1);
    for (_, target) in TARGETS {
        for length in 0..100 {
            let bytes: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
            target(&bytes);
        }
    }
}
