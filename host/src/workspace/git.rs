//! Git's own folders: what of them stays at home, and the configuration that stands in for it.
//!
//! A repository's configuration and hooks are programs of whoever wrote them, and may hold
//! credentials (addresses with tokens). Two facts of it are needed to read the objects: the
//! format's version and the few extensions that change it.

use super::change::Change;
use super::node::Node;

/// What a name in one of git's folders means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Config,
    Hooks,
    /// What `git-credential-store` was told to keep there.
    Credentials,
    /// What was done, with its arguments: `pull https://bot:TOKEN@host/`. No commit needs it.
    Logs,
    Other,
}

/// Whether a component is read as `.git` by git on any system: any case, NTFS's short name,
/// trailing dots and spaces, streams and backslashes, the code points that HFS ignores.
pub(super) fn is_dot_git(component: &[u8]) -> bool {
    component.split(|byte| *byte == b'\\').any(|name| {
        let text: String = String::from_utf8_lossy(name).chars().filter(|&c| !ignored(c)).collect();
        let text = text.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
        text.eq_ignore_ascii_case(".git") || text.eq_ignore_ascii_case("git~1")
    })
}

/// A name as systems compare it that ignore case, trailing dots and spaces, and what HFS ignores.
pub(super) fn folded(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let text = text.trim_end_matches(['.', ' ']);
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // There and back: some letters have a capital in common.
    let text: String = text.chars().filter(|&c| !ignored(c)).collect();
    text.to_uppercase().to_lowercase()
}

/// Whether a name is that of a repository's own folder, of git or another version control.
pub(super) fn is_history(name: &[u8]) -> bool {
    is_dot_git(name) || [".hg", ".jj", ".sl", ".svn", ".bzr"].iter().any(|it| name == it.as_bytes())
}

/// What holds the commits in a repository without a work tree.
pub(super) fn holds_history(name: &[u8]) -> bool {
    [&b"objects"[..], b"refs", b"packed-refs"].iter().any(|it| name.eq_ignore_ascii_case(it))
}

/// HFS+ ignores these when it compares names.
fn ignored(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Whether a folder with these names in it is read as a repository without a work tree, or as one
/// of a linked work tree.
pub(super) fn is_repository(has: impl Fn(&str) -> bool) -> bool {
    has("head") && ((has("objects") && has("refs")) || has("commondir"))
}

/// The names that [`is_repository`] asks for.
pub(super) const SHAPE: [&str; 4] = ["head", "objects", "refs", "commondir"];

/// What a name directly in a git folder is.
pub(super) fn part(name: &[u8]) -> Part {
    if name.eq_ignore_ascii_case(b"config") || name.eq_ignore_ascii_case(b"config.worktree") {
        Part::Config
    } else if name.eq_ignore_ascii_case(b"hooks") {
        Part::Hooks
    } else if name.eq_ignore_ascii_case(b"credentials") {
        Part::Credentials
    } else if name.eq_ignore_ascii_case(b"logs") {
        // THREAT: `git log -g` tells the token that somebody once pulled with. Tried by
        // workspace::copy_in::tests::what_git_was_told_to_do_stays_at_home.
        Part::Logs
    } else {
        Part::Other
    }
}

/// What stands in for a repository's configuration: its format, and nothing else of it.
pub(super) fn stand_in(original: &[u8], bare: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(original);
    let mut section = String::new();
    let mut version = 0;
    let mut extensions = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.split(']').next().unwrap_or_default().trim().to_ascii_lowercase();
        }
        let Some((key, value)) = line.rsplit(']').next().unwrap_or_default().split_once('=') else {
            continue;
        };
        let value = value.trim();
        match (section.as_str(), key.trim().to_ascii_lowercase().as_str()) {
            ("core", "repositoryformatversion") if value == "1" => version = 1,
            ("extensions", "objectformat") if value == "sha256" => {
                extensions.push_str("\tobjectFormat = sha256\n");
            }
            ("extensions", "refstorage") if value == "reftable" => {
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
        ] {
            assert!(is_dot_git(name.as_bytes()), "{name:?}");
        }
        for name in ["git", ".gitignore", ".gita", ".github", "a.git", "git~2", ".gi", ""] {
            assert!(!is_dot_git(name.as_bytes()), "{name:?}");
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
            let path = super::super::rel_path::RelPath::parse(path.as_bytes()).unwrap();
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
