//! Who may know whom. A module may import what stands in a later row than its own, and nothing
//! else; a module that stands in no row has no place yet and must be given one here.

use crate::sources::{Source, all, packages};

/// The faces first, then what they stand on. Who stands in one row does not know the others of it.
const HOST: [&[&str]; 10] = [
    &["main"],
    &["cli"],
    &["setup"],
    &["session"],
    &["gate", "engine", "workspace"],
    &["auth", "records"],
    &["failure"],
    &["exit", "text"],
    &["output"],
    &["clock", "sanitize"],
];

/// `scripted` is both ends of a test, and is not built into the product.
const SANDBOX: [&[&str]; 10] = [
    &["main"],
    &["session"],
    &["agent"],
    &["keep"],
    &["files"],
    &["responses", "tools"],
    &["link", "plain", "report", "scripted"],
    &["scrub", "stdio"],
    &["confinement", "exec"],
    &["mounts"],
];

/// Further arrows that may not be, though the rows would let them.
const NEVER: [(&str, &str); 4] =
    [("cli", "gate"), ("cli", "engine"), ("cli", "auth"), ("failure", "clock")];

/// Who knows nobody at all, whatever stands below.
const ALONE: [(&str, &str); 3] = [("host", "auth"), ("host", "engine"), ("host", "records")];

/// Arrows that turn: below which path, towards whom, why.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "host/src/cli/act",
    "engine",
    "the one place where the command line meets the rest opens the engine, and turns its errors \
     into what a person is told",
)];

fn row(rows: &[&[&str]], module: &str) -> Option<usize> {
    rows.iter().position(|row| row.contains(&module))
}

/// The modules of its own crate that a text names.
fn named(code: &str) -> Vec<String> {
    let word = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let mut depth = 0_u32;
                let mut part = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => found.push(word(std::mem::take(&mut part).trim())),
                        _ => part.push(c),
                    }
                }
                found.push(word(part.trim()));
            }
        }
    }
    found.retain(|module| !module.is_empty());
    found
}

fn turned(package: &str, rows: &[&[&str]]) -> Vec<String> {
    let mut wrong = Vec::new();
    let own = |source: &Source| source.path.starts_with(package) && !source.modules().is_empty();
    for source in all().iter().filter(|source| own(source)) {
        let module = source.modules()[0].clone();
        if module == "lib" {
            continue;
        }
        let Some(from) = row(rows, &module) else {
            wrong.push(format!("{}: `{module}` has no row", source.name()));
            continue;
        };
        for target in named(&source.code()) {
            // What is no module is an item of the crate's root.
            let Some(to) = row(rows, &target) else { continue };
            let excepted = EXCEPTIONS
                .iter()
                .any(|(below, known, _)| source.name().starts_with(below) && *known == target);
            let never = NEVER.contains(&(module.as_str(), target.as_str()))
                || ALONE.contains(&(package, module.as_str()));
            if target != module && (to <= from || never) && !excepted {
                wrong.push(format!("{}: `{module}` may not know `{target}`", source.name()));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

#[test]
fn arrows_point_downwards() {
    let wrong = [turned("host", &HOST), turned("sandbox", &SANDBOX)].concat();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_exception_that_nobody_needs_is_struck() {
    for (below, known, _) in EXCEPTIONS {
        let mut sources = all().into_iter().filter(|source| source.name().starts_with(below));
        let needed = sources.any(|source| named(&source.code()).iter().any(|name| name == known));
        assert!(needed, "nothing below {below} knows `{known}` any more");
    }
}

#[test]
fn crates_know_only_whom_they_may() {
    let allowed = [
        ("airlock-shared", &[][..]),
        ("airlock-host", &["airlock-shared"]),
        ("airlock-sandbox", &["airlock-shared"]),
        ("airlock-setup", &["airlock-host"]),
        ("airlock-tests", &["airlock-shared", "airlock-host"]),
    ];
    for package in packages() {
        let name = package["name"].as_str().unwrap_or_default();
        let known = allowed.iter().find(|(known, _)| *known == name);
        let (_, known) = known.unwrap_or_else(|| panic!("{name} is a crate nobody decided on"));
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let dependency = dependency["name"].as_str().unwrap_or_default();
            let ours = dependency.starts_with("airlock");
            assert!(!ours || known.contains(&dependency), "{name} may not know {dependency}");
        }
    }
}

#[test]
fn every_form_of_an_import_is_seen() {
    let code =
        "use crate::a::{b, c};\nuse crate::{d::{e, f}, g};\nlet x = crate::h::i(mycrate::j);";
    assert_eq!(named(code), ["a", "d", "g", "h"]);
}
