//! Proves that the service accepts a credential: requests the list of models.

use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::model::Catalogue;
use airlock_shared::outcome::FaultKind;
use airlock_shared::{defaults, limits};

use crate::auth::Signer;
use crate::gate;
pub(super) use crate::session::client;
use crate::session::settings::Identity;

/// The result of a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofResult {
    /// The service accepts the credential: the number of models, and the default model.
    Listed { models: usize, default: Option<String> },
    /// The service could not be reached, or has no catalogue: the result is not known.
    Unknown(String),
    /// The service does not accept the credential.
    Refused(String),
}

/// The identity in the requests of set-up commands: the default of a session.
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
    let timeout = Duration::from_secs(limits::CATALOGUE_SECONDS);
    let request = async {
        let client = client(base, ca.map(str::to_owned)).await?;
        gate::catalogue(&client, signer, base, &backend, timeout).await
    };
    match request.await {
        Ok(answer) => {
            let catalogue = Catalogue::parse(&answer);
            let default = catalogue.choose(None, None).ok().map(|model| model.slug);
            ProofResult::Listed { models: catalogue.listed().len(), default }
        }
        Err(fault) if fault.kind == FaultKind::SignIn => ProofResult::Refused(fault.message),
        Err(fault) => ProofResult::Unknown(fault.message),
    }
}
