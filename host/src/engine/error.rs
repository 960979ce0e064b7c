//! What can go wrong between us and an engine: a variant for each consequence, and for each the
//! three things a person is told.

use std::fmt;
use std::io::ErrorKind;

/// Why there is no container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The engine cannot be asked, or does not do what it is asked.
    Unusable { endpoint: String, why: Unusable },
    /// The engine's address is one that we will not or cannot speak to.
    Endpoint { endpoint: String, reason: String, hint: String },
    /// The engine is older than API 1.41.
    TooOld { found: String },
    /// The text is not the name of an image.
    ImageName { image: String },
    /// The image is neither on the engine nor in its registry.
    ImageAbsent { image: String, command: String },
    /// The image is not on the engine and could not be fetched.
    ImagePull { image: String, reason: String },
    /// The engine holds less than was asked of it: each thing that is missing.
    Weaker { missing: Vec<String> },
    /// The container has no filter of system calls.
    NoFilter,
    /// At these paths is not what was mounted there: the image has a link or a volume there.
    ImagePaths { paths: Vec<String> },
    /// Another program than the sandbox runs in the container.
    Impostor { found: String },
    /// The tree cannot be mounted live.
    Live { path: String, reason: String },
    /// A container could not be made, started, or did not say that it is ready.
    Box { step: EngineStep, reason: String },
    /// What started in the container speaks another protocol.
    Protocol { theirs: u32, version: String },
    /// Something of ours is still on the engine and could not be removed.
    Leftover { what: Remains, name: String, reason: String },
}

/// Why an engine cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is no such socket.
    Absent,
    /// The socket is there, and this user may not open it.
    Forbidden,
    /// No answer came; what became of the attempt.
    Silent(String),
    /// It answered that it cannot or will not; its words.
    Refuses(String),
}

/// What is left on the engine: each is removed by another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    Container,
    Volume,
}

impl Remains {
    /// What removes it.
    pub(crate) fn command(self, name: &str) -> String {
        match self {
            Self::Container => format!("docker rm --force --volumes {name}"),
            Self::Volume => format!("docker volume rm {name}"),
        }
    }
}

impl Unusable {
    /// What an error of the client means.
    pub(crate) fn of(error: &bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::SocketNotFoundError(_) => return Self::Absent,
            Error::DockerResponseServerError { message, .. } => {
                return Self::Refuses(message.clone());
            }
            // Its source is not itself, but what is behind it.
            Error::IOError { err } if err.kind() == ErrorKind::PermissionDenied => {
                return Self::Forbidden;
            }
            _ => {}
        }
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            let error_of_io = error.downcast_ref::<std::io::Error>();
            if error_of_io.is_some_and(|it| it.kind() == ErrorKind::PermissionDenied) {
                return Self::Forbidden;
            }
            cause = error.source();
        }
        Self::Silent(said(error))
    }
}

/// Where on its way a container failed.
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
            Self::Inject => "the sandbox's binary could not be put on the engine",
            Self::Create => "the container could not be made",
            Self::Start => "the container could not be started",
            Self::Ready => "the sandbox did not say that it is ready",
            Self::Handoff => "the sandbox did not take its task",
            Self::Wait => "the engine no longer says how the container is",
        }
    }
}

impl EngineError {
    /// A failure at one step, with everything the error has to say.
    pub(crate) fn at(step: EngineStep, error: &bollard::errors::Error) -> Self {
        Self::Box { step, reason: said(error) }
    }

    /// A failure at one step that is the machine's and not the engine's.
    pub(crate) fn broke(step: EngineStep, error: &std::io::Error) -> Self {
        Self::Box { step, reason: chain(error) }
    }

    /// Headline, reason, and the one command (or thing to do) that mends it, where there is one.
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
                format!("it speaks API {found}, 1.41 is needed (Docker 20.10 or later)"),
                Some("docker version".to_owned()),
            ),
            Self::ImageName { image } => (
                "not an image".to_owned(),
                format!("{image:?} is not the name of an image"),
                Some("docker images".to_owned()),
            ),
            Self::ImageAbsent { image, command } => (
                "no such image".to_owned(),
                format!("{image} is not on the engine and no registry has it"),
                Some(command.clone()),
            ),
            Self::ImagePull { image, reason } => (
                "the image cannot be fetched".to_owned(),
                format!("{image}: {reason}"),
                Some(format!("docker pull {image}")),
            ),
            Self::Weaker { missing } => (
                "the sandbox cannot be made safe".to_owned(),
                format!("the engine does not hold what was asked of it: {}", missing.join("; ")),
                Some("airlock doctor".to_owned()),
            ),
            Self::NoFilter => (
                "the sandbox cannot be made safe".to_owned(),
                "the engine does not filter system calls (seccomp)".to_owned(),
                Some(
                    "start dockerd without --seccomp-profile=unconfined, on a kernel with \
                     CONFIG_SECCOMP_FILTER; then: airlock doctor"
                        .to_owned(),
                ),
            ),
            Self::ImagePaths { paths } => (
                "the image cannot be used".to_owned(),
                format!(
                    "a link or a volume of the image is in the way of what belongs at {}; nothing \
                     was handed over",
                    paths.join(", ")
                ),
                Some("use another image: airlock run --image NAME".to_owned()),
            ),
            Self::Impostor { found } => (
                "another program runs in the sandbox's place".to_owned(),
                format!("the engine shows {found} in the container; nothing was handed over"),
                Some("use another image: airlock run --image NAME".to_owned()),
            ),
            Self::Live { path, reason } => (
                "the tree cannot be mounted live".to_owned(),
                format!("{path}: {reason}"),
                Some("leave out --live: the tree is then copied".to_owned()),
            ),
            Self::Box { step, reason } => {
                (step.as_str().to_owned(), reason.clone(), Some("airlock doctor".to_owned()))
            }
            Self::Protocol { theirs, version } => (
                "the two halves do not match".to_owned(),
                format!(
                    "the sandbox (version {version}) speaks protocol {theirs}, this host speaks {}",
                    airlock_shared::limits::PROTOCOL
                ),
                Some(
                    "install one release of both: cargo install --path host, without \
                     AIRLOCK_SANDBOX_BINARY"
                        .to_owned(),
                ),
            ),
            Self::Leftover { what, name, reason } => (
                "something of ours is still on the engine".to_owned(),
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
            "the container engine does not do what it is asked",
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

/// The engine's own words where it had any, else what became of the request.
pub(crate) fn said(error: &bollard::errors::Error) -> String {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => chain(other),
    }
}

/// An error and what caused it, as fragments joined by `: `, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        next = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_sentence_and_command() {
        let said = |why| {
            let error = EngineError::Unusable { endpoint: "unix:///s".to_owned(), why };
            let (headline, reason, hint) = error.describe();
            (format!("{headline}: {reason}"), hint.unwrap_or_default())
        };
        let io = |kind: ErrorKind| {
            said(Unusable::of(&bollard::errors::Error::IOError { err: kind.into() }))
        };
        let absent = bollard::errors::Error::SocketNotFoundError("/s".to_owned());
        let answered = bollard::errors::Error::DockerResponseServerError {
            status_code: 500,
            message: "no space left on device".to_owned(),
        };
        let text = |said: &str, hint: &str| (said.to_owned(), hint.to_owned());
        assert_eq!(
            said(Unusable::of(&absent)),
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
            said(Unusable::of(&answered)),
            text(
                "the container engine does not do what it is asked: unix:///s answers: no space left \
                 on device",
                "airlock doctor"
            )
        );
    }

    #[test]
    fn what_is_left_is_named_with_the_command_that_removes_it() {
        let hint = |what| {
            let (name, reason) = ("airlock-1".to_owned(), "it is busy".to_owned());
            EngineError::Leftover { what, name, reason }.describe().2.unwrap_or_default()
        };
        assert_eq!(hint(Remains::Container), "docker rm --force --volumes airlock-1");
        assert_eq!(hint(Remains::Volume), "docker volume rm airlock-1");
    }

    /// Its readers put `no sandbox` before it.
    #[test]
    fn a_step_that_failed_is_said_once() {
        let error =
            EngineError::Box { step: EngineStep::Create, reason: "no space left".to_owned() };
        assert_eq!(error.to_string(), "the container could not be made: no space left");
    }
}
