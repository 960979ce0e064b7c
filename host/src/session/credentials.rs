//! Who pays for a run, who answers it, and the model that follows from both.

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

use super::choice::{self, Person, Question, Settled};
use super::settings::{
    BaseChoice, CredentialChoice, CredentialsMode, ModelSelection, RecordingChoice, SessionSettings,
};
use super::token_refresher::{TokenProbe, TokenRefresher};
use super::{SessionError, Stop, passed};
use crate::auth::{self, Account, AuthError, Credential, Deps, HandedOver, Signer};
use crate::clock;
use crate::failure::GIVE_A_KEY;
use crate::gate::{self, Recorder, Upstream};

/// The login that is meant where none is named.
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

/// Who answers, before the model is known.
struct Reached {
    base: Base,
    backend: Backend,
    upstream: Upstream,
    catalogue: Value,
    signer: Option<Arc<dyn Signer>>,
}

/// The model is known, or a person has to choose it.
pub(super) enum Opened {
    Paying(Box<Credentials>),
    Asks(Box<Asks>),
}

/// A run that has no model yet.
pub(super) struct Asks {
    reached: Reached,
    question: Question,
}

pub(super) async fn open(
    settings: &SessionSettings,
    logins: &Path,
) -> Result<Opened, SessionError> {
    let base = base(settings, logins)?;
    let session = uuid::Uuid::now_v7().to_string();
    let backend = settings.identity.backend(&base, &session, settings.ca.as_deref());
    let (reached, settled) = match &settings.recording {
        RecordingChoice::Replay(path) => {
            let recording = gate::Replayer::load(path)?;
            let (catalogue, model) = (recording.catalogue().clone(), recording.model().to_owned());
            // What was recorded is answered, whatever would be asked of a backend.
            let slug = settings.model.slug.clone().or(Some(model));
            let wish = ModelSelection { slug, ask: false, ..settings.model.clone() };
            let settled = choice::settle(&catalogue, &wish, None)?;
            let upstream = Upstream::Replay(Arc::new(recording));
            (Reached { base, backend, upstream, catalogue, signer: None }, settled)
        }
        RecordingChoice::None | RecordingChoice::Record(_) => {
            let signer = signer(settings, logins, &base)?;
            passed::check(&settings.env, &signer.secrets_to_scrub())?;
            let client = client(&base, settings.ca.clone()).await?;
            let (wish, kept) = (&settings.model, signer.model());
            let patience = choice::patience(wish, kept.as_deref());
            let answer = gate::catalogue(&client, &*signer, &base, &backend, patience).await;
            let catalogue = choice::catalogue(answer, wish, kept.as_deref())?;
            let settled = choice::settle(&catalogue, wish, kept.as_deref())?;
            let upstream = Upstream::Live { client, signer: Arc::clone(&signer) };
            (Reached { base, backend, upstream, catalogue, signer: Some(signer) }, settled)
        }
    };
    Ok(match settled {
        Settled::Model(model) => Opened::Paying(Box::new(reached.with(model, settings)?)),
        Settled::Asks(question) => Opened::Asks(Box::new(Asks { reached, question })),
    })
}

impl Reached {
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

impl Asks {
    /// Whether there is something to choose from.
    pub(super) fn has_names(&self) -> bool {
        !self.question.names.is_empty()
    }

    /// How the run ends where no one can be asked.
    pub(super) fn unasked(self) -> SessionError {
        self.question.unanswered(false)
    }

    /// Asks, keeps the answer with the login, and says where it is kept.
    pub(super) async fn ask(
        self,
        settings: &SessionSettings,
        person: &mut dyn Person,
    ) -> Result<(Credentials, String), SessionError> {
        let Self { reached, question } = self;
        let Some(slug) = person.choose(&question).await else {
            return Err(question.unanswered(true));
        };
        let model = choice::named(&reached.catalogue, &settings.model, &slug)?;
        let kept = match &reached.signer {
            Some(signer) => signer.keep_model(&slug).await,
            None => Ok(false),
        };
        let credentials = reached.with(model, settings)?;
        let said = match kept {
            Ok(true) => format!(
                "{slug} is kept with the login `{}`; `airlock run -m ask …` asks again",
                credentials.login.name
            ),
            Ok(false) => format!(
                "{slug} is chosen for this run; `model = \"{slug}\"` in config.toml keeps it, or \
                 name it each time: -m {slug}"
            ),
            Err(error) => format!("{slug} is chosen for this run, and cannot be kept: {error}"),
        };
        Ok((credentials, said))
    }
}

impl Credentials {
    /// What enters the sandbox, and what keeps it fresh there. None: the run is wanted no more.
    pub(super) async fn hand_over(
        &self,
        credentials: CredentialsMode,
        stop: &Stop,
    ) -> Result<Option<(Secrets, TokenRefresher)>, Fault> {
        let handed = handed(self.signer.as_deref(), credentials, stop).await?;
        let Some(handed) = handed else { return Ok(None) };
        let (signer, clock) = (self.signer.clone(), Arc::new(clock::seconds));
        let token_refresher =
            TokenRefresher::new(signer, credentials, handed.generation, clock, self.witness());
        Ok(Some((handed.secrets, token_refresher)))
    }

    pub(super) fn signer(&self) -> Option<Arc<dyn Signer>> {
        self.signer.clone()
    }

    /// The host asks the backend itself: what the sandbox says of its token is hearsay.
    fn witness(&self) -> TokenProbe {
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
    credentials: CredentialsMode,
    stop: &Stop,
) -> Result<Option<HandedOver>, Fault> {
    let (Some(signer), CredentialsMode::Handoff) = (signer, credentials) else {
        return Ok(Some(HandedOver { secrets: Secrets::default(), generation: 0 }));
    };
    tokio::select! {
        () = stop.asked() => Ok(None),
        handed = signer.hand_over() => handed.map(Some).map_err(sign_in),
    }
}

fn base(settings: &SessionSettings, logins: &Path) -> Result<Base, Fault> {
    match (&settings.base, &settings.credential) {
        (BaseChoice::Named(base), _) => Ok(base.clone()),
        (BaseChoice::OfLogin, CredentialChoice::Login(name)) => {
            auth::base_of(logins, name).map_err(sign_in)
        }
        (BaseChoice::OfLogin, _) => Base::parse(airlock_shared::defaults::API_BASE)
            .map_err(|error| Fault::new(FaultKind::Backend, error.to_string())),
    }
}

fn signer(
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
            return Err(Fault::new(FaultKind::SignIn, "nobody pays without a recording to replay"));
        }
    };
    let deps = Deps { ca: settings.ca.clone(), clock: Arc::new(clock::seconds) };
    auth::open(credential, base, &deps).map_err(sign_in)
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
    use crate::auth::store::EndReason;
    use crate::exit::Exit;

    #[test]
    fn who_must_sign_in_is_told_from_what_may_do_later() {
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
    async fn whoever_asks_for_the_end_does_not_wait_for_a_login() {
        let stop = Stop::default();
        let asks = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        let waits = handed(Some(&Never), CredentialsMode::Handoff, &stop);
        let waits = tokio::time::timeout(Duration::from_secs(2), waits);
        let (handed, ()) = tokio::join!(waits, asks);
        assert!(matches!(handed, Ok(Ok(None))), "it waited");
    }

    #[test]
    fn the_command_that_mends_it_names_the_login() {
        assert_eq!(sign_in_again("default"), "airlock setup codex-auth");
        assert_eq!(sign_in_again("ops"), "airlock setup codex-auth --name ops");
        assert_eq!(sign_in_again("a; rm"), "airlock setup codex-auth --name NAME");
        assert_eq!(mends(&CredentialChoice::Env), GIVE_A_KEY);
    }
}
