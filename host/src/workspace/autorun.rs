//! Files that run by themselves: nobody types their name, a program reads them when a folder is
//! opened, entered or pushed. They are applied, and named in one line.
//!
//! Deliberately absent: what runs when somebody asks for it (a Makefile, the scripts of
//! package.json, a test). It is in every second set of changes, and a warning that always comes
//! is read by nobody.

use super::rel_path::RelPath;

/// A name or the beginning of a path, in lower case, and whose program reads it. A trailing `/`:
/// anything in such a folder. Matched at any depth.
const READ_BY: &[(&str, &str)] = &[
    (".vscode/", "VS Code"),
    (".idea/", "JetBrains editors"),
    (".fleet/", "Fleet"),
    (".zed/", "Zed"),
    (".nvim.lua", "Neovim"),
    (".nvimrc", "Neovim"),
    (".exrc", "Vim"),
    (".vimrc", "Vim"),
    (".dir-locals.el", "Emacs"),
    (".devcontainer/", "development containers"),
    (".devcontainer.json", "development containers"),
    (".gitpod.yml", "Gitpod"),
    (".envrc", "direnv"),
    (".mise.toml", "mise"),
    ("mise.toml", "mise"),
    (".tool-versions", "asdf"),
    (".autoenv", "autoenv"),
    (".husky/", "git hooks"),
    (".githooks/", "git hooks"),
    (".lefthook.yml", "git hooks"),
    ("lefthook.yml", "git hooks"),
    (".pre-commit-config.yaml", "git hooks"),
    (".gitattributes", "git"),
    (".gitmodules", "git"),
    (".github/workflows/", "GitHub Actions"),
    (".github/actions/", "GitHub Actions"),
    (".gitlab-ci.yml", "GitLab CI"),
    (".gitlab/", "GitLab CI"),
    (".circleci/", "CircleCI"),
    (".travis.yml", "Travis CI"),
    (".drone.yml", "Drone"),
    (".woodpecker/", "Woodpecker"),
    (".woodpecker.yml", "Woodpecker"),
    (".buildkite/", "Buildkite"),
    (".forgejo/workflows/", "Forgejo Actions"),
    (".gitea/workflows/", "Gitea Actions"),
    ("azure-pipelines.yml", "Azure Pipelines"),
    ("bitbucket-pipelines.yml", "Bitbucket Pipelines"),
    ("jenkinsfile", "Jenkins"),
    (".claude/", "coding agents"),
    (".codex/", "coding agents"),
    (".cursor/", "coding agents"),
    (".gemini/", "coding agents"),
    (".mcp.json", "coding agents"),
    ("claude.md", "coding agents"),
    ("agents.md", "coding agents"),
    (".cargo/config.toml", "cargo"),
    (".cargo/config", "cargo"),
    (".bazelrc", "Bazel"),
    ("sitecustomize.py", "Python"),
    ("usercustomize.py", "Python"),
    (".yarnrc", "yarn"),
    (".yarn/plugins/", "yarn"),
    (".pnpmfile.cjs", "pnpm"),
    (".bashrc", "the shell"),
    (".bash_profile", "the shell"),
    (".profile", "the shell"),
    (".zshrc", "the shell"),
    (".zshenv", "the shell"),
];

/// Whose program runs or obeys a file by itself.
pub(super) fn by_itself(path: &RelPath) -> Option<&'static str> {
    let path = format!("/{}", String::from_utf8_lossy(path.as_bytes()).to_lowercase());
    let found = READ_BY.iter().find(|(pattern, _)| {
        if pattern.ends_with('/') {
            path.contains(&format!("/{pattern}"))
        } else {
            path.strip_suffix(pattern).is_some_and(|rest| rest.ends_with('/'))
        }
    });
    found.map(|(_, program)| *program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_run_by_themselves_are_known_at_any_depth() {
        let of = |path: &str| by_itself(&RelPath::parse(path.as_bytes()).unwrap());
        assert_eq!(of(".vscode/tasks.json"), Some("VS Code"));
        assert_eq!(of("a/.VSCode/tasks.json"), Some("VS Code"));
        assert_eq!(of("a/.envrc"), Some("direnv"));
        assert_eq!(of(".github/workflows/ci.yml"), Some("GitHub Actions"));
        assert_eq!(of(".claude/settings.json"), Some("coding agents"));
        assert_eq!(of("src/pad.js"), None);
        assert_eq!(of("x.envrc"), None);
        assert_eq!(of(".github/README.md"), None);
    }
}
