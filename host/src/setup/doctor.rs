//! What a machine lacks: one line for each thing, with the command that mends it. Looks and tries;
//! changes nothing but the volume with our binary.

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
use crate::failure::{GIVE_A_KEY, address};
use crate::session::sign_in_again;
use crate::text;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub state: CheckState,
    pub text: String,
    /// What mends it.
    pub command: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    Ok,
    /// A run would end with this because of it.
    Missing(Exit),
    /// Could not be looked at, because something before it is missing.
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

    fn of(name: &'static str, error: &EngineError) -> Self {
        let (headline, reason, command) = error.describe();
        Self::missing(Exit::Sandbox, name, format!("{headline}: {reason}"), command)
    }
}

/// Looks at everything. `state` is the folder of logins and runs, `install` and `owner` are what
/// the sandbox of the trial is labelled with, `run` is an id that nobody else has; `claim` says how the
/// session of a container is.
pub async fn run(
    choice: &EngineChoice,
    state: &Path,
    install: &str,
    owner: &str,
    run: &str,
    claim: impl Fn(&str, &str) -> Owner,
) -> Vec<Check> {
    let mut checks = vec![folder(state)];
    let docker = match Docker::connect(choice).await {
        Ok(docker) => docker,
        Err(error) => {
            checks.push(Check::of("engine", &error));
            for name in ["limits", "seccomp", "image", "sandbox"] {
                checks.push(Check::unknown(name, "there is no engine to ask"));
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
        Err(error) => checks.push(Check::of("engine", &error)),
    }
    // Before the trial, which is nobody's session.
    if let Ok(found) = docker.unclaimed(install, claim).await
        && !found.is_empty()
    {
        checks.push(unclaimed(&found));
    }

    let name = image::name();
    match docker.find_image(&name).await {
        Ok(Some(found)) => {
            checks.push(Check::ok("image", name));
            checks.push(trial(&docker, &found, install, owner, run).await);
        }
        Ok(None) => {
            checks.push(Check::missing(
                Exit::Sandbox,
                "image",
                format!("{name} is not on the engine yet"),
                Some("airlock setup image".to_owned()),
            ));
            checks.push(Check::unknown("sandbox", "there is no image to try it with"));
        }
        Err(error) => {
            checks.push(Check::of("image", &error));
            checks.push(Check::unknown("sandbox", "there is no image to try it with"));
        }
    }
    checks
}

/// Logins and records are for one user's eyes.
fn folder(state: &Path) -> Check {
    let name = "state";
    let at = state.display();
    let Ok(found) = state.symlink_metadata() else {
        return Check::ok(name, format!("{at} is made when it is needed"));
    };
    let command = Some(format!("chmod 700 {at}"));
    if !found.is_dir() {
        let command = Some(format!("ls -ld {at}"));
        return Check::missing(Exit::Sandbox, name, format!("{at} is not a folder"), command);
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        let command = Some(format!("sudo chown -R \"$USER\" {at}"));
        return Check::missing(
            Exit::Sandbox,
            name,
            format!("{at} belongs to somebody else"),
            command,
        );
    }
    if found.mode() & 0o077 != 0 {
        return Check::missing(Exit::Sandbox, name, format!("{at} can be read by others"), command);
    }
    Check::ok(name, format!("{at}, private"))
}

fn limits(about: &EngineInfo) -> Check {
    let lacking: Vec<&str> = [
        (about.memory, "memory"),
        (about.swap, "swap"),
        (about.pids, "processes"),
        (about.cpus, "processors"),
    ]
    .iter()
    .filter_map(|&(held, name)| (!held).then_some(name))
    .collect();
    if lacking.is_empty() {
        return Check::ok("limits", "memory, swap, processes and processors are held");
    }
    Check::missing(
        Exit::Sandbox,
        "limits",
        format!("the engine's kernel does not limit {}", lacking.join(", ")),
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
        "the engine filters no system calls",
        Some("docker info --format '{{.SecurityOptions}}'".to_owned()),
    )
}

/// What stays because nobody here can tell whether it is somebody's.
fn unclaimed(found: &Unclaimed) -> Check {
    let names: Vec<&str> =
        found.containers.iter().chain(&found.volumes).map(String::as_str).collect();
    let text = format!(
        "{} of this state directory, whose session nobody here can see: of a copy of the \
         directory, or of a session that was deleted; if nothing else uses them:",
        names.join(", ")
    );
    Check { name: "leftovers", state: CheckState::Unknown, text, command: Some(found.command()) }
}

/// A real sandbox, as a run would have it, up to its word that it is ready.
async fn trial(
    docker: &Docker,
    image: &ResolvedImage,
    install: &str,
    owner: &str,
    run: &str,
) -> Check {
    let spec = ContainerSpec {
        session: run.to_owned(),
        install: install.to_owned(),
        lock: String::new(),
        owner: owner.to_owned(),
        uid: airlock_shared::defaults::TOOL_UID,
        memory: 256 << 20,
        cpus: 1.0,
        pids: 64,
        work: WorkspaceMount::Memory { bytes: 16 << 20 },
    };
    let tried = async {
        let sandbox = docker.prepare(image, &spec).await?;
        let from = tokio::time::Instant::now();
        let ready = docker.plan(spec, image, &sandbox).create().await?.start().await?;
        let took: Duration = from.elapsed();
        let version = ready.version().to_owned();
        ready.remove().await?;
        Ok::<_, EngineError>((took, version))
    };
    match tried.await {
        Ok((took, version)) => Check::ok(
            "sandbox",
            format!(
                "made, held to its terms and ready in {} ms (sandbox {version}, {})",
                took.as_millis(),
                &binary::SANDBOX_SHA256[..12]
            ),
        ),
        Err(error) => Check::of("sandbox", &error),
    }
}

/// The backend, asked for its models as a run would ask it. `base`: another one than the
/// credential's own.
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
        ProofResult::Unasked(why) => {
            let command = Some(format!("curl -I {}", address(&base.origin())));
            Check::missing(Exit::Failed, name, format!("no list of models: {why}"), command)
        }
    }
}

fn base_of(credential: &Credential, named: Option<Base>) -> Result<Base, AuthError> {
    match (named, credential) {
        (Some(base), _) => Ok(base),
        (None, Credential::Login { name, folder }) => auth::base_of(folder, name),
        (None, _) => Base::parse(defaults::API_BASE)
            .map_err(|_| AuthError::Missing { place: defaults::API_BASE.to_owned() }),
    }
}

/// For a run that has no login or key to pay with.
#[must_use]
pub fn backend_unasked(why: &str) -> Check {
    Check::unknown("backend", why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_others_read_is_named_with_its_command() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let check = super::folder(folder.path());
        assert_eq!(check.state, CheckState::Missing(Exit::Sandbox));
        assert_eq!(check.command, Some(format!("chmod 700 {}", folder.path().display())));
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(super::folder(folder.path()).state, CheckState::Ok);
    }

    #[test]
    fn every_limit_that_is_not_held_is_named() {
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
    fn leftovers_are_named_with_what_removes_each_of_them() {
        let text = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let command = |containers: &[&str], volumes: &[&str]| {
            let found = Unclaimed { containers: text(containers), volumes: text(volumes) };
            let check = unclaimed(&found);
            let all_named = [containers, volumes].concat().iter().all(|it| check.text.contains(it));
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
    async fn a_backend_that_cannot_be_asked_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-canary-of-this-test").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        // A port that was free a moment ago.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", taken.local_addr().unwrap());
        drop(taken);
        let base = || Base::parse(&format!("{origin}/v1")).ok();
        let check = backend(Credential::KeyFile(file), base(), None).await;
        assert_eq!(check.state, CheckState::Missing(Exit::Failed), "{}", check.text);
        assert!(
            check.text.starts_with(&format!("no list of models: {origin}: ")),
            "{}",
            check.text
        );
        assert_eq!(check.command, Some(format!("curl -I {origin}")));
        let none = Credential::Login { name: "ops".into(), folder: folder.path().to_owned() };
        let check = backend(none, base(), None).await;
        assert_eq!(check.state, CheckState::Missing(Exit::SignIn), "{}", check.text);
        assert_eq!(check.command.as_deref(), Some("airlock setup codex-auth --name ops"));
    }

    #[tokio::test]
    async fn without_an_engine_each_line_is_still_there() {
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
