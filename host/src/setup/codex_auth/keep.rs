//! A login that was granted becomes one that is kept: whose it is is shown first, another's place
//! is not taken unasked, and then it is tried.

use airlock_shared::secret::Secret;

use super::{SetupEvent, TypedLines};
use crate::auth::AuthError;
use crate::auth::store::{Login, LoginKind};
use crate::session::sign_in_again;
use crate::setup::{LoginError, LoginInfo, Logins, ProofResult, proof};

pub(in crate::setup) struct Keeping<'a> {
    pub(in crate::setup) name: &'a str,
    pub(in crate::setup) replace: bool,
    /// The login was granted just now, to us: signed out again where it is not kept.
    pub(in crate::setup) granted: bool,
    pub(in crate::setup) logins: &'a Logins,
}

impl Keeping<'_> {
    /// What another program granted itself is that program's.
    async fn give_back(&self, login: &Login) {
        if self.granted {
            self.logins.give_back(login).await;
        }
    }
}

/// Asks, stores, shows, and proves what is not `proven` yet. What was not granted just now is proven
/// before it is stored.
pub(in crate::setup) async fn keep(
    keeping: Keeping<'_>,
    login: Login,
    proven: Option<ProofResult>,
    typed: &mut TypedLines,
    tell: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<(LoginInfo, ProofResult), LoginError> {
    let Keeping { name, logins, .. } = keeping;
    let now = logins.now();
    let login_info = LoginInfo::of(name, &login, now);
    let there = logins.store.read(name).ok();
    let other = there.as_ref().filter(|there| is_anothers(there, &login));
    // THREAT: somebody who gets a person to finish a sign-in of theirs makes that person's work
    // run, and be read, under their account. Tried by
    // login::account::another_account_is_asked_about_before_anything_is_stored.
    if let Some(other) = other
        && !keeping.replace
        && let Err(refused) = asked(LoginInfo::of(name, other, now), &login_info, typed, tell).await
    {
        keeping.give_back(&login).await;
        return Err(refused);
    }
    let (login, proven) = match proven {
        None if !keeping.granted => apart(name, login, logins).await?,
        proven => (login, proven),
    };
    let stored = store(&keeping, &login, there.as_ref()).await;
    if let Err(login_error) = stored {
        keeping.give_back(&login).await;
        return Err(login_error);
    }
    let path = logins.store.path(name).map_err(|error| LoginError::login(name, error))?;
    // Not before: who reads that somebody is signed in takes the login for stored.
    let login_info = LoginInfo::of(name, &login, logins.now());
    tell(SetupEvent::SignedIn(login_info.clone()));
    tell(SetupEvent::Stored { path });
    let proof = match (proven, logins.signer(name, &login.base)) {
        (_, Err(error)) => return Err(LoginError::login(name, error)),
        (Some(proof), Ok(_)) => proof,
        (None, Ok(signer)) => proof::prove(&*signer, &login.base, logins.deps.ca.as_deref()).await,
    };
    if let ProofResult::Refused(why) = proof {
        return Err(LoginError::Refused { why, kept: true, again: sign_in_again(name) });
    }
    tell(SetupEvent::Proof(proof.clone()));
    Ok((login_info, proof))
}

/// The login as it is once the service was asked with it, in a folder of its own: it is renewed there
/// where that is due, and what has its name stays meanwhile.
async fn apart(
    name: &str,
    login: Login,
    logins: &Logins,
) -> Result<(Login, Option<ProofResult>), LoginError> {
    let login_error = |error| LoginError::login(name, error);
    // Made and closed to others by whoever locks a login in it.
    drop(logins.store.lock(name).await.map_err(login_error)?);
    let folder = tempfile::Builder::new().prefix(".import-").tempdir_in(&logins.folder);
    let folder = folder.map_err(|error| {
        login_error(AuthError::Store {
            place: logins.folder.display().to_string(),
            why: error.to_string(),
        })
    })?;
    let alone = Logins::at(folder.path(), logins.deps.clone());
    alone.store.lock(name).await.and_then(|locked| locked.write(&login)).map_err(login_error)?;
    let signer = alone.signer(name, &login.base).map_err(login_error)?;
    // THREAT: a login that its issuer has revoked takes the place of a good one. Tried by
    // setup::codex_auth::keep::tests::a_dead_login_takes_nobodys_place.
    let ca = logins.deps.ca.as_deref();
    match proof::prove(&*signer, &login.base, ca).await {
        ProofResult::Refused(why) => {
            Err(LoginError::Refused { why, kept: false, again: sign_in_again(name) })
        }
        proof => Ok((alone.store.read(name).unwrap_or(login), Some(proof))),
    }
}

async fn asked(
    has: LoginInfo,
    is: &LoginInfo,
    typed: &mut TypedLines,
    tell: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<(), LoginError> {
    if !typed.is_person {
        let name = has.login.clone();
        return Err(LoginError::Another {
            name,
            has: has.said_beside(is),
            is: is.said_beside(&has),
        });
    }
    tell(SetupEvent::Another(Box::new([has, is.clone()])));
    let answer = typed.lines.recv().await;
    if answer.as_ref().is_some_and(is_yes) {
        return Ok(());
    }
    Err(LoginError::Declined { what: "the login that was there stays" })
}

/// `y` or `yes`, in any case; everything else is no.
pub(in crate::setup) fn is_yes(answer: &Secret) -> bool {
    matches!(answer.reveal().trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Writes it under the login's lock; `seen` is what the person was asked about.
async fn store(
    keeping: &Keeping<'_>,
    login: &Login,
    seen: Option<&Login>,
) -> Result<(), LoginError> {
    let name = keeping.name;
    let login_error = |error| LoginError::login(name, error);
    let locked = keeping.logins.store.lock(name).await.map_err(login_error)?;
    // What a killed refresh left is finished here, before it is replaced.
    let there = locked.read().ok();
    let changed = match (seen, &there) {
        (Some(seen), Some(there)) => is_anothers(seen, there),
        (None, Some(there)) => is_anothers(there, login),
        (_, None) => false,
    };
    if changed && !keeping.replace {
        let why = "somebody else signed in to it at the same moment; that login stays".to_owned();
        return Err(LoginError::InPart { headline: "not stored", why });
    }
    let generation = there.as_ref().map_or(0, |there| there.generation.saturating_add(1));
    // A model was chosen from the list of one account at one base: another may not have it.
    let same = there.filter(|there| !is_anothers(there, login));
    let model = same.and_then(|there| there.model);
    locked.write(&Login { generation, model, ..login.clone() }).map_err(login_error)
}

/// Whether what is there belongs to another account than what would take its place, or pays for
/// something else.
fn is_anothers(there: &Login, fresh: &Login) -> bool {
    let differ = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => a != b,
        // A token need not say it.
        _ => false,
    };
    match (there.kind, fresh.kind) {
        (LoginKind::ApiKey, LoginKind::ApiKey) => there.base != fresh.base,
        (LoginKind::ChatGpt, LoginKind::ChatGpt) => {
            // Two people of one workspace have one account, and an address each.
            there.account != fresh.account
                || differ(&there.email, &fresh.email)
                || there.issuer != fresh.issuer
                || there.base != fresh.base
        }
        (LoginKind::ApiKey, LoginKind::ChatGpt) | (LoginKind::ChatGpt, LoginKind::ApiKey) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use airlock_shared::base::Base;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;

    use super::*;
    use crate::auth::Deps;
    use crate::auth::issuer::IssuerUrl;
    use crate::exit::Exit;
    use crate::failure::Failure;

    fn login(kind: LoginKind, account: &str, email: &str) -> Login {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Login {
            kind,
            base: Base::parse("https://chatgpt.com").expect("a base"),
            issuer: (kind == LoginKind::ChatGpt).then(IssuerUrl::default),
            bearer: Secret::new("bearer".to_owned()),
            refresh: None,
            account: text(account),
            email: text(email),
            plan: None,
            expires_at: None,
            signed_in_at: None,
            refreshed_at: None,
            generation: 0,
            model: None,
            intent: None,
            ended: None,
        }
    }

    #[test]
    fn anothers_is_told_from_ones_own() {
        let ours = login(LoginKind::ChatGpt, "acct-1", "ada@example.org");
        let key = login(LoginKind::ApiKey, "", "");
        let elsewhere = Base::parse("https://codex.example.org").expect("a base");
        let cases = [
            (login(LoginKind::ChatGpt, "acct-1", "ada@example.org"), false),
            (login(LoginKind::ChatGpt, "acct-1", ""), false),
            (login(LoginKind::ChatGpt, "acct-1", "eve@example.org"), true),
            (login(LoginKind::ChatGpt, "acct-2", "ada@example.org"), true),
            (login(LoginKind::ChatGpt, "", "ada@example.org"), true),
            (Login { base: elsewhere.clone(), ..ours.clone() }, true),
            (Login { issuer: None, ..ours.clone() }, true),
            (key.clone(), true),
        ];
        for (at, (fresh, expected)) in cases.iter().enumerate() {
            assert_eq!(is_anothers(&ours, fresh), *expected, "case {at}");
        }
        assert!(!is_anothers(&key, &key.clone()));
        assert!(is_anothers(&key, &Login { base: elsewhere, ..key.clone() }));
    }

    #[tokio::test]
    async fn a_dead_login_takes_nobodys_place() {
        for (answer, is_kept) in [("401 Unauthorized", false), ("500 Oops", true)] {
            let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let base = format!("http://{}/v1", service.local_addr().expect("an address"));
            let answer =
                format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = service.accept().await {
                    let _ = stream.read(&mut [0; 8192]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            let folder = tempfile::tempdir().expect("a folder");
            let deps = Deps { ca: None, clock: Arc::new(|| 7) };
            let logins = Logins::at(folder.path(), deps);
            let base = Base::parse(&base).expect("a base");
            let good = Login { base, ..login(LoginKind::ChatGpt, "acct-1", "ada@example.org") };
            logins.store.lock("me").await.expect("a lock").write(&good).expect("written");
            let dead = Login { bearer: Secret::new("imported".to_owned()), ..good };
            let mut typed = TypedLines { lines: mpsc::channel(1).1, is_person: false };
            let mut told = Vec::new();
            let mut tell = |what| told.push(what);
            let keeping = Keeping { name: "me", replace: false, granted: false, logins: &logins };
            let kept = keep(keeping, dead, None, &mut typed, &mut tell).await;
            assert_eq!(kept.is_ok(), is_kept, "{kept:?}");
            assert_eq!(told.is_empty(), !is_kept, "{told:?}");
            let there = logins.store.read("me").expect("a login");
            assert_eq!(there.bearer.reveal() == "imported", is_kept);
            if let Err(login_error) = kept {
                let failure = Failure::from(login_error);
                assert_eq!(failure.exit, Exit::SignIn);
                assert_eq!(failure.hint.as_deref(), Some("airlock setup codex-auth --name me"));
            }
            let left = std::fs::read_dir(folder.path()).expect("a folder").flatten();
            assert!(left.into_iter().all(|left| left.path().is_file()), "the trial left something");
        }
    }

    #[tokio::test]
    async fn a_chosen_model_stays_until_another_takes_the_place() {
        let ours = login(LoginKind::ChatGpt, "acct-1", "ada@example.org");
        let key = login(LoginKind::ApiKey, "", "");
        let elsewhere = Base::parse("https://codex.example.org").expect("a base");
        let anew =
            |login: &Login| Login { bearer: Secret::new("anew".to_owned()), ..login.clone() };
        let cases = [
            (&ours, anew(&ours), true),
            (&ours, login(LoginKind::ChatGpt, "acct-2", "eve@example.org"), false),
            (&ours, key.clone(), false),
            (&key, anew(&key), true),
            (&key, Login { base: elsewhere, ..key.clone() }, false),
        ];
        for (at, (there, fresh, stays)) in cases.into_iter().enumerate() {
            let folder = tempfile::tempdir().expect("a folder");
            let logins = Logins::at(folder.path(), Deps { ca: None, clock: Arc::new(|| 7) });
            let there = Login { model: Some("gpt-5.5".to_owned()), ..there.clone() };
            logins.store.lock("me").await.expect("a lock").write(&there).expect("written");
            let keeping = Keeping { name: "me", replace: true, granted: true, logins: &logins };
            store(&keeping, &fresh, Some(&there)).await.expect("stored");
            let kept = logins.store.read("me").expect("a login");
            assert_eq!(kept.model.is_some(), stays, "case {at}");
            assert_eq!(kept.bearer.reveal(), fresh.bearer.reveal(), "case {at}");
        }
    }

    #[test]
    fn only_a_yes_is_one() {
        let yes = |text: &str| is_yes(&Secret::new(text.to_owned()));
        assert!(yes("y") && yes(" Yes\r\n"));
        assert!(!yes("") && !yes("n") && !yes("yo") && !yes("https://localhost/?code=y"));
    }
}
