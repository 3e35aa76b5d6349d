//! libFuzzer's entry: the target is named by `FUZZ_TARGET`.
#![no_main]

mod bodies;

use std::sync::LazyLock;

static BODY: LazyLock<bodies::Body> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = bodies::ALL.iter().find(|(known, _)| *known == name);
    let known: Vec<&str> = bodies::ALL.iter().map(|(known, _)| *known).collect();
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}, not one of {known:?}")).1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| BODY(input));
