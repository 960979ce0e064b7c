//! The files of `docker context`: which context is in use, and where its engine is. The docker
//! command defines the layout of the directory (`contexts/meta/<sha256 of the name>`).

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::connect::EngineAddress;
use crate::engine::error::EngineError;

/// The most that is read of a file of the docker command.
const FILE_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
    #[serde(default)]
    auths: std::collections::HashMap<String, RegistryAuth>,
}

#[derive(Deserialize)]
struct RegistryAuth {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints", default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: Option<String>,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The context that `docker context use` chose.
pub(super) fn in_use(directory: &Path) -> Result<Option<String>, EngineError> {
    let file = directory.join("config.json");
    match json::<DockerConfig>(&file) {
        Ok(config) => Ok(config.current_context.filter(|name| !name.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&file, &error)),
    }
}

/// The address of a context's engine.
pub(super) fn read(directory: &Path, name: &str) -> Result<EngineAddress, EngineError> {
    let id: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = directory.join("contexts/meta").join(&id).join("meta.json");
    let refuse = |reason: &str| EngineError::Endpoint {
        endpoint: format!("docker context {name:?}"),
        reason: reason.to_owned(),
        hint: "docker context ls".to_owned(),
    };
    let meta: Meta = match json(&file) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refuse("there is no such context"));
        }
        Err(error) => return Err(unreadable(&file, &error)),
    };
    let Some(Endpoint { host: Some(host), skip_tls_verify }) = meta.endpoints.docker else {
        return Err(refuse("it names no engine"));
    };
    let certificates = directory.join("contexts/tls").join(&id).join("docker");
    let certificates = certificates.is_dir().then_some(certificates);
    if skip_tls_verify && certificates.is_some() {
        return Err(refuse("it does not verify the engine's certificate (SkipTLSVerify)"));
    }
    Ok(EngineAddress { host, certificates })
}

/// What `docker login` stored for a registry in the file itself. A file that cannot be read is ignored:
/// the error of the pull then says that credentials are missing.
pub(super) fn credentials(directory: &Path, registry: &str) -> Option<DockerCredentials> {
    let config = json::<DockerConfig>(&directory.join("config.json")).ok()?;
    let auth = config.auths.get(registry)?;
    let mut credentials = DockerCredentials {
        serveraddress: Some(registry.to_owned()),
        identitytoken: auth.identitytoken.clone().filter(|token| !token.is_empty()),
        ..DockerCredentials::default()
    };
    if let Some(pair) = auth.auth.as_ref().filter(|pair| !pair.is_empty()) {
        let pair = base64::engine::general_purpose::STANDARD.decode(pair).ok()?;
        let (name, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        credentials.username = Some(name.to_owned());
        credentials.password = Some(password.trim_end_matches('\0').to_owned());
    }
    (credentials.username.is_some() || credentials.identitytoken.is_some()).then_some(credentials)
}

fn json<T: DeserializeOwned>(file: &Path) -> io::Result<T> {
    use std::io::Read;
    let mut text = Vec::new();
    fs::File::open(file)?.take(FILE_BYTES).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

fn unreadable(file: &Path, error: &io::Error) -> EngineError {
    EngineError::Endpoint {
        endpoint: file.display().to_string(),
        reason: format!("cannot be read: {error}"),
        hint: "repair the file, or set DOCKER_HOST".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: &str = "1f0c6e9e1d1cda4b1e4d3b2e8e5c9c4e";

    fn docker_config(meta: &str) -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let id: String = Sha256::digest(REMOTE).iter().map(|byte| format!("{byte:02x}")).collect();
        let at = directory.path().join("contexts/meta").join(&id);
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("meta.json"), meta).unwrap();
        let config = format!(r#"{{"auths":{{}},"currentContext":"{REMOTE}"}}"#);
        fs::write(directory.path().join("config.json"), config).unwrap();
        (directory, id)
    }

    #[test]
    fn the_context_in_use_is_followed() {
        let meta = r#"{"Name":"r","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://10.1.2.3:2376","SkipTLSVerify":false}}}"#;
        let (directory, id) = docker_config(meta);
        let name = in_use(directory.path()).unwrap().unwrap();
        let plain = read(directory.path(), &name).unwrap();
        assert_eq!(plain, EngineAddress { host: "tcp://10.1.2.3:2376".into(), certificates: None });

        let tls = directory.path().join("contexts/tls").join(id).join("docker");
        fs::create_dir_all(&tls).unwrap();
        assert_eq!(read(directory.path(), &name).unwrap().certificates, Some(tls));
    }

    #[test]
    fn the_error_says_what_is_missing() {
        let (directory, _) = docker_config(r#"{"Endpoints":{}}"#);
        let error = read(directory.path(), REMOTE).unwrap_err();
        assert!(error.to_string().ends_with("it names no engine"), "{error}");
        let error = read(directory.path(), "other").unwrap_err();
        assert!(error.to_string().ends_with("there is no such context"), "{error}");
        assert_eq!(in_use(Path::new("/none")).unwrap(), None);
        fs::write(directory.path().join("config.json"), "{").unwrap();
        assert!(in_use(directory.path()).is_err());
    }

    #[test]
    fn stored_logins_are_found_by_registry() {
        let directory = tempfile::tempdir().unwrap();
        let pair = base64::engine::general_purpose::STANDARD.encode("ada:pass:word");
        let config = format!(r#"{{"auths":{{"r.example:5000":{{"auth":"{pair}"}},"x":{{}}}}}}"#);
        fs::write(directory.path().join("config.json"), config).unwrap();
        let found = credentials(directory.path(), "r.example:5000").unwrap();
        assert_eq!(found.username.as_deref(), Some("ada"));
        assert_eq!(found.password.as_deref(), Some("pass:word"));
        assert_eq!(credentials(directory.path(), "x"), None);
        assert_eq!(credentials(directory.path(), "r.example"), None);
    }
}
