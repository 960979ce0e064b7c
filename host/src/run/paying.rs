//! Who pays for a run, who answers it, and the model that follows from both.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::job::Backend;
use airlock_shared::limits;
use airlock_shared::model::{Catalogue, ChoiceError, Model};
use airlock_shared::outcome::{Fault, FaultKind};
use serde_json::Value;

use super::renewals::{Renewals, Witness};
use super::spec::{BaseChoice, Cassette, CredentialChoice, Custody, ModelWish, Spec};
use super::{Broken, Stop};
use crate::auth::{self, AuthError, Credential, Handed, Means, Payer, Signer};
use crate::clock;
use crate::failure::GIVE_A_KEY;
use crate::gate::{self, Recorder, Upstream};

/// The login that is meant where none is named.
pub(super) const DEFAULT_LOGIN: &str = "default";

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
    pub(super) async fn open(spec: &Spec, logins: &Path) -> Result<Self, Broken> {
        let base = base(spec, logins)?;
        let session = uuid::Uuid::now_v7().to_string();
        let backend = spec.identity.backend(&base, &session, spec.ca.as_deref());
        let (upstream, signer, catalogue, default) = match &spec.cassette {
            Cassette::Replay(path) => {
                let cassette = gate::Cassette::load(path)?;
                let (catalogue, model) =
                    (cassette.catalogue().clone(), cassette.model().to_owned());
                (Upstream::Replay(Box::new(cassette)), None, Ok(catalogue), Some(model))
            }
            Cassette::None | Cassette::Record(_) => {
                let signer = signer(spec, logins, &base)?;
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
            Cassette::Record(path) => Some(Recorder::create(path, Some(&spec.dir), &model)?),
            Cassette::None | Cassette::Replay(_) => None,
        };
        let payer = signer.as_ref().map_or_else(|| Payer::replay(base.clone()), |it| it.payer());
        Ok(Self { payer, base, backend, model, upstream, recorder, catalogue, signer })
    }

    /// What enters the box, and what keeps it fresh there. None: the run is wanted no more.
    pub(super) async fn hand_over(
        &self,
        custody: Custody,
        stop: &Stop,
    ) -> Result<Option<(Secrets, Renewals)>, Fault> {
        let handed = handed(self.signer.as_deref(), custody, stop).await?;
        let Some(handed) = handed else { return Ok(None) };
        let (signer, clock) = (self.signer.clone(), Arc::new(clock::seconds));
        let renewals = Renewals::new(signer, custody, handed.generation, clock, self.witness());
        Ok(Some((handed.secrets, renewals)))
    }

    pub(super) fn signer(&self) -> Option<Arc<dyn Signer>> {
        self.signer.clone()
    }

    /// The host asks the backend itself: what the box says of its token is hearsay.
    fn witness(&self) -> Witness {
        let Upstream::Live { client, signer } = &self.upstream else {
            return Arc::new(|| Box::pin(std::future::ready(None)));
        };
        let (client, signer) = (client.clone(), Arc::clone(signer));
        let (base, backend) = (self.base.clone(), self.backend.clone());
        let patience = Duration::from_secs(limits::CATALOGUE_SECONDS_NAMED);
        Arc::new(move || {
            let (client, signer) = (client.clone(), Arc::clone(&signer));
            let (base, backend) = (base.clone(), backend.clone());
            Box::pin(
                async move { gate::refused(&client, &*signer, &base, &backend, patience).await },
            )
        })
    }
}

/// A login that another program is renewing, or an issuer that is silent, takes its time: nobody
/// who asks for the end of a run waits for that.
async fn handed(
    signer: Option<&dyn Signer>,
    custody: Custody,
    stop: &Stop,
) -> Result<Option<Handed>, Fault> {
    let (Some(signer), Custody::Handoff) = (signer, custody) else {
        return Ok(Some(Handed { secrets: Secrets::default(), generation: 0 }));
    };
    tokio::select! {
        () = stop.asked() => Ok(None),
        handed = signer.hand_over() => handed.map(Some).map_err(sign_in),
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

fn signer(spec: &Spec, logins: &Path, base: &Base) -> Result<Arc<dyn Signer>, Fault> {
    let credential = match &spec.credential {
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
    let means = Means { ca: spec.ca.clone(), clock: Arc::new(clock::seconds) };
    auth::open(credential, base, &means).map_err(sign_in)
}

/// A client for the base. It reads the machine's certificates, a hundred files, on a thread beside:
/// the container of a run is being made meanwhile.
///
/// # Errors
/// As [`gate::client`].
pub(crate) async fn client(base: &Base, ca: Option<String>) -> Result<reqwest::Client, Fault> {
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
) -> Result<(Model, Value), Broken> {
    let slug = wish.slug.clone().or(recorded);
    let catalogue = match catalogue {
        Ok(catalogue) => catalogue,
        Err(fault) if fault.kind == FaultKind::SignIn || slug.is_none() => return Err(fault.into()),
        Err(fault) => {
            tracing::info!(%fault, "no catalogue; the model that was named is used");
            serde_json::json!({"models": []})
        }
    };
    let chosen = Catalogue::parse(&catalogue).choose(slug.as_deref(), wish.effort.as_deref());
    let mut model = chosen.map_err(|error| not_chosen(&error))?;
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

fn not_chosen(error: &ChoiceError) -> Broken {
    let hint = match error {
        ChoiceError::NoDefault(_) | ChoiceError::Slug(_) => "airlock run -m NAME …".to_owned(),
        ChoiceError::Effort { known, .. } => {
            // The backend's word, which may not be one for a shell.
            let is_word = |effort: &&String| effort.bytes().all(|it| it.is_ascii_alphanumeric());
            let effort = known.iter().find(is_word).map_or("EFFORT", String::as_str);
            format!("airlock run --effort {effort} …")
        }
    };
    Broken { fault: Fault::new(FaultKind::Choice, error.to_string()), hint: Some(hint) }
}

/// The command for whoever must sign in, or give another key.
pub(super) fn mends(choice: &CredentialChoice) -> String {
    match choice {
        CredentialChoice::Login(name) => sign_in_again(name),
        CredentialChoice::Replay => sign_in_again(DEFAULT_LOGIN),
        CredentialChoice::Env | CredentialChoice::KeyStdin(_) | CredentialChoice::KeyFile(_) => {
            GIVE_A_KEY.to_owned()
        }
    }
}

/// `airlock setup codex-auth`, with the name of a login that is not the usual one.
#[must_use]
pub fn sign_in_again(login: &str) -> String {
    let is_name = login.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match login {
        DEFAULT_LOGIN => "airlock setup codex-auth".to_owned(),
        name if is_name => format!("airlock setup codex-auth --name {name}"),
        _ => "airlock setup codex-auth --name NAME".to_owned(),
    }
}

/// Why nobody pays, as a fault: whoever must sign in is told so; an issuer or a disk may do later.
#[must_use]
pub fn sign_in(error: AuthError) -> Fault {
    let kind = match error {
        AuthError::Unreachable { .. } => FaultKind::Backend,
        AuthError::Store { .. } => FaultKind::Disk,
        AuthError::Missing { .. }
        | AuthError::Unsafe { .. }
        | AuthError::Malformed { .. }
        | AuthError::OtherBase { .. }
        | AuthError::OtherAccount { .. }
        | AuthError::Ended { .. } => FaultKind::SignIn,
    };
    Fault::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use airlock_shared::secret::Secret;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::auth::Signed;
    use crate::auth::store::Why;
    use crate::exit::Exit;

    #[test]
    fn who_must_sign_in_is_told_from_what_may_do_later() {
        let place = || "~/logins/me.json".to_owned();
        let at = 1_795_252_440;
        let cases = [
            (
                AuthError::Ended { login: "me".into(), why: Why::Reused, at },
                3,
                "the login was used up by another program (refresh_token_reused)",
            ),
            (
                AuthError::Ended { login: "me".into(), why: Why::Revoked, at },
                3,
                "the login was revoked on 21 Nov 09:14 UTC (signed out in another place)",
            ),
            (AuthError::Missing { place: place() }, 3, "~/logins/me.json: no credential is there"),
            (
                AuthError::Unreachable { issuer: "auth.example.org".into(), why: "slow".into() },
                1,
                "the login cannot be renewed: auth.example.org: slow",
            ),
            (
                AuthError::Store { place: place(), why: "No space left on device".into() },
                1,
                "the login cannot be kept: ~/logins/me.json: No space left on device",
            ),
        ];
        for (error, exit, said) in cases {
            let is_disk = matches!(error, AuthError::Store { .. });
            let fault = sign_in(error);
            assert_eq!(fault.kind == FaultKind::Disk, is_disk, "{said}");
            assert_eq!((Exit::of_fault(fault.kind).code(), fault.message.as_str()), (exit, said));
        }
    }

    /// A login that never comes.
    struct Never;

    impl Signer for Never {
        fn payer(&self) -> Payer {
            Payer::replay(Base::parse("https://api.openai.com").expect("a base"))
        }

        fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>> {
            Box::pin(std::future::pending())
        }

        fn renew(&self, _refused: u64) -> BoxFuture<'_, Result<bool, AuthError>> {
            Box::pin(std::future::pending())
        }

        fn hand_over(&self) -> BoxFuture<'_, Result<Handed, AuthError>> {
            Box::pin(std::future::pending())
        }

        fn canaries(&self) -> Vec<Secret> {
            Vec::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_for_the_end_does_not_wait_for_a_login() {
        let stop = Stop::default();
        let asks = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        let waits = handed(Some(&Never), Custody::Handoff, &stop);
        let waits = tokio::time::timeout(Duration::from_secs(2), waits);
        let (handed, ()) = tokio::join!(waits, asks);
        assert!(matches!(handed, Ok(Ok(None))), "it waited");
    }

    #[test]
    fn who_must_name_a_model_is_told_which_there_are() {
        let chosen = |names: &[&str], slug: Option<&str>| {
            let ids: Vec<Value> = names.iter().map(|id| serde_json::json!({"id": id})).collect();
            let wish = ModelWish { slug: slug.map(str::to_owned), ..ModelWish::default() };
            model(&wish, None, Ok(serde_json::json!({"object": "list", "data": ids})))
                .map(|(model, _)| model)
        };
        assert_eq!(
            refused(chosen(&["dall-e-2", "gpt-5.5"], None)),
            "no model was named, and the backend has no default: it lists dall-e-2, gpt-5.5\n\
             airlock run -m NAME …"
        );
        let taken = |names: &[&str], slug| chosen(names, slug).expect("a model").slug;
        assert_eq!(taken(&["dall-e-2", "gpt-5.5"], Some("gpt-5.5")), "gpt-5.5");
        assert_eq!(taken(&["llama3:8b"], None), "llama3:8b");
    }

    #[test]
    fn who_names_an_effort_that_is_none_is_told_which_there_are() {
        let chosen = |levels: &[&str], effort: &str| {
            let levels: Vec<Value> =
                levels.iter().map(|level| serde_json::json!({"effort": level})).collect();
            let entry =
                serde_json::json!({"slug": "gpt-5.5", "supported_reasoning_levels": levels});
            let wish = ModelWish { effort: Some(effort.to_owned()), ..ModelWish::default() };
            let catalogue = Ok(serde_json::json!({"models": [entry]}));
            model(&wish, Some("gpt-5.5".to_owned()), catalogue).map(|(model, _)| model)
        };
        assert_eq!(
            refused(chosen(&["low", "medium"], "much")),
            "gpt-5.5 does not take effort `much`; it takes low, medium\n\
             airlock run --effort low …"
        );
        assert_eq!(
            refused(chosen(&["$(x)"], "much")),
            "gpt-5.5 does not take effort `much`; it takes $(x)\nairlock run --effort EFFORT …"
        );
        assert_eq!(chosen(&["low"], "low").expect("taken").effort.as_deref(), Some("low"));
        assert!(chosen(&[], "much").is_ok(), "nothing is known of its efforts");
    }

    /// Exit 2, with what is said and what mends it.
    #[track_caller]
    fn refused(chosen: Result<Model, Broken>) -> String {
        let Broken { fault, hint } = chosen.expect_err("no choice");
        assert_eq!(Exit::of_fault(fault.kind), Exit::Usage);
        format!("{}\n{}", fault.message, hint.expect("a command"))
    }

    #[test]
    fn the_command_that_mends_it_names_the_login() {
        assert_eq!(sign_in_again("default"), "airlock setup codex-auth");
        assert_eq!(sign_in_again("ops"), "airlock setup codex-auth --name ops");
        assert_eq!(sign_in_again("a; rm"), "airlock setup codex-auth --name NAME");
        assert_eq!(mends(&CredentialChoice::Env), GIVE_A_KEY);
    }
}
