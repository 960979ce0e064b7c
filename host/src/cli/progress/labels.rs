//! How a login, an image and left out files are shown.

use crate::sanitize;
use crate::session::public::{LeftOutFor, LoginEvent};
use crate::text;

/// The most left out paths that are shown for each reason.
const LEFT_OUT_SHOWN: usize = 5;

/// The first paths that were left out for one reason, and the reason.
pub(super) fn left_out_for(why: &str, left_out: &LeftOutFor) -> String {
    let paths = left_out.paths.iter().take(LEFT_OUT_SHOWN).map(|path| sanitize::line(path));
    let mut listed = paths.collect::<Vec<_>>().join(", ");
    let shown = left_out.paths.len().min(LEFT_OUT_SHOWN) as u64;
    match left_out.count.saturating_sub(shown) {
        0 => {}
        more if shown == 0 => listed = text::counted(more, "path"),
        more => listed = format!("{listed} and {more} more"),
    }
    let reason = match why {
        "secret" => "they look like secrets (to copy them: --include GLOB)",
        "excluded" => "excluded",
        "unreadable" => "you cannot read them",
        "history" => "the history is not copied (--no-history)",
        "own" => "airlock's own logins, records and settings",
        "credential" => "they hold a key or login in use",
        other => other,
    };
    format!("{listed}: {reason}")
}

/// `plan plus`, with the login's name if it is not `default`.
pub(super) fn login(login: &LoginEvent) -> String {
    match (&login.plan, login.kind.as_str()) {
        (Some(plan), _) if login.name == "default" => format!("plan {plan}"),
        (Some(plan), _) => format!("plan {plan} ({})", login.name),
        (None, "token file") => format!("login {}", login.name),
        (None, _) => login.name.clone(),
    }
}

/// `airlock-base:6f1c…` without its hash; other names are unchanged.
pub(super) fn short_image(name: &str) -> &str {
    match name.split_once(':') {
        Some(("airlock-base", _)) => "airlock-base",
        _ => name,
    }
}
