//! Checks what this machine lacks: one line for each check, with the command that fixes it. It
//! changes nothing except the volume with the sandbox binary.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::defaults;

use super::proof::{self, ProofResult};
pub use crate::auth::Credential;
use crate::auth::{self, AuthError, Deps};
use crate::clock;
use crate::engine::base as image;
use crate::engine::docker::{Docker, EngineChoice, EngineInfo, Owner, ResolvedImage, Unclaimed};
use crate::engine::{ContainerSpec, EngineError, WorkspaceMount, binary};
use crate::exit::Exit;
use crate::failure::{GIVE_A_KEY, shell_url};
use crate::session::sign_in_again;
use crate::text;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub state: CheckState,
    pub text: String,
    /// The command that fixes it.
    pub command: Option<String>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    Ok,
    /// A session would end with this exit code.
    Missing(Exit),
    /// It could not be checked, because something else is missing.
    Unknown,
}

impl Check {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, state: CheckState::Ok, text: text.into(), command: None }
    }

    pub(super) fn missing(
        exit: Exit,
        name: &'static str,
        text: impl Into<String>,
        command: Option<String>,
    ) -> Self {
        Self { name, state: CheckState::Missing(exit), text: text.into(), command }
    }

    pub(super) fn unknown(name: &'static str, text: &str) -> Self {
        Self { name, state: CheckState::Unknown, text: text.to_owned(), command: None }
    }

    fn from_error(name: &'static str, error: &EngineError) -> Self {
        let (headline, reason, command) = error.describe();
        Self::missing(Exit::Sandbox, name, format!("{headline}: {reason}"), command)
    }
}

/// Runs all checks. `state` is the directory of logins and sessions, `install` and `owner` are
/// labels for the container of the trial, `session` is a unique id for it, and `claim` gives the
/// owner of a container's session.
pub async fn run(
    choice: &EngineChoice,
    state: &Path,
    install: &str,
    owner: &str,
    session: &str,
    claim: impl Fn(&str, &str) -> Owner,
) -> Vec<Check> {
    let mut checks = vec![directory(state)];
    let docker = match Docker::connect(choice).await {
        Ok(docker) => docker,
        Err(error) => {
            checks.push(Check::from_error("engine", &error));
            for name in ["limits", "seccomp", "image", "sandbox"] {
                checks.push(Check::unknown(name, "there is no engine"));
            }
            return checks;
        }
    };
    match docker.about().await {
        Ok(about) => {
            checks.push(Check::ok(
                "engine",
                format!(
                    "{}, API {}, cgroup v{}, at {}",
                    about.version,
                    docker.api(),
                    about.cgroups,
                    docker.endpoint()
                ),
            ));
            checks.push(limits(&about));
            checks.push(seccomp(&about));
        }
        Err(error) => checks.push(Check::from_error("engine", &error)),
    }
    // Before the trial, whose container belongs to no session.
    if let Ok(found) = docker.unclaimed(install, claim).await
        && !found.is_empty()
    {
        checks.push(unclaimed(&found));
    }

    let name = image::name();
    match docker.find_image(&name).await {
        Ok(Some(found)) => {
            checks.push(Check::ok("image", name));
            checks.push(trial(&docker, &found, install, owner, session).await);
        }
        Ok(None) => {
            checks.push(Check::missing(
                Exit::Sandbox,
                "image",
                format!("{name} is not on the engine yet"),
                Some("airlock setup image".to_owned()),
            ));
            checks.push(Check::unknown("sandbox", "there is no image for it"));
        }
        Err(error) => {
            checks.push(Check::from_error("image", &error));
            checks.push(Check::unknown("sandbox", "there is no image for it"));
        }
    }
    checks
}

/// Only the person may read logins and records.
fn directory(state: &Path) -> Check {
    let name = "state";
    let at = state.display();
    let Ok(found) = state.symlink_metadata() else {
        return Check::ok(name, format!("{at} is created when it is needed"));
    };
    let command = Some(format!("chmod 700 {at}"));
    if !found.is_dir() {
        let command = Some(format!("ls -ld {at}"));
        return Check::missing(Exit::Sandbox, name, format!("{at} is not a directory"), command);
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        let command = Some(format!("sudo chown -R \"$USER\" {at}"));
        return Check::missing(
            Exit::Sandbox,
            name,
            format!("{at} belongs to another user"),
            command,
        );
    }
    if found.mode() & 0o077 != 0 {
        return Check::missing(Exit::Sandbox, name, format!("others can read {at}"), command);
    }
    Check::ok(name, format!("{at}, private"))
}

fn limits(about: &EngineInfo) -> Check {
    let missing: Vec<&str> = [
        (about.memory, "memory"),
        (about.swap, "swap"),
        (about.pids, "processes"),
        (about.cpus, "processors"),
    ]
    .iter()
    .filter_map(|&(is_enforced, name)| (!is_enforced).then_some(name))
    .collect();
    if missing.is_empty() {
        return Check::ok("limits", "memory, swap, processes and processors are limited");
    }
    Check::missing(
        Exit::Sandbox,
        "limits",
        format!("the engine's kernel does not limit {}", missing.join(", ")),
        Some("docker info    (its warnings name the kernel's setting)".to_owned()),
    )
}

fn seccomp(about: &EngineInfo) -> Check {
    if about.seccomp {
        return Check::ok("seccomp", "the engine's profile is on");
    }
    Check::missing(
        Exit::Sandbox,
        "seccomp",
        "the engine does not filter system calls",
        Some("docker info --format '{{.SecurityOptions}}'".to_owned()),
    )
}

/// Containers and volumes that are not removed, because their session cannot be found.
fn unclaimed(found: &Unclaimed) -> Check {
    let names: Vec<&str> =
        found.containers.iter().chain(&found.volumes).map(String::as_str).collect();
    let text = format!(
        "{} of this state directory: their session is not here; it belongs to a copy of the \
         directory, or was deleted; if nothing else uses them:",
        names.join(", ")
    );
    Check { name: "leftovers", state: CheckState::Unknown, text, command: Some(found.command()) }
}

/// Starts a real sandbox, up to its ready line.
async fn trial(
    docker: &Docker,
    image: &ResolvedImage,
    install: &str,
    owner: &str,
    session: &str,
) -> Check {
    let spec = ContainerSpec {
        session: session.to_owned(),
        install: install.to_owned(),
        lock: String::new(),
        owner: owner.to_owned(),
        uid: airlock_shared::defaults::TOOL_UID,
        memory: 256 << 20,
        cpus: 1.0,
        pids: 64,
        work: WorkspaceMount::Memory { bytes: 16 << 20 },
    };
    let trial = async {
        let sandbox = docker.prepare(image, &spec).await?;
        let start = tokio::time::Instant::now();
        let ready = docker.plan(spec, image, &sandbox).create().await?.start().await?;
        let took: Duration = start.elapsed();
        let version = ready.version().to_owned();
        ready.remove().await?;
        Ok::<_, EngineError>((took, version))
    };
    match trial.await {
        Ok((took, version)) => Check::ok(
            "sandbox",
            format!(
                "created, confinement verified, ready in {} ms (sandbox {version}, {})",
                took.as_millis(),
                &binary::SANDBOX_SHA256[..12]
            ),
        ),
        Err(error) => Check::from_error("sandbox", &error),
    }
}

/// Requests the list of models from the backend, as a session does. `base`: instead of the
/// credential's own base.
pub async fn backend(credential: Credential, base: Option<Base>, ca: Option<String>) -> Check {
    let name = "backend";
    let again = match &credential {
        Credential::Login { name, .. } => sign_in_again(name),
        _ => GIVE_A_KEY.to_owned(),
    };
    let refused = |why: String| Check::missing(Exit::SignIn, name, why, Some(again.clone()));
    let deps = Deps { ca: ca.clone(), clock: Arc::new(clock::seconds) };
    let opened = base_of(&credential, base)
        .and_then(|base| auth::open(credential, &base, &deps).map(|signer| (base, signer)));
    let (base, signer) = match opened {
        Ok(opened) => opened,
        Err(error) => return refused(error.to_string()),
    };
    match proof::prove(&*signer, &base, ca.as_deref()).await {
        ProofResult::Listed { models, default } => {
            let default = default.map(|default| format!(", default {default}"));
            let models = text::counted(models as u64, "model");
            let listed = format!("{base} lists {models}{}", default.unwrap_or_default());
            Check::ok(name, listed)
        }
        ProofResult::Refused(why) => refused(why),
        ProofResult::Unknown(why) => {
            let command = Some(format!("curl -I {}", shell_url(&base.origin())));
            Check::missing(Exit::Failed, name, format!("no list of models: {why}"), command)
        }
    }
}

fn base_of(credential: &Credential, named: Option<Base>) -> Result<Base, AuthError> {
    match (named, credential) {
        (Some(base), _) => Ok(base),
        (None, Credential::Login { name, directory }) => auth::base_of(directory, name),
        (None, _) => Base::parse(defaults::API_BASE)
            .map_err(|_| AuthError::Missing { place: defaults::API_BASE.to_owned() }),
    }
}

/// The check of the backend if there is no login or key; why.
#[must_use]
pub fn backend_unchecked(why: &str) -> Check {
    Check::unknown("backend", why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_others_read_is_named_with_its_command() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let check = super::directory(directory.path());
        assert_eq!(check.state, CheckState::Missing(Exit::Sandbox));
        assert_eq!(check.command, Some(format!("chmod 700 {}", directory.path().display())));
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(super::directory(directory.path()).state, CheckState::Ok);
    }

    #[test]
    fn every_limit_that_is_not_enforced_is_named() {
        let about = EngineInfo {
            version: "20.10".into(),
            cgroups: "1".into(),
            seccomp: true,
            memory: true,
            swap: false,
            pids: false,
            cpus: true,
        };
        let check = limits(&about);
        assert_eq!(check.state, CheckState::Missing(Exit::Sandbox));
        assert_eq!(check.text, "the engine's kernel does not limit swap, processes");
    }

    #[test]
    fn leftovers_are_named_with_the_command_that_removes_them() {
        let text = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let command = |containers: &[&str], volumes: &[&str]| {
            let found = Unclaimed { containers: text(containers), volumes: text(volumes) };
            let check = unclaimed(&found);
            let all_named =
                [containers, volumes].concat().iter().all(|name| check.text.contains(name));
            assert!(all_named, "{check:?}");
            check.command.unwrap_or_default()
        };
        assert_eq!(
            command(&["airlock-1", "airlock-2"], &["airlock-work-1-pts"]),
            "docker rm --force --volumes airlock-1 airlock-2 && docker volume rm airlock-work-1-pts"
        );
        assert_eq!(command(&[], &["airlock-work-1"]), "docker volume rm airlock-work-1");
        assert_eq!(command(&["airlock-1"], &[]), "docker rm --force --volumes airlock-1");
    }

    #[tokio::test]
    async fn a_backend_that_cannot_be_reached_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, "sk-canary-of-this-test").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        // A port that is free now.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let base = || Base::parse(&format!("{origin}/v1")).ok();
        let check = backend(Credential::KeyFile(file), base(), None).await;
        assert_eq!(check.state, CheckState::Missing(Exit::Failed), "{}", check.text);
        assert!(
            check.text.starts_with(&format!("no list of models: {origin}: ")),
            "{}",
            check.text
        );
        assert_eq!(check.command, Some(format!("curl -I {origin}")));
        let none = Credential::Login { name: "ops".into(), directory: directory.path().to_owned() };
        let check = backend(none, base(), None).await;
        assert_eq!(check.state, CheckState::Missing(Exit::SignIn), "{}", check.text);
        assert_eq!(check.command.as_deref(), Some("airlock setup codex-auth --name ops"));
    }

    #[tokio::test]
    async fn without_an_engine_every_check_is_listed() {
        let choice = EngineChoice { host: Some("unix:///none".into()), ..EngineChoice::default() };
        let checks = run(&choice, Path::new("/none"), "i", "o", "r", |_, _| Owner::Unknown).await;
        let found: Vec<_> = checks.iter().map(|check| (check.name, check.state)).collect();
        assert_eq!(
            found,
            [
                ("state", CheckState::Ok),
                ("engine", CheckState::Missing(Exit::Sandbox)),
                ("limits", CheckState::Unknown),
                ("seccomp", CheckState::Unknown),
                ("image", CheckState::Unknown),
                ("sandbox", CheckState::Unknown),
            ]
        );
    }
}
