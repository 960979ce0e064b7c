//! Git's own folders: what of them stays at home, and the configuration that stands in for it.
//!
//! A repository's configuration and hooks are programs of whoever wrote them, and may hold
//! credentials (addresses with tokens). Two facts of it are needed to read the objects: the
//! format's version and the few extensions that change it.

use super::change::Change;
use super::fold::{folded, read_by_ntfs};
use super::git_config::{self, Setting};
use super::node::Node;
use super::rel_path::RelPath;
use super::version_control;

/// What never goes in from a folder of git's, whether the history does or not: programs, and what
/// may hold a credential or a key. All in lower case.
const STAYS_AT_HOME: [&str; 7] = [
    "hooks",
    // What `git-credential-store` was told to keep there.
    "credentials",
    // What the last fetch brought, and from which address.
    "fetch_head",
    // What was done, with its arguments: `pull https://bot:TOKEN@host/`. No commit needs it.
    // THREAT: `git log -g` tells the token that somebody once pulled with. Tried by
    // workspace::copy_in::tests::what_git_was_told_to_do_stays_at_home.
    "logs",
    // Addresses of an old form, with what signs in.
    "remotes",
    "branches",
    // The key of every file that git-crypt encrypts.
    "git-crypt",
];
/// What holds the commits in a repository without a work tree. Left out too where no history goes
/// in.
const HISTORY: [&str; 3] = ["objects", "refs", "packed-refs"];
/// The names that make a folder a repository to git.
const SHAPE: [&str; 4] = ["head", "objects", "refs", "commondir"];

/// Whether a component is read as `.git` by git on any system: as NTFS reads it, by its short name
/// too.
pub(super) fn is_dot_git(component: &[u8]) -> bool {
    read_by_ntfs(component).any(|name| name == ".git" || name == "git~1")
}

/// Whether a name is that of a repository's own folder, of git or another version control.
pub(super) fn is_history(name: &[u8]) -> bool {
    is_dot_git(name) || version_control::has_history(&folded(name))
}

/// Whether a name directly in a git folder holds commits.
pub(super) fn holds_history(name: &[u8]) -> bool {
    HISTORY.contains(&folded(name).as_str())
}

/// Whether a name directly in a git folder stays at home.
pub(super) fn stays_at_home(name: &[u8]) -> bool {
    let name = folded(name);
    name.starts_with("config") || STAYS_AT_HOME.contains(&name.as_str())
}

/// Whether a path deeper in a git folder stays at home: another configuration or a copy of one
/// (never a branch or an object of such a name), and what git-annex keeps of logins.
// THREAT: the token of `url = https://bot:TOKEN@host` goes in with `.git/config~`, which an editor
// left. Tried by workspace::copy_in::tests::copies_of_gits_configuration_stay_at_home.
pub(super) fn stays_at_home_within(path: &RelPath, is_folder: bool) -> bool {
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

/// Whether it is the configuration, for which something stands in.
pub(super) fn is_config(name: &[u8]) -> bool {
    folded(name) == "config"
}

/// Which of the names that make a repository a folder has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape(u8);

impl Shape {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut shape = Self::default();
        names.for_each(|name| _ = shape.add(name));
        shape
    }

    /// Whether the name is one of them.
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

    /// Whether git reads the folder as a repository without a work tree, or as one of a linked work
    /// tree.
    pub(super) fn is_repository(self) -> bool {
        self.has_head() && (self.0 & 0b110 == 0b110 || self.0 & 0b1000 != 0)
    }
}

/// What stands in for a repository's configuration: its format, and nothing else of it.
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

/// Whether a change is git's index alone, which each `git status` writes anew. It is never applied
/// and names no program: to call it held would teach people to pass over what is.
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
    fn nothing_of_a_configuration_stays_but_its_format() {
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
    fn an_index_that_git_wrote_anew_is_no_change() {
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
