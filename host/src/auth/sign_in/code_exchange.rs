//! Exchanges codes for tokens, each code only once, whichever method it came by.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use airlock_shared::secret::Secret;

use super::super::issuer::{Issuer, IssuerError, Tokens};

/// How many codes are remembered, so that none is exchanged twice.
const CODES: usize = 64;
/// The pauses before the next try, if the request could not be sent.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

pub(in crate::auth) struct CodeExchange<'a> {
    issuer: &'a Issuer,
    tried: Mutex<Vec<Secret>>,
}

impl<'a> CodeExchange<'a> {
    pub(in crate::auth) fn new(issuer: &'a Issuer) -> Self {
        Self { issuer, tried: Mutex::default() }
    }

    pub(in crate::auth) async fn exchange(
        &self,
        code: &Secret,
        verifier: &Secret,
        redirect: &str,
    ) -> Result<Tokens, IssuerError> {
        // THREAT: a code comes twice (pasted and by the callback), and its second exchange ends the
        // login. Tried by auth::sign_in::tests::a_code_that_comes_twice_is_exchanged_once.
        if !self.is_first(code) {
            let message = "this code was already used".to_owned();
            return Err(IssuerError::Refused { status: 400, message });
        }
        for pause in PAUSES {
            match self.issuer.exchange(code, verifier, redirect).await {
                Err(IssuerError::Unreachable(why)) => {
                    tracing::warn!(why, "the issuer could not be reached; trying again");
                }
                result => return result,
            }
            tokio::time::sleep(pause).await;
        }
        self.issuer.exchange(code, verifier, redirect).await
    }

    fn is_first(&self, code: &Secret) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tried.iter().any(|tried| tried.matches(code.reveal().as_bytes()));
        if !known && tried.len() < CODES {
            tried.push(code.clone());
        }
        !known
    }
}
