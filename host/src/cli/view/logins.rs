//! Logins as `airlock status` and `airlock logout` show them.

use jiff::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use super::object;
use crate::cli::config::LoginChoice;
use crate::cli::progress::labelled;
use crate::cli::style::Style;
use crate::neutral;
use crate::session::sign_in_again;
use crate::setup::logout::{LoggedOut, Revocation};
use crate::setup::secrets::ContainerSecrets;
use crate::setup::status::{LoginState, LoginStatus, PlanUsage, Usage, Window};
use crate::text::COLUMNS;

/// `airlock status`, for a person. `pays`: what pays for a run that does not say; `now`: Unix
/// seconds.
#[must_use]
pub fn status(all: &[LoginStatus], pays: &LoginChoice, now: u64, style: Style) -> String {
    let mut drawn = status_of(all, pays, now, style);
    let mut say = |label: &str, said: &str| {
        drawn.push_str(&labelled(label, &neutral::line(said), COLUMNS, style));
        drawn.push('\n');
    };
    match pays {
        LoginChoice::KeyFile(file) => say("pays", &format!("the key in {}", file.display())),
        LoginChoice::Env => say("pays", "OPENAI_API_KEY, as `login = \"env\"` says"),
        pays if all.iter().any(|standing| is_payer(pays, &standing.name)) => {}
        LoginChoice::Login(name) => {
            say("pays", &format!("login {name}, which is not there"));
            say("", &sign_in_again(name));
        }
        _ => match all.iter().find(|standing| standing.is_good()) {
            Some(good) => {
                say("pays", "nobody unless a run names a login: there is no `default`");
                say("", &format!("airlock run --login {} …", good.name));
            }
            None => {
                say("pays", "nobody yet");
                say("", &sign_in_again("default"));
            }
        },
    }
    drawn
}

/// `airlock status --name NAME`: of the logins shown, and nothing of what pays otherwise.
#[must_use]
pub fn status_of(all: &[LoginStatus], pays: &LoginChoice, now: u64, style: Style) -> String {
    let mut drawn = String::new();
    let mut say = |label: &str, said: &str| {
        drawn.push_str(&labelled(label, &neutral::line(said), COLUMNS, style));
        drawn.push('\n');
    };
    for standing in all {
        let name = &standing.name;
        let marks = if is_payer(pays, name) { " · pays" } else { "" };
        match &standing.state {
            LoginState::Unusable(why) => {
                say("login", &format!("{name} · cannot be used: {why}{marks}"));
                say("", &sign_in_again(name));
            }
            LoginState::Login { login_info, usage } => {
                if let Some(gone) = &login_info.gone {
                    say(
                        "login",
                        &format!("{name} · {} · {}{marks}", login_info.describe(), gone.reason),
                    );
                    say("", &sign_in_again(name));
                    continue;
                }
                let good = login_info.good_for().map(|good| format!(" · {good}"));
                let model = login_info.model.as_ref().map(|model| format!(" · model {model}"));
                let (good, model) = (good.unwrap_or_default(), model.unwrap_or_default());
                say("login", &format!("{name} · {}{good}{model}{marks}", login_info.describe()));
                match usage {
                    PlanUsage::None => {}
                    PlanUsage::Known(usage) => say("", &windows(usage, now)),
                    PlanUsage::Unknown(why) => say("", &format!("usage is not known: {why}")),
                }
            }
        }
    }
    drawn
}

/// `airlock status --json`: a line a login.
#[must_use]
pub fn status_json(all: &[LoginStatus], pays: &LoginChoice) -> String {
    let line = |standing: &LoginStatus| {
        let pays = is_payer(pays, &standing.name);
        let (login_info, usage) = match &standing.state {
            LoginState::Login { login_info, usage } => (login_info, usage),
            LoginState::Unusable(why) => {
                return object(&[
                    ("login", json!(standing.name)),
                    ("state", json!("unusable")),
                    ("why", json!(why)),
                    ("pays", json!(pays)),
                ]);
            }
        };
        let (usage, note) = match usage {
            PlanUsage::None => (None, None),
            PlanUsage::Known(usage) => (Some(usage_json(usage)), None),
            PlanUsage::Unknown(why) => (None, Some(why)),
        };
        object(&[
            ("login", json!(standing.name)),
            ("state", json!(if login_info.gone.is_some() { "gone" } else { "good" })),
            ("why", json!(login_info.gone.as_ref().map(|gone| &gone.reason))),
            ("pays", json!(pays)),
            ("kind", json!(if login_info.key.is_some() { "api_key" } else { "chatgpt" })),
            ("email", json!(login_info.email)),
            ("plan", json!(login_info.plan)),
            ("account", json!(login_info.account)),
            ("key", json!(login_info.key)),
            ("base", json!(login_info.base)),
            ("issuer", json!(login_info.issuer)),
            ("expires_at", json!(login_info.expires_at)),
            ("renews", json!(login_info.renews)),
            ("model", json!(login_info.model)),
            ("usage", json!(usage)),
            ("note", json!(note)),
        ])
    };
    all.iter().map(line).collect()
}

fn usage_json(usage: &Usage) -> serde_json::Value {
    let window = |window: &Window| {
        json!({
            "percent": window.percent,
            "seconds": window.seconds,
            "resets_at": window.resets_at,
        })
    };
    let windows: Vec<_> = usage.windows.iter().map(window).collect();
    json!({"plan": usage.plan, "allowed": usage.allowed, "windows": windows})
}

fn is_payer(pays: &LoginChoice, name: &str) -> bool {
    match pays {
        LoginChoice::Unsaid => name == "default",
        LoginChoice::Login(login) => login == name,
        LoginChoice::Env
        | LoginChoice::KeyOnStdin
        | LoginChoice::KeyFile(_)
        | LoginChoice::Replay => false,
    }
}

/// `5h window 4% · week 11%, new on 24 Nov 08:00 UTC`
fn windows(usage: &Usage, now: u64) -> String {
    let window = |window: &Window| {
        let name = match window.seconds {
            604_800 => "week".to_owned(),
            seconds if seconds >= 86_400 => format!("{}d window", seconds / 86_400),
            seconds => format!("{}h window", seconds.div_ceil(3_600)),
        };
        let opens = window.resets_at.and_then(|at| opens(at, now)).unwrap_or_default();
        format!("{name} {}%{opens}", window.percent)
    };
    let windows: Vec<String> = usage.windows.iter().map(window).collect();
    match (usage.allowed, windows.is_empty()) {
        (true, true) => "no usage windows".to_owned(),
        (true, false) => windows.join(" · "),
        (false, true) => "full".to_owned(),
        (false, false) => format!("full: {}", windows.join(" · ")),
    }
}

/// `, new at 14:20 UTC`; nothing for a time that is none or has passed.
fn opens(at: u64, now: u64) -> Option<String> {
    let wait = at.checked_sub(now).filter(|wait| *wait > 0)?;
    let at = Timestamp::from_second(i64::try_from(at).ok()?).ok()?;
    let clock = match wait < 86_400 {
        true => at.strftime("at %H:%M UTC"),
        false => at.strftime("on %-d %b %H:%M UTC"),
    };
    Some(format!(", new {clock}"))
}

/// `airlock secrets --json`: what a host puts into its container. Where the login has no account
/// there is no such variable.
#[must_use]
pub fn secrets(given: &ContainerSecrets) -> Zeroizing<String> {
    let mut parts = json!({ "CODEX_ACCESS_TOKEN": given.access_token.reveal() });
    if let Some(account) = &given.account_id {
        parts["CODEX_ACCOUNT_ID"] = json!(account);
    }
    Zeroizing::new(format!("{parts}\n"))
}

/// `airlock logout`: which of the two worked. `path` as it is shown.
#[must_use]
pub fn logged_out(done: &LoggedOut, path: &str, style: Style) -> String {
    let say =
        |label: &str, said: &str| labelled(label, &neutral::line(said), COLUMNS, style) + "\n";
    let revoked = match &done.revoked {
        Revocation::Done(issuer) => {
            say("revoked", &format!("by {issuer}: no copy of it works any more"))
        }
        Revocation::Manual => say("not revoked", "a key is revoked where it was made, by hand"),
        Revocation::NotNeeded => say("revoked", "it was of no use any more"),
        Revocation::Failed(why) => {
            let mend = "if a copy of it may exist, sign out of all sessions in ChatGPT's settings";
            say("not revoked", why) + &say("", mend)
        }
    };
    revoked + &say("deleted", path)
}

#[cfg(test)]
mod tests;
