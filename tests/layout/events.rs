//! What `--json` prints is what the README lists: each event with each of its fields, and no other.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{Source, all, root};

type Events = BTreeMap<String, BTreeSet<String>>;

/// What stands between a line and the first `}` that is indented as it.
fn body<'a>(text: &'a str, opens: &str) -> Option<&'a str> {
    let from = text.find(opens)?;
    let indent = from - text[..from].rfind('\n').map_or(0, |at| at + 1);
    let close = format!("\n{}}}", " ".repeat(indent));
    let inside = &text[from + opens.len()..];
    Some(&inside[..inside.find(&close)?])
}

/// The names before the colons: what is declared there, without what is declared deeper.
fn fields(body: &str) -> BTreeSet<String> {
    let names = body.split(['\n', ',']).filter_map(|part| {
        let (name, _) = part.trim().trim_start_matches("pub ").split_once(": ")?;
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_name.then(|| name.to_owned())
    });
    names.collect()
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The events by the types that are printed.
fn printed(code: &str) -> Events {
    let variants = body(code, "pub enum Public {").expect("the events that are printed");
    let mut events = Events::new();
    for line in variants.lines() {
        // A variant, not a field of one.
        let Some(line) = line.strip_prefix("    ").filter(|line| !line.starts_with(' ')) else {
            continue;
        };
        let end = line.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let declared = if let Some(kind) = rest.strip_prefix('(') {
            let kind = kind.trim_end_matches("),");
            body(code, &format!("pub struct {kind} {{"))
        } else if rest.ends_with('{') {
            body(variants, &format!("{name} {{"))
        } else {
            rest.split_once('{').map(|(_, rest)| rest)
        };
        if !name.is_empty() {
            let declared = declared.unwrap_or_else(|| panic!("{name} is written in another way"));
            events.insert(snake(name), fields(declared));
        }
    }
    events
}

/// The events by the table. Fields stand before a colon; what is in brackets are their values.
fn listed(readme: &str) -> Events {
    let (_, table) = readme.split_once("| event | fields |\n").expect("the table of the events");
    let mut events = Events::new();
    for row in table.lines().skip(1).map_while(|line| line.strip_prefix("| `")) {
        let (name, mut rest) = row.split_once("` | ").expect("two cells");
        let mut plain = String::new();
        while let Some((before, bracket)) = rest.split_once('(') {
            plain.push_str(before);
            rest = bracket.split_once(')').expect("a bracket that closes").1;
        }
        plain.push_str(rest);
        let fields = plain.split(": ").next().unwrap_or_default().split('`').skip(1).step_by(2);
        events.insert(name.to_owned(), fields.map(str::to_owned).collect());
    }
    events
}

#[test]
fn every_event_stands_in_the_readme_with_its_fields() {
    let is_public = |source: &Source| {
        let name = source.name();
        name == "host/src/run/public.rs" || name.starts_with("host/src/run/public/")
    };
    let code: Vec<String> = all().iter().filter(|it| is_public(it)).map(Source::code).collect();
    let readme =
        std::fs::read_to_string(root().join("README.md")).expect("a file of the workspace");
    let (printed, listed) = (printed(&code.join("\n")), listed(&readme));
    assert!(printed.len() > 10, "blind: {printed:#?}");
    assert_eq!(listed, printed);
}

#[test]
fn every_form_of_an_event_is_seen() {
    let code = "pub enum Public {\n    /// One.\n    OneMore(Kind),\n    Two {\n        a: u64,\n        b_c: \
                Vec<Of>,\n    },\n    Three { d: u8, f: u8 },\n}\n\npub struct Kind {\n    pub e: u64,\n}\n";
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let events =
        [("one_more", set(&["e"])), ("two", set(&["a", "b_c"])), ("three", set(&["d", "f"]))];
    let events: Events = events.map(|(name, fields)| (name.to_owned(), fields)).into();
    let lines: Vec<String> =
        code.lines().filter(|line| !line.contains("///")).map(str::to_owned).collect();
    assert_eq!(printed(&lines.join("\n")), events);
    let readme = "| event | fields |\n|---|---|\n| `one_more` | `e` (`x`, `y`) |\n| `two` | `a` `b_c`: `z` |\n\
                  | `three` | `d` (`x`: y) `f` of some |\n\n| `four` | `f` |\n";
    assert_eq!(listed(readme), events);
}
