//! The command that stores a key again after the backend refused it.

use std::path::Path;

use airlock_shared::base::Base;
use airlock_shared::defaults;

use crate::auth::store::{LoginKind, LoginStore};
use crate::session::credentials::sign_in_again;

/// The command that stores a key again for the same base; None: the login is not a key.
pub(super) fn key_again(folder: &Path, name: &str) -> Option<String> {
    let login =
        LoginStore::new(folder).read(name).ok().filter(|login| login.kind == LoginKind::ApiKey)?;
    let base = login.base.to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_[]".contains(&byte);
    let base = match base.bytes().all(is_plain) {
        _ if Base::parse(defaults::API_BASE).is_ok_and(|usual| usual == login.base) => {
            String::new()
        }
        true => format!(" --base-url {base}"),
        // The command will be pasted into a shell.
        false => " --base-url URL".to_owned(),
    };
    Some(format!("{}{base} --api-key - < FILE", sign_in_again(name)))
}
