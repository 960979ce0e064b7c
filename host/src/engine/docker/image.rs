//! A name becomes a digest: what a run starts from is one image, whatever its tag says tomorrow.

use std::fmt;

use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use super::{Docker, context, is_absent};
use crate::engine::error::{EngineError, said};

/// Images of ours: made on this machine, in no registry.
pub const OURS: &str = "airlock-base";
/// What the docker command calls its own registry in `config.json`.
const HUB: &str = "https://index.docker.io/v1/";
/// A name, with its registry, tag and digest.
const NAME_BYTES: usize = 512;

/// An image as a person names it, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    repository: String,
    /// A tag, or a digest with its `sha256:`.
    version: String,
    is_digest: bool,
}

impl ImageName {
    /// # Errors
    /// When the text could not be an image's name; what is let through is plain enough to stand in
    /// a path of the engine's API.
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

    /// The registry, as `config.json` writes it.
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

/// One image, for ever the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// As it was asked for.
    pub name: String,
    /// What containers are made from: `repository@sha256:…`, or the id of an image that never was
    /// in a registry.
    pub digest: String,
    /// The engine's own name for it.
    pub id: String,
    /// Paths that the image wants to be volumes, which the container keeps read-only.
    pub volumes: Vec<String>,
}

impl Docker {
    /// Finds the image, and fetches it where it is absent; `progress` hears of the fetching, a line
    /// at a time.
    ///
    /// # Errors
    /// When it is nowhere, or cannot be fetched.
    pub async fn image(
        &self,
        name: &str,
        progress: &mut (dyn FnMut(String) + Send),
    ) -> Result<ResolvedImage, EngineError> {
        let parsed = ImageName::parse(name)?;
        if let Some(found) = self.find_image(name).await? {
            return Ok(found);
        }
        // THREAT: whoever registers our name in a registry would choose what every container starts from.
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
            reason: "the engine fetched it and does not have it".to_owned(),
        })
    }

    /// The image, if the engine has it.
    ///
    /// # Errors
    /// When the text is no name, or the engine does not answer.
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
        // Without a tag the engine would fetch them all.
        let options = CreateImageOptionsBuilder::new()
            .from_image(&name.repository)
            .tag(&name.version)
            .build();
        let credentials = context::credentials(&self.config, name.registry());
        let mut lines = self.client().create_image(Some(options), None, credentials);
        progress(format!("fetching {name}"));
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| cannot_fetch(name, &error))?;
            // Byte counts come ten times a second; what a person wants to know is the layers.
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

/// The digest under the repository that was asked for. One of another repository may name the
/// same image today; the id does so for ever.
fn choose<'a>(repository: &str, digests: &'a [String]) -> Option<&'a str> {
    let own = |digest: &&String| {
        digest.split_once('@').is_some_and(|(name, _)| familiar(name) == familiar(repository))
    };
    digests.iter().find(own).map(String::as_str)
}

/// A repository as the docker command writes it.
fn familiar(repository: &str) -> &str {
    let name = repository.strip_prefix("docker.io/").unwrap_or(repository);
    name.strip_prefix("library/").unwrap_or(name)
}

fn cannot_fetch(name: &ImageName, error: &Error) -> EngineError {
    let reason = said(error);
    let nowhere = ["manifest unknown", "not found", "does not exist", "name unknown"];
    let absent = is_absent(error) || nowhere.iter().any(|word| reason.contains(word));
    if absent {
        // A registry says the same of what is absent and of what one may not see; the docker
        // command also asks the credential helpers.
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
    fn names_are_taken_apart() {
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
    fn what_is_no_name_is_refused() {
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
