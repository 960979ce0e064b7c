//! The exchange of a code for tokens (codex protocol, A.5). The OAuth library builds the request.
//! It is sent, and its answer read, like all other requests.

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
    let request = request.ok_or(IssuerError::Malformed("cannot be requested at this URL"))?;
    let (parts, body) = request.into_parts();
    let answer = issuer.ask("/oauth/token", parts.headers, Zeroizing::new(body)).await?;
    let tokens = Tokens::parse(&answer.json(&[code, verifier], false)?, answer.date())?;
    if tokens.access.is_none() || tokens.refresh.is_none() || tokens.id.is_none() {
        return Err(IssuerError::Malformed("does not hold all three tokens"));
    }
    Ok(tokens)
}

/// # Why not the library's own response type
/// It has no field for an id token or the issuer's clock, needs fields that we do not use, and does
/// not wipe its strings.
fn request(
    issuer: &Issuer,
    code: &Secret,
    verifier: &Secret,
    redirect: &str,
) -> Option<HttpRequest> {
    let url = TokenUrl::new(format!("{}/oauth/token", issuer.url)).ok()?;
    let client = BasicClient::new(ClientId::new(CLIENT_ID.to_owned())).set_token_uri(url);
    let built = RefCell::new(None);
    let take = |request: HttpRequest| -> Result<HttpResponse, IssuerError> {
        built.replace(Some(request));
        Err(IssuerError::Malformed("is read by the caller"))
    };
    let _taken = client
        .exchange_code(AuthorizationCode::new(code.reveal().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier.reveal().to_owned()))
        .set_redirect_uri(Cow::Owned(RedirectUrl::new(redirect.to_owned()).ok()?))
        .request(&take);
    built.into_inner()
}
