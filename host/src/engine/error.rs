//! What can go wrong with an engine: one variant for each consequence, and for each variant a
//! headline, a reason and a command.

use std::fmt;
use std::io::ErrorKind;

/// Why there is no container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The engine cannot be reached, or refuses a request.
    Unusable { endpoint: String, why: Unusable },
    /// The engine's address is not supported, or not safe.
    Endpoint { endpoint: String, reason: String, hint: String },
    /// The engine is older than API 1.41.
    TooOld { found: String },
    /// Not a valid name of an image.
    ImageName { image: String },
    /// The image is neither on the engine nor in its registry.
    ImageAbsent { image: String, command: String },
    /// The image is not on the engine and could not be fetched.
    ImagePull { image: String, reason: String },
    /// The engine enforces less than it was asked to: everything that is missing.
    Weaker { missing: Vec<String> },
    /// The container has no system call filter.
    NoFilter,
    /// Our mounts are not at these paths, because the image has a link or a volume there.
    ImagePaths { paths: Vec<String> },
    /// Another program than the sandbox runs in the container.
    Impostor { found: String },
    /// The directory cannot be mounted live.
    Live { path: String, reason: String },
    /// A step of a container's life failed.
    Failed { step: EngineStep, reason: String },
    /// The sandbox in the container speaks another protocol.
    Protocol { theirs: u32, version: String },
    /// A container or volume of ours is still on the engine and could not be removed.
    Leftover { what: Remains, name: String, reason: String },
}

/// Why an engine cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is no such socket.
    Absent,
    /// The socket exists, and this user may not open it.
    Forbidden,
    /// It did not answer; the reason.
    Silent(String),
    /// It answered with an error; its message.
    Refuses(String),
}

/// What is left on the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    Container,
    Volume,
}

impl Remains {
    /// The command that removes it.
    pub(crate) fn command(self, name: &str) -> String {
        match self {
            Self::Container => format!("docker rm --force --volumes {name}"),
            Self::Volume => format!("docker volume rm {name}"),
        }
    }
}

impl Unusable {
    /// Classifies an error of the client.
    pub(crate) fn of(error: &bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::SocketNotFoundError(_) => return Self::Absent,
            Error::DockerResponseServerError { message, .. } => {
                return Self::Refuses(message.clone());
            }
            // The `source` of this variant skips `err` itself, so look at `err` here.
            Error::IOError { err } if err.kind() == ErrorKind::PermissionDenied => {
                return Self::Forbidden;
            }
            _ => {}
        }
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            let io_error = error.downcast_ref::<std::io::Error>();
            if io_error.is_some_and(|it| it.kind() == ErrorKind::PermissionDenied) {
                return Self::Forbidden;
            }
            cause = error.source();
        }
        Self::Silent(engine_message(error))
    }
}

/// The step at which a container failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineStep {
    Inject,
    Create,
    Start,
    Ready,
    Handoff,
    Wait,
}

impl EngineStep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Inject => "the sandbox's binary could not be copied to the engine",
            Self::Create => "the container could not be made",
            Self::Start => "the container could not be started",
            Self::Ready => "the sandbox did not say that it is ready",
            Self::Handoff => "the sandbox did not accept its task",
            Self::Wait => "the engine does not report how the container ended",
        }
    }
}

impl EngineError {
    /// A failure at one step, with the client's error as the reason.
    pub(crate) fn at(step: EngineStep, error: &bollard::errors::Error) -> Self {
        Self::Failed { step, reason: engine_message(error) }
    }

    /// A failure at one step that is an IO error of the host.
    pub(crate) fn broke(step: EngineStep, error: &std::io::Error) -> Self {
        Self::Failed { step, reason: chain(error) }
    }

    /// Headline, reason, and the one thing to do about it, if there is one.
    #[must_use]
    pub fn describe(&self) -> (String, String, Option<String>) {
        match self {
            Self::Unusable { endpoint, why } => unusable(endpoint, why),
            Self::Endpoint { endpoint, reason, hint } => (
                "the engine's address cannot be used".to_owned(),
                format!("{endpoint}: {reason}"),
                Some(hint.clone()),
            ),
            Self::TooOld { found } => (
                "the engine is too old".to_owned(),
                format!("it supports API {found}; airlock needs 1.41 (Docker 20.10) or later"),
                Some("docker version".to_owned()),
            ),
            Self::ImageName { image } => (
                "not an image name".to_owned(),
                format!("{image:?} is not a valid image name"),
                Some("docker images".to_owned()),
            ),
            Self::ImageAbsent { image, command } => (
                "no such image".to_owned(),
                format!("{image} is not on the engine, and no registry has it"),
                Some(command.clone()),
            ),
            Self::ImagePull { image, reason } => (
                "the image cannot be fetched".to_owned(),
                format!("{image}: {reason}"),
                Some(format!("docker pull {image}")),
            ),
            Self::Weaker { missing } => (
                "the sandbox cannot be made safe".to_owned(),
                format!("the engine does not enforce what was asked of it: {}", missing.join("; ")),
                Some("airlock doctor".to_owned()),
            ),
            Self::NoFilter => (
                "the sandbox cannot be made safe".to_owned(),
                "the engine applies no system call filter (seccomp)".to_owned(),
                Some(
                    "start dockerd without --seccomp-profile=unconfined, on a kernel with \
                     CONFIG_SECCOMP_FILTER; then: airlock doctor"
                        .to_owned(),
                ),
            ),
            Self::ImagePaths { paths } => (
                "the image cannot be used".to_owned(),
                format!(
                    "the image has a link or a volume at {}, where the sandbox needs its own mount; \
                     nothing was handed over",
                    paths.join(", ")
                ),
                Some("use another image: airlock run --image NAME".to_owned()),
            ),
            Self::Impostor { found } => (
                "another program runs in place of the sandbox".to_owned(),
                format!("the engine reports {found} in the container; nothing was handed over"),
                Some("use another image: airlock run --image NAME".to_owned()),
            ),
            Self::Live { path, reason } => (
                "the directory cannot be mounted live".to_owned(),
                format!("{path}: {reason}"),
                Some("leave out --live: then the sandbox works on a copy".to_owned()),
            ),
            Self::Failed { step, reason } => {
                (step.as_str().to_owned(), reason.clone(), Some("airlock doctor".to_owned()))
            }
            Self::Protocol { theirs, version } => (
                "the sandbox and the host do not match".to_owned(),
                format!(
                    "the sandbox (version {version}) speaks protocol {theirs}, this host speaks {}",
                    airlock_shared::limits::PROTOCOL
                ),
                Some(
                    "install both from one release: cargo install --path host, with \
                     AIRLOCK_SANDBOX_BINARY unset"
                        .to_owned(),
                ),
            ),
            Self::Leftover { what, name, reason } => (
                match what {
                    Remains::Container => "a container of airlock is still on the engine",
                    Remains::Volume => "a volume of airlock is still on the engine",
                }
                .to_owned(),
                format!("{name}: {reason}"),
                Some(what.command(name)),
            ),
        }
    }
}

fn unusable(endpoint: &str, why: &Unusable) -> (String, String, Option<String>) {
    let (headline, reason, hint) = match why {
        Unusable::Absent => (
            "no container engine",
            format!("there is no socket at {endpoint}"),
            "install and start Docker, or point DOCKER_HOST at a running engine; then: airlock doctor",
        ),
        Unusable::Forbidden => (
            "the container engine cannot be used",
            format!("you may not open {endpoint}: permission denied"),
            "sudo usermod -aG docker \"$USER\", then sign in again (that group is as good as root)",
        ),
        Unusable::Silent(reason) => (
            "the container engine does not answer",
            format!("{endpoint}: {reason}"),
            "start Docker, or point DOCKER_HOST at a running engine; then: airlock doctor",
        ),
        Unusable::Refuses(reason) => (
            "the container engine refused a request",
            format!("{endpoint} answers: {reason}"),
            "airlock doctor",
        ),
    };
    (headline.to_owned(), reason, Some(hint.to_owned()))
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (headline, reason, _) = self.describe();
        write!(f, "{headline}: {reason}")
    }
}

impl std::error::Error for EngineError {}

/// The engine's message if it sent one, else the client's error.
pub(crate) fn engine_message(error: &bollard::errors::Error) -> String {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => chain(other),
    }
}

/// An error and its causes, joined by `: `, none repeated.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        next = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_message_and_command() {
        let described = |why| {
            let error = EngineError::Unusable { endpoint: "unix:///s".to_owned(), why };
            let (headline, reason, hint) = error.describe();
            (format!("{headline}: {reason}"), hint.unwrap_or_default())
        };
        let io = |kind: ErrorKind| {
            described(Unusable::of(&bollard::errors::Error::IOError { err: kind.into() }))
        };
        let absent = bollard::errors::Error::SocketNotFoundError("/s".to_owned());
        let answered = bollard::errors::Error::DockerResponseServerError {
            status_code: 500,
            message: "no space left on device".to_owned(),
        };
        let text = |message: &str, hint: &str| (message.to_owned(), hint.to_owned());
        assert_eq!(
            described(Unusable::of(&absent)),
            text(
                "no container engine: there is no socket at unix:///s",
                "install and start Docker, or point DOCKER_HOST at a running engine; then: airlock doctor"
            )
        );
        assert_eq!(
            io(ErrorKind::PermissionDenied),
            text(
                "the container engine cannot be used: you may not open unix:///s: permission denied",
                "sudo usermod -aG docker \"$USER\", then sign in again (that group is as good as root)"
            )
        );
        assert_eq!(
            io(ErrorKind::ConnectionRefused),
            text(
                "the container engine does not answer: unix:///s: connection refused",
                "start Docker, or point DOCKER_HOST at a running engine; then: airlock doctor"
            )
        );
        assert_eq!(
            described(Unusable::of(&answered)),
            text(
                "the container engine refused a request: unix:///s answers: no space left on device",
                "airlock doctor"
            )
        );
    }

    #[test]
    fn a_leftover_comes_with_the_command_that_removes_it() {
        let hint = |what| {
            let (name, reason) = ("airlock-1".to_owned(), "it is busy".to_owned());
            EngineError::Leftover { what, name, reason }.describe().2.unwrap_or_default()
        };
        assert_eq!(hint(Remains::Container), "docker rm --force --volumes airlock-1");
        assert_eq!(hint(Remains::Volume), "docker volume rm airlock-1");
    }

    /// Callers put `no sandbox` before it.
    #[test]
    fn the_message_of_a_failed_step_repeats_nothing() {
        let error =
            EngineError::Failed { step: EngineStep::Create, reason: "no space left".to_owned() };
        assert_eq!(error.to_string(), "the container could not be made: no space left");
    }
}
