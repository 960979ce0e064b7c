//! An API key from stdin, a file or the environment, or an access token that is tried before it is
//! stored. It is valid for one base, and it cannot be renewed.

use std::io::Read;
use std::path::Path;

use airlock_shared::base::Base;
use airlock_shared::handoff::Secrets;
use airlock_shared::request;
use airlock_shared::secret::Secret;
use futures_util::future::BoxFuture;
use http::{HeaderMap, header};
use zeroize::Zeroizing;

use super::{
    Account, AccountKind, AuthError, CREDENTIAL_BYTES, HandedOver, Signed, Signer, bearer, checked,
    sensitive,
};

pub(super) struct KeySigner {
    key: Secret,
    place: String,
    base: Base,
    /// The account of an access token; `None` for a key.
    account: Option<String>,
    kind: AccountKind,
}

impl KeySigner {
    pub(super) fn new(key: Secret, place: &str, base: &Base) -> Result<Self, AuthError> {
        Ok(Self {
            key: checked(&key, place)?,
            place: place.to_owned(),
            base: base.clone(),
            account: None,
            kind: AccountKind::ApiKey,
        })
    }

    /// The same credential as the access token of an account.
    pub(super) fn with_account(self, account: Option<String>) -> Self {
        Self { account, kind: AccountKind::ChatGpt, ..self }
    }

    /// The person gave this path, so links and pipes (`<(…)`) are followed.
    pub(super) fn from_file(path: &Path, base: &Base) -> Result<Self, AuthError> {
        let place = path.display().to_string();
        let missing = || AuthError::Missing { place: place.clone() };
        let file = std::fs::File::open(path).map_err(|_| missing())?;
        let mut text = Zeroizing::new(String::with_capacity(CREDENTIAL_BYTES + 3));
        file.take(CREDENTIAL_BYTES as u64 + 2)
            .read_to_string(&mut text)
            .map_err(|_| AuthError::Malformed { place: place.clone(), why: "it is not text" })?;
        Self::new(Secret::new(text.to_string()), &place, base)
    }
}

impl Signer for KeySigner {
    fn account(&self) -> Account {
        Account { name: "key".to_owned(), kind: self.kind, plan: None, base: self.base.clone() }
    }

    fn sign(&self) -> BoxFuture<'_, Result<Signed, AuthError>> {
        Box::pin(async {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, bearer(&self.key, &self.place)?);
            if let Some(account) = &self.account {
                headers.insert(request::ACCOUNT, sensitive(account, &self.place)?);
            }
            Ok(Signed { headers, generation: 0 })
        })
    }

    fn renew(&self, _refused: u64) -> BoxFuture<'_, Result<bool, AuthError>> {
        Box::pin(async { Ok(false) })
    }

    fn hand_over(&self) -> BoxFuture<'_, Result<HandedOver, AuthError>> {
        Box::pin(async {
            let secrets =
                Secrets { bearer: Some(self.key.clone()), account_id: self.account.clone() };
            Ok(HandedOver { secrets, generation: 0 })
        })
    }

    fn secrets_to_scrub(&self) -> Vec<Secret> {
        vec![self.key.clone()]
    }
}
