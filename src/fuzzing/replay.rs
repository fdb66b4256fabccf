//! The kept corpus, through the functions that made it.

use std::path::Path;

use super::TARGETS;

#[test]
fn the_corpus_still_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let folder = corpus.join(name);
        let files =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let mut count = 0;
        for file in files.flatten() {
            let bytes = std::fs::read(file.path()).expect("a file of the corpus");
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(result.is_ok(), "{:?}", file.path());
            count += 1;
        }
        assert!(count >= 3, "{folder:?} has {count}");
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
