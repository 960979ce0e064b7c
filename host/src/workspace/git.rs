//! Git's own folders: what is left out of them, and the configuration that replaces the original.
//!
//! A repository's configuration and hooks can run programs, and may hold credentials (addresses
//! with tokens). Only two facts are needed to read the objects: the version of the format, and the
//! few extensions that change it.

use super::change::Change;
use super::fold::{folded, read_by_ntfs};
use super::git_config::{self, Setting};
use super::node::Node;
use super::rel_path::RelPath;
use super::version_control;

/// What is never copied from a git folder, with the history or without: programs, and what may hold
/// a credential or a key. All in lower case.
const NEVER_COPIED: [&str; 7] = [
    "hooks",
    // Credentials that `git-credential-store` keeps.
    "credentials",
    // What the last fetch got, with its address.
    "fetch_head",
    // Commands with their arguments: `pull https://bot:TOKEN@host/`. No commit needs them.
    // THREAT: `git log -g` prints the token of an earlier pull. Tried by
    // workspace::copy_in::tests::gits_logs_and_stored_credentials_are_left_out.
    "logs",
    // Addresses in an old form, which may hold credentials.
    "remotes",
    "branches",
    // The key to every file that git-crypt encrypts.
    "git-crypt",
];
/// What holds the commits in a bare repository. Left out too with `--no-history`.
const HISTORY: [&str; 3] = ["objects", "refs", "packed-refs"];
/// The names by which git takes a folder for a repository.
const SHAPE: [&str; 4] = ["head", "objects", "refs", "commondir"];

/// Whether git on any system reads a component as `.git`. NTFS has more spellings, and a short
/// name.
pub(super) fn is_dot_git(component: &[u8]) -> bool {
    read_by_ntfs(component).any(|name| name == ".git" || name == "git~1")
}

/// Whether a name is that of the own folder of git or another version control.
pub(super) fn is_history(name: &[u8]) -> bool {
    is_dot_git(name) || version_control::has_history(&folded(name))
}

/// Whether a name directly in a git folder holds commits.
pub(super) fn holds_history(name: &[u8]) -> bool {
    HISTORY.contains(&folded(name).as_str())
}

/// Whether a name directly in a git folder is never copied.
pub(super) fn is_never_copied(name: &[u8]) -> bool {
    let name = folded(name);
    name.starts_with("config") || NEVER_COPIED.contains(&name.as_str())
}

/// Whether a path deeper in a git folder is never copied: another configuration or a copy of one
/// (not a branch or an object of such a name), and the credentials that git-annex keeps.
// THREAT: an editor left `.git/config~`, and the token in `url = https://bot:TOKEN@host` is copied
// with it. Tried by workspace::copy_in::tests::copies_of_gits_configuration_are_left_out.
pub(super) fn is_never_copied_within(path: &RelPath, is_folder: bool) -> bool {
    let names: Vec<_> = path.components().collect();
    let beneath = names.iter().rposition(|name| is_dot_git(name)).map_or(0, |at| at + 1);
    let names: Vec<_> = names[beneath..].iter().map(|name| folded(name)).collect();
    let holds_names = |name: &String| HISTORY.contains(&name.as_str());
    match names.as_slice() {
        [.., annex, creds] if annex == "annex" && creds == "creds" => true,
        [folders @ .., name] => {
            !is_folder && name.starts_with("config") && !folders.iter().any(holds_names)
        }
        [] => false,
    }
}

/// Whether it is the configuration, which is replaced.
pub(super) fn is_config(name: &[u8]) -> bool {
    folded(name) == "config"
}

/// Which of the names of a repository a folder has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape(u8);

impl Shape {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut shape = Self::default();
        names.for_each(|name| _ = shape.add(name));
        shape
    }

    /// Adds a name. Returns whether it is one of them.
    pub(super) fn add(&mut self, name: &[u8]) -> bool {
        let name = folded(name);
        let at = SHAPE.iter().position(|known| *known == name);
        self.0 |= at.map_or(0, |at| 1 << at);
        at.is_some()
    }

    #[must_use]
    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn has_head(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether git reads the folder as a bare repository, or as that of a linked work tree.
    pub(super) fn is_repository(self) -> bool {
        self.has_head() && (self.0 & 0b110 == 0b110 || self.0 & 0b1000 != 0)
    }
}

/// The configuration that replaces a repository's own: its format and nothing else.
pub(super) fn stand_in(original: &[u8], bare: bool) -> Vec<u8> {
    let mut version = 0;
    let mut extensions = String::new();
    for Setting { section, has_subsection, key, value } in git_config::settings(original) {
        match (section.as_str(), key.as_str(), value.as_slice()) {
            _ if has_subsection => {}
            ("core", "repositoryformatversion", b"1") => version = 1,
            ("extensions", "objectformat", b"sha256") => {
                extensions.push_str("\tobjectFormat = sha256\n");
            }
            ("extensions", "refstorage", b"reftable") => {
                extensions.push_str("\trefStorage = reftable\n");
            }
            _ => {}
        }
    }
    if !extensions.is_empty() {
        extensions.insert_str(0, "[extensions]\n");
    }
    format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = {bare}\n{extensions}"
    )
    .into_bytes()
}

/// Whether a change is only git's index, which each `git status` rewrites. It is never applied and
/// names no program. If it were listed as held, people would learn to ignore that list.
pub(super) fn is_refreshed_index(change: &Change) -> bool {
    let path = &change.path;
    let is_file = |node: &Option<Node>| matches!(node, Some(Node::File { .. }));
    path.name() == b"index"
        && path.components().any(is_dot_git)
        && is_file(&change.before)
        && is_file(&change.after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_dot_git_is_known() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            ".git.",
            ".git ",
            ".git. .",
            "git~1",
            "GIT~1",
            ".g\u{200c}it",
            ".git::$INDEX_ALLOCATION",
            "a\\.git\\config",
            ".git.\u{feff}",
        ] {
            assert!(is_dot_git(name.as_bytes()), "{name:?}");
        }
        for name in ["git", ".gitignore", ".gita", ".github", "a.git", "git~2", ".gi", ""] {
            assert!(!is_dot_git(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn every_version_control_has_its_history_known() {
        for name in [".git", ".HG", ".jj", ".sl", ".svn", "_SVN", ".bzr", "_darcs", ".pijul"] {
            assert!(is_history(name.as_bytes()), "{name}");
        }
        for name in [".fslckout", "_FOSSIL_", "_MTN", "{arch}", ".repo"] {
            assert!(is_history(name.as_bytes()), "{name}");
        }
        for name in [".fossil-settings", ".p4config", "cvs", "hg", ".github", "repo"] {
            assert!(!is_history(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_repository_is_known_by_its_shape() {
        let is_one =
            |names: &[&str]| Shape::of(names.iter().map(|name| name.as_bytes())).is_repository();
        assert!(is_one(&["HEAD", "objects", "refs"]) && is_one(&["head", "Objects", "refs."]));
        assert!(is_one(&["HEAD", "commondir"]));
        for names in [&["HEAD", "objects"][..], &["objects", "refs"], &["commondir"], &["HEAD"]] {
            assert!(!is_one(names), "{names:?}");
        }
    }

    #[test]
    fn only_the_format_of_a_configuration_is_kept() {
        let original = b"[core]\n\trepositoryformatversion = 1\n\tfsmonitor = rm -rf /\n\
            [remote \"origin\"]\n\turl = https://token@host/x\n[Extensions] objectFormat = sha256\n\
            \tpartialClone = origin\n[extensions \"x\"]\n\trefStorage = reftable\n";
        let text = String::from_utf8(stand_in(original, false)).unwrap();
        assert_eq!(
            text,
            "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = false\n\
             [extensions]\n\tobjectFormat = sha256\n"
        );
        let plain = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
        assert_eq!(stand_in(b"\xff\xfe]=[", true), plain.as_bytes());
    }

    #[test]
    fn an_index_that_git_rewrote_is_not_a_change() {
        let file = |size| {
            let sha256 = super::super::node::Sha::of(sha2::Digest::new());
            Some(Node::File { mode: 0o644, size, sha256 })
        };
        let refreshed = |path: &str, before: Option<Node>, after: Option<Node>| {
            let path = RelPath::parse(path.as_bytes()).unwrap();
            is_refreshed_index(&Change {
                path,
                before,
                after,
                content: None,
                held: None,
                runs: None,
                special_bits: false,
            })
        };
        for path in [".git/index", "sub/.git/index", ".git/modules/x/index"] {
            assert!(refreshed(path, file(1), file(2)), "{path}");
        }
        // What is new, gone, something else or not git's is a change.
        let link = Some(Node::Link { target: b"x".to_vec() });
        assert!(!refreshed(".git/index", None, file(1)));
        assert!(!refreshed(".git/index", file(1), None));
        assert!(!refreshed(".git/index", file(1), link));
        assert!(!refreshed("index", file(1), file(2)));
        assert!(!refreshed(".git/hooks/index.sh", file(1), file(2)));
    }
}
