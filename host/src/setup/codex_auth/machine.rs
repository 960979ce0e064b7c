//! Docker and the base image, one line each. A sign-in does not need them, so the checks have a
//! short timeout and their result changes nothing.

use std::time::Duration;

use crate::engine::base;
use crate::engine::docker::{Docker, EngineChoice};
use crate::setup::doctor::Check;

const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn brief(choice: &EngineChoice) -> Vec<Check> {
    let checks = tokio::time::timeout(TIMEOUT, checks(choice)).await;
    checks.unwrap_or_else(|_| vec![Check::unknown("docker", "it does not answer (airlock doctor)")])
}

async fn checks(choice: &EngineChoice) -> Vec<Check> {
    let docker = match Docker::connect(choice).await {
        Ok(docker) => docker,
        Err(error) => {
            let (headline, reason, _) = error.describe();
            let text =
                format!("{headline}: {reason}; sessions need an engine, signing in does not");
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
            let text = "not built yet: the first `airlock run` builds it, or airlock setup image";
            checks.push(Check::unknown("base image", text));
        }
        Err(_) => {}
    }
    checks
}
