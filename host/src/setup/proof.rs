//! Proof that a credential is taken: the service, asked for its models.

use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::model::Catalogue;
use airlock_shared::outcome::FaultKind;
use airlock_shared::{defaults, limits};

use crate::auth::Signer;
use crate::gate;
pub(super) use crate::session::client;
use crate::session::settings::Identity;

/// What the service said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofResult {
    /// It takes the credential: so many models, and the one that a session gets which names none.
    Listed { models: usize, default: Option<String> },
    /// It could not be asked, or has no catalogue: neither for nor against the credential.
    Unasked(String),
    /// It does not take the credential.
    Refused(String),
}

/// How a command of set-up introduces itself: as a run does unless told otherwise.
pub(super) fn identity() -> Identity {
    Identity {
        originator: defaults::ORIGINATOR.to_owned(),
        version: defaults::CLIENT_VERSION.to_owned(),
        user_agent: defaults::user_agent(defaults::ORIGINATOR, defaults::CLIENT_VERSION),
        service_tier: None,
    }
}

pub(super) async fn prove(signer: &dyn Signer, base: &Base, ca: Option<&str>) -> ProofResult {
    let backend = identity().backend(base, "", ca);
    let patience = Duration::from_secs(limits::CATALOGUE_SECONDS);
    let asked = async {
        let client = client(base, ca.map(str::to_owned)).await?;
        gate::catalogue(&client, signer, base, &backend, patience).await
    };
    match asked.await {
        Ok(answer) => {
            let catalogue = Catalogue::parse(&answer);
            let default = catalogue.choose(None, None).ok().map(|model| model.slug);
            ProofResult::Listed { models: catalogue.listed().len(), default }
        }
        Err(fault) if fault.kind == FaultKind::SignIn => ProofResult::Refused(fault.message),
        Err(fault) => ProofResult::Unasked(fault.message),
    }
}
