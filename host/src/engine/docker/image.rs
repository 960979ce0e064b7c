//! Resolves the name of an image to a digest, so that a session uses one image even if its tag moves.

use std::fmt;

use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use super::{Docker, context, is_absent};
use crate::engine::error::{EngineError, engine_message};

/// The repository of our own images: made on this machine, in no registry.
pub const OURS: &str = "airlock-base";
/// The name of Docker Hub in `config.json`.
const HUB: &str = "https://index.docker.io/v1/";
/// The longest name, with its registry, tag and digest.
const NAME_BYTES: usize = 512;

/// The parts of an image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    repository: String,
    /// A tag, or a digest with `sha256:`.
    version: String,
    is_digest: bool,
}

impl ImageName {
    /// # Errors
    /// If the text is not a valid name. A valid name is safe in a path of the engine's API.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        let bad = || EngineError::ImageName { image: text.chars().take(NAME_BYTES).collect() };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if text.len() > NAME_BYTES
            || !starts_well
            || !text.chars().all(plain)
            || text.contains("..")
        {
            return Err(bad());
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (repository, tag) = match name[slash..].rfind(':') {
            Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
            None => (name, None),
        };
        let version = digest.or(tag).unwrap_or("latest");
        if repository.is_empty()
            || repository.ends_with('/')
            || version.is_empty()
            || version.contains('@')
        {
            return Err(bad());
        }
        Ok(Self {
            repository: repository.to_owned(),
            version: version.to_owned(),
            is_digest: digest.is_some(),
        })
    }

    /// The registry, as `config.json` names it.
    fn registry(&self) -> &str {
        match self.repository.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => HUB,
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.is_digest { '@' } else { ':' };
        write!(f, "{}{between}{}", self.repository, self.version)
    }
}

/// One image that does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The name that was asked for.
    pub name: String,
    /// What containers are made from: `repository@sha256:…`, or the id if the image was never in a
    /// registry.
    pub digest: String,
    /// The engine's id for it.
    pub id: String,
    /// Paths that the image declares as volumes; the container mounts them read-only.
    pub volumes: Vec<String>,
}

impl Docker {
    /// Finds the image, and fetches it if the engine does not have it; `progress` gets the lines of the
    /// download.
    ///
    /// # Errors
    /// If no registry has it, or it cannot be fetched.
    pub async fn image(
        &self,
        name: &str,
        progress: &mut (dyn FnMut(String) + Send),
    ) -> Result<ResolvedImage, EngineError> {
        let parsed = ImageName::parse(name)?;
        if let Some(found) = self.find_image(name).await? {
            return Ok(found);
        }
        // THREAT: an attacker who registers our name in a registry chooses what every container starts
        // from.
        // Tried by engine::docker::tests::our_own_image_is_never_fetched.
        if parsed.repository == OURS {
            return Err(EngineError::ImageAbsent {
                image: name.to_owned(),
                command: "airlock setup image".to_owned(),
            });
        }
        self.fetch(&parsed, progress).await?;
        self.find_image(name).await?.ok_or_else(|| EngineError::ImagePull {
            image: name.to_owned(),
            reason: "the engine reported that it fetched the image, and does not have it"
                .to_owned(),
        })
    }

    /// The image, if the engine has it.
    ///
    /// # Errors
    /// If the text is not a valid name, or the engine does not answer.
    pub async fn find_image(&self, name: &str) -> Result<Option<ResolvedImage>, EngineError> {
        let parsed = ImageName::parse(name)?;
        let found = match self.client().inspect_image(name).await {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        let Some(id) = found.id else { return Ok(None) };
        let digests = found.repo_digests.unwrap_or_default();
        let digest = choose(&parsed.repository, &digests).unwrap_or(&id).to_owned();
        let volumes = found.config.and_then(|config| config.volumes).unwrap_or_default();
        Ok(Some(ResolvedImage { name: name.to_owned(), digest, id, volumes }))
    }

    async fn fetch(
        &self,
        name: &ImageName,
        progress: &mut (dyn FnMut(String) + Send),
    ) -> Result<(), EngineError> {
        // Without a tag the engine would fetch all tags.
        let options = CreateImageOptionsBuilder::new()
            .from_image(&name.repository)
            .tag(&name.version)
            .build();
        let credentials = context::credentials(&self.config, name.registry());
        let mut lines = self.client().create_image(Some(options), None, credentials);
        progress(format!("fetching {name}"));
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| cannot_fetch(name, &error))?;
            // Byte counts come ten times a second; people only need to see the layers.
            let counted = line.progress_detail.is_some_and(|detail| detail.current.is_some());
            if let (Some(status), false) = (line.status, counted) {
                progress(match line.id {
                    Some(id) => format!("{id}: {status}"),
                    None => status,
                });
            }
        }
        Ok(())
    }
}

/// The digest in the repository that was asked for. A digest of another repository may stop naming
/// this image; the id always names it.
fn choose<'a>(repository: &str, digests: &'a [String]) -> Option<&'a str> {
    let own = |digest: &&String| {
        digest.split_once('@').is_some_and(|(name, _)| familiar(name) == familiar(repository))
    };
    digests.iter().find(own).map(String::as_str)
}

/// A repository as the docker command shows it.
fn familiar(repository: &str) -> &str {
    let name = repository.strip_prefix("docker.io/").unwrap_or(repository);
    name.strip_prefix("library/").unwrap_or(name)
}

fn cannot_fetch(name: &ImageName, error: &Error) -> EngineError {
    let reason = engine_message(error);
    let nowhere = ["manifest unknown", "not found", "does not exist", "name unknown"];
    let absent = is_absent(error) || nowhere.iter().any(|word| reason.contains(word));
    if absent {
        // A registry gives the same answer for a missing image and for a private one. The docker command
        // can also use credential helpers, so it is the command to try.
        let command = format!("docker pull {name}");
        EngineError::ImageAbsent { image: name.to_string(), command }
    } else {
        EngineError::ImagePull { image: name.to_string(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_into_parts() {
        let parts = |text: &str| {
            let name = ImageName::parse(text).unwrap();
            (name.repository.clone(), name.version.clone(), name.registry().to_owned())
        };
        let hub = || HUB.to_owned();
        assert_eq!(parts("debian"), ("debian".into(), "latest".into(), hub()));
        assert_eq!(parts("team/tool:1.2"), ("team/tool".into(), "1.2".into(), hub()));
        assert_eq!(
            parts("127.0.0.1:5001/name:tag"),
            ("127.0.0.1:5001/name".into(), "tag".into(), "127.0.0.1:5001".into())
        );
        assert_eq!(
            parts("r.example/a/b:1@sha256:00"),
            ("r.example/a/b".into(), "sha256:00".into(), "r.example".into())
        );
        assert_eq!(ImageName::parse("a@sha256:00").unwrap().to_string(), "a@sha256:00");
    }

    #[test]
    fn invalid_names_are_refused() {
        for text in ["", "a b", "-rm", "../containers", "a/../b", "a?x=1", "a#b", "a@", "a/", "é"]
        {
            assert!(matches!(ImageName::parse(text), Err(EngineError::ImageName { .. })), "{text}");
        }
        assert!(ImageName::parse(&"a".repeat(600)).is_err());
    }

    #[test]
    fn the_digest_of_the_repository_asked_for_is_chosen() {
        let digests = ["other@sha256:1".to_owned(), "team/tool@sha256:2".to_owned()];
        assert_eq!(choose("team/tool", &digests), Some("team/tool@sha256:2"));
        assert_eq!(choose("docker.io/library/other", &digests), Some("other@sha256:1"));
        assert_eq!(choose("third", &digests), None);
    }
}
