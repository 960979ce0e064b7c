//! Why a command about logins failed: one variant for each consequence, each with its message.

use crate::auth::AuthError;
use crate::auth::issuer::IssuerError;
use crate::auth::sign_in::SignInError;
use crate::auth::store;
use crate::exit::Exit;
use crate::failure::{Failure, shell_url, storage_hint};
use crate::session::sign_in_again;

/// The hint if a later try may succeed.
const AGAIN: &str = "the same command again, once it answers";

/// It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// The sign-in failed: a timeout, a refusal, or no method is left.
    NotSignedIn { name: String, why: String },
    /// The issuer gave no usable answer. A later try may succeed.
    Issuer { host: String, why: String },
    /// The issuer gave no login: it refused, or its answer was invalid or incomplete.
    NotGranted { name: String, host: String, why: String },
    /// The stored login belongs to another account, and the person did not allow to replace it.
    Another { name: String, has: String, is: String },
    /// A person said no.
    Declined { what: &'static str },
    /// The service does not accept the credential. `kept`: it is stored all the same. `again`: the
    /// command that gives another one.
    Refused { why: String, kept: bool, again: String },
    /// There is no login of that name.
    NotFound { name: String },
    /// The login is an API key, which has no access token.
    Key { name: String },
    /// An error of the login.
    Login { name: String, error: AuthError },
    /// The given file or input cannot be used.
    Given { why: String, hint: String },
    /// The command was carried out only in part.
    InPart { headline: &'static str, why: String },
}

impl LoginError {
    pub(super) fn login(name: &str, error: AuthError) -> Self {
        Self::Login { name: name.to_owned(), error }
    }

    pub(super) fn issuer(host: impl Into<String>, error: &IssuerError) -> Self {
        Self::Issuer { host: host.into(), why: error.to_string() }
    }

    pub(super) fn not_granted(name: &str, host: &str, why: String) -> Self {
        Self::NotGranted { name: name.to_owned(), host: host.to_owned(), why }
    }

    pub(super) fn sign_in(name: &str, host: &str, error: SignInError) -> Self {
        match error {
            SignInError::Issuer(
                error @ (IssuerError::Unreachable(_)
                | IssuerError::Busy { .. }
                | IssuerError::Intercepted(_)),
            ) => Self::issuer(host, &error),
            SignInError::Issuer(error) => Self::not_granted(name, host, error.to_string()),
            error => Self::NotSignedIn { name: name.to_owned(), why: error.to_string() },
        }
    }
}

impl From<LoginError> for Failure {
    fn from(login_error: LoginError) -> Self {
        match login_error {
            LoginError::NotSignedIn { name, why } => {
                Self::new(Exit::SignIn, "not signed in", why).hint(sign_in_again(&name))
            }
            LoginError::Issuer { host, why } => Self::new(
                Exit::Failed,
                "no usable answer from the issuer",
                format!("{host}: {why}"),
            )
            .hint(AGAIN),
            LoginError::NotGranted { name, host, why } => {
                let why = format!("{host}: {why}");
                Self::new(Exit::Failed, "the issuer did not sign you in", why)
                    .hint(sign_in_again(&name))
            }
            LoginError::Another { name, has, is } => {
                let why = format!(
                    "login `{name}` is {has}; this is {is}, and was not stored; --name keeps both, \
                     --replace replaces the stored one"
                );
                Self::new(Exit::Failed, "another account", why)
                    .hint("airlock setup codex-auth --name NAME")
            }
            LoginError::Declined { what } => Self::new(Exit::Failed, "nothing was changed", what),
            LoginError::Refused { why, kept, again } => {
                let headline = match kept {
                    true => "the service does not accept this login",
                    false => "not stored",
                };
                Self::new(Exit::SignIn, headline, why).hint(again)
            }
            LoginError::NotFound { name } => {
                Self::usage(format!("there is no login `{name}`")).hint("airlock status")
            }
            LoginError::Key { name } => {
                let why = format!(
                    "login `{name}` is an API key; only a ChatGPT login has a token and an account"
                );
                Self::usage(why).hint("airlock setup codex-auth --name NAME")
            }
            LoginError::Login { name, error } => login_failure(&name, &error),
            LoginError::Given { why, hint } => Self::usage(why).hint(hint),
            LoginError::InPart { headline, why } => Self::new(Exit::Failed, headline, why),
        }
    }
}

fn login_failure(name: &str, error: &AuthError) -> Failure {
    let needed =
        |why: String| Failure::new(Exit::SignIn, "sign-in needed", why).hint(sign_in_again(name));
    match error {
        AuthError::Unsafe { place, why } if *why == store::DIRECTORY_IS_OPEN => {
            Failure::new(Exit::SignIn, "the logins cannot be trusted", error.to_string())
                .hint(format!("chmod 700 {}", shell_url(place)))
        }
        AuthError::Unsafe { why, .. } if *why == store::DIRECTORY_IS_LINK => {
            Failure::new(Exit::SignIn, "the logins cannot be trusted", error.to_string())
                .hint("export XDG_STATE_HOME=/path/to/a/directory/of/yours")
        }
        AuthError::Missing { .. } => needed(format!("there is no login `{name}`")),
        AuthError::Ended { .. }
        | AuthError::Unsafe { .. }
        | AuthError::Malformed { .. }
        | AuthError::OtherAccount { .. } => needed(error.to_string()),
        AuthError::OtherBase { asked, .. } => Failure::usage(error.to_string())
            .hint(format!("airlock setup codex-auth --base-url {} --name NAME", shell_url(asked))),
        AuthError::Unreachable { issuer, why } => Failure::new(
            Exit::Failed,
            "no usable answer from the issuer",
            format!("{issuer}: {why}"),
        )
        .hint(AGAIN),
        AuthError::Store { place, why } => {
            Failure::new(Exit::Failed, "the login cannot be written", format!("{place}: {why}"))
                .hint(storage_hint(place, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_the_same_login() {
        let refused = |name: &str| {
            let (name, why) = (name.to_owned(), "time is up".to_owned());
            Failure::from(LoginError::NotSignedIn { name, why }).hint
        };
        assert_eq!(refused("default").as_deref(), Some("airlock setup codex-auth"));
        assert_eq!(refused("team").as_deref(), Some("airlock setup codex-auth --name team"));
    }

    #[test]
    fn a_refusal_of_the_issuer_differs_from_an_unreachable_issuer() {
        let failure = |error| {
            let login_error =
                LoginError::sign_in("team", "issuer.example.org", SignInError::Issuer(error));
            Failure::from(login_error).to_string()
        };
        let refused = IssuerError::Refused { status: 400, message: "invalid_grant".to_owned() };
        let again = "\nairlock setup codex-auth --name team";
        let answered = [
            (refused, "it refused (400): invalid_grant"),
            (IssuerError::Malformed("holds no access token"), "its answer holds no access token"),
            (IssuerError::Lost("no answer within 30 s".to_owned()), "no answer within 30 s"),
        ];
        for (error, why) in answered {
            let head = "the issuer did not sign you in: issuer.example.org: ";
            assert_eq!(failure(error), format!("{head}{why}{again}"));
        }
        let head = "no usable answer from the issuer: issuer.example.org: ";
        let why = "no such host";
        let unreachable = failure(IssuerError::Unreachable(why.to_owned()));
        assert_eq!(unreachable, format!("{head}{why}\n{AGAIN}"));
        assert!(failure(IssuerError::Busy { status: 503 }).starts_with(head));
        assert!(failure(IssuerError::Intercepted("a portal".to_owned())).starts_with(head));
    }
}
