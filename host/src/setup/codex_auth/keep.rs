//! Stores a new login. If the name belongs to another account, the person is asked first. A login
//! that was not just granted is tried before it is stored.

use airlock_shared::secret::Secret;

use super::{SetupEvent, TypedLines};
use crate::auth::AuthError;
use crate::auth::store::{Login, LoginKind};
use crate::session::sign_in_again;
use crate::setup::{LoginError, LoginInfo, Logins, ProofResult, proof};

pub(in crate::setup) struct Keeping<'a> {
    pub(in crate::setup) name: &'a str,
    pub(in crate::setup) replace: bool,
    /// The login was just granted by a sign-in. It is revoked if it is not stored.
    pub(in crate::setup) granted: bool,
    pub(in crate::setup) logins: &'a Logins,
}

impl Keeping<'_> {
    /// Revokes the login, but not one that another program uses too.
    async fn revoke_unstored(&self, login: &Login) {
        if self.granted {
            self.logins.revoke_unstored(login).await;
        }
    }
}

/// Asks, stores, and proves the login if it is not `proven` yet. A login that was not just granted
/// is proven before it is stored.
pub(in crate::setup) async fn keep(
    keeping: Keeping<'_>,
    login: Login,
    proven: Option<ProofResult>,
    typed: &mut TypedLines,
    emit: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<(LoginInfo, ProofResult), LoginError> {
    let Keeping { name, logins, .. } = keeping;
    let now = logins.now();
    let login_info = LoginInfo::new(name, &login, now);
    let stored = logins.store.read(name).ok();
    let other = stored.as_ref().filter(|stored| is_of_another(stored, &login));
    // THREAT: an attacker makes a person finish the attacker's sign-in. Then the person's work runs
    // under the attacker's account, and the attacker can read it. Tried by
    // login::account::another_account_is_asked_about_before_anything_is_stored.
    if let Some(other) = other
        && !keeping.replace
        && let Err(refused) =
            ask_to_replace(LoginInfo::new(name, other, now), &login_info, typed, emit).await
    {
        keeping.revoke_unstored(&login).await;
        return Err(refused);
    }
    let (login, proven) = match proven {
        None if !keeping.granted => prove_in_temporary_store(name, login, logins).await?,
        proven => (login, proven),
    };
    let result = store(&keeping, &login, stored.as_ref()).await;
    if let Err(login_error) = result {
        keeping.revoke_unstored(&login).await;
        return Err(login_error);
    }
    let path = logins.store.path(name).map_err(|error| LoginError::login(name, error))?;
    // Only after the login is stored: `SignedIn` means that.
    let login_info = LoginInfo::new(name, &login, logins.now());
    emit(SetupEvent::SignedIn(login_info.clone()));
    emit(SetupEvent::Stored { path });
    let proof = match (proven, logins.signer(name, &login.base)) {
        (_, Err(error)) => return Err(LoginError::login(name, error)),
        (Some(proof), Ok(_)) => proof,
        (None, Ok(signer)) => proof::prove(&*signer, &login.base, logins.deps.ca.as_deref()).await,
    };
    if let ProofResult::Refused(why) = proof {
        return Err(LoginError::Refused { why, kept: true, again: sign_in_again(name) });
    }
    emit(SetupEvent::Proof(proof.clone()));
    Ok((login_info, proof))
}

/// Proves the login in a temporary directory, where it is renewed if that is due. The stored login
/// of that name stays meanwhile.
async fn prove_in_temporary_store(
    name: &str,
    login: Login,
    logins: &Logins,
) -> Result<(Login, Option<ProofResult>), LoginError> {
    let login_error = |error| LoginError::login(name, error);
    // Locking a login creates the directory and makes it private.
    drop(logins.store.lock(name).await.map_err(login_error)?);
    let directory = tempfile::Builder::new().prefix(".import-").tempdir_in(&logins.directory);
    let directory = directory.map_err(|error| {
        login_error(AuthError::Store {
            place: logins.directory.display().to_string(),
            why: error.to_string(),
        })
    })?;
    let temporary = Logins::at(directory.path(), logins.deps.clone());
    temporary
        .store
        .lock(name)
        .await
        .and_then(|locked| locked.write(&login))
        .map_err(login_error)?;
    let signer = temporary.signer(name, &login.base).map_err(login_error)?;
    // THREAT: a revoked login replaces a valid one. Tried by
    // setup::codex_auth::keep::tests::a_revoked_login_replaces_nothing.
    let ca = logins.deps.ca.as_deref();
    match proof::prove(&*signer, &login.base, ca).await {
        ProofResult::Refused(why) => {
            Err(LoginError::Refused { why, kept: false, again: sign_in_again(name) })
        }
        proof => Ok((temporary.store.read(name).unwrap_or(login), Some(proof))),
    }
}

async fn ask_to_replace(
    has: LoginInfo,
    is: &LoginInfo,
    typed: &mut TypedLines,
    emit: &mut (dyn FnMut(SetupEvent) + Send),
) -> Result<(), LoginError> {
    if !typed.is_person {
        let name = has.login.clone();
        return Err(LoginError::Another {
            name,
            has: has.describe_beside(is),
            is: is.describe_beside(&has),
        });
    }
    emit(SetupEvent::ConfirmReplace(Box::new([has, is.clone()])));
    let answer = typed.lines.recv().await;
    if answer.as_ref().is_some_and(is_yes) {
        return Ok(());
    }
    Err(LoginError::Declined { what: "the stored login stays" })
}

/// `y` or `yes`, upper or lower case. Everything else means no.
pub(in crate::setup) fn is_yes(answer: &Secret) -> bool {
    matches!(answer.reveal().trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Writes the login under its lock. `seen` is the stored login that the person was asked about.
async fn store(
    keeping: &Keeping<'_>,
    login: &Login,
    seen: Option<&Login>,
) -> Result<(), LoginError> {
    let name = keeping.name;
    let login_error = |error| LoginError::login(name, error);
    let locked = keeping.logins.store.lock(name).await.map_err(login_error)?;
    // Reading finishes an interrupted refresh before the login is replaced.
    let stored = locked.read().ok();
    let changed = match (seen, &stored) {
        (Some(seen), Some(stored)) => is_of_another(seen, stored),
        (None, Some(stored)) => is_of_another(stored, login),
        (_, None) => false,
    };
    if changed && !keeping.replace {
        let why = "another sign-in stored this login at the same time; that login stays".to_owned();
        return Err(LoginError::InPart { headline: "not stored", why });
    }
    let generation = stored.as_ref().map_or(0, |stored| stored.generation.saturating_add(1));
    // The model was chosen from the list of one account at one base. Another may not have it.
    let same = stored.filter(|stored| !is_of_another(stored, login));
    let model = same.and_then(|stored| stored.model);
    locked.write(&Login { generation, model, ..login.clone() }).map_err(login_error)
}

/// Whether the stored login belongs to another account, base or issuer than the new one.
fn is_of_another(stored: &Login, fresh: &Login) -> bool {
    let differ = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => a != b,
        // Not every token says it.
        _ => false,
    };
    match (stored.kind, fresh.kind) {
        (LoginKind::ApiKey, LoginKind::ApiKey) => stored.base != fresh.base,
        (LoginKind::ChatGpt, LoginKind::ChatGpt) => {
            // Two people of one ChatGPT workspace share the account, but not the email.
            stored.account != fresh.account
                || differ(&stored.email, &fresh.email)
                || stored.issuer != fresh.issuer
                || stored.base != fresh.base
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
    fn a_login_of_another_account_is_recognised() {
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
            assert_eq!(is_of_another(&ours, fresh), *expected, "case {at}");
        }
        assert!(!is_of_another(&key, &key.clone()));
        assert!(is_of_another(&key, &Login { base: elsewhere, ..key.clone() }));
    }

    #[tokio::test]
    async fn a_revoked_login_replaces_nothing() {
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
            let directory = tempfile::tempdir().expect("a directory");
            let deps = Deps { ca: None, clock: Arc::new(|| 7) };
            let logins = Logins::at(directory.path(), deps);
            let base = Base::parse(&base).expect("a base");
            let good = Login { base, ..login(LoginKind::ChatGpt, "acct-1", "ada@example.org") };
            logins.store.lock("me").await.expect("a lock").write(&good).expect("written");
            let revoked = Login { bearer: Secret::new("imported".to_owned()), ..good };
            let mut typed = TypedLines { lines: mpsc::channel(1).1, is_person: false };
            let mut events = Vec::new();
            let mut emit = |event| events.push(event);
            let keeping = Keeping { name: "me", replace: false, granted: false, logins: &logins };
            let kept = keep(keeping, revoked, None, &mut typed, &mut emit).await;
            assert_eq!(kept.is_ok(), is_kept, "{kept:?}");
            assert_eq!(events.is_empty(), !is_kept, "{events:?}");
            let stored = logins.store.read("me").expect("a login");
            assert_eq!(stored.bearer.reveal() == "imported", is_kept);
            if let Err(login_error) = kept {
                let failure = Failure::from(login_error);
                assert_eq!(failure.exit, Exit::SignIn);
                assert_eq!(failure.hint.as_deref(), Some("airlock setup codex-auth --name me"));
            }
            let left = std::fs::read_dir(directory.path()).expect("a directory").flatten();
            assert!(
                left.into_iter().all(|left| left.path().is_file()),
                "the proof left a directory"
            );
        }
    }

    #[tokio::test]
    async fn a_chosen_model_stays_until_another_account_replaces_the_login() {
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
            let directory = tempfile::tempdir().expect("a directory");
            let logins = Logins::at(directory.path(), Deps { ca: None, clock: Arc::new(|| 7) });
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
    fn only_y_and_yes_mean_yes() {
        let yes = |text: &str| is_yes(&Secret::new(text.to_owned()));
        assert!(yes("y") && yes(" Yes\r\n"));
        assert!(!yes("") && !yes("n") && !yes("yo") && !yes("https://localhost/?code=y"));
    }
}
