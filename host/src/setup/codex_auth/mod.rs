//! `setup codex-auth`: makes one login and proves that it works.
//!
//! ```text
//! read the stored login ── good ──────────────────────────────────→ report it
//!       │ none · gone · --replace
//!       ▼
//! check the machine → sign in → another account? ask → store → prove
//! ```
//!
//! Absent on purpose: output and input. The caller receives each [`SetupEvent`] and passes
//! [`TypedLines`].

mod stored_login; // the stored login before a sign-in
pub(super) mod given; // a key or a token that a person gave
mod machine; // a short check of docker and the base image
mod keep; // asks and stores
#[cfg(test)]
mod tests; // what a new login takes from the stored one

use std::convert::Infallible;

use airlock_shared::base::Base;
use airlock_shared::defaults;
use airlock_shared::secret::Secret;
use tokio::sync::mpsc;

use super::doctor::Check;
use super::{IssuerUrl, LoginError, LoginInfo, Logins, ProofResult, SignInEvent, SignInMethods};
use crate::auth::issuer::{Issuer, Tokens};
use crate::auth::received;
use crate::auth::sign_in::{SignInError, sign_in};
use crate::auth::store::{Login, LoginKind};
use crate::engine::docker::EngineChoice;

pub(super) use keep::{Keeping, is_yes, keep};
pub use stored_login::StoredLogin;

/// The request for a login.
pub struct SignInRequest {
    pub name: String,
    pub how: SignInWith,
    /// `None`: the issuer of the stored login, else OpenAI's.
    pub issuer: Option<IssuerUrl>,
    /// `None`: the base of the stored login, else the default for this kind of credential.
    pub base: Option<Base>,
    /// Replace the stored login without a question.
    pub replace: bool,
    /// The engine to check; `None`: no check.
    pub engine: Option<EngineChoice>,
}

pub enum SignInWith {
    /// `chosen`: the person chose the method, so a stored key is not wanted.
    SignIn {
        methods: SignInMethods,
        chosen: bool,
    },
    ApiKey(Secret),
    AccessToken(Secret),
}

/// What happens, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupEvent {
    Machine(Check),
    Before(StoredLogin),
    Method(SignInEvent),
    /// A question: should the second login replace the first? The next typed line is the answer.
    ConfirmReplace(Box<[LoginInfo; 2]>),
    /// A question: sign in for a new login instead of importing one? The next typed line is the
    /// answer.
    OfferOwnLogin,
    /// The login is stored.
    SignedIn(LoginInfo),
    Proof(ProofResult),
    Stored {
        path: std::path::PathBuf,
    },
    /// A sentence for the person.
    Note(String),
}

/// Lines as they are typed.
pub struct TypedLines {
    pub lines: mpsc::Receiver<Secret>,
    /// A person types, who can be asked.
    pub is_person: bool,
}

/// The result of a successful sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    pub login_info: LoginInfo,
    /// The stored login was already good.
    pub already: bool,
    pub proof: ProofResult,
}

/// Makes a login, unless the stored one is good.
///
/// # Errors
/// The sign-in failed, or the new login could not be stored. The stored login stays.
pub async fn run(
    request: SignInRequest,
    logins: &Logins,
    mut typed: TypedLines,
    emit: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<SignedIn, LoginError> {
    let before = stored_login::check(&request, logins).await?;
    if let StoredLogin::Good { login_info, proof } = &before {
        emit(SetupEvent::Before(before.clone()));
        return Ok(SignedIn {
            login_info: login_info.clone(),
            already: true,
            proof: proof.clone(),
        });
    }
    // The machine is not checked for a key or token that was given.
    let is_sign_in = matches!(request.how, SignInWith::SignIn { .. });
    if let Some(engine) = request.engine.as_ref().filter(|_| is_sign_in) {
        machine::brief(engine).await.into_iter().for_each(|check| emit(SetupEvent::Machine(check)));
    }
    if is_sign_in || before != StoredLogin::None {
        emit(SetupEvent::Before(before));
    }
    logins.check_room().map_err(|error| LoginError::login(&request.name, error))?;
    let stored = chatgpt_login(logins, &request.name);
    let (login, proof) = match &request.how {
        SignInWith::SignIn { methods, .. } => (
            sign_in_with(*methods, &request, stored.as_ref(), logins, &mut typed, emit).await?,
            None,
        ),
        SignInWith::ApiKey(key) => given::key(key, &request, logins).await?,
        SignInWith::AccessToken(token) => {
            given::token(token, &request, stored.as_ref(), logins).await?
        }
    };
    let keeping =
        Keeping { name: &request.name, replace: request.replace, granted: is_sign_in, logins };
    let (login_info, proof) = keep(keeping, login, proof, &mut typed, emit).await?;
    if is_sign_in && request.name == "default" {
        let team =
            "A ChatGPT plan is for your own use. For teams: airlock setup codex-auth --api-key -";
        emit(SetupEvent::Note(team.to_owned()));
    }
    Ok(SignedIn { login_info, already: false, proof })
}

async fn sign_in_with(
    methods: SignInMethods,
    request: &SignInRequest,
    stored: Option<&Login>,
    logins: &Logins,
    typed: &mut TypedLines,
    emit: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<Login, LoginError> {
    let url = issuer_of(request, stored);
    let base = base_of(request, stored, defaults::CHATGPT_BASE)?;
    let issuer = logins.issuer(url.clone())?;
    let tokens = race(&issuer, methods, typed, emit).await;
    let tokens = tokens.map_err(|error| LoginError::sign_in(&request.name, url.host(), error))?;
    if let Some(skew) = received::clock_skew(tokens.date, logins.now(), url.host()) {
        emit(SetupEvent::Note(skew));
    }
    let login = Login::from_tokens(&tokens, base, url.clone(), logins.now());
    login.map_err(|reason| {
        let why = format!("its answer cannot be used: {reason}");
        LoginError::not_granted(&request.name, url.host(), why)
    })
}

/// Runs the sign-in, and forwards typed lines to it.
async fn race(
    issuer: &Issuer,
    methods: SignInMethods,
    typed: &mut TypedLines,
    emit: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<Tokens, SignInError> {
    let (sender, pasted) = mpsc::channel(1);
    let mut emit = |event| emit(SetupEvent::Method(event));
    let sign_in = sign_in(issuer, methods, defaults::ORIGINATOR, pasted, &mut emit);
    tokio::select! {
        tokens = sign_in => tokens,
        never = forward_lines(&mut typed.lines, sender) => match never {},
    }
}

async fn forward_lines(
    lines: &mut mpsc::Receiver<Secret>,
    sender: mpsc::Sender<Secret>,
) -> Infallible {
    while let Some(line) = lines.recv().await {
        if sender.send(line).await.is_err() {
            break;
        }
    }
    drop(sender);
    std::future::pending().await
}

/// The stored login, if it is a ChatGPT login: only that has an issuer and a base for the new one.
fn chatgpt_login(logins: &Logins, name: &str) -> Option<Login> {
    let stored = logins.store.read(name).ok();
    // THREAT: a ChatGPT login replaces a key for a gateway and is sent to that gateway too. Tried
    // by setup::codex_auth::tests::a_chatgpt_login_does_not_take_the_base_of_a_key.
    stored.filter(|login| login.kind == LoginKind::ChatGpt)
}

fn issuer_of(request: &SignInRequest, stored: Option<&Login>) -> IssuerUrl {
    let known = stored.and_then(|login| login.issuer.clone());
    request.issuer.clone().or(known).unwrap_or_default()
}

/// The base that was given, else the stored login's, else `default`.
fn base_of(
    request: &SignInRequest,
    stored: Option<&Login>,
    default: &str,
) -> Result<Base, LoginError> {
    let known = stored.map(|login| login.base.clone());
    match request.base.clone().or(known) {
        Some(base) => Ok(base),
        None => Base::parse(default).map_err(|error| LoginError::Given {
            why: error.to_string(),
            hint: "airlock setup codex-auth --base-url URL".to_owned(),
        }),
    }
}
