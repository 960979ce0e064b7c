//! The base image: the default image of a container. Its name contains a hash of its definition, so
//! an image of that name is the right one, and a changed definition has a new name. No other image on
//! the machine is used in its place.
//!
//! There are two ways to make it. The engine builds it if it can fetch the image that it builds on.
//! Otherwise the host puts it together from Debian packages and imports it into the engine.

mod packages; // from Debian packages, without a registry

use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptionsBuilder, BuilderVersion};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::docker::{self, Docker, ResolvedImage};
use super::error::{EngineError, engine_message};

pub(super) const DOCKERFILE: &str = include_str!("../../../../images/base/Dockerfile");
pub(super) const PACKAGES: &str = include_str!("../../../../images/base/packages");

/// Raised when [`packages`] writes other files beside the packages: they are part of the definition.
const RECIPE: &str = "2";

/// Called with each line of progress.
pub type ProgressSink<'a> = &'a mut (dyn FnMut(String) + Send);

/// How the image was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOrigin {
    /// The engine had it already.
    Present,
    /// The engine built it.
    Built,
    /// It was put together from Debian packages.
    Packages,
}

impl ImageOrigin {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "already there",
            Self::Built => "built by the engine",
            Self::Packages => "put together from Debian packages, without a registry",
        }
    }
}

/// Why there is no base image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    Engine(EngineError),
    /// The packages could not be fetched or put together.
    Packages {
        reason: String,
    },
    /// Both ways failed.
    Neither {
        build: String,
        packages: String,
    },
}

impl ImageError {
    /// Headline, reason, and the one thing to do about it, if there is one.
    #[must_use]
    pub fn describe(&self) -> (String, String, Option<String>) {
        let headline = "the base image cannot be made".to_owned();
        match self {
            Self::Engine(error) => error.describe(),
            Self::Packages { reason } => {
                (headline, reason.clone(), Some("sudo apt-get update".to_owned()))
            }
            Self::Neither { build, packages } => (
                headline,
                format!(
                    "the engine cannot build it: {build}; Debian packages do not work either: {packages}"
                ),
                Some(
                    "let the engine reach its registry (docker pull debian:bookworm-slim), or name \
                     an image you have: airlock run --image IMAGE"
                        .to_owned(),
                ),
            ),
        }
    }
}

impl std::fmt::Display for ImageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (headline, reason, _) = self.describe();
        write!(f, "{headline}: {reason}")
    }
}

impl std::error::Error for ImageError {}

impl From<EngineError> for ImageError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// The image's name: `airlock-base:` and a hash of its definition.
#[must_use]
pub fn name() -> String {
    let mut hash = Sha256::new();
    for part in [DOCKERFILE, PACKAGES, RECIPE] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hash}", docker::OURS)
}

/// Makes the base image if the engine does not have it, and returns how it was made.
///
/// # Errors
/// If the engine does not answer, or both ways fail.
pub async fn ensure(
    docker: &Docker,
    progress: ProgressSink<'_>,
) -> Result<(ResolvedImage, ImageOrigin), ImageError> {
    run(docker, false, progress).await
}

/// `setup image [--offline]`: like [`ensure`]; with `offline` no registry is used.
///
/// # Errors
/// If the engine does not answer, or the image cannot be made.
pub async fn run(
    docker: &Docker,
    offline: bool,
    progress: ProgressSink<'_>,
) -> Result<(ResolvedImage, ImageOrigin), ImageError> {
    let name = name();
    if let Some(found) = docker.find_image(&name).await? {
        return Ok((found, ImageOrigin::Present));
    }
    let refused = if offline {
        None
    } else {
        progress(format!("building {name} on debian:bookworm-slim"));
        match build(docker, &name, progress).await {
            Ok(()) => return Ok((made(docker, &name).await?, ImageOrigin::Built)),
            Err(reason) => {
                progress(format!("the engine cannot build it: {reason}"));
                Some(reason)
            }
        }
    };
    progress(format!("putting {name} together from Debian packages"));
    match (packages::import(docker, &name, progress).await, refused) {
        (Ok(()), _) => Ok((made(docker, &name).await?, ImageOrigin::Packages)),
        (Err(reason), None) => Err(ImageError::Packages { reason }),
        (Err(packages), Some(build)) => Err(ImageError::Neither { build, packages }),
    }
}

async fn made(docker: &Docker, name: &str) -> Result<ResolvedImage, EngineError> {
    docker.find_image(name).await?.ok_or_else(|| EngineError::ImagePull {
        image: name.to_owned(),
        reason: "the engine reported that it made the image, and does not have it".to_owned(),
    })
}

/// Uses the engine's classic builder: the newer one needs a session and has no advantage here.
async fn build(docker: &Docker, name: &str, progress: ProgressSink<'_>) -> Result<(), String> {
    let context = context().map_err(|error| error.to_string())?;
    let options = BuildImageOptionsBuilder::new()
        .dockerfile("Dockerfile")
        .t(name)
        .rm(true)
        .forcerm(true)
        .version(BuilderVersion::BuilderV1)
        .build();
    let mut lines =
        docker.client().build_image(options, None, Some(bollard::body_full(context.into())));
    while let Some(line) = lines.next().await {
        match line {
            Ok(BuildInfo { error_detail: Some(error), .. }) => {
                return Err(error.message.unwrap_or_else(|| "the build failed".to_owned()));
            }
            Ok(BuildInfo { stream: Some(text), .. }) if text.starts_with("Step ") => {
                progress(text.lines().next().unwrap_or_default().chars().take(72).collect());
            }
            Ok(_) => {}
            Err(error) => return Err(engine_message(&error)),
        }
    }
    Ok(())
}

/// The build context: the definition and nothing else.
fn context() -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in [("Dockerfile", DOCKERFILE), ("packages", PACKAGES)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_holds_a_hash_of_the_definition() {
        let name = name();
        let (repository, hash) = name.split_once(':').unwrap();
        assert_eq!(repository, "airlock-base");
        assert!(hash.len() == 12 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{hash}");
    }

    #[test]
    fn every_user_of_commands_has_a_name() {
        let (first, last) = airlock_shared::defaults::TOOL_UIDS.into_inner();
        let all = format!("in {} $(seq {first} {last});", airlock_shared::defaults::TOOL_UID);
        assert!(DOCKERFILE.contains(&all), "{all}");
    }

    #[test]
    fn what_commands_expect_is_in_the_list() {
        let packages: Vec<&str> = PACKAGES.lines().collect();
        for expected in
            ["bash", "coreutils", "git", "python3", "ripgrep", "curl", "ca-certificates"]
        {
            assert!(packages.contains(&expected), "{expected}");
        }
        assert!(packages.is_sorted(), "keep the list sorted");
    }
}
