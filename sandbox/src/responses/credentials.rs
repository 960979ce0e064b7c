//! The access token in the sandbox, with handoff credentials or in plain mode. Only this file uses
//! it.

use std::sync::Arc;
use std::time::Duration;

use airlock_shared::handoff::Secrets;
use airlock_shared::request;
use airlock_shared::secret::Secret;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::scrub::Scrub;

/// Clones share the token.
#[derive(Clone)]
pub(crate) struct Credentials {
    token: Arc<watch::Sender<Token>>,
    account: Option<String>,
    scrub: Scrub,
}

struct Token {
    bearer: Option<Secret>,
    /// Which token this is: 1, 2, 3, …
    number: u64,
    /// The host has no fresher token.
    last: bool,
}

impl Credentials {
    pub(crate) fn new(secrets: Secrets, scrub: Scrub) -> Self {
        if let Some(bearer) = &secrets.bearer {
            scrub.add(bearer.clone());
        }
        let token = Token { bearer: secrets.bearer, number: 1, last: false };
        Self { token: Arc::new(watch::Sender::new(token)), account: secrets.account_id, scrub }
    }

    /// The token to use from now on. `None`: the host has no fresher token.
    pub(crate) fn replace(&self, bearer: Option<Secret>) {
        if let Some(bearer) = &bearer {
            self.scrub.add(bearer.clone());
        }
        self.token.send_modify(|token| match bearer {
            Some(bearer) => {
                *token = Token { bearer: Some(bearer), number: token.number + 1, last: false };
            }
            None => token.last = true,
        });
    }

    /// Writes the headers of a request and returns the number of its token. A token that is not a
    /// valid header is omitted, and the backend then refuses the request.
    pub(crate) fn sign(&self, headers: &mut HeaderMap) -> u64 {
        let token = self.token.borrow();
        if let Some(bearer) = &token.bearer {
            let value = Zeroizing::new(format!("Bearer {}", bearer.reveal()));
            if let Ok(mut value) = HeaderValue::from_str(&value) {
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
        }
        if let Some(Ok(account)) = self.account.as_deref().map(HeaderValue::from_str) {
            headers.insert(request::ACCOUNT, account);
        }
        token.number
    }

    /// Waits until there is another token than number `refused`. False: there will be none.
    pub(crate) async fn renewed(&self, refused: u64, within: Duration) -> bool {
        let mut token = self.token.subscribe();
        let changed = token.wait_for(|token| token.number != refused || token.last);
        match tokio::time::timeout(within, changed).await {
            Ok(Ok(token)) => token.number != refused,
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        let secrets = Secrets {
            bearer: Some(Secret::new("first-token".into())),
            account_id: Some("acc".into()),
        };
        Credentials::new(secrets, Scrub::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_token_is_waited_for_and_then_used() {
        let credentials = credentials();
        let mut headers = HeaderMap::new();
        let number = credentials.sign(&mut headers);
        assert_eq!(headers["authorization"], "Bearer first-token");
        assert_eq!(headers["chatgpt-account-id"], "acc");
        assert!(!credentials.renewed(number, Duration::from_secs(30)).await);

        credentials.replace(Some(Secret::new("second-token".into())));
        assert!(credentials.renewed(number, Duration::from_secs(30)).await);
        let number = credentials.sign(&mut headers);
        assert_eq!(headers["authorization"], "Bearer second-token");

        credentials.replace(None);
        assert!(!credentials.renewed(number, Duration::from_secs(30)).await);
    }
}
