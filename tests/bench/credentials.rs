//! What a run pays for its login while the token is good: which base it was made for, the file
//! opened, trusted and understood, and the first headers.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use airlock_host::auth::{self, Credential, Deps};
use airlock_tests::clock;
use serde_json::json;

/// Times in one measurement: one alone is near what the clock can tell.
const TIMES: u32 = 100;
/// Tokens of the issuer are about as long.
const TOKEN_BYTES: usize = 2_000;

pub(crate) struct Login {
    folder: tempfile::TempDir,
    means: Deps,
}

impl Login {
    /// A login as a sign-in leaves it, good for ten days.
    pub(crate) fn kept() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let login = json!({
            "v": 2, "kind": "chatgpt", "base": "https://chatgpt.com/backend-api/codex",
            "issuer": "https://auth.openai.com", "access_token": "a".repeat(TOKEN_BYTES),
            "refresh_token": "r".repeat(90), "account_id": "account-0123456789",
            "email": "ada@example.org", "plan": "plus", "signed_in_at": 1, "expires_at": 864_001,
            "generation": 0,
        });
        let file = folder.path().join("default.json");
        std::fs::write(&file, login.to_string()).expect("room");
        let closed = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&file, closed).expect("a file of ours");
        Self { folder, means: Deps { ca: None, clock: Arc::new(|| 2) } }
    }

    pub(crate) async fn opened_and_signing(&self) -> Duration {
        let start = clock::now();
        for _ in 0..TIMES {
            let folder = self.folder.path();
            let base = auth::base_of(folder, "default").expect("a login");
            let login =
                Credential::Login { name: "default".to_owned(), directory: folder.to_owned() };
            let signer = auth::open(login, &base, &self.means).expect("a signer");
            let signed = signer.sign().await.expect("headers");
            assert_eq!(signed.headers.len(), 2);
        }
        (clock::now() - start) / TIMES
    }
}
