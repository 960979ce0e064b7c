//! The exchange of a code for tokens (codex protocol, A.5): the request is the OAuth library's; it is
//! sent, and its answer read, as every other of ours.

use std::borrow::Cow;
use std::cell::RefCell;

use airlock_shared::secret::Secret;
use oauth2::basic::BasicClient;
use oauth2::{
    AuthorizationCode, ClientId, HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl, TokenUrl,
};
use zeroize::Zeroizing;

use super::{CLIENT_ID, Issuer, IssuerError, Tokens};

pub(super) async fn exchange(
    issuer: &Issuer,
    code: &Secret,
    verifier: &Secret,
    redirect: &str,
) -> Result<Tokens, IssuerError> {
    let request = request(issuer, code, verifier, redirect);
    let request = request.ok_or(IssuerError::Malformed("cannot be asked for at this URL"))?;
    let (parts, body) = request.into_parts();
    let answer = issuer.ask("/oauth/token", parts.headers, Zeroizing::new(body)).await?;
    let tokens = Tokens::of(&answer.json(&[code, verifier], false)?, answer.date())?;
    if tokens.access.is_none() || tokens.refresh.is_none() || tokens.id.is_none() {
        return Err(IssuerError::Malformed("does not hold all three tokens"));
    }
    Ok(tokens)
}

/// Why not the library's own answer: it has no place for an id token or the issuer's clock, wants
/// fields that are of no use to us, and its strings are not wiped.
fn request(
    issuer: &Issuer,
    code: &Secret,
    verifier: &Secret,
    redirect: &str,
) -> Option<HttpRequest> {
    let url = TokenUrl::new(format!("{}/oauth/token", issuer.url)).ok()?;
    let client = BasicClient::new(ClientId::new(CLIENT_ID.to_owned())).set_token_uri(url);
    let made = RefCell::new(None);
    let take = |request: HttpRequest| -> Result<HttpResponse, IssuerError> {
        made.replace(Some(request));
        Err(IssuerError::Malformed("is waited for elsewhere"))
    };
    let _taken = client
        .exchange_code(AuthorizationCode::new(code.reveal().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier.reveal().to_owned()))
        .set_redirect_uri(Cow::Owned(RedirectUrl::new(redirect.to_owned()).ok()?))
        .request(&take);
    made.into_inner()
}
