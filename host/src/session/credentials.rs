//! The credentials of a session: the login or key, the backend, and the model.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::job::Backend;
use airlock_shared::limits;
use airlock_shared::model::Model;
use airlock_shared::outcome::{Fault, FaultKind};
use serde_json::Value;

use super::choice::{self, Person, Question, Resolved};
use super::settings::{
    BaseChoice, CredentialChoice, CredentialsMode, ModelSelection, RecordingChoice, SessionSettings,
};
use super::token_refresher::{TokenProbe, TokenRefresher};
use super::{SessionError, Stop, passed};
use crate::auth::{self, Account, AuthError, Credential, Deps, HandedOver, Signer};
use crate::clock;
use crate::failure::GIVE_A_KEY;
use crate::gate::{self, Recorder, Upstream};

/// The login that is used if none is named.
pub(super) const DEFAULT_LOGIN: &str = "default";

pub(super) struct Credentials {
    pub(super) login: Account,
    pub(super) base: Base,
    pub(super) backend: Backend,
    pub(super) model: Model,
    pub(super) upstream: Upstream,
    pub(super) recorder: Option<Recorder>,
    pub(super) catalogue: Value,
    signer: Option<Arc<dyn Signer>>,
}

/// The backend and the login, before the model is known.
struct Connected {
    base: Base,
    backend: Backend,
    upstream: Upstream,
    catalogue: Value,
    signer: Option<Arc<dyn Signer>>,
}

/// The model is known, or a person must choose it.
pub(super) enum Opened {
    Ready(Box<Credentials>),
    NeedsModel(Box<ModelNeeded>),
}

/// A session that has no model yet.
pub(super) struct ModelNeeded {
    connected: Connected,
    question: Question,
}

pub(super) async fn open(
    settings: &SessionSettings,
    logins: &Path,
) -> Result<Opened, SessionError> {
    let base = base(settings, logins)?;
    let session = uuid::Uuid::now_v7().to_string();
    let backend = settings.identity.backend(&base, &session, settings.ca.as_deref());
    let (connected, resolved) = match &settings.recording {
        RecordingChoice::Replay(path) => {
            let recording = gate::Replayer::load(path)?;
            let (catalogue, model) = (recording.catalogue().clone(), recording.model().to_owned());
            // A recording answers with its own model, whatever the settings say.
            let slug = settings.model.slug.clone().or(Some(model));
            let selection = ModelSelection { slug, ask: false, ..settings.model.clone() };
            let resolved = choice::resolve(&catalogue, &selection, None)?;
            let upstream = Upstream::Replay(Arc::new(recording));
            (Connected { base, backend, upstream, catalogue, signer: None }, resolved)
        }
        RecordingChoice::None | RecordingChoice::Record(_) => {
            let signer = signer(settings, logins, &base).await?;
            passed::check(&settings.env, &signer.secrets_to_scrub())?;
            let client = client(&base, settings.ca.clone()).await?;
            let (selection, kept) = (&settings.model, signer.model());
            let timeout = choice::catalogue_timeout(selection, kept.as_deref());
            let answer = gate::catalogue(&client, &*signer, &base, &backend, timeout).await;
            let catalogue = choice::catalogue(answer, selection, kept.as_deref())?;
            let resolved = choice::resolve(&catalogue, selection, kept.as_deref())?;
            let upstream = Upstream::Live { client, signer: Arc::clone(&signer) };
            (Connected { base, backend, upstream, catalogue, signer: Some(signer) }, resolved)
        }
    };
    Ok(match resolved {
        Resolved::Model(model) => Opened::Ready(Box::new(connected.with(model, settings)?)),
        Resolved::Ask(question) => {
            Opened::NeedsModel(Box::new(ModelNeeded { connected, question }))
        }
    })
}

impl Connected {
    fn with(self, model: Model, settings: &SessionSettings) -> Result<Credentials, SessionError> {
        let Self { base, backend, upstream, catalogue, signer } = self;
        let recorder = match &settings.recording {
            RecordingChoice::Record(path) => {
                Some(Recorder::create(path, Some(&settings.dir), &model)?)
            }
            RecordingChoice::None | RecordingChoice::Replay(_) => None,
        };
        let login =
            signer.as_ref().map_or_else(|| Account::replay(base.clone()), |it| it.account());
        Ok(Credentials { login, base, backend, model, upstream, recorder, catalogue, signer })
    }
}

impl ModelNeeded {
    /// Whether there are models to choose from.
    pub(super) fn has_models(&self) -> bool {
        !self.question.names.is_empty()
    }

    /// The error if no person can be asked.
    pub(super) fn into_error(self) -> SessionError {
        self.question.into_error(false)
    }

    /// Asks, stores the answer with the login, and returns a note that says where it is stored.
    pub(super) async fn ask(
        self,
        settings: &SessionSettings,
        person: &mut dyn Person,
    ) -> Result<(Credentials, String), SessionError> {
        let Self { connected, question } = self;
        let Some(slug) = person.choose(&question).await else {
            return Err(question.into_error(true));
        };
        let model = choice::resolve_named(&connected.catalogue, &settings.model, &slug)?;
        let stored = match &connected.signer {
            Some(signer) => signer.keep_model(&slug).await,
            None => Ok(false),
        };
        let credentials = connected.with(model, settings)?;
        let note = match stored {
            Ok(true) => format!(
                "{slug} is stored with the login `{}`; to choose again: airlock run -m ask …",
                credentials.login.name
            ),
            Ok(false) => format!(
                "{slug} is used for this session only; to keep it, write `model = \"{slug}\"` into \
                 config.toml, or give -m {slug} each time"
            ),
            Err(error) => {
                format!(
                    "{slug} is used for this session only, because it cannot be stored: {error}"
                )
            }
        };
        Ok((credentials, note))
    }
}

impl Credentials {
    /// The secrets for the sandbox, and what renews them. None: the session was stopped.
    pub(super) async fn hand_over(
        &self,
        credentials: CredentialsMode,
        stop: &Stop,
    ) -> Result<Option<(Secrets, TokenRefresher)>, Fault> {
        let handed = secrets_to_hand_over(self.signer.as_deref(), credentials, stop).await?;
        let Some(handed) = handed else { return Ok(None) };
        let (signer, clock) = (self.signer.clone(), Arc::new(clock::seconds));
        let token_refresher =
            TokenRefresher::new(signer, credentials, handed.generation, clock, self.token_probe());
        Ok(Some((handed.secrets, token_refresher)))
    }

    pub(super) fn signer(&self) -> Option<Arc<dyn Signer>> {
        self.signer.clone()
    }

    /// Lets the host ask the backend itself: what the sandbox says of its token is hearsay.
    fn token_probe(&self) -> TokenProbe {
        let Upstream::Live { client, signer } = &self.upstream else {
            return Arc::new(|| Box::pin(std::future::ready(None)));
        };
        let (client, signer) = (client.clone(), Arc::clone(signer));
        let (base, backend) = (self.base.clone(), self.backend.clone());
        let timeout = Duration::from_secs(limits::CATALOGUE_SECONDS_NAMED);
        Arc::new(move || {
            let (client, signer) = (client.clone(), Arc::clone(&signer));
            let (base, backend) = (base.clone(), backend.clone());
            Box::pin(
                async move { gate::refused(&client, &*signer, &base, &backend, timeout).await },
            )
        })
    }
}

/// This can take long if another program renews the login or the issuer does not answer. A stop does
/// not wait for it.
async fn secrets_to_hand_over(
    signer: Option<&dyn Signer>,
    credentials: CredentialsMode,
    stop: &Stop,
) -> Result<Option<HandedOver>, Fault> {
    let (Some(signer), CredentialsMode::Handoff) = (signer, credentials) else {
        return Ok(Some(HandedOver { secrets: Secrets::default(), generation: 0 }));
    };
    tokio::select! {
        () = stop.requested() => Ok(None),
        handed = signer.hand_over() => handed.map(Some).map_err(auth_fault),
    }
}

fn base(settings: &SessionSettings, logins: &Path) -> Result<Base, Fault> {
    match (&settings.base, &settings.credential) {
        (BaseChoice::Named(base), _) => Ok(base.clone()),
        (BaseChoice::OfLogin, CredentialChoice::Login(name)) => {
            auth::base_of(logins, name).map_err(auth_fault)
        }
        (BaseChoice::OfLogin, _) => Base::parse(airlock_shared::defaults::API_BASE)
            .map_err(|error| Fault::new(FaultKind::Backend, error.to_string())),
    }
}

/// Opens the credential on a thread of its own: a pipe as `--api-key-file` may never be written to,
/// and a signal must end the session meanwhile.
async fn signer(
    settings: &SessionSettings,
    logins: &Path,
    base: &Base,
) -> Result<Arc<dyn Signer>, Fault> {
    let credential = match &settings.credential {
        CredentialChoice::Login(name) => {
            Credential::Login { name: name.clone(), directory: logins.to_owned() }
        }
        CredentialChoice::KeyStdin(key) => Credential::Key(key.clone()),
        CredentialChoice::KeyFile(path) => Credential::KeyFile(path.clone()),
        CredentialChoice::Env => Credential::Environment,
        CredentialChoice::Replay => {
            return Err(Fault::new(FaultKind::SignIn, "there is no recording to replay"));
        }
    };
    let deps = Deps { ca: settings.ca.clone(), clock: Arc::new(clock::seconds) };
    let base = base.clone();
    let opened = tokio::task::spawn_blocking(move || auth::open(credential, &base, &deps)).await;
    match opened {
        Ok(opened) => opened.map_err(auth_fault),
        Err(error) => Err(Fault::new(FaultKind::Backend, error.to_string())),
    }
}

/// An HTTP client for the base. It reads the machine's certificates, about a hundred files, on a
/// thread of its own, so that the container can be made at the same time.
///
/// # Errors
/// As [`gate::client`].
pub(crate) async fn client(base: &Base, ca: Option<String>) -> Result<reqwest::Client, Fault> {
    let base = base.clone();
    let made = tokio::task::spawn_blocking(move || gate::client(&base, ca.as_deref())).await;
    made.map_err(|error| Fault::new(FaultKind::Backend, error.to_string()))?
}

/// The command that gives a session a valid credential: signing in, or another key.
pub(super) fn remedy(choice: &CredentialChoice) -> String {
    match choice {
        CredentialChoice::Login(name) => sign_in_again(name),
        CredentialChoice::Replay => sign_in_again(DEFAULT_LOGIN),
        CredentialChoice::Env | CredentialChoice::KeyStdin(_) | CredentialChoice::KeyFile(_) => {
            GIVE_A_KEY.to_owned()
        }
    }
}

/// `airlock setup codex-auth`, with the login's name if it is not the default.
#[must_use]
pub fn sign_in_again(login: &str) -> String {
    let is_name = login.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match login {
        DEFAULT_LOGIN => "airlock setup codex-auth".to_owned(),
        name if is_name => format!("airlock setup codex-auth --name {name}"),
        _ => "airlock setup codex-auth --name NAME".to_owned(),
    }
}

/// Why there is no credential, as a fault. Only some errors need a sign-in: an unreachable issuer or
/// a full disk may work again later.
#[must_use]
pub fn auth_fault(error: AuthError) -> Fault {
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
    use crate::auth::store::EndReason;
    use crate::exit::Exit;

    #[test]
    fn only_errors_that_need_a_sign_in_ask_for_one() {
        let place = || "~/logins/me.json".to_owned();
        let at = 1_795_252_440;
        let cases = [
            (
                AuthError::Ended { login: "me".into(), why: EndReason::Reused, at },
                3,
                "the login was used up by another program (refresh_token_reused)",
            ),
            (
                AuthError::Ended { login: "me".into(), why: EndReason::Revoked, at },
                3,
                "the login was revoked on 21 Nov 09:14 UTC (signed out in another place)",
            ),
            (AuthError::Missing { place: place() }, 3, "~/logins/me.json: there is no credential"),
            (
                AuthError::Unreachable { issuer: "auth.example.org".into(), why: "slow".into() },
                1,
                "the login cannot be renewed: auth.example.org: slow",
            ),
            (
                AuthError::Store { place: place(), why: "No space left on device".into() },
                1,
                "the login cannot be stored: ~/logins/me.json: No space left on device",
            ),
        ];
        for (error, exit, message) in cases {
            let is_disk = matches!(error, AuthError::Store { .. });
            let fault = auth_fault(error);
            assert_eq!(fault.kind == FaultKind::Disk, is_disk, "{message}");
            assert_eq!(
                (Exit::of_fault(fault.kind).code(), fault.message.as_str()),
                (exit, message)
            );
        }
    }

    /// A login that never answers.
    struct Never;

    impl Signer for Never {
        fn account(&self) -> Account {
            Account::replay(Base::parse("https://api.openai.com").expect("a base"))
        }

        fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>> {
            Box::pin(std::future::pending())
        }

        fn renew(&self, _refused: u64) -> BoxFuture<'_, Result<bool, AuthError>> {
            Box::pin(std::future::pending())
        }

        fn hand_over(&self) -> BoxFuture<'_, Result<HandedOver, AuthError>> {
            Box::pin(std::future::pending())
        }

        fn secrets_to_scrub(&self) -> Vec<Secret> {
            Vec::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_login() {
        let stop = Stop::default();
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        let waits = secrets_to_hand_over(Some(&Never), CredentialsMode::Handoff, &stop);
        let waits = tokio::time::timeout(Duration::from_secs(2), waits);
        let (handed, ()) = tokio::join!(waits, stopping);
        assert!(matches!(handed, Ok(Ok(None))), "it waited");
    }

    #[test]
    fn the_command_names_the_login() {
        assert_eq!(sign_in_again("default"), "airlock setup codex-auth");
        assert_eq!(sign_in_again("ops"), "airlock setup codex-auth --name ops");
        assert_eq!(sign_in_again("a; rm"), "airlock setup codex-auth --name NAME");
        assert_eq!(remedy(&CredentialChoice::Env), GIVE_A_KEY);
    }
}
