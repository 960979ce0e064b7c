//! The state of every login: its account, how long it is valid, what is left of its plan.

use std::time::Duration;

use airlock_shared::base::Base;
use futures_util::future::join_all;

use super::doctor::Check;
use super::{LoginError, LoginInfo, Logins, proof};
use crate::auth::AuthError;
use crate::auth::store::LoginKind;
use crate::exit::Exit;
use crate::gate;
use crate::session::sign_in_again;

pub use crate::gate::{Usage, Window};

/// The timeout for the request of a plan's usage.
const USAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// One login.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginStatus {
    pub name: String,
    pub state: LoginState,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LoginState {
    /// It can be read; `login_info.gone` says whether it still works.
    Login { login_info: Box<LoginInfo>, usage: PlanUsage },
    /// It cannot be read; why.
    Unusable(String),
}

/// The usage of the plan.
#[derive(Clone, Debug, PartialEq)]
pub enum PlanUsage {
    /// There is none for a key, and none is requested for a login that has ended.
    None,
    Known(Usage),
    /// It could not be requested; why.
    Unknown(String),
}

impl LoginStatus {
    /// Whether a session can use it, as far as is known.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(&self.state, LoginState::Login { login_info, .. } if login_info.gone.is_none())
    }
}

/// The state of all logins, or of one. The requests run at the same time.
///
/// # Errors
/// `NotFound`: there is no login of this name. `Login`: the directory cannot be read.
pub async fn run(logins: &Logins, only: Option<&str>) -> Result<Vec<LoginStatus>, LoginError> {
    let login_error = |error| LoginError::login("default", error);
    let names = logins.store.names().map_err(login_error)?;
    let names: Vec<String> = match only {
        None => names,
        Some(only) if names.iter().any(|name| name == only) => vec![only.to_owned()],
        Some(only) => return Err(LoginError::NotFound { name: only.to_owned() }),
    };
    Ok(join_all(names.into_iter().map(|name| login_status(logins, name))).await)
}

/// Whether a session can use the login, as far as this machine knows. Sends no request and renews
/// nothing.
#[must_use]
pub fn is_good(logins: &Logins, name: &str) -> bool {
    logins.store.read(name).is_ok_and(|login| login.ended_now(logins.now()).is_none())
}

/// The doctor's line about logins, from the disk alone. Only the login that is `used` can make the
/// check fail; `None`: a session uses no login.
#[must_use]
pub fn check(logins: &Logins, used: Option<&str>) -> Check {
    let names = match logins.store.names() {
        Ok(names) => names,
        Err(error) => {
            return Check::missing(Exit::SignIn, "logins", error.to_string(), None);
        }
    };
    let mut states = Vec::new();
    let mut command = None;
    for name in names {
        let login = logins.store.read(&name);
        let problem = match &login {
            Ok(login) => login.ended_now(logins.now()).map(|ended| ended.describe()),
            Err(error) => Some(error.to_string()),
        };
        if problem.is_some() && used == Some(name.as_str()) {
            command.get_or_insert_with(|| sign_in_again(&name));
        }
        states.push(format!("{name} {}", problem.unwrap_or_else(|| "good".to_owned())));
    }
    match (states.is_empty(), command) {
        (true, _) => Check::ok("logins", "none yet (airlock setup codex-auth)"),
        (false, None) => Check::ok("logins", states.join(" · ")),
        (false, command) => Check::missing(Exit::SignIn, "logins", states.join(" · "), command),
    }
}

async fn login_status(logins: &Logins, name: String) -> LoginStatus {
    let usage = match logins.store.read(&name) {
        Ok(login)
            if login.kind == LoginKind::ChatGpt && login.ended_now(logins.now()).is_none() =>
        {
            usage(logins, &name, &login.base).await
        }
        _ => PlanUsage::None,
    };
    // Read after the request, which may have renewed the login or shown that it has ended.
    let state = match logins.store.read(&name) {
        Ok(login) => {
            let login_info = Box::new(LoginInfo::new(&name, &login, logins.now()));
            LoginState::Login { login_info, usage }
        }
        Err(error) => LoginState::Unusable(error.to_string()),
    };
    LoginStatus { name, state }
}

async fn usage(logins: &Logins, name: &str, base: &Base) -> PlanUsage {
    let ca = logins.deps.ca.as_deref();
    let backend = proof::identity().backend(base, "", ca);
    let request = async {
        let signer = logins.signer(name, base).map_err(|error| error.to_string())?;
        signer.sign().await.map_err(|error: AuthError| error.to_string())?;
        let client = proof::client(base, ca.map(str::to_owned)).await;
        let client = client.map_err(|fault| fault.message)?;
        let usage = gate::usage(&client, &*signer, base, &backend, USAGE_TIMEOUT).await;
        usage.map_err(|fault| fault.message)
    };
    match request.await {
        Ok(usage) => PlanUsage::Known(usage),
        Err(why) => PlanUsage::Unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::auth::Deps;
    use crate::setup::doctor::CheckState;

    const NOW: u64 = 1_795_258_080;

    fn logins(directory: &Path) -> Logins {
        Logins::at(directory, Deps { ca: None, clock: Arc::new(|| NOW) })
    }

    fn write(directory: &Path, name: &str, text: &str) {
        let path = directory.join(format!("{name}.json"));
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a mode");
    }

    fn token(expires_at: u64) -> String {
        format!(
            r#"{{"v":2,"kind":"chatgpt","base":"https://chatgpt.com/backend-api/codex",
                "issuer":"https://auth.openai.com","access_token":"token-canary",
                "account_id":"acct","expires_at":{expires_at},"generation":0}}"#
        )
    }

    #[tokio::test]
    async fn the_state_of_logins_is_known_without_a_request() {
        let directory = tempfile::tempdir().expect("a directory");
        let logins = logins(directory.path());
        let check = |used| check(&logins, used);
        assert_eq!(check(Some("default")).state, CheckState::Ok);
        assert!(!is_good(&logins, "default"));
        let key = r#"{"v":2,"kind":"api_key","base":"https://api.openai.com/v1",
                      "api_key":"sk-canary","generation":0}"#;
        write(directory.path(), "team", key);
        write(directory.path(), "fresh", &token(NOW + 60));
        assert!(is_good(&logins, "team") && is_good(&logins, "fresh"));
        assert_eq!(check(Some("team")).text, "fresh good · team good");
        write(directory.path(), "old", &token(NOW - 60));
        write(directory.path(), "torn", "{");
        assert!(!is_good(&logins, "old") && !is_good(&logins, "torn"));
        for used in [None, Some("team")] {
            assert_eq!(check(used).state, CheckState::Ok, "the ended login is not used");
        }
        let check = check(Some("old"));
        assert_eq!(check.state, CheckState::Missing(Exit::SignIn));
        assert_eq!(check.command.as_deref(), Some("airlock setup codex-auth --name old"));
        assert!(!check.text.contains("canary"), "{}", check.text);
        let missing = run(&logins, Some("none")).await;
        assert_eq!(missing, Err(LoginError::NotFound { name: "none".into() }));
    }
}
