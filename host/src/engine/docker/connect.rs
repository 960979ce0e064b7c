//! Where the engine is, and whether it is safe to use. The order is that of the `docker` command:
//! `DOCKER_HOST`, `DOCKER_CONTEXT`, the context in use, the usual socket.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, ClientVersion};

use super::{Docker, context, hello};
use crate::engine::error::{EngineError, Unusable};

const USUAL_SOCKET: &str = "unix:///var/run/docker.sock";
/// How long the engine may take to begin an answer.
const ANSWER_SECONDS: u64 = 120;
/// How long the first answer may take.
const HELLO: Duration = Duration::from_secs(10);
/// The oldest version of the API that we support.
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

    /// The address, and the certificates if TLS is to be used.
    fn address(&self) -> Result<EngineAddress, EngineError> {
        if let Some(host) = &self.host {
            let directory = self.certificates.clone().unwrap_or_else(|| self.config.clone());
            return Ok(EngineAddress {
                host: host.clone(),
                certificates: self.tls.then_some(directory),
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

/// An engine's address, and the certificates for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineAddress {
    pub(super) host: String,
    /// The directory with `ca.pem`, `cert.pem` and `key.pem`.
    pub(super) certificates: Option<PathBuf>,
}

/// How to connect to the engine.
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
                "https needs certificates, and none are named",
                "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory with the certificates",
            )),
            // THREAT: an attacker on the network reads the handoff, and answers as the engine. Tried by
            // engine::docker::connect::tests::tcp_without_tls_is_for_this_machine_only.
            ("tcp" | "http", None) if is_loopback(address) => {
                Ok(Self::Plain(with_port(address, 2375)))
            }
            ("tcp" | "http", None) => Err(refuse(
                "tcp without TLS to another machine: an attacker on the network could read and change it",
                "use TLS (DOCKER_TLS_VERIFY=1), or forward the socket: \
                 ssh -N -L /tmp/engine.sock:/var/run/docker.sock HOST, then \
                 DOCKER_HOST=unix:///tmp/engine.sock",
            )),
            ("ssh", _) => Err(refuse(
                "ssh is not supported",
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

    /// A client with the newest version of the API that both sides support: one request.
    async fn negotiated_client(&self) -> Result<bollard::Docker, bollard::errors::Error> {
        match hello::version(self).await {
            Some(theirs) if theirs < *API_DEFAULT_VERSION => self.client(&theirs),
            Some(_) => self.client(API_DEFAULT_VERSION),
            // This attempt gives a more exact error.
            None => self.client(API_DEFAULT_VERSION)?.negotiate_version().await,
        }
    }
}

impl Docker {
    /// Finds the engine and agrees with it on a version of the API: one request.
    ///
    /// # Errors
    /// If there is no engine, if it is too old, or if its address is not supported or not safe.
    pub async fn connect(choice: &EngineChoice) -> Result<Self, EngineError> {
        let place = choice.address()?;
        let transport = Transport::of(&place)?;
        let unusable = |why| EngineError::Unusable { endpoint: place.host.clone(), why };
        let client = tokio::time::timeout(HELLO, transport.negotiated_client()).await;
        let late = || Unusable::Silent(format!("no answer for {} s", HELLO.as_secs()));
        let client = client
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

    fn transport(host: &str, tls: bool) -> Result<Transport, EngineError> {
        let choice = EngineChoice {
            host: Some(host.to_owned()),
            tls,
            certificates: Some("/certificates".into()),
            ..EngineChoice::default()
        };
        Transport::of(&choice.address().unwrap())
    }

    #[test]
    fn tcp_without_tls_is_for_this_machine_only() {
        assert_eq!(
            transport("tcp://127.0.0.1:5555", false),
            Ok(Transport::Plain("127.0.0.1:5555".into()))
        );
        assert_eq!(
            transport("tcp://localhost", false),
            Ok(Transport::Plain("localhost:2375".into()))
        );
        assert_eq!(transport("http://[::1]:1", false), Ok(Transport::Plain("[::1]:1".into())));
        for host in [
            "tcp://10.0.0.5:2375",
            "tcp://engine.example:2375",
            "tcp://127.0.0.1.example:2375",
            "tcp://127.0.0.1@engine.example:2375",
            "http://[2001:db8::1]:2375",
            "tcp://0.0.0.0:2375",
            "tcp://",
        ] {
            assert!(matches!(transport(host, false), Err(EngineError::Endpoint { .. })), "{host}");
        }
    }

    #[test]
    fn other_addresses_need_a_known_scheme() {
        assert_eq!(
            transport("unix:///run/x.sock", true),
            Ok(Transport::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            transport("tcp://engine.example", true),
            Ok(Transport::Tls {
                address: "engine.example:2376".into(),
                certificates: "/certificates".into()
            })
        );
        for host in ["ssh://me@engine", "npipe:////./pipe/docker", "/var/run/docker.sock"] {
            assert!(matches!(transport(host, false), Err(EngineError::Endpoint { .. })), "{host}");
        }
        assert!(matches!(
            transport("https://engine.example", false),
            Err(EngineError::Endpoint { .. })
        ));
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
        assert_eq!(choice.address().unwrap().host, USUAL_SOCKET);
    }

    #[tokio::test]
    async fn a_missing_engine_and_a_silent_engine_are_different_errors() {
        let refused = async |host: &str| {
            let choice = EngineChoice { host: Some(host.to_owned()), ..EngineChoice::default() };
            match Docker::connect(&choice).await.unwrap_err() {
                EngineError::Unusable { why, .. } => why,
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused("unix:///none").await, Unusable::Absent);
        // A socket that its engine left behind.
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let why = refused(&format!("unix://{}", socket.display())).await;
        assert!(matches!(&why, Unusable::Silent(why) if why.contains("refused")), "{why:?}");
    }
}
