//! What stays at home: the names of secrets, and what the person adds to or takes from that list.
//!
//! A name alone decides; no file is opened to find out. Deliberately absent: any rule that comes
//! from the workspace itself (`.gitignore` does not count, ignored files go in).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::rel_path::RelPath;

/// Files and folders that hold credentials, in any case of letters, at any depth.
const SECRETS: &[&str] = &[
    // settings that are secrets by custom
    ".env*",
    "*.env",
    // private keys and key stores
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.p8",
    "*.ppk",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.asc.key",
    // what tools keep after a login
    ".netrc",
    "_netrc",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".git-credentials",
    ".vault-token",
    ".terraformrc",
    "terraform.tfstate*",
    "*.tfvars",
    "credentials.json",
    "credentials.toml",
    "client_secret*.json",
    "service-account*.json",
    "service_account*.json",
    "application_default_credentials.json",
    "secrets.y*ml",
    "secrets.json",
    // folders of such
    ".aws",
    ".azure",
    ".ssh",
    ".gnupg",
    ".gcloud",
    "**/.config/gcloud",
    "**/.config/gh",
    "**/.docker/config.json",
    "**/.kube/config",
    "**/.cargo/credentials*",
    "**/.gem/credentials",
    "**/.terraform.d/credentials*",
];

/// Which paths are left out: what `exclude` names, and of the secrets those that `include` does
/// not name. A glob without `/` is matched against the name at any depth, one with `/` against
/// the whole path; one that names a folder names all that is in it.
#[derive(Clone, Debug)]
pub struct Rules {
    secrets: GlobSet,
    include: GlobSet,
    exclude: GlobSet,
}

/// A glob of the person's that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the glob {glob:?} cannot be read: {why}")]
pub struct BadGlob {
    pub glob: String,
    pub why: String,
}

/// What the rules say of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    In,
    Secret,
    Excluded,
}

impl Rules {
    /// # Errors
    /// A glob that cannot be read.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, BadGlob> {
        let secrets: Vec<String> = SECRETS.iter().map(|&glob| glob.to_owned()).collect();
        Ok(Self {
            secrets: globs(&secrets, true)?,
            include: globs(include, false)?,
            exclude: globs(exclude, false)?,
        })
    }

    // THREAT: a model that was talked into it reads the keys that lie in the folder and writes
    // them into its answer. Tried by workspace::copy_in::tests::secrets_stay_at_home.
    pub(super) fn judge(&self, path: &RelPath) -> Verdict {
        if names(&self.exclude, path) {
            Verdict::Excluded
        } else if names(&self.secrets, path) && !names(&self.include, path) {
            Verdict::Secret
        } else {
            Verdict::In
        }
    }

    /// Whether something in a folder that is left out may come back.
    pub(super) fn brings_back(&self) -> bool {
        !self.include.is_empty()
    }
}

fn names(globs: &GlobSet, path: &RelPath) -> bool {
    let names = |path: &RelPath| globs.is_match(Path::new(OsStr::from_bytes(path.as_bytes())));
    !globs.is_empty() && (names(path) || path.ancestors().any(|folder| names(&folder)))
}

fn globs(patterns: &[String], any_case: bool) -> Result<GlobSet, BadGlob> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bad = |error: globset::Error| BadGlob {
            glob: pattern.clone(),
            why: error.kind().to_string(),
        };
        let trimmed = pattern.trim_start_matches("./").trim_end_matches('/');
        let whole = if trimmed.contains('/') {
            trimmed.trim_start_matches('/').to_owned()
        } else {
            format!("**/{trimmed}")
        };
        let mut glob = GlobBuilder::new(&whole);
        glob.literal_separator(true).case_insensitive(any_case);
        set.add(glob.build().map_err(bad)?);
    }
    set.build().map_err(|error| BadGlob { glob: patterns.join(" "), why: error.kind().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(include: &[&str], exclude: &[&str], path: &str) -> Verdict {
        let owned = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
        let rules = Rules::new(&owned(include), &owned(exclude)).unwrap();
        rules.judge(&RelPath::parse(path.as_bytes()).unwrap())
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
            "k/service-account-prod.json",
        ] {
            assert_eq!(judged(&[], &[], path), Verdict::Secret, "{path}");
        }
        for path in [
            "src/env.rs",
            "environment",
            "keys/mod.rs",
            "docker/config.json",
            "config",
            ".git/HEAD",
        ] {
            assert_eq!(judged(&[], &[], path), Verdict::In, "{path}");
        }
    }

    #[test]
    fn include_brings_back_and_exclude_wins() {
        assert_eq!(judged(&[".env.example"], &[], "a/.env.example"), Verdict::In);
        assert_eq!(judged(&[".env.example"], &[], "a/.env"), Verdict::Secret);
        assert_eq!(judged(&["tests/**"], &[], "tests/tls/ca.pem"), Verdict::In);
        assert_eq!(judged(&["tests"], &[], "tests/tls/ca.pem"), Verdict::In);
        assert_eq!(judged(&["/tests/"], &[], "tests/tls/ca.pem"), Verdict::In);
        assert_eq!(judged(&["/tests/"], &[], "a/tests/ca.pem"), Verdict::Secret);
        assert_eq!(judged(&["./tests/tls/"], &[], "tests/tls/ca.pem"), Verdict::In);
        assert_eq!(judged(&["*.pem"], &["tests/"], "tests/tls/ca.pem"), Verdict::Excluded);
        assert_eq!(judged(&[], &["target"], "a/target/debug/x"), Verdict::Excluded);
        let bad = Rules::new(&["a[".to_owned()], &[]).unwrap_err();
        assert_eq!(bad.glob, "a[");
    }
}
