//! What of a tree the person's own git runs or obeys: what their configuration names as a program,
//! as another configuration or as a folder of hooks, and hooks that are links into the tree. Of
//! every repository in the tree and around it, and of the configuration of this user.
//!
//! Links are followed, as git follows them, and count themselves: to lead one elsewhere is to name
//! another program. What is not there counts too, for who makes it makes what git runs.
//!
//! Deliberately absent: git, which is never run; conditions of an `includeIf`; and what a program
//! starts in its turn.

mod way; // where a path leads, and what is there
mod of_tree; // every repository in a tree

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::change::Change;
use super::git_config::{self, Value};
use super::node::Node;
use super::rel_path::RelPath;
use way::{Way, read};

/// So deep does git follow includes.
const INCLUDES: usize = 10;
/// So many paths are looked up.
// THREAT: commands leave a configuration of a million words in a live tree, each of them a path, and
// the look after the run does not end.
// Tried by workspace::git_runs::tests::a_configuration_of_many_words_ends.
const LOOKED_UP: usize = 200_000;
/// Beside a folder of hooks that is the whole tree only these are hooks.
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

/// What git reads for this user, wherever it runs.
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

/// What git runs or obeys of a tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GitRuns {
    /// Files, and links on the way to them; there or not.
    pub(super) files: BTreeSet<RelPath>,
    /// All that is in them is run.
    pub(super) folders: BTreeSet<RelPath>,
    /// There was more than is looked up.
    pub(super) is_cut: bool,
}

impl GitRuns {
    /// Whether a change makes what git runs: of such a file, in such a folder, or by a link that
    /// stands for a folder on the way there.
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

/// Reads one repository after another.
pub(super) struct Reader<'a> {
    /// Without links.
    tree: &'a Path,
    user: &'a UserConfig,
    found: GitRuns,
    /// Configurations, each with the work tree it was read for.
    been: HashSet<(PathBuf, PathBuf)>,
    left: usize,
}

impl<'a> Reader<'a> {
    /// `tree`: without links.
    pub(super) fn new(tree: &'a Path, user: &'a UserConfig) -> Self {
        let (found, been) = (GitRuns::default(), HashSet::new());
        let mut reader = Self { tree, user, found, been, left: LOOKED_UP };
        reader.configure(&[]);
        for around in tree.ancestors().skip(1).map(|above| above.join(".git")) {
            if fs::symlink_metadata(&around).is_ok() {
                reader.work_tree(&around);
            }
        }
        reader
    }

    /// What was found until now.
    pub(super) fn found(&mut self) -> GitRuns {
        GitRuns { is_cut: self.left == 0, ..std::mem::take(&mut self.found) }
    }

    pub(super) fn path_of(&self, path: &RelPath) -> PathBuf {
        self.tree.join(OsStr::from_bytes(path.as_bytes()))
    }

    /// A `.git`, of whatever kind: the repository of the folder it is in.
    pub(super) fn work_tree(&mut self, dot_git: &Path) {
        let Some(top) = dot_git.parent() else { return };
        let Some(way) = self.way(dot_git) else { return };
        let git = match fs::metadata(&way.end) {
            Ok(about) if about.is_dir() => way.end,
            _ => {
                let text = read(&way.end);
                let Some(named) = text.trim_ascii().strip_prefix(b"gitdir:") else { return };
                top.join(OsStr::from_bytes(named.trim_ascii()))
            }
        };
        self.repository(&git, &[top.to_owned()]);
    }

    /// A folder of git's without a work tree that is known, be it bare or a submodule's.
    pub(super) fn bare(&mut self, git: &Path) {
        let bases = [git, git.parent().unwrap_or(git)].map(Path::to_owned);
        self.repository(git, &bases);
    }

    fn repository(&mut self, git: &Path, bases: &[PathBuf]) {
        let Some(Way { end: git, .. }) = self.way(git) else { return };
        if fs::symlink_metadata(git.join("HEAD")).is_err() {
            return;
        }
        self.configure(bases);
        let common = read(&git.join("commondir"));
        let common = match common.trim_ascii() {
            b"" => None,
            named => self.way(&git.join(OsStr::from_bytes(named))).map(|way| way.end),
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

    /// What this user configured, for a work tree.
    fn configure(&mut self, bases: &[PathBuf]) {
        for file in &self.user.files {
            if bases.is_empty() {
                self.obeyed(file);
            }
            self.configuration(file, bases, 0);
        }
    }

    /// `bases`: what a relative path may be relative to.
    fn configuration(&mut self, file: &Path, bases: &[PathBuf], depth: usize) {
        let key = (file.to_owned(), bases.first().cloned().unwrap_or_default());
        if depth > INCLUDES || !self.been.insert(key) {
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
                        // husky's own are in `_`, and run what lies beside it.
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

    /// Where a path leads that git reads itself.
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

    /// The same of a word that a shell reads: `$(git rev-parse --show-toplevel)/x` leaves `/x`, and
    /// `$HOME/x` leaves `HOME/x`.
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

    /// A file that git obeys, or a program, unless it is a folder.
    fn program(&mut self, path: &Path) {
        if let Some(way) = self.way(path)
            && !way.end.is_dir()
        {
            self.add(way);
        }
    }

    fn obeyed(&mut self, path: &Path) {
        self.way(path).into_iter().for_each(|way| self.add(way));
    }

    /// A file of the repository's own, if it is a link: what it leads to.
    fn linked(&mut self, path: &Path) {
        if let Some(way) = self.way(path).filter(|way| !way.links.is_empty()) {
            self.add(way);
        }
    }

    /// A folder of hooks. The repository's own counts by itself where it is a link; in both what is
    /// a link leads to a hook.
    fn hooks(&mut self, path: &Path, is_own: bool) {
        let Some(way) = self.way(path) else { return };
        if !is_own || !way.links.is_empty() {
            match self.within(&way.end) {
                Some(root) if root.is_root() => {
                    let names = HOOKS.iter().filter_map(|name| root.join(name.as_bytes()).ok());
                    self.found.files.extend(names);
                }
                Some(folder) => _ = self.found.folders.insert(folder),
                None => {}
            }
            let links: Vec<_> = way.links.iter().filter_map(|link| self.within(link)).collect();
            self.found.files.extend(links);
        }
        for hook in fs::read_dir(&way.end).into_iter().flatten().flatten() {
            if hook.file_type().is_ok_and(|kind| kind.is_symlink()) {
                self.obeyed(&hook.path());
            }
        }
    }

    fn add(&mut self, way: Way) {
        let paths: Vec<_> = way.links.iter().chain([&way.end]).collect();
        let paths: Vec<_> = paths.into_iter().filter_map(|path| self.within(path)).collect();
        self.found.files.extend(paths.into_iter().filter(|path| !path.is_root()));
    }

    /// A path in the tree; none: it is not.
    fn within(&self, path: &Path) -> Option<RelPath> {
        match path.strip_prefix(self.tree).ok()?.as_os_str().as_bytes() {
            b"" => Some(RelPath::root()),
            beneath => RelPath::parse(beneath).ok(),
        }
    }

    fn way(&mut self, path: &Path) -> Option<Way> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { None } else { Way::to(path) }
    }
}

#[cfg(test)]
mod tests;
