//! Sign-in with a code that a person types on another device. The issuer is asked for a code, then
//! polled until the person has typed it.

use std::time::Duration;

use super::issuer::{Issuer, IssuerError, Tokens};
use super::sign_in::{CodeExchange, SIGN_IN_TIMEOUT, SignInError, SignInEvent};

/// How much longer the pause becomes after a 429.
const PAUSE_STEP: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Ends when the code was typed and exchanged, or when this method has failed.
pub(super) async fn wait(
    issuer: &Issuer,
    code_exchange: &CodeExchange<'_>,
    emit: &(dyn Fn(SignInEvent) + Sync),
) -> Result<Tokens, SignInError> {
    let closed = |error: IssuerError| {
        emit(SignInEvent::NoDevice { why: error.to_string() });
        Err(SignInError::Issuer(error))
    };
    let code = match issuer.device_code().await {
        Ok(code) => code,
        Err(IssuerError::Refused { status: 404, .. }) => {
            let why = format!("{} has no sign-in by device code", issuer.url.host());
            emit(SignInEvent::NoDevice { why: why.clone() });
            return Err(SignInError::NoMethod(why));
        }
        Err(error) => return closed(error),
    };
    emit(SignInEvent::Device {
        page: code.page.clone(),
        code: code.user_code.clone(),
        expires_in: SIGN_IN_TIMEOUT.as_secs(),
    });
    let mut pause = code.interval;
    let grant = loop {
        tokio::time::sleep(pause).await;
        match issuer.device_poll(&code).await {
            Ok(Some(grant)) => break grant,
            Ok(None) => {}
            Err(IssuerError::Busy { status: 429 }) => {
                pause = (pause + PAUSE_STEP).min(LONGEST_PAUSE)
            }
            // The person may still be typing: the next poll may succeed.
            Err(
                error @ (IssuerError::Unreachable(_)
                | IssuerError::Lost(_)
                | IssuerError::Busy { .. }
                | IssuerError::Intercepted(_)),
            ) => tracing::warn!(%error, "the device code could not be polled"),
            Err(error) => return closed(error),
        }
    };
    match code_exchange.exchange(&grant.code, &grant.verifier, &issuer.device_redirect()).await {
        Ok(tokens) => Ok(tokens),
        Err(error) => closed(error),
    }
}
