//! Names of every class and in every spelling, links with such names, and the targets of links.

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

fn change(at: &str, before: Option<Node>, after: Option<Node>) -> Change {
    Change {
        path: path(at),
        before,
        after,
        content: None,
        held: None,
        runs: None,
        special_bits: false,
    }
}

fn of(at: &str, node: Node) -> Option<RunsWhen> {
    judge(&change(at, None, Some(node)), TriggerNames::of(path(at).components()))
}

fn is_held(runs: Option<RunsWhen>) -> bool {
    matches!(runs, Some(RunsWhen::VersionControl(_) | RunsWhen::ByItself(_)))
}

fn is_named(runs: Option<RunsWhen>) -> bool {
    matches!(runs, Some(RunsWhen::WhenStarted(_)))
}

#[test]
fn what_runs_by_itself_is_held() {
    for at in [
        ".hg/hgrc",
        "a/.hg/store/x",
        ".jj/repo/config.toml",
        ".sl/config",
        ".svn/wc.db",
        ".bzr/branch/branch.conf",
        "_darcs/prefs/defaults",
        ".pijul/config",
        ".fossil",
        "_FOSSIL_",
        ".fossil-settings/editor",
        "src/CVS/Root",
        ".vscode/tasks.json",
        "a/.vscode/settings.json",
        "x.code-workspace",
        ".idea/workspace.xml",
        ".dir-locals.el",
        "a/.dir-locals-2.el",
        ".devcontainer/devcontainer.json",
        "rust-toolchain.toml",
        "mise.toml",
        ".husky/pre-commit",
        ".pre-commit-config.yaml",
        ".claude/settings.json",
        ".codex/config.toml",
        ".cursor/mcp.json",
        ".gemini/settings.json",
        ".mcp.json",
        "opencode.json",
        "opencode.jsonc",
        ".opencode/plugin/x.ts",
        ".kiro/hooks/x.kiro.hook",
        ".kiro/settings/mcp.json",
        ".roo/mcp.json",
        ".amazonq/cli-agents/x.json",
        ".junie/mcp/mcp.json",
        ".qwen/settings.json",
        ".trae/mcp.json",
        ".windsurf/hooks.json",
        ".github/hooks/x.json",
        ".continue/mcpServers/x.yaml",
        ".lvimrc",
        ".lazy.lua",
        ".theia/tasks.json",
        ".helix/languages.toml",
        ".git-hooks/pre_commit/x.rb",
        ".lintstagedrc.json",
    ] {
        assert!(is_held(of(at, file())), "{at}");
        assert!(is_held(of(at, link("elsewhere"))), "{at}");
    }
}

#[test]
fn what_runs_when_its_tool_is_started_is_named() {
    for at in [
        ".envrc",
        "a/.yarnrc.yml",
        ".npmrc",
        ".Rprofile",
        ".cargo/config.toml",
        ".github/workflows/ci.yml",
        "tests/conftest.py",
        "Makefile",
        "sub/package.json",
        "build.rs",
        "setup.py",
        "CLAUDE.md",
        ".claude/commands/x.md",
        ".cursor/rules/x.mdc",
        ".kiro/steering/x.md",
        ".roo/rules/x.md",
        ".amazonq/rules/x.md",
        ".junie/guidelines.md",
        ".trae/rules/x.md",
        "QWEN.md",
        "web/eslint.config.mjs",
        "x.csproj",
    ] {
        assert!(is_named(of(at, file())), "{at}");
    }
    for at in [
        "src/pad.js",
        "x.envrc",
        ".github/README.md",
        "src/cvs/parser.c",
        "hg/hgrc",
        "code-workspace",
    ] {
        assert_eq!(of(at, file()), None, "{at}");
    }
}

#[test]
fn a_name_is_known_in_any_spelling() {
    for at in
        [".VSCode/tasks.json", ".v\u{17f}code/x", ".vscode./x", ".vs\u{200c}code/x", ".HG/hgrc"]
    {
        assert!(is_held(of(at, file())), "{at}");
    }
}

#[test]
fn a_link_counts_by_its_own_name() {
    for at in [".vscode", ".husky", ".hg", "a/.idea", ".claude", ".config", ".codex", ".github"] {
        assert!(is_held(of(at, link("tools"))), "{at}");
    }
    for at in [".cargo", ".gitlab", ".yarn"] {
        assert!(is_named(of(at, link("tools"))), "{at}");
    }
    // No program reads a file or a new folder of that name.
    assert_eq!(of(".vscode", file()), None);
    assert_eq!(of(".cargo", Node::Folder { mode: 0o755 }), None);
    assert!(is_held(of(".vscode", Node::Folder { mode: 0o755 })));
}

/// What a file is in a tree of links (`x -> y`) and files.
fn in_tree(tree: &[&str], at: &str) -> Option<RunsWhen> {
    let nodes: Vec<_> = (tree.iter().chain([&at]))
        .map(|line| match line.split_once(" -> ") {
            Some((from, to)) => (path(from), link(to)),
            None => (path(line), file()),
        })
        .collect();
    let mut links = LinkResolver::of(std::path::Path::new("/"), None);
    let mut last = 0;
    for (path, node) in &nodes {
        last = links.add(path);
        links.put(last, Some(node));
    }
    let names = trigger_names(&mut links);
    judge(&change(at, Some(file()), Some(file())), names[last as usize])
}

#[test]
fn the_target_of_a_link_counts_by_the_links_name() {
    let tree = [
        ".vscode -> config",
        "a/.claude -> ../agents",
        "Makefile -> build/mk",
        ".husky/pre-commit -> ../hooks/pre",
        "plain -> src",
        ".git/hooks -> ../git-hooks",
    ];
    for at in
        ["config/tasks.json", "config/d/x", "agents/settings.json", "hooks/pre", "git-hooks/x"]
    {
        assert!(is_held(in_tree(&tree, at)), "{at}");
    }
    for at in ["build/mk", "agents/commands/x.md"] {
        assert!(is_named(in_tree(&tree, at)), "{at}");
    }
    for at in ["src/tasks.json", "hooks/other", "new/tasks.json", "build/other", "build/mk/x"] {
        assert_eq!(in_tree(&tree, at), None, "{at}");
    }
}

#[test]
fn a_name_through_several_links_in_a_row_is_found() {
    let tree = [".vscode -> cfg", "cfg/tasks.json -> ../shared/tasks.json", "cfg/d -> ../more"];
    for at in ["shared/tasks.json", "more/x"] {
        assert!(is_held(in_tree(&tree, at)), "{at}");
        assert_eq!(in_tree(&tree[1..], at), None, "{at}");
    }
    // Each of the names is a link's.
    let tree = ["x/.config -> ../c", "c/mise -> ../m", "m/conf.d -> ../d"];
    assert!(is_held(in_tree(&tree, "d/x.toml")));
    assert_eq!(in_tree(&tree[1..], "d/x.toml"), None);
    // To the top of the tree, and in a circle.
    for tree in
        [[".vscode -> .", "x -> y"], ["sub/.husky -> ..", "x -> y"], [".idea/d -> ..", "x -> x"]]
    {
        assert!(is_held(in_tree(&tree, "tasks.json")), "{tree:?}");
    }
}

/// Each link gives its target one more name, and each target is in all the others.
#[test]
fn links_that_name_each_other_are_followed_a_few_times() {
    let tree: Vec<String> = (0..3_000)
        .map(|n| format!("d{n}/l -> ../d{}", (n + 1) % 3_000))
        .chain([".vscode -> d0".to_owned(), ".husky -> d1500".to_owned()])
        .collect();
    let tree: Vec<&str> = tree.iter().map(String::as_str).collect();
    assert!(is_held(in_tree(&tree, "d1499/x")));
}

#[test]
fn what_goes_runs_nothing_but_version_control_keeps_its_own() {
    let gone =
        |at: &str| judge(&change(at, Some(file()), None), TriggerNames::of(path(at).components()));
    assert_eq!(gone(".vscode/tasks.json"), None);
    assert_eq!(gone("Makefile"), None);
    let held = gone(".hg/store/data/x").and_then(|runs| runs.held(&path(".hg/store/data/x")));
    assert_eq!(
        held,
        Some(HeldReason::VersionControl { root: path(".hg"), program: "Mercurial".into() })
    );
}

#[test]
fn every_pattern_is_written_in_its_folded_form() {
    let mut known = std::collections::HashSet::new();
    for (pattern, runs) in all() {
        let how = match runs {
            RunsWhen::VersionControl(how)
            | RunsWhen::ByItself(how)
            | RunsWhen::WhenStarted(how) => how,
        };
        assert!(known.insert(pattern), "{pattern} is in it twice");
        assert_eq!(pattern, pattern.to_lowercase(), "{pattern}");
        assert!(!how.is_empty() && !pattern.starts_with('/'), "{pattern}");
        let sample = pattern.replace('*', "x");
        let sample = if sample.ends_with('/') { sample + "inside" } else { sample };
        assert!(of(&sample, file()).is_some(), "{pattern}");
    }
}
