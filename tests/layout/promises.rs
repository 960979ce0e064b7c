//! Promises name their tests: in the sources (`Tried by …` in a comment) and in the table *promise ·
//! enforced in · tried by* of README.md and ARCHITECTURE.md. A name that no test has is a promise
//! that nobody keeps.

use std::collections::BTreeSet;

use crate::sources::{all, root};

/// Every test: its crate or target, its modules, its name.
fn tests() -> Vec<Vec<String>> {
    let mut tests = Vec::new();
    for source in all() {
        let parts = source.path.iter().map(|part| part.to_string_lossy());
        let parts = parts.map(|part| part.trim_end_matches(".rs").to_owned());
        let home: Vec<String> =
            parts.filter(|part| !matches!(part.as_str(), "src" | "main" | "mod" | "lib")).collect();
        let mut marked = false;
        for line in source.text.lines().map(str::trim) {
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(name) = name
                && std::mem::take(&mut marked)
            {
                let name = name.split('(').next().unwrap_or_default().to_owned();
                tests.push([home.clone(), vec![name]].concat());
            }
        }
    }
    tests
}

/// Whether a name as people write it (`escape::link::a_command_cannot`) is a test's.
fn exists(tests: &[Vec<String>], name: &str) -> bool {
    let mut wanted: Vec<&str> = name.split("::").filter(|part| *part != "tests").collect();
    let Some(last) = wanted.pop() else { return false };
    tests.iter().any(|test| {
        let Some((own, home)) = test.split_last() else { return false };
        let mut home = home.iter();
        own == last && wanted.iter().all(|part| home.any(|given| given == part))
    })
}

/// The names in a text: words of letters, digits, `_` and `::`, long enough to be a test's.
fn names(text: &str) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !word(c)).map(|found| found.trim_matches(':'));
    let is_name = |found: &&str| found.contains("::") || found.matches('_').count() >= 2;
    words.filter(is_name).map(str::to_owned).collect()
}

/// What stands after each `Tried by`, to the end of the sentence.
fn tried(comment: &str) -> Vec<Vec<String>> {
    let sentences = comment.split("Tried by").skip(1);
    sentences.map(|rest| names(rest.split(". ").next().unwrap_or_default())).collect()
}

#[test]
fn what_the_sources_say_is_tried_is_tried() {
    let tests = tests();
    let mut wrong = BTreeSet::new();
    for source in all() {
        if source.path.starts_with("tests/layout") {
            continue;
        }
        for named in source.comments().iter().flat_map(|comment| tried(comment)) {
            if named.is_empty() {
                wrong.insert(format!("{}: `Tried by` names nothing", source.name()));
            }
            for name in named.iter().filter(|name| !exists(&tests, name)) {
                wrong.insert(format!("{}: no test is called {name}", source.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_promise_of_the_table_is_enforced_and_tried() {
    let tests = tests();
    let mut rows = 0;
    let mut wrong = Vec::new();
    for file in ["README.md", "ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        let mut inside = false;
        for line in text.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [promise, enforced, tried] = cells[..] else {
                inside = false;
                continue;
            };
            if tried.eq_ignore_ascii_case("tried by") {
                inside = true;
            } else if inside && !promise.starts_with('-') {
                rows += 1;
                let paths: Vec<&str> = enforced.split('`').skip(1).step_by(2).collect();
                let missing = paths.iter().find(|path| !root().join(path).exists());
                if paths.is_empty() || missing.is_some() {
                    wrong.push(format!("{file}: {promise}: not a path: {enforced}"));
                }
                let named = names(tried);
                let unknown = named.iter().find(|name| !exists(&tests, name));
                if named.is_empty() || unknown.is_some() {
                    wrong.push(format!("{file}: {promise}: not a test: {tried}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows >= 10, "only {rows} promises in the tables of README.md and ARCHITECTURE.md");
}

#[test]
fn names_are_found_and_looked_up() {
    let found = tried(" THREAT: x. Tried by escape::link::a_b and `gate::c_d_e`, too. Not f::g. ");
    assert_eq!(found, [["escape::link::a_b", "gate::c_d_e"]]);
    let tests = tests();
    assert!(exists(&tests, "layout::promises::names_are_found_and_looked_up"));
    assert!(exists(&tests, "names_are_found_and_looked_up"));
    assert!(!exists(&tests, "layout::arrows::names_are_found_and_looked_up"));
    assert!(!exists(&tests, "nobody_has_this_name"));
}
