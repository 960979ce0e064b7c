//! What every source file has to be like.

use crate::sources::all;

/// Files that may be longer than [`LINES`], each with its reason.
const LONG: [(&str, &str); 0] = [];
/// Aim at 150, ask why at 400.
const LINES: usize = 400;

/// Where `unsafe` may stand.
const UNSAFE: &str = "sandbox/src/exec";

#[test]
fn every_file_says_what_it_is() {
    let silent = all().into_iter().filter(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        !first.starts_with("//! ") || first.len() < 20
    });
    let silent: Vec<String> = silent.map(|source| source.name()).collect();
    assert!(silent.is_empty(), "files that do not open with `//!`: {silent:#?}");
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let mut long = Vec::new();
    for source in all() {
        let lines = source.text.lines().count();
        if lines > LINES && !LONG.iter().any(|(path, _)| *path == source.name()) {
            long.push(format!("{}: {lines} lines", source.name()));
        }
    }
    assert!(long.is_empty(), "over {LINES} lines, and no reason in layout::texts: {long:#?}");
    for (path, _) in LONG {
        let source = all().into_iter().find(|source| source.name() == path);
        let lines = source.map_or(0, |source| source.text.lines().count());
        assert!(lines > LINES, "{path} is short enough: strike it from the list");
    }
}

#[test]
fn unsafe_stands_in_one_place() {
    let mut elsewhere = Vec::new();
    for source in all() {
        let lifts =
            source.code().contains("expect(unsafe_code") || source.code().contains("unsafe {");
        if lifts && !source.path.starts_with(UNSAFE) && !source.path.starts_with("tests/layout") {
            elsewhere.push(source.name());
        }
    }
    assert!(elsewhere.is_empty(), "unsafe outside of {UNSAFE}: {elsewhere:#?}");
}

#[test]
fn nothing_is_left_to_be_done() {
    // Spelled in two, or this file would find itself.
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK")];
    let mut found = Vec::new();
    for source in all() {
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", source.name(), number + 1, line.trim()));
            }
        }
    }
    // A fixture may hold the word: a repository with something to be done in it.
    found.retain(|line| !line.starts_with("tests/") && !line.contains('"'));
    assert!(found.is_empty(), "{found:#?}");
}
