//! Docker and the sandbox image, a line each. Nobody needs them to sign in, so they are asked quickly
//! and nothing hangs on the answer.

use std::time::Duration;

use crate::engine::base;
use crate::engine::docker::{Docker, EngineChoice};
use crate::setup::doctor::Check;

const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn brief(choice: &EngineChoice) -> Vec<Check> {
    let asked = tokio::time::timeout(PATIENCE, asked(choice)).await;
    asked.unwrap_or_else(|_| vec![Check::unknown("docker", "it does not answer (airlock doctor)")])
}

async fn asked(choice: &EngineChoice) -> Vec<Check> {
    let docker = match Docker::connect(choice).await {
        Ok(docker) => docker,
        Err(error) => {
            let (headline, reason, _) = error.describe();
            let text = format!("{headline}: {reason}; runs need one, signing in does not");
            return vec![Check::unknown("docker", &text)];
        }
    };
    let mut checks = Vec::new();
    if let Ok(about) = docker.about().await {
        let seccomp = if about.seccomp { "seccomp on" } else { "no seccomp (airlock doctor)" };
        let text = format!("{}, cgroup v{}, {seccomp}", about.version, about.cgroups);
        checks.push(match about.seccomp {
            true => Check::ok("docker", text),
            false => Check::unknown("docker", &text),
        });
    }
    let name = base::name();
    match docker.find_image(&name).await {
        Ok(Some(_)) => checks.push(Check::ok("base image", name)),
        Ok(None) => {
            let text = "not made yet: the first run does it, or airlock setup image";
            checks.push(Check::unknown("base image", text));
        }
        Err(_) => {}
    }
    checks
}
