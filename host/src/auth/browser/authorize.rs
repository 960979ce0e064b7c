//! One authorization: its state, its verifier, and the address to sign in at.

use airlock_shared::secret::Secret;
use oauth2::basic::BasicClient;
use oauth2::url::{Url, form_urlencoded};
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};

use super::super::issuer::{CLIENT_ID, IssuerUrl};

/// The callback path that is registered with the issuer (A.1).
pub(in crate::auth) const CALLBACK: &str = "/auth/callback";

const SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];
const STATE_BYTES: u32 = 32;
const VERIFIER_BYTES: u32 = 64;

/// The order of the parameters, as in the official client (A.2).
const ORDER: [&str; 10] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "code_challenge",
    "code_challenge_method",
    "id_token_add_organizations",
    "codex_cli_simplified_flow",
    "state",
    "originator",
];

/// One authorization. The callback brings its state and a code, and only its verifier can exchange
/// the code.
#[derive(Clone)]
pub(in crate::auth) struct Attempt {
    state: Secret,
    pub(in crate::auth) verifier: Secret,
    pub(in crate::auth) redirect: String,
    /// The address, which holds state and challenge.
    authorize: Secret,
}

impl Attempt {
    /// `port` is the callback's port. `None`: the issuer's URL cannot have a query.
    pub(in crate::auth) fn begin(issuer: &IssuerUrl, originator: &str, port: u16) -> Option<Self> {
        let redirect = format!("http://localhost:{port}{CALLBACK}");
        let url = AuthUrl::new(format!("{issuer}/oauth/authorize")).ok()?;
        let client = BasicClient::new(ClientId::new(CLIENT_ID.to_owned()))
            .set_auth_uri(url)
            .set_redirect_uri(RedirectUrl::new(redirect.clone()).ok()?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256_len(VERIFIER_BYTES);
        let (url, state) = client
            .authorize_url(|| CsrfToken::new_random_len(STATE_BYTES))
            .add_scopes(SCOPES.map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(challenge)
            .add_extra_param("id_token_add_organizations", "true")
            .add_extra_param("codex_cli_simplified_flow", "true")
            .add_extra_param("originator", originator)
            .url();
        Some(Self {
            state: Secret::new(state.into_secret()),
            verifier: Secret::new(verifier.into_secret()),
            redirect,
            authorize: Secret::new(ordered(&url)),
        })
    }

    /// The address to sign in at. It is only for the person's browser.
    pub(in crate::auth) fn address(&self) -> &str {
        self.authorize.reveal()
    }

    pub(in crate::auth) fn is_state(&self, offered: &str) -> bool {
        self.state.matches(offered.as_bytes())
    }
}

/// The address with the query as the official client writes it: its order, and a space as `%20`.
fn ordered(url: &Url) -> String {
    let value = |name: &str| url.query_pairs().find(|(known, _)| known == name);
    let encoded = |text: &str| {
        let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        text.replace('+', "%20")
    };
    let pairs = ORDER.iter().filter_map(|name| value(name));
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={}", encoded(&value))).collect();
    let mut whole = url.clone();
    whole.set_query(None);
    format!("{whole}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_official_client() {
        let attempt = Attempt::begin(&IssuerUrl::default(), "codex_cli_rs", 1457);
        let attempt = attempt.expect("an attempt");
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(
            &oauth2::PkceCodeVerifier::new(attempt.verifier.reveal().to_owned()),
        );
        let expected = format!(
            "https://auth.openai.com/oauth/authorize?response_type=code\
             &client_id=app_EMoamEEZ73f0CkXaXp7hrann\
             &redirect_uri=http%3A%2F%2Flocalhost%3A1457%2Fauth%2Fcallback\
             &scope=openid%20profile%20email%20offline_access\
             &code_challenge={}&code_challenge_method=S256\
             &id_token_add_organizations=true&codex_cli_simplified_flow=true\
             &state={}&originator=codex_cli_rs",
            challenge.as_str(),
            attempt.state.reveal(),
        );
        assert_eq!(attempt.address(), expected);
        assert_eq!((attempt.state.reveal().len(), attempt.verifier.reveal().len()), (43, 86));
        assert!(attempt.is_state(attempt.state.reveal()) && !attempt.is_state(""));
    }

    #[test]
    fn no_two_attempts_share_anything() {
        let begin = || Attempt::begin(&IssuerUrl::default(), "x", 1455).expect("an attempt");
        let (one, other) = (begin(), begin());
        assert!(!one.is_state(other.state.reveal()));
        assert!(!one.verifier.matches(other.verifier.reveal().as_bytes()));
    }

    #[test]
    fn a_configured_originator_adds_no_parameter() {
        let attempt = Attempt::begin(&IssuerUrl::default(), "x&state=mine #", 1455);
        let address = attempt.expect("an attempt").address().to_owned();
        assert!(address.ends_with("&originator=x%26state%3Dmine%20%23"), "{address}");
    }
}
