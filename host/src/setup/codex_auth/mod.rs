//! `setup codex-auth`: one login, from what is there to the proof that it works.
//!
//! ```text
//! what is there? ── good ───────────────────────────────────────────→ say so
//!       │ none · gone · --replace
//!       ▼
//! the machine, in brief → a way in → whose is it? → another's? ask → store → prove
//! ```
//!
//! Absent on purpose: how any of it is shown or typed. Whoever calls hears [`SetupEvent`] and gives
//! [`TypedLines`].

mod before; // what login is there
pub(super) mod given; // a key or a token that a person brought
mod machine; // docker and the sandbox image, in brief
mod keep; // asked about, stored
#[cfg(test)]
mod tests; // what a login takes over from the one before it

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

pub use before::StoredLogin;
pub(super) use keep::{Keeping, is_yes, keep};

/// What was asked for.
pub struct SignInRequest {
    pub name: String,
    pub how: SignInWith,
    /// None: as the login that is there has it, else OpenAI's.
    pub issuer: Option<IssuerUrl>,
    /// None: as the login that is there has it, else the one that goes with the credential.
    pub base: Option<Base>,
    /// Whatever is there goes, unasked.
    pub replace: bool,
    /// Whom to ask about the machine; none: nobody wants to know.
    pub engine: Option<EngineChoice>,
}

pub enum SignInWith {
    /// `chosen`: a person said which way, so a key that is there is not what is wanted.
    SignIn {
        ways: SignInMethods,
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
    /// Asked of whoever types: shall the second take the place of the first? The next line is
    /// the answer.
    Another(Box<[LoginInfo; 2]>),
    /// Asked in the same way: a login of one's own instead of an imported one?
    OwnLogin,
    /// Whose login it became. It is stored.
    SignedIn(LoginInfo),
    Proof(ProofResult),
    Stored {
        path: std::path::PathBuf,
    },
    /// One sentence to know.
    Note(String),
}

/// Lines as they are typed.
pub struct TypedLines {
    pub lines: mpsc::Receiver<Secret>,
    /// Somebody is there who can be asked.
    pub is_person: bool,
}

/// How it ended, where it ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    pub login_info: LoginInfo,
    /// It was good before.
    pub already: bool,
    pub proof: ProofResult,
}

/// Takes it from what is there to the proof.
///
/// # Errors
/// Nobody signed in, or what came of it could not be kept. What is there stays as it was.
pub async fn run(
    wish: SignInRequest,
    logins: &Logins,
    mut typed: TypedLines,
    tell: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<SignedIn, LoginError> {
    let before = before::look(&wish, logins).await?;
    if let StoredLogin::Good { login_info, proof } = &before {
        tell(SetupEvent::Before(before.clone()));
        return Ok(SignedIn {
            login_info: login_info.clone(),
            already: true,
            proof: proof.clone(),
        });
    }
    // Whoever brings a key knows their machine, and what they want of it.
    let is_way_in = matches!(wish.how, SignInWith::SignIn { .. });
    if let Some(engine) = wish.engine.as_ref().filter(|_| is_way_in) {
        machine::brief(engine).await.into_iter().for_each(|check| tell(SetupEvent::Machine(check)));
    }
    if is_way_in || before != StoredLogin::None {
        tell(SetupEvent::Before(before));
    }
    logins.room().map_err(|error| LoginError::login(&wish.name, error))?;
    let there = predecessor(logins, &wish.name);
    let (login, proof) = match &wish.how {
        SignInWith::SignIn { ways, .. } => {
            (by_a_way(*ways, &wish, there.as_ref(), logins, &mut typed, tell).await?, None)
        }
        SignInWith::ApiKey(key) => given::key(key, &wish, logins).await?,
        SignInWith::AccessToken(token) => {
            given::token(token, &wish, there.as_ref(), logins).await?
        }
    };
    let keeping = Keeping { name: &wish.name, replace: wish.replace, granted: is_way_in, logins };
    let (login_info, proof) = keep(keeping, login, proof, &mut typed, tell).await?;
    if is_way_in && wish.name == "default" {
        let team =
            "A ChatGPT plan is for your own use. For teams: airlock setup codex-auth --api-key -";
        tell(SetupEvent::Note(team.to_owned()));
    }
    Ok(SignedIn { login_info, already: false, proof })
}

async fn by_a_way(
    ways: SignInMethods,
    wish: &SignInRequest,
    there: Option<&Login>,
    logins: &Logins,
    typed: &mut TypedLines,
    tell: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<Login, LoginError> {
    let url = issuer_of(wish, there);
    let base = base_of(wish, there, defaults::CHATGPT_BASE)?;
    let issuer = logins.issuer(url.clone())?;
    let tokens = race(&issuer, ways, typed, tell).await;
    let tokens = tokens.map_err(|error| LoginError::sign_in(&wish.name, url.host(), error))?;
    if let Some(off) = received::clock_off(tokens.date, logins.now(), url.host()) {
        tell(SetupEvent::Note(off));
    }
    let login = Login::granted(&tokens, base, url.clone(), logins.now());
    login.map_err(|what| {
        let why = format!("its answer cannot be used: {what}");
        LoginError::not_granted(&wish.name, url.host(), why)
    })
}

/// The ways, and what is typed meanwhile handed on to the one that wants it.
async fn race(
    issuer: &Issuer,
    ways: SignInMethods,
    typed: &mut TypedLines,
    tell: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<Tokens, SignInError> {
    let (give, pasted) = mpsc::channel(1);
    let mut say = |said| tell(SetupEvent::Method(said));
    let signing = sign_in(issuer, ways, defaults::ORIGINATOR, pasted, &mut say);
    tokio::select! {
        granted = signing => granted,
        never = hand_on(&mut typed.lines, give) => match never {},
    }
}

async fn hand_on(lines: &mut mpsc::Receiver<Secret>, give: mpsc::Sender<Secret>) -> Infallible {
    while let Some(line) = lines.recv().await {
        if give.send(line).await.is_err() {
            break;
        }
    }
    drop(give);
    std::future::pending().await
}

/// The login that is there, where it says whom to ask and where to go: a key does not.
fn predecessor(logins: &Logins, name: &str) -> Option<Login> {
    let there = logins.store.read(name).ok();
    // THREAT: a key that is bound to somebody's gateway makes the ChatGPT login that takes its place
    // go to that gateway too. Tried by setup::codex_auth::tests::a_chatgpt_login_does_not_go_where_a_key_went.
    there.filter(|login| login.kind == LoginKind::ChatGpt)
}

fn issuer_of(wish: &SignInRequest, there: Option<&Login>) -> IssuerUrl {
    let known = there.and_then(|login| login.issuer.clone());
    wish.issuer.clone().or(known).unwrap_or_default()
}

/// As it was typed, else as the login has it that is there, else `usual`.
fn base_of(wish: &SignInRequest, there: Option<&Login>, usual: &str) -> Result<Base, LoginError> {
    let known = there.map(|login| login.base.clone());
    match wish.base.clone().or(known) {
        Some(base) => Ok(base),
        None => Base::parse(usual).map_err(|error| LoginError::Given {
            why: error.to_string(),
            hint: "airlock setup codex-auth --base-url URL".to_owned(),
        }),
    }
}
