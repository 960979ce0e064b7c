//! Where the engine is, and whether we may speak to it. The same order as the `docker` command:
//! `DOCKER_HOST`, then `DOCKER_CONTEXT`, then the context that is in use, then the usual socket.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, ClientVersion};

use super::{Docker, context, hello};
use crate::engine::error::{EngineError, Unusable};

const USUAL_SOCKET: &str = "unix:///var/run/docker.sock";
/// How long the engine may take to begin an answer.
const ANSWER_SECONDS: u64 = 120;
/// How long it may take over its first.
const HELLO: Duration = Duration::from_secs(10);
/// The oldest API we speak.
const API: (usize, usize) = (1, 41);

/// What the environment says about the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineChoice {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_TLS_VERIFY`.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`.
    pub certificates: Option<PathBuf>,
    /// `DOCKER_CONFIG`, or `~/.docker`.
    pub config: PathBuf,
}

impl EngineChoice {
    /// Reads the variables that the `docker` command reads; an empty one counts as absent.
    #[must_use]
    pub fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let config = set("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".docker")));
        Self {
            host: set("DOCKER_HOST"),
            context: set("DOCKER_CONTEXT"),
            tls: set("DOCKER_TLS_VERIFY").is_some(),
            certificates: set("DOCKER_CERT_PATH").map(PathBuf::from),
            config: config.unwrap_or_default(),
        }
    }

    /// [`Self::from`] the process's environment.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from(|name| std::env::var(name).ok())
    }

    /// The address, and the folder of certificates where TLS is to be spoken.
    fn place(&self) -> Result<EngineAddress, EngineError> {
        if let Some(host) = &self.host {
            let folder = self.certificates.clone().unwrap_or_else(|| self.config.clone());
            return Ok(EngineAddress {
                host: host.clone(),
                certificates: self.tls.then_some(folder),
            });
        }
        let named = match &self.context {
            Some(name) => Some(name.clone()),
            None => context::in_use(&self.config)?,
        };
        match named.as_deref() {
            None | Some("default") => {
                Ok(EngineAddress { host: USUAL_SOCKET.to_owned(), certificates: None })
            }
            Some(name) => context::read(&self.config, name),
        }
    }
}

/// An engine's address and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineAddress {
    pub(super) host: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub(super) certificates: Option<PathBuf>,
}

/// How the engine is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Unix(String),
    /// Host and port, on this machine.
    Plain(String),
    Tls {
        address: String,
        certificates: PathBuf,
    },
}

impl Transport {
    fn of(place: &EngineAddress) -> Result<Self, EngineError> {
        let refuse = |reason: &str, hint: &str| EngineError::Endpoint {
            endpoint: place.host.clone(),
            reason: reason.to_owned(),
            hint: hint.to_owned(),
        };
        let Some((scheme, rest)) = place.host.split_once("://") else {
            return Err(refuse("it has no scheme", "write DOCKER_HOST as unix://… or tcp://…"));
        };
        let address = rest.trim_end_matches('/');
        match (scheme, &place.certificates) {
            ("unix", _) => Ok(Self::Unix(rest.to_owned())),
            ("tcp" | "http" | "https", Some(certificates)) => Ok(Self::Tls {
                address: with_port(address, 2376),
                certificates: certificates.clone(),
            }),
            ("https", None) => Err(refuse(
                "no certificates were named",
                "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH to the folder that holds them",
            )),
            // THREAT: whoever is on the way reads the handoff, and answers as the engine. Tried by
            // engine::docker::connect::tests::plain_tcp_is_for_this_machine_only.
            ("tcp" | "http", None) if is_loopback(address) => {
                Ok(Self::Plain(with_port(address, 2375)))
            }
            ("tcp" | "http", None) => Err(refuse(
                "plain tcp to another machine: anybody on the way could read and change what is said",
                "use TLS (DOCKER_TLS_VERIFY=1), or forward the socket: \
                 ssh -N -L /tmp/engine.sock:/var/run/docker.sock HOST, then \
                 DOCKER_HOST=unix:///tmp/engine.sock",
            )),
            ("ssh", _) => Err(refuse(
                "ssh is not spoken here",
                "forward the socket: ssh -N -L /tmp/engine.sock:/var/run/docker.sock HOST, then \
                 DOCKER_HOST=unix:///tmp/engine.sock",
            )),
            _ => Err(refuse("the scheme is unknown", "write DOCKER_HOST as unix://… or tcp://…")),
        }
    }

    fn client(&self, version: &ClientVersion) -> Result<bollard::Docker, bollard::errors::Error> {
        match self {
            Self::Unix(path) => bollard::Docker::connect_with_unix(path, ANSWER_SECONDS, version),
            Self::Plain(address) => {
                bollard::Docker::connect_with_http(address, ANSWER_SECONDS, version)
            }
            Self::Tls { address, certificates } => bollard::Docker::connect_with_ssl(
                address,
                &certificates.join("key.pem"),
                &certificates.join("cert.pem"),
                &certificates.join("ca.pem"),
                ANSWER_SECONDS,
                version,
            ),
        }
    }

    /// A client that speaks the newest version that both know: one request.
    async fn agreed(&self) -> Result<bollard::Docker, bollard::errors::Error> {
        match hello::version(self).await {
            Some(theirs) if theirs < *API_DEFAULT_VERSION => self.client(&theirs),
            Some(_) => self.client(API_DEFAULT_VERSION),
            // It says more of why not.
            None => self.client(API_DEFAULT_VERSION)?.negotiate_version().await,
        }
    }
}

impl Docker {
    /// Finds the engine and agrees on a version with it: one request.
    ///
    /// # Errors
    /// When there is none, it is too old, or its address is one that we will not speak to.
    pub async fn connect(choice: &EngineChoice) -> Result<Self, EngineError> {
        let place = choice.place()?;
        let way = Transport::of(&place)?;
        let unusable = |why| EngineError::Unusable { endpoint: place.host.clone(), why };
        let agreed = tokio::time::timeout(HELLO, way.agreed()).await;
        let late = || Unusable::Silent(format!("no answer for {} s", HELLO.as_secs()));
        let client = agreed
            .map_err(|_| unusable(late()))?
            .map_err(|error| unusable(Unusable::of(&error)))?;
        let version = client.client_version();
        if (version.major_version, version.minor_version) < API {
            return Err(EngineError::TooOld { found: version.to_string() });
        }
        Ok(Self {
            client,
            endpoint: place.host,
            api: version.to_string(),
            config: choice.config.clone(),
        })
    }
}

/// The host of `host:port`, `[v6]:port` or either alone.
fn host_of(address: &str) -> &str {
    if let Some(rest) = address.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn is_loopback(address: &str) -> bool {
    let host = host_of(address);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn with_port(address: &str, port: u16) -> String {
    let bare = match address.strip_prefix('[') {
        Some(rest) => rest.ends_with(']'),
        None => !address.contains(':'),
    };
    if bare { format!("{address}:{port}") } else { address.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(host: &str, tls: bool) -> Result<Transport, EngineError> {
        let choice = EngineChoice {
            host: Some(host.to_owned()),
            tls,
            certificates: Some("/certificates".into()),
            ..EngineChoice::default()
        };
        Transport::of(&choice.place().unwrap())
    }

    #[test]
    fn plain_tcp_is_for_this_machine_only() {
        assert_eq!(
            way("tcp://127.0.0.1:5555", false),
            Ok(Transport::Plain("127.0.0.1:5555".into()))
        );
        assert_eq!(way("tcp://localhost", false), Ok(Transport::Plain("localhost:2375".into())));
        assert_eq!(way("http://[::1]:1", false), Ok(Transport::Plain("[::1]:1".into())));
        for host in [
            "tcp://10.0.0.5:2375",
            "tcp://engine.example:2375",
            "tcp://127.0.0.1.example:2375",
            "tcp://127.0.0.1@engine.example:2375",
            "http://[2001:db8::1]:2375",
            "tcp://0.0.0.0:2375",
            "tcp://",
        ] {
            assert!(matches!(way(host, false), Err(EngineError::Endpoint { .. })), "{host}");
        }
    }

    #[test]
    fn the_other_addresses() {
        assert_eq!(way("unix:///run/x.sock", true), Ok(Transport::Unix("/run/x.sock".into())));
        assert_eq!(
            way("tcp://engine.example", true),
            Ok(Transport::Tls {
                address: "engine.example:2376".into(),
                certificates: "/certificates".into()
            })
        );
        for host in ["ssh://me@engine", "npipe:////./pipe/docker", "/var/run/docker.sock"] {
            assert!(matches!(way(host, false), Err(EngineError::Endpoint { .. })), "{host}");
        }
        assert!(matches!(way("https://engine.example", false), Err(EngineError::Endpoint { .. })));
    }

    #[test]
    fn the_variables_of_the_docker_command_are_read() {
        let choice = EngineChoice::from(|name| match name {
            "HOME" => Some("/home/ada".into()),
            "DOCKER_HOST" => Some(String::new()),
            "DOCKER_TLS_VERIFY" => Some("1".into()),
            _ => None,
        });
        assert_eq!(
            choice,
            EngineChoice {
                host: None,
                context: None,
                tls: true,
                certificates: None,
                config: "/home/ada/.docker".into()
            }
        );
        assert_eq!(choice.place().unwrap().host, USUAL_SOCKET);
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_told_from_one_that_does_not_answer() {
        let refused = async |host: &str| {
            let choice = EngineChoice { host: Some(host.to_owned()), ..EngineChoice::default() };
            match Docker::connect(&choice).await.unwrap_err() {
                EngineError::Unusable { why, .. } => why,
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused("unix:///none").await, Unusable::Absent);
        // A socket that its engine left behind.
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let why = refused(&format!("unix://{}", socket.display())).await;
        assert!(matches!(&why, Unusable::Silent(why) if why.contains("refused")), "{why:?}");
    }
}
