//! Finds the files of a tree that the person's own git runs or obeys: programs, included
//! configurations and folders of hooks that their configuration names, and hooks that are links
//! into the tree. Every repository in the tree and around it is read, and this user's
//! configuration.
//!
//! Links are followed as git follows them, and each link counts as well: a link that leads
//! elsewhere names another program. A path that does not exist yet counts too: git will run what is
//! put there.
//!
//! Deliberately absent: git itself, which is never run; the conditions of an `includeIf`; and the
//! programs that a program starts.

mod resolved; // where a path leads, and what is there
mod repositories; // every repository in a tree

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::change::Change;
use super::git_config::{self, Value};
use super::node::Node;
use super::rel_path::RelPath;
use resolved::{ResolvedPath, read};

/// How deep git follows includes.
const INCLUDES: usize = 10;
/// At most this many paths are looked up.
// THREAT: commands write a configuration with a million paths into a live tree, and the search
// after the turn does not end.
// Tried by workspace::git_runs::tests::a_configuration_of_many_words_ends.
const LOOKED_UP: usize = 200_000;
/// The names that count as hooks if the folder of hooks is the whole tree.
const HOOKS: [&str; 28] = [
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "p4-changelist",
    "p4-post-changelist",
    "p4-pre-submit",
    "p4-prepare-changelist",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "proc-receive",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
];

/// The configuration files that git reads for this user in every repository.
#[derive(Clone, Debug, Default)]
pub(super) struct UserConfig {
    home: Option<PathBuf>,
    files: Vec<PathBuf>,
}

impl UserConfig {
    pub(super) fn of_this_user() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty());
        Self::of(|name| path(name).map(PathBuf::from))
    }

    fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let home = variable("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let xdg = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let files = [
            Some(PathBuf::from("/etc/gitconfig")),
            xdg.map(|xdg| xdg.join("git/config")),
            below_home(".gitconfig"),
            variable("GIT_CONFIG_SYSTEM"),
            variable("GIT_CONFIG_GLOBAL"),
        ];
        Self { files: files.into_iter().flatten().collect(), home }
    }
}

/// The files and folders of a tree that git runs or obeys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GitRuns {
    /// Files, and the links that lead to them. They need not exist.
    pub(super) files: BTreeSet<RelPath>,
    /// Git runs everything in these folders.
    pub(super) folders: BTreeSet<RelPath>,
    /// The search stopped at its limit.
    pub(super) is_cut: bool,
}

impl GitRuns {
    /// Whether a change writes something that git runs: such a file, a path in such a folder, or a
    /// link in place of a folder that leads to one of them.
    pub(super) fn is_made_by(&self, change: &Change) -> bool {
        let path = &change.path;
        let all = || self.files.iter().chain(&self.folders);
        match &change.after {
            None | Some(Node::Folder { .. }) => false,
            Some(after) => {
                self.files.contains(path)
                    || self.folders.contains(path)
                    || path.ancestors().any(|folder| self.folders.contains(&folder))
                    || (matches!(after, Node::Link { .. }) && all().any(|it| it.is_beneath(path)))
            }
        }
    }
}

/// Reads the configuration of one repository after another.
pub(super) struct Reader<'a> {
    /// Without links.
    tree: &'a Path,
    user: &'a UserConfig,
    found: GitRuns,
    /// The configurations that were read, each with the work tree it was read for.
    visited: HashSet<(PathBuf, PathBuf)>,
    left: usize,
}

impl<'a> Reader<'a> {
    /// `tree`: without links.
    pub(super) fn new(tree: &'a Path, user: &'a UserConfig) -> Self {
        let (found, visited) = (GitRuns::default(), HashSet::new());
        let mut reader = Self { tree, user, found, visited, left: LOOKED_UP };
        reader.configure(&[]);
        for around in tree.ancestors().skip(1).map(|above| above.join(".git")) {
            if fs::symlink_metadata(&around).is_ok() {
                reader.work_tree(&around);
            }
        }
        reader
    }

    /// Takes what was found so far.
    pub(super) fn found(&mut self) -> GitRuns {
        GitRuns { is_cut: self.left == 0, ..std::mem::take(&mut self.found) }
    }

    pub(super) fn path_of(&self, path: &RelPath) -> PathBuf {
        self.tree.join(OsStr::from_bytes(path.as_bytes()))
    }

    /// Reads the repository that a `.git` folder, file or link leads to.
    pub(super) fn work_tree(&mut self, dot_git: &Path) {
        let Some(top) = dot_git.parent() else { return };
        let Some(resolved) = self.resolve(dot_git) else { return };
        let git = match fs::metadata(&resolved.end) {
            Ok(about) if about.is_dir() => resolved.end,
            _ => {
                let text = read(&resolved.end);
                let Some(named) = text.trim_ascii().strip_prefix(b"gitdir:") else { return };
                top.join(OsStr::from_bytes(named.trim_ascii()))
            }
        };
        self.repository(&git, &[top.to_owned()]);
    }

    /// Reads a git folder whose work tree is not known: a bare repository, or a submodule's.
    pub(super) fn bare(&mut self, git: &Path) {
        let bases = [git, git.parent().unwrap_or(git)].map(Path::to_owned);
        self.repository(git, &bases);
    }

    fn repository(&mut self, git: &Path, bases: &[PathBuf]) {
        let Some(ResolvedPath { end: git, .. }) = self.resolve(git) else { return };
        if fs::symlink_metadata(git.join("HEAD")).is_err() {
            return;
        }
        self.configure(bases);
        let common = read(&git.join("commondir"));
        let common = match common.trim_ascii() {
            b"" => None,
            named => self.resolve(&git.join(OsStr::from_bytes(named))).map(|resolved| resolved.end),
        };
        for place in common.into_iter().chain([git]) {
            for name in ["config", "config.worktree"] {
                self.linked(&place.join(name));
                self.configuration(&place.join(name), bases, 0);
            }
            self.linked(&place.join("info/attributes"));
            self.hooks(&place.join("hooks"), true);
        }
    }

    /// Reads the user's configuration, for a work tree.
    fn configure(&mut self, bases: &[PathBuf]) {
        for file in &self.user.files {
            if bases.is_empty() {
                self.obeyed(file);
            }
            self.configuration(file, bases, 0);
        }
    }

    /// `bases`: the folders that a relative path may start from.
    fn configuration(&mut self, file: &Path, bases: &[PathBuf], depth: usize) {
        let key = (file.to_owned(), bases.first().cloned().unwrap_or_default());
        if depth > INCLUDES || !self.visited.insert(key) {
            return;
        }
        let folder = file.parent().unwrap_or(file).to_owned();
        let settings = git_config::settings(&read(file));
        let mut bases = bases.to_vec();
        let moved = settings.iter().filter(|it| it.kind() == Value::WorkTree);
        bases.extend(moved.map(|it| folder.join(OsStr::from_bytes(&it.value))));
        for setting in &settings {
            match setting.kind() {
                Value::Include => {
                    for included in self.at(&setting.value, std::slice::from_ref(&folder)) {
                        self.obeyed(&included);
                        self.configuration(&included, &bases, depth + 1);
                    }
                }
                Value::Hooks => {
                    for hooks in self.at(&setting.value, &bases) {
                        self.hooks(&hooks, false);
                        // Husky's own hooks are in `_`, and run the files beside that folder.
                        if let (Some("_"), Some(beside)) =
                            (hooks.file_name().and_then(OsStr::to_str), hooks.parent())
                        {
                            self.hooks(beside, false);
                        }
                    }
                }
                Value::WorkTree | Value::Refs => {}
                Value::Program | Value::Other => {
                    for word in setting.words() {
                        for path in self.in_shell(&word, &bases) {
                            self.program(&path);
                        }
                    }
                }
            }
        }
    }

    /// The places that a path may mean when git reads it.
    fn at(&self, path: &[u8], bases: &[PathBuf]) -> Vec<PathBuf> {
        let path_of = |bytes| Path::new(OsStr::from_bytes(bytes));
        if let Some(rest) = path.strip_prefix(b"~/") {
            return self.user.home.iter().map(|home| home.join(path_of(rest))).collect();
        }
        if path.starts_with(b"/") {
            return vec![path_of(path).to_owned()];
        }
        bases.iter().map(|base| base.join(path_of(path))).collect()
    }

    /// The places that a word may mean when a shell reads it: `$(git rev-parse --show-toplevel)/x`
    /// leaves `/x`, and `$HOME/x` leaves `HOME/x`.
    fn in_shell(&self, word: &[u8], bases: &[PathBuf]) -> Vec<PathBuf> {
        let mut all = self.at(word, bases);
        if let Some(rest) = word.strip_prefix(b"HOME/") {
            all.extend(self.at(&[b"~/", rest].concat(), bases));
        }
        let named = word.iter().position(|byte| *byte != b'/').unwrap_or(word.len());
        if named > 0 {
            all.extend(self.at(&word[named..], bases));
        }
        all
    }

    /// Adds a program, unless the path is a folder.
    fn program(&mut self, path: &Path) {
        if let Some(resolved) = self.resolve(path)
            && !resolved.end.is_dir()
        {
            self.add(resolved);
        }
    }

    /// Adds a file that git obeys.
    fn obeyed(&mut self, path: &Path) {
        self.resolve(path).into_iter().for_each(|resolved| self.add(resolved));
    }

    /// Adds where one of the repository's own files leads, if it is a link.
    fn linked(&mut self, path: &Path) {
        if let Some(resolved) = self.resolve(path).filter(|resolved| !resolved.links.is_empty()) {
            self.add(resolved);
        }
    }

    /// Adds a folder of hooks, and the targets of links in it. The repository's own folder
    /// (`is_own`) is added only if it is a link: the export gate holds it anyway.
    fn hooks(&mut self, path: &Path, is_own: bool) {
        let Some(resolved) = self.resolve(path) else { return };
        if !is_own || !resolved.links.is_empty() {
            match self.within(&resolved.end) {
                Some(root) if root.is_root() => {
                    let names = HOOKS.iter().filter_map(|name| root.join(name.as_bytes()).ok());
                    self.found.files.extend(names);
                }
                Some(folder) => _ = self.found.folders.insert(folder),
                None => {}
            }
            let links: Vec<_> =
                resolved.links.iter().filter_map(|link| self.within(link)).collect();
            self.found.files.extend(links);
        }
        for hook in fs::read_dir(&resolved.end).into_iter().flatten().flatten() {
            if hook.file_type().is_ok_and(|kind| kind.is_symlink()) {
                self.obeyed(&hook.path());
            }
        }
    }

    fn add(&mut self, resolved: ResolvedPath) {
        let paths: Vec<_> = resolved.links.iter().chain([&resolved.end]).collect();
        let paths: Vec<_> = paths.into_iter().filter_map(|path| self.within(path)).collect();
        self.found.files.extend(paths.into_iter().filter(|path| !path.is_root()));
    }

    /// The path within the tree, if it is in the tree.
    fn within(&self, path: &Path) -> Option<RelPath> {
        match path.strip_prefix(self.tree).ok()?.as_os_str().as_bytes() {
            b"" => Some(RelPath::root()),
            beneath => RelPath::parse(beneath).ok(),
        }
    }

    fn resolve(&mut self, path: &Path) -> Option<ResolvedPath> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { None } else { ResolvedPath::of(path) }
    }
}

#[cfg(test)]
mod tests;
