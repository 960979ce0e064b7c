//! Who pays for a run, who answers it, and the model that follows from both.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::job::Backend;
use airlock_shared::limits;
use airlock_shared::model::{Catalogue, Model};
use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::secret::Secret;
use serde_json::Value;

use super::spec::{BaseChoice, Cassette, CredentialChoice, Custody, ModelWish, Spec};
use crate::auth::{self, AuthError, Credential, Payer, Signer};
use crate::gate::{self, Recorder, Upstream};

pub(super) struct Paying {
    pub(super) payer: Payer,
    pub(super) base: Base,
    pub(super) backend: Backend,
    pub(super) model: Model,
    pub(super) upstream: Upstream,
    pub(super) recorder: Option<Recorder>,
    pub(super) catalogue: Value,
    signer: Option<Arc<dyn Signer>>,
}

impl Paying {
    pub(super) async fn open(spec: &Spec, logins: &Path) -> Result<Self, Fault> {
        let base = base(spec, logins)?;
        let session = uuid::Uuid::now_v7().to_string();
        let backend = spec.identity.backend(&base, &session, spec.ca.as_deref());
        let (upstream, signer, catalogue, default) = match &spec.cassette {
            Cassette::Replay(path) => {
                let cassette = gate::Cassette::load(path)?;
                let (catalogue, model) =
                    (cassette.catalogue().clone(), cassette.model().to_owned());
                (Upstream::Replay(cassette), None, Ok(catalogue), Some(model))
            }
            Cassette::None | Cassette::Record(_) => {
                let signer = signer(&spec.credential, logins, &base)?;
                let client = client(&base, spec.ca.clone()).await?;
                let catalogue =
                    gate::catalogue(&client, &*signer, &base, &backend, patience(&spec.model))
                        .await;
                (
                    Upstream::Live { client, signer: Arc::clone(&signer) },
                    Some(signer),
                    catalogue,
                    None,
                )
            }
        };
        let (model, catalogue) = model(&spec.model, default, catalogue)?;
        let recorder = match &spec.cassette {
            Cassette::Record(path) => Some(Recorder::create(path, &model)?),
            Cassette::None | Cassette::Replay(_) => None,
        };
        let payer = signer.as_ref().map_or_else(|| Payer::replay(base.clone()), |it| it.payer());
        Ok(Self { payer, base, backend, model, upstream, recorder, catalogue, signer })
    }

    /// What enters the box.
    pub(super) async fn secrets(&self, custody: Custody) -> Result<Secrets, Fault> {
        match (&self.signer, custody) {
            (Some(signer), Custody::Handoff) => signer.hand_over().await.map_err(sign_in),
            _ => Ok(Secrets::default()),
        }
    }

    pub(super) fn renewals(&self) -> Renewals {
        Renewals { signer: self.signer.clone(), refused: 0 }
    }
}

/// Handoff custody: a token that the backend refused, and the next one.
pub(super) struct Renewals {
    signer: Option<Arc<dyn Signer>>,
    refused: u64,
}

impl Renewals {
    /// The generation that is in the box, so that its refusal can be told from an older one's.
    pub(super) async fn handed_over(&mut self) {
        if let Some(signer) = &self.signer
            && let Ok(signed) = signer.sign().await
        {
            self.refused = signed.generation;
        }
    }

    /// The box says that the backend refused its token. A better one, if there is one.
    pub(super) async fn next(&mut self) -> Option<Secret> {
        let signer = self.signer.clone()?;
        if !signer.renew(self.refused).await.unwrap_or(false) {
            return None;
        }
        let fresh = signer.hand_over().await.ok()?.bearer;
        self.handed_over().await;
        fresh
    }
}

fn base(spec: &Spec, logins: &Path) -> Result<Base, Fault> {
    match (&spec.base, &spec.credential) {
        (BaseChoice::Named(base), _) => Ok(base.clone()),
        (BaseChoice::OfLogin, CredentialChoice::Login(name)) => {
            auth::base_of(logins, name).map_err(sign_in)
        }
        (BaseChoice::OfLogin, _) => Base::parse(airlock_shared::defaults::API_BASE)
            .map_err(|error| Fault::new(FaultKind::Backend, error.to_string())),
    }
}

fn signer(choice: &CredentialChoice, logins: &Path, base: &Base) -> Result<Arc<dyn Signer>, Fault> {
    let credential = match choice {
        CredentialChoice::Login(name) => {
            Credential::Login { name: name.clone(), folder: logins.to_owned() }
        }
        CredentialChoice::KeyStdin(key) => Credential::Key(key.clone()),
        CredentialChoice::KeyFile(path) => Credential::KeyFile(path.clone()),
        CredentialChoice::Env => Credential::Environment,
        CredentialChoice::Replay => {
            return Err(Fault::new(FaultKind::SignIn, "nobody pays without a cassette to replay"));
        }
    };
    auth::open(credential, base).map_err(sign_in)
}

/// Reads the machine's certificates, a hundred files, on a thread beside: the container is being
/// made meanwhile.
async fn client(base: &Base, ca: Option<String>) -> Result<reqwest::Client, Fault> {
    let base = base.clone();
    let made = tokio::task::spawn_blocking(move || gate::client(&base, ca.as_deref())).await;
    made.map_err(|error| Fault::new(FaultKind::Backend, error.to_string()))?
}

/// How long the catalogue may take: where the model was named it can be done without.
fn patience(wish: &ModelWish) -> Duration {
    let named = wish.slug.is_some();
    let seconds = if named { limits::CATALOGUE_SECONDS_NAMED } else { limits::CATALOGUE_SECONDS };
    Duration::from_secs(seconds)
}

/// The model, and the catalogue as the box may see it. A base without a catalogue serves a model
/// that was named; a login that is gone serves none.
fn model(
    wish: &ModelWish,
    recorded: Option<String>,
    catalogue: Result<Value, Fault>,
) -> Result<(Model, Value), Fault> {
    let slug = wish.slug.clone().or(recorded);
    let catalogue = match catalogue {
        Ok(catalogue) => catalogue,
        Err(fault) if fault.kind == FaultKind::SignIn || slug.is_none() => return Err(fault),
        Err(fault) => {
            tracing::info!(%fault, "no catalogue; the model that was named is used");
            serde_json::json!({"models": []})
        }
    };
    let chosen = Catalogue::parse(&catalogue).choose(slug.as_deref(), wish.effort.as_deref());
    let mut model = chosen.map_err(|error| Fault::new(FaultKind::Model, error.to_string()))?;
    match wish.summary.as_deref() {
        Some("none") => model.summary = None,
        Some(summary) => model.summary = Some(summary.to_owned()),
        None => {}
    }
    if let Some(verbosity) = &wish.verbosity {
        model.verbosity = Some(verbosity.clone());
    }
    Ok((model, catalogue))
}

fn sign_in(error: AuthError) -> Fault {
    Fault::new(FaultKind::SignIn, error.to_string())
}
