//! Names in every class and spelling, links in their place, and what links lead to.

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
    judge(&change(at, None, Some(node)), &Aliases::default())
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
fn a_link_counts_as_what_it_is_called() {
    for at in [".vscode", ".husky", ".hg", "a/.idea", ".claude", ".config", ".codex", ".github"] {
        assert!(is_held(of(at, link("tools"))), "{at}");
    }
    for at in [".cargo", ".gitlab", ".yarn"] {
        assert!(is_named(of(at, link("tools"))), "{at}");
    }
    // A file or a new folder of that name is read by nobody.
    assert_eq!(of(".vscode", file()), None);
    assert_eq!(of(".cargo", Node::Folder { mode: 0o755 }), None);
    assert!(is_held(of(".vscode", Node::Folder { mode: 0o755 })));
}

#[test]
fn what_a_link_leads_to_counts_as_what_the_link_is_called() {
    let base = BTreeMap::from([
        (path(".vscode"), link("config")),
        (path("a/.claude"), link("../agents")),
        (path("Makefile"), link("build/mk")),
        (path(".husky/pre-commit"), link("../hooks/pre")),
        (path("plain"), link("src")),
    ]);
    let leads_to = |at: &RelPath| {
        let to = match at.to_string().as_str() {
            ".vscode" => "config",
            "a/.claude" => "agents",
            "Makefile" => "build/mk",
            ".husky/pre-commit" => "hooks/pre",
            "plain" => "src",
            _ => "new",
        };
        Some(path(to))
    };
    // One that comes with the changes is held itself, and holds nothing else.
    let (new, held) = (path("n/.vscode"), link("../new"));
    let tree = base.iter().chain([(&new, &held)]);
    let aliases = Aliases::of(&base, tree, leads_to);
    let of = |at: &str| judge(&change(at, Some(file()), Some(file())), &aliases);
    for at in ["config/tasks.json", "agents/settings.json", "hooks/pre"] {
        assert!(is_held(of(at)), "{at}");
    }
    for at in ["build/mk", "agents/commands/x.md"] {
        assert!(is_named(of(at)), "{at}");
    }
    for at in ["src/tasks.json", "hooks/other", "new/tasks.json", "build/other"] {
        assert_eq!(of(at), None, "{at}");
    }
}

#[test]
fn what_goes_runs_nothing_but_version_control_keeps_its_own() {
    let gone = |at: &str| judge(&change(at, Some(file()), None), &Aliases::default());
    assert_eq!(gone(".vscode/tasks.json"), None);
    assert_eq!(gone("Makefile"), None);
    let held = gone(".hg/store/data/x").and_then(|runs| runs.held(&path(".hg/store/data/x")));
    assert_eq!(
        held,
        Some(HeldReason::VersionControl { root: path(".hg"), program: "Mercurial".into() })
    );
}

#[test]
fn every_trigger_is_written_as_it_is_matched() {
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
