//! What becomes of changes on a base, each attack with its control.

use std::collections::BTreeMap;

use super::*;
use crate::workspace::node::Sha;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn file() -> Node {
    Node::File { mode: 0o644, size: 0, sha256: Sha::default() }
}

fn link(target: &str) -> Node {
    Node::Link { target: target.as_bytes().to_vec() }
}

/// What becomes of `added` on a base of files, folders (`x/`) and links (`x -> y`).
fn judged(base: &[&str], added: &[(&str, Node)]) -> Vec<Option<HeldReason>> {
    let base = base.iter().map(|text| match (text.split_once(" -> "), text.strip_suffix('/')) {
        (Some((from, to)), _) => (path(from), link(to)),
        (_, Some(folder)) => (path(folder), Node::Folder { mode: 0o755 }),
        _ => (path(text), file()),
    });
    let base: BTreeMap<_, _> = base.collect();
    let mut changes: Vec<_> = added
        .iter()
        .map(|(text, node)| Change {
            before: base.get(&path(text)).cloned(),
            path: path(text),
            after: Some(node.clone()),
            content: None,
            held: None,
            runs: None,
            special_bits: false,
        })
        .collect();
    let base = Base { root: "/home/me/work".into(), nodes: base, ..Base::default() };
    judge(&base, None, &mut changes);
    changes.into_iter().map(|change| change.held).collect()
}

#[test]
fn nothing_of_git_is_let_out() {
    for name in [".git/hooks/post-checkout", "a/.GIT/config", "a/b/.git", ".git./x", "git~1/config"]
    {
        assert_eq!(judged(&[], &[(name, file())]), [Some(HeldReason::Git)], "{name}");
    }
    assert_eq!(judged(&[], &[(".gitignore", file()), (".github/x", file())]), [None, None]);
}

#[test]
fn nothing_shaped_like_a_repository_is_let_out() {
    let folder = || Node::Folder { mode: 0o755 };
    let all = [
        ("f", folder()),
        ("f/Head", file()),
        ("f/config", file()),
        ("f/objects", folder()),
        ("f/refs", link("../refs")),
        ("g", file()),
    ];
    let held = judged(&[], &all);
    assert_eq!(held.iter().filter(|held| **held == Some(HeldReason::Repository)).count(), 5);
    assert_eq!(held[5], None);
    let rest = [("f/HEAD", file()), ("f/config", file())];
    assert_eq!(
        judged(&["f/", "f/objects/", "f/refs/"], &rest),
        [Some(HeldReason::Repository), Some(HeldReason::Repository)]
    );
    let linked = [("f/HEAD", file()), ("f/commondir", file())];
    assert_eq!(
        judged(&["f/"], &linked),
        [Some(HeldReason::Repository), Some(HeldReason::Repository)]
    );
    assert_eq!(judged(&["objects/", "refs/"], &[("HEAD", file())]), [Some(HeldReason::Repository)]);
}

#[test]
fn a_link_that_leaves_the_folder_is_held() {
    let base = ["d/", "d/e/", "d/f", "up -> d/e", "docs -> /home/u/.aws", "loop -> loop"];
    for target in [
        "/etc/passwd",
        "..",
        "../x",
        "d/../../x",
        "docs/credentials",
        "up/../../../x",
        "loop",
        "",
        "d/../docs",
    ] {
        assert_eq!(
            judged(&base, &[("new", link(target))]),
            [Some(HeldReason::LinkOutside)],
            "{target}"
        );
    }
    for target in ["d/f", "./d//f", "d/../x", "up/../f", "nothing/there", "."] {
        assert_eq!(judged(&base, &[("new", link(target))]), [None], "{target}");
    }
    assert_eq!(judged(&base, &[("d/e/new", link("../../up"))]), [None]);
    assert_eq!(judged(&base, &[("d/e/new", link("../../../up"))]), [Some(HeldReason::LinkOutside)]);
    let pair = [("a", link("b")), ("b", link("../x"))];
    assert_eq!(judged(&[], &pair), [Some(HeldReason::LinkOutside), Some(HeldReason::LinkOutside)]);
}

#[test]
fn paths_that_are_one_on_other_systems_are_held() {
    let case = |other: &str| Some(HeldReason::Case { other: path(other) });
    assert_eq!(judged(&["readme.md"], &[("README.md", file())]), [case("readme.md")]);
    assert_eq!(judged(&[], &[("A", file()), ("a", file())]), [case("a"), case("A")]);
    let folder = Node::Folder { mode: 0o755 };
    assert_eq!(
        judged(&["src/"], &[("Src", folder), ("Src/x", file())]),
        [case("src"), Some(HeldReason::Beneath { folder: path("Src") })]
    );
    assert_eq!(judged(&["a", "A"], &[("a", file())]), [None]);
    // Not only case: dots at the end, and what HFS+ passes over.
    assert_eq!(judged(&["a"], &[("a.", file())]), [case("a")]);
    assert_eq!(judged(&["d/a"], &[("d/\u{200c}a", file())]), [case("d/a")]);
    assert_eq!(judged(&["a"], &[("a:1", file()), ("a:2", file())]), [None, None]);
}

#[test]
fn what_runs_by_itself_is_held() {
    let hg = || Some(HeldReason::VersionControl { root: path(".hg"), program: "Mercurial".into() });
    assert_eq!(judged(&[".hg/"], &[(".hg/hgrc", file())]), [hg()]);
    assert_eq!(judged(&[], &[(".hg", link("d")), ("d/hgrc", file())]), [hg(), None]);
    let by_itself =
        |held: &Option<HeldReason>| matches!(held, Some(HeldReason::RunsByItself { .. }));
    // The link is the person's own, what it leads to is the agent's.
    let held = judged(
        &[".vscode -> up/config", "up -> a/b", "a/", "a/b/", "a/b/config/"],
        &[("a/b/config/tasks.json", file()), ("a/b/x", file())],
    );
    assert!(by_itself(&held[0]) && held[1].is_none(), "{held:?}");
    let held = judged(&[], &[(".husky", link("d")), ("d/pre-commit", file())]);
    assert!(by_itself(&held[0]) && held[1].is_none(), "{held:?}");
    assert_eq!(judged(&[], &[("Makefile", file()), (".envrc", file())]), [None, None]);
}

/// The same, each in a word.
fn words(base: &[&str], added: &[(&str, Node)]) -> Vec<&'static str> {
    let word = |held: Option<HeldReason>| match held {
        None => "applied",
        Some(HeldReason::RunsByItself { .. }) => "runs",
        Some(HeldReason::LinkOutside) => "outside",
        Some(HeldReason::Beneath { .. }) => "beneath",
        Some(HeldReason::ManyLinks) => "many",
        Some(_) => "other",
    };
    judged(base, added).into_iter().map(word).collect()
}

#[test]
fn what_a_link_that_is_held_leads_to_is_held() {
    let tasks = ("cfg/tasks.json", file());
    let base = [".vscode -> cfg", "cfg/", "other/"];
    assert_eq!(words(&base, &[(".vscode", link("other")), tasks.clone()]), ["runs", "runs"]);
    // The control: where the link is another one on the host too, nothing reads the file.
    assert_eq!(words(&[".vscode -> other", "cfg/"], &[tasks]), ["applied"]);
    let hook = ("tools/h/pre-commit", file());
    let base = [".githooks -> up/h", "tools/", "tools/h/", "up -> tools"];
    assert_eq!(words(&base, &[hook.clone(), ("up", link("/nowhere"))]), ["runs", "outside"]);
    assert_eq!(words(&[".githooks -> up/h", "up -> x"], &[hook]), ["applied"]);
}

#[test]
fn what_links_of_links_lead_to_is_held() {
    let base = [".vscode -> cfg", "cfg/", "cfg/tasks.json -> ../shared/tasks.json", "shared/"];
    let tasks = [("shared/tasks.json", file())];
    assert_eq!(words(&base, &tasks), ["runs"]);
    assert_eq!(words(&base[1..], &tasks), ["applied"]);
    for base in [".vscode -> .", "sub/.husky -> .."] {
        assert_eq!(words(&[base], &[("tasks.json", file())]), ["runs"], "{base}");
    }
}

#[test]
fn what_a_link_leads_through_is_held() {
    let base = [".vscode -> now", "evil/", "evil/tasks.json", "mine/", "now -> mine"];
    assert_eq!(words(&base, &[("now", link("evil"))]), ["runs"]);
    assert_eq!(words(&base[1..], &[("now", link("evil"))]), ["applied"]);
    // Two further on, and a folder where nothing was.
    let base = [".vscode -> a", "a -> b", "b -> mine", "evil/", "mine/"];
    assert_eq!(words(&base, &[("b", link("evil"))]), ["runs"]);
    let folder = Node::Folder { mode: 0o755 };
    let base = [".vscode -> new/../evil", "evil/", "evil/tasks.json"];
    assert_eq!(words(&base, &[("new", folder)]), ["runs"]);
}

#[test]
fn a_link_that_leaves_and_comes_back_is_followed() {
    let tasks = [("cfg/tasks.json", file())];
    for target in
        ["/home/me/work/cfg", "../work/cfg", "../../../../home/./me/work//cfg", "up/work/cfg"]
    {
        let link = format!(".vscode -> {target}");
        assert_eq!(words(&[&link, "up -> ..", "cfg/"], &tasks), ["runs"], "{target}");
    }
    for target in ["/home/me/other/cfg", "../works/cfg", "/home/me/cfg"] {
        let link = format!(".vscode -> {target}");
        assert_eq!(words(&[&link, "cfg/"], &tasks), ["applied"], "{target}");
    }
    // What the agent makes does not leave, whether it comes back or not.
    for target in ["/home/me/work/cfg", "../work/cfg"] {
        assert_eq!(words(&["cfg/"], &[("x", link(target))]), ["outside"], "{target}");
    }
}

#[test]
fn a_link_that_leaves_through_one_that_is_held_is_held() {
    let deep = "../d/e/f/g/h/i/j/k";
    let notes = |through: &str| link(&format!("L1/{through}/../../../../x"));
    let changes = |name: &str| {
        let at = format!("sub/{name}");
        words(
            &["d/", "sub/", &format!("sub/{name} -> ../d")],
            &[("L1", link("sub")), ("notes", notes(name)), (&at, link(deep))],
        )
    };
    assert_eq!(changes(".husky"), ["applied", "outside", "runs"]);
    // The control: where that link is applied, all of it stays inside.
    assert_eq!(changes("plain"), ["applied", "applied", "applied"]);
    // Through a folder that is not there.
    let base = [".husky -> c", "c/"];
    let way = link(".husky/../.husky/../c/../..");
    let both = [(".husky", link("c/new/deep")), ("d", way.clone())];
    assert_eq!(words(&base, &both), ["runs", "outside"]);
}

#[test]
fn links_that_hang_on_each_other_are_held_soon() {
    // Of each is known that it runs only when the one before is held.
    let (count, mut base) = (60, vec![".vscode -> p00".to_owned()]);
    let mut added = vec![(".vscode".to_owned(), link("d"))];
    for n in 0..count {
        base.push(format!("p{n:02}/"));
        base.push(format!("p{n:02}/l -> ../p{:02}", n + 1));
        added.push((format!("p{n:02}/l"), link("../d")));
    }
    added.push((format!("p{count}/tasks.json"), file()));
    let base: Vec<&str> = base.iter().map(String::as_str).collect();
    let added: Vec<_> = added.iter().map(|(at, node)| (at.as_str(), node.clone())).collect();
    let words = words(&base, &added);
    let runs = ROUNDS;
    assert_eq!(words[..runs], vec!["runs"; runs]);
    assert_eq!(words[runs..=count], vec!["many"; count + 1 - runs]);
    assert_eq!(words[count + 1], "runs");
}

#[test]
fn names_of_our_own_and_devices_are_held() {
    assert_eq!(judged(&[], &[(".airlock-apply-1/0", file())]), [Some(HeldReason::Reserved)]);
    assert_eq!(judged(&[], &[(".AIRLOCK-apply-1/0", file())]), [Some(HeldReason::Reserved)]);
    assert_eq!(judged(&[], &[("tty", Node::Special)]), [Some(HeldReason::Special)]);
    assert_eq!(judged(&[], &[("a/.airlock-apply-1", file())]), [None]);
}
