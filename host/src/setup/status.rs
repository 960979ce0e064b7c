//! Every login, as it stands: whose, how long, what is left of its plan.

use std::time::Duration;

use airlock_shared::base::Base;
use futures_util::future::join_all;

use super::{Logins, Unable, Whose, proof};
use crate::auth::AuthError;
use crate::auth::store::Kind;
use crate::gate;

pub use crate::gate::{Usage, Window};

/// How long the service may take to say what is left of a plan.
const PATIENCE: Duration = Duration::from_secs(10);

/// One login.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub name: String,
    pub found: Found,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// `whose.gone` says whether it is still good.
    Login { whose: Box<Whose>, usage: UsageKnown },
    /// It is there and cannot be used: why.
    Unusable(String),
}

/// What is left of the plan.
#[derive(Clone, Debug, PartialEq)]
pub enum UsageKnown {
    /// A key has no windows, and a login that is gone is not asked for.
    None,
    Known(Usage),
    /// Why it could not be asked.
    Unasked(String),
}

impl Standing {
    /// Whether a run could be paid with it, as far as can be told.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(&self.found, Found::Login { whose, .. } if whose.gone.is_none())
    }
}

/// All of them, or the one named; each is asked about at the same time.
///
/// # Errors
/// `Nothing` where the one named is not there; the folder cannot be read.
pub async fn run(logins: &Logins, only: Option<&str>) -> Result<Vec<Standing>, Unable> {
    let folder = |error| Unable::login("default", error);
    let names = logins.store.names().map_err(folder)?;
    let names: Vec<String> = match only {
        None => names,
        Some(only) if names.iter().any(|name| name == only) => vec![only.to_owned()],
        Some(only) => return Err(Unable::Nothing { name: only.to_owned() }),
    };
    Ok(join_all(names.into_iter().map(|name| standing(logins, name))).await)
}

/// Whether a run could be paid with the login of that name, as far as this machine knows: nobody is
/// asked and nothing is renewed.
#[must_use]
pub fn is_good(logins: &Logins, name: &str) -> bool {
    logins.store.read(name).is_ok_and(|login| login.ended_now(logins.now()).is_none())
}

async fn standing(logins: &Logins, name: String) -> Standing {
    let usage = match logins.store.read(&name) {
        Ok(login) if login.kind == Kind::ChatGpt && login.ended_now(logins.now()).is_none() => {
            usage(logins, &name, &login.base).await
        }
        _ => UsageKnown::None,
    };
    // Read after the service was asked: asking may have renewed it, or shown that it is gone.
    let found = match logins.store.read(&name) {
        Ok(login) => {
            let whose = Box::new(Whose::of(&name, &login, logins.now()));
            Found::Login { whose, usage }
        }
        Err(error) => Found::Unusable(error.to_string()),
    };
    Standing { name, found }
}

async fn usage(logins: &Logins, name: &str, base: &Base) -> UsageKnown {
    let ca = logins.means.ca.as_deref();
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
        Ok(usage) => UsageKnown::Known(usage),
        Err(why) => UsageKnown::Unasked(why),
    }
}
