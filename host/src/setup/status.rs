//! Every login, as it stands: whose, how long, what is left of its plan.

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

/// How long the service may take to say what is left of a plan.
const PATIENCE: Duration = Duration::from_secs(10);

/// One login.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginStatus {
    pub name: String,
    pub found: LoginState,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LoginState {
    /// `login_info.gone` says whether it is still good.
    Login { login_info: Box<LoginInfo>, usage: PlanUsage },
    /// It is there and cannot be used: why.
    Unusable(String),
}

/// What is left of the plan.
#[derive(Clone, Debug, PartialEq)]
pub enum PlanUsage {
    /// A key has no windows, and a login that is gone is not asked for.
    None,
    Known(Usage),
    /// Why it could not be asked.
    Unasked(String),
}

impl LoginStatus {
    /// Whether a run could be paid with it, as far as can be told.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(&self.found, LoginState::Login { login_info, .. } if login_info.gone.is_none())
    }
}

/// All of them, or the one named; each is asked about at the same time.
///
/// # Errors
/// `Nothing` where the one named is not there; the folder cannot be read.
pub async fn run(logins: &Logins, only: Option<&str>) -> Result<Vec<LoginStatus>, LoginError> {
    let folder = |error| LoginError::login("default", error);
    let names = logins.store.names().map_err(folder)?;
    let names: Vec<String> = match only {
        None => names,
        Some(only) if names.iter().any(|name| name == only) => vec![only.to_owned()],
        Some(only) => return Err(LoginError::NotFound { name: only.to_owned() }),
    };
    Ok(join_all(names.into_iter().map(|name| standing(logins, name))).await)
}

/// Whether a run could be paid with the login of that name, as far as this machine knows: nobody is
/// asked and nothing is renewed.
#[must_use]
pub fn is_good(logins: &Logins, name: &str) -> bool {
    logins.store.read(name).is_ok_and(|login| login.ended_now(logins.now()).is_none())
}

/// The doctor's line about logins: what is on the disk, and nobody is asked. Only the one that
/// `pays` hinders a run; none where something else does.
#[must_use]
pub fn check(logins: &Logins, pays: Option<&str>) -> Check {
    let names = match logins.store.names() {
        Ok(names) => names,
        Err(error) => {
            return Check::missing(Exit::SignIn, "logins", error.to_string(), None);
        }
    };
    let mut said = Vec::new();
    let mut command = None;
    for name in names {
        let found = logins.store.read(&name);
        let how = match &found {
            Ok(login) => login.ended_now(logins.now()).map(|ended| ended.words()),
            Err(error) => Some(error.to_string()),
        };
        if how.is_some() && pays == Some(name.as_str()) {
            command.get_or_insert_with(|| sign_in_again(&name));
        }
        said.push(format!("{name} {}", how.unwrap_or_else(|| "good".to_owned())));
    }
    match (said.is_empty(), command) {
        (true, _) => Check::ok("logins", "none yet (airlock setup codex-auth)"),
        (false, None) => Check::ok("logins", said.join(" · ")),
        (false, command) => Check::missing(Exit::SignIn, "logins", said.join(" · "), command),
    }
}

async fn standing(logins: &Logins, name: String) -> LoginStatus {
    let usage = match logins.store.read(&name) {
        Ok(login)
            if login.kind == LoginKind::ChatGpt && login.ended_now(logins.now()).is_none() =>
        {
            usage(logins, &name, &login.base).await
        }
        _ => PlanUsage::None,
    };
    // Read after the service was asked: asking may have renewed it, or shown that it is gone.
    let found = match logins.store.read(&name) {
        Ok(login) => {
            let login_info = Box::new(LoginInfo::of(&name, &login, logins.now()));
            LoginState::Login { login_info, usage }
        }
        Err(error) => LoginState::Unusable(error.to_string()),
    };
    LoginStatus { name, found }
}

async fn usage(logins: &Logins, name: &str, base: &Base) -> PlanUsage {
    let ca = logins.deps.ca.as_deref();
    let backend = proof::identity().backend(base, "", ca);
    let asked = async {
        let signer = logins.signer(name, base).map_err(|error| error.to_string())?;
        signer.sign().await.map_err(|error: AuthError| error.to_string())?;
        let client = proof::client(base, ca.map(str::to_owned)).await;
        let client = client.map_err(|fault| fault.message)?;
        let usage = gate::usage(&client, &*signer, base, &backend, PATIENCE).await;
        usage.map_err(|fault| fault.message)
    };
    match asked.await {
        Ok(usage) => PlanUsage::Known(usage),
        Err(why) => PlanUsage::Unasked(why),
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

    fn logins(folder: &Path) -> Logins {
        Logins::at(folder, Deps { ca: None, clock: Arc::new(|| NOW) })
    }

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(format!("{name}.json"));
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
    async fn what_is_good_and_what_is_not_is_told_without_asking_anybody() {
        let folder = tempfile::tempdir().expect("a folder");
        let logins = logins(folder.path());
        let check = |pays| check(&logins, pays);
        assert_eq!(check(Some("default")).state, CheckState::Ok);
        assert!(!is_good(&logins, "default"));
        let key = r#"{"v":2,"kind":"api_key","base":"https://api.openai.com/v1",
                      "api_key":"sk-canary","generation":0}"#;
        write(folder.path(), "team", key);
        write(folder.path(), "fresh", &token(NOW + 60));
        assert!(is_good(&logins, "team") && is_good(&logins, "fresh"));
        assert_eq!(check(Some("team")).text, "fresh good · team good");
        write(folder.path(), "old", &token(NOW - 60));
        write(folder.path(), "torn", "{");
        assert!(!is_good(&logins, "old") && !is_good(&logins, "torn"));
        for unused in [None, Some("team")] {
            assert_eq!(check(unused).state, CheckState::Ok, "nobody pays with what is gone");
        }
        let check = check(Some("old"));
        assert_eq!(check.state, CheckState::Missing(Exit::SignIn));
        assert_eq!(check.command.as_deref(), Some("airlock setup codex-auth --name old"));
        assert!(!check.text.contains("canary"), "{}", check.text);
        let missing = run(&logins, Some("nobody")).await;
        assert_eq!(missing, Err(LoginError::NotFound { name: "nobody".into() }));
    }
}
