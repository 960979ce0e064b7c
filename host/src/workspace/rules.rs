//! What is left out: secrets by their names, and what the person adds to that list or takes from
//! it.
//!
//! A name decides alone, or says that the content decides. Deliberately absent: rules from the
//! workspace itself. `.gitignore` does not count: ignored files are copied.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{ErrorKind, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::content::SecretContent;
use super::private::Private;
use super::rel_path::RelPath;
use super::secrets;

/// Which paths are left out: those that `exclude` names, and secrets that `include` does not name.
/// A glob without `/` matches the name at any depth, a glob with `/` the whole path. A glob that
/// matches a folder matches everything in it.
#[derive(Clone, Debug)]
pub struct LeaveOutRules {
    secrets: SecretNames,
    include: GlobSet,
    exclude: GlobSet,
    private: Private,
    history: bool,
}

/// The names of secrets, in lower case.
#[derive(Clone, Debug)]
struct SecretNames {
    folders: GlobSet,
    /// Whole paths of files that only secrets have.
    places: GlobSet,
    names: GlobSet,
    ordinary: GlobSet,
    bare: GlobSet,
    examples: GlobSet,
    public: GlobSet,
}

/// A glob of the person that is not valid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the glob {glob:?} cannot be read: {why}")]
pub struct BadGlob {
    pub glob: String,
    /// With the position of the wrong character, if it is known.
    pub why: String,
}

impl BadGlob {
    fn of(glob: &str, kind: &ErrorKind) -> Self {
        let at = position(glob, kind).map(|at| format!(" (character {at})")).unwrap_or_default();
        Self { glob: glob.to_owned(), why: format!("{kind}{at}") }
    }
}

/// The position of the wrong character, counted from 1: the bracket that is not closed or not
/// opened, or the beginning of a bad range.
fn position(glob: &str, kind: &ErrorKind) -> Option<usize> {
    let error = |text: &str| Glob::new(text).err().map(|error| error.kind().clone());
    let places =
        |wanted| glob.char_indices().filter(move |(_, it)| *it == wanted).map(|(at, _)| at);
    let byte = match kind {
        ErrorKind::UnclosedClass => {
            places('[').rfind(|at| error(&glob[..*at]) != Some(ErrorKind::UnclosedClass))
        }
        ErrorKind::UnclosedAlternates => places('{').rfind(|at| error(&glob[..*at]).is_none()),
        ErrorKind::UnopenedAlternates => {
            places('}').find(|at| error(&glob[..=*at]) == Some(ErrorKind::UnopenedAlternates))
        }
        ErrorKind::InvalidRange(from, to) => glob.find(&format!("{from}-{to}")),
        ErrorKind::DanglingEscape => glob.char_indices().next_back().map(|(at, _)| at),
        _ => None,
    };
    byte.map(|byte| glob[..byte].chars().count() + 1)
}

/// What the rules say about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RuleResult {
    In,
    /// A file is a secret if its content is one.
    IfContent(SecretContent),
    Secret,
    Excluded,
}

impl LeaveOutRules {
    /// # Errors
    /// A glob is not valid.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, BadGlob> {
        Ok(Self {
            secrets: SecretNames::new()?,
            include: globs(include)?,
            exclude: globs(exclude)?,
            private: Private::default(),
            history: true,
        })
    }

    /// The same, without the history of repositories.
    #[must_use]
    pub fn without_history(self) -> Self {
        Self { history: false, ..self }
    }

    pub(super) fn has_history(&self) -> bool {
        self.history
    }

    /// The same, without what is `private`.
    #[must_use]
    pub fn without(self, private: Private) -> Self {
        Self { private, ..self }
    }

    pub(super) fn private(&self) -> &Private {
        &self.private
    }

    // THREAT: text in the workspace persuades the model to read the keys in the directory and to
    // write them into its answer. Tried by workspace::copy_in::tests::secrets_are_left_out.
    pub(super) fn judge(&self, path: &RelPath, is_folder: bool) -> RuleResult {
        if names(&self.exclude, path) {
            return RuleResult::Excluded;
        }
        match self.secrets.judge(path, is_folder) {
            RuleResult::Secret | RuleResult::IfContent(_) if names(&self.include, path) => {
                RuleResult::In
            }
            verdict => verdict,
        }
    }

    /// Whether something in a folder that is left out may be copied all the same.
    pub(super) fn brings_back(&self) -> bool {
        !self.include.is_empty()
    }
}

impl SecretNames {
    fn new() -> Result<Self, BadGlob> {
        let of = |list: &[&str], whole: Option<bool>| {
            let wanted = list.iter().filter(|glob| whole.is_none_or(|it| it == glob.contains('/')));
            globs(&wanted.map(|&glob| glob.to_owned()).collect::<Vec<_>>())
        };
        Ok(Self {
            folders: of(secrets::FOLDERS, None)?,
            places: of(secrets::FILES, Some(true))?,
            names: of(secrets::FILES, Some(false))?,
            ordinary: of(secrets::ORDINARY, None)?,
            bare: of(secrets::BARE, None)?,
            examples: of(secrets::EXAMPLES, None)?,
            public: of(secrets::PUBLIC, None)?,
        })
    }

    fn judge(&self, path: &RelPath, is_folder: bool) -> RuleResult {
        let lower = |path: &RelPath| path.as_bytes().to_ascii_lowercase();
        let is_folder_of_secrets =
            |path: &RelPath| self.folders.is_match(Path::new(OsStr::from_bytes(&lower(path))));
        if is_folder_of_secrets(path) || path.ancestors().any(|it| is_folder_of_secrets(&it)) {
            return RuleResult::Secret;
        }
        if is_folder {
            return RuleResult::In;
        }
        // THREAT: `.env` is left out, but `.env~` or `.npmrc.bak`, which an editor left beside it,
        // is copied. Tried by
        // workspace::secrets::copies::copies_of_secrets_are_judged_as_their_originals.
        let path = lower(path);
        let copied = originals(&path).map(|original| self.judge_file(&original));
        copied.fold(self.judge_file(&path), RuleResult::max)
    }

    fn judge_file(&self, path: &[u8]) -> RuleResult {
        let path = Path::new(OsStr::from_bytes(path));
        let unless_example = |kind| {
            let is_example = self.examples.is_match(path);
            RuleResult::IfContent(if is_example { SecretContent::Example } else { kind })
        };
        if self.places.is_match(path) {
            RuleResult::Secret
        } else if self.ordinary.is_match(path) {
            unless_example(SecretContent::Settings)
        } else if self.names.is_match(path) && !self.public.is_match(path) {
            RuleResult::Secret
        } else if self.bare.is_match(path) {
            unless_example(SecretContent::Bare)
        } else if self.examples.is_match(path) {
            // Source code and documents quote keys without being keys.
            // THREAT: a private key is stored as `key.md` or `id.go`, and is copied.
            // Tried by
            // workspace::secrets::tests::names_that_are_also_ordinary_are_left_out_by_content.
            RuleResult::IfContent(SecretContent::Document)
        } else {
            // THREAT: `deploy_key` is a private key without a telling name, and is copied.
            // Tried by
            // workspace::secrets::tests::names_that_are_also_ordinary_are_left_out_by_content.
            RuleResult::IfContent(SecretContent::Key)
        }
    }
}

/// The paths that a path may be a copy of: `.env~`, `#.env#`, `..env.swp`, `.env.~1~`,
/// `.env.bak.1`.
fn originals(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (folder, mut name) = path.split_at(start);
    let mut found: Vec<&[u8]> = Vec::new();
    loop {
        let by_number = || {
            let rest = name.strip_suffix(b"~").unwrap_or(name);
            let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let rest = &rest[..rest.len() - digits];
            let rest = rest.strip_suffix(b"~").unwrap_or(rest);
            rest.strip_suffix(b".").filter(|_| digits > 0)
        };
        let by_ending =
            || secrets::OF_A_COPY.iter().find_map(|ending| name.strip_suffix(ending.as_bytes()));
        let in_marks = || name.strip_prefix(b"#")?.strip_suffix(b"#");
        let Some(less) = in_marks().or_else(by_number).or_else(by_ending) else { break };
        name = less;
        found.push(name);
        // Vim adds one more dot in front.
        found.extend(name.strip_prefix(b"."));
    }
    found.retain(|name| !name.is_empty());
    found.into_iter().map(|name| [folder, name].concat()).collect::<Vec<_>>().into_iter()
}

fn names(globs: &GlobSet, path: &RelPath) -> bool {
    let names = |path: &RelPath| globs.is_match(Path::new(OsStr::from_bytes(path.as_bytes())));
    !globs.is_empty() && (names(path) || path.ancestors().any(|folder| names(&folder)))
}

/// Checks a glob.
///
/// # Errors
/// It is not valid; the error says where.
pub fn check_glob(glob: &str) -> Result<(), BadGlob> {
    globs(&[glob.to_owned()]).map(drop)
}

fn globs(patterns: &[String]) -> Result<GlobSet, BadGlob> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bad = |error: globset::Error| BadGlob::of(pattern, error.kind());
        let trimmed = pattern.trim_start_matches("./").trim_end_matches('/');
        let whole = if trimmed.contains('/') {
            trimmed.trim_start_matches('/').to_owned()
        } else {
            format!("**/{trimmed}")
        };
        let mut glob = GlobBuilder::new(&whole);
        glob.literal_separator(true);
        set.add(glob.build().map_err(bad)?);
    }
    set.build().map_err(|error| BadGlob { glob: patterns.join(" "), why: error.kind().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(include: &[&str], exclude: &[&str], path: &str) -> RuleResult {
        let owned = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
        let rules = LeaveOutRules::new(&owned(include), &owned(exclude)).unwrap();
        rules.judge(&RelPath::parse(path.as_bytes()).unwrap(), false)
    }

    #[test]
    fn secrets_are_known_by_name_at_any_depth_and_in_any_case() {
        for path in [
            ".env",
            "a/.env.local",
            ".ENV",
            "b/c/id_ed25519",
            "tls/server.KEY",
            ".aws/config",
            "x/.ssh/known_hosts",
            "home/.docker/config.json",
            ".docker/config.json",
            ".kube/config",
            "x/.ssh/keys.txt",
            ".M2/settings.xml",
        ] {
            assert_eq!(judged(&[], &[], path), RuleResult::Secret, "{path}");
        }
        for (path, kind) in [
            ("a/.env.example", SecretContent::Example),
            ("tls/ca.PEM", SecretContent::Settings),
            (".npmrc", SecretContent::Settings),
            ("x/id_rsa.pub", SecretContent::Settings),
            ("maven/settings.xml", SecretContent::Settings),
            ("secrets/db", SecretContent::Bare),
            ("secrets/mod.rs", SecretContent::Example),
            ("environment", SecretContent::Key),
            ("src/env.rs", SecretContent::Document),
            ("docker/config.json", SecretContent::Key),
            ("config", SecretContent::Key),
            (".git/HEAD", SecretContent::Key),
            ("android/app/debug.keystore", SecretContent::Key),
        ] {
            assert_eq!(judged(&[], &[], path), RuleResult::IfContent(kind), "{path}");
        }
    }

    #[test]
    fn include_brings_back_and_exclude_wins() {
        assert_eq!(judged(&[".env.test"], &[], "a/.env.test"), RuleResult::In);
        assert_eq!(judged(&[".env.test"], &[], "a/.env"), RuleResult::Secret);
        assert_eq!(judged(&["tests/**"], &[], "tests/tls/ca.pem"), RuleResult::In);
        assert_eq!(judged(&["tests"], &[], "tests/tls/ca.pem"), RuleResult::In);
        assert_eq!(judged(&["/tests/"], &[], "tests/tls/ca.pem"), RuleResult::In);
        assert_eq!(
            judged(&["/tests/"], &[], "a/tests/ca.pem"),
            RuleResult::IfContent(SecretContent::Settings)
        );
        assert_eq!(judged(&["./tests/tls/"], &[], "tests/tls/ca.pem"), RuleResult::In);
        assert_eq!(judged(&["*.pem"], &["tests/"], "tests/tls/ca.pem"), RuleResult::Excluded);
        assert_eq!(judged(&[], &["target"], "a/target/debug/x"), RuleResult::Excluded);
    }

    #[test]
    fn a_glob_that_cannot_be_read_says_where_it_breaks() {
        for (glob, at) in [
            ("[", Some(1)),
            ("a[", Some(2)),
            ("\u{e9}[b]c[d", Some(6)),
            ("[[", Some(1)),
            ("{a,[b", Some(4)),
            ("a{b", Some(2)),
            ("{a}{b", Some(4)),
            ("a}", Some(2)),
            ("{a}}", Some(4)),
            ("x[z-a]", Some(3)),
            ("a\\", Some(2)),
        ] {
            let bad = check_glob(glob).unwrap_err();
            assert_eq!(bad.glob, glob);
            let place = at.map(|at: usize| format!(" (character {at})")).unwrap_or_default();
            assert!(bad.why.ends_with(&place), "{glob}: {}", bad.why);
        }
        assert_eq!(check_glob("**/*.{pem,key}"), Ok(()));
    }
}
