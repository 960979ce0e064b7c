//! The way of a code typed on another device: asked for once, then polled until it was typed.

use std::time::Duration;

use super::issuer::{Issuer, IssuerError, Tokens};
use super::sign_in::{CodeExchange, PATIENCE, SignInError, SignInEvent};

/// An issuer that is asked too often is asked so much less often.
const SLOWER: Duration = Duration::from_secs(5);
const SLOWEST: Duration = Duration::from_secs(60);

/// Ends when the code was typed and exchanged, or when this way is closed.
pub(super) async fn wait(
    issuer: &Issuer,
    code_exchange: &CodeExchange<'_>,
    say: &(dyn Fn(SignInEvent) + Sync),
) -> Result<Tokens, SignInError> {
    let closed = |error: IssuerError| {
        say(SignInEvent::NoDevice { why: error.to_string() });
        Err(SignInError::Issuer(error))
    };
    let code = match issuer.device_code().await {
        Ok(code) => code,
        Err(IssuerError::Refused { status: 404, .. }) => {
            let why = format!("{} has no sign-in by device code", issuer.url.host());
            say(SignInEvent::NoDevice { why: why.clone() });
            return Err(SignInError::NoWay(why));
        }
        Err(error) => return closed(error),
    };
    say(SignInEvent::Device {
        page: code.page.clone(),
        code: code.user_code.clone(),
        expires_in: PATIENCE.as_secs(),
    });
    let mut pause = code.interval;
    let grant = loop {
        tokio::time::sleep(pause).await;
        match issuer.device_poll(&code).await {
            Ok(Some(grant)) => break grant,
            Ok(None) => {}
            Err(IssuerError::Busy { status: 429 }) => pause = (pause + SLOWER).min(SLOWEST),
            // The person is typing meanwhile: the next poll may do.
            Err(
                error @ (IssuerError::Unreachable(_)
                | IssuerError::Lost(_)
                | IssuerError::Busy { .. }
                | IssuerError::Between(_)),
            ) => tracing::warn!(%error, "the device code could not be polled"),
            Err(error) => return closed(error),
        }
    };
    match code_exchange.exchange(&grant.code, &grant.verifier, &issuer.device_redirect()).await {
        Ok(tokens) => Ok(tokens),
        Err(error) => closed(error),
    }
}
