//! The output of `airlock status`, `airlock logout` and `airlock secrets`.

use jiff::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use super::object;
use crate::cli::config::LoginChoice;
use crate::cli::progress::labelled;
use crate::cli::style::Style;
use crate::sanitize;
use crate::session::sign_in_again;
use crate::setup::logout::{LoggedOut, Revocation};
use crate::setup::secrets::ContainerSecrets;
use crate::setup::status::{LoginState, LoginStatus, PlanUsage, Usage, Window};
use crate::text::COLUMNS;

/// `airlock status`, for a person. `login_choice`: the credential of `airlock run` without flags; `now`: Unix
/// seconds.
#[must_use]
pub fn status(all: &[LoginStatus], login_choice: &LoginChoice, now: u64, style: Style) -> String {
    let mut drawn = status_of(all, login_choice, now, style);
    let mut add = |label: &str, text: &str| {
        drawn.push_str(&labelled(label, &sanitize::line(text), COLUMNS, style));
        drawn.push('\n');
    };
    match login_choice {
        LoginChoice::KeyFile(file) => add("in use", &format!("the key in {}", file.display())),
        LoginChoice::Env => add("in use", "OPENAI_API_KEY, because of `login = \"env\"`"),
        login_choice if all.iter().any(|login| is_in_use(login_choice, &login.name)) => {}
        LoginChoice::Login(name) => {
            add("in use", &format!("none: the login {name} does not exist"));
            add("", &sign_in_again(name));
        }
        _ => match all.iter().find(|login| login.is_good()) {
            Some(good) => {
                add("in use", "none: there is no login `default`; to name another one:");
                add("", &format!("airlock run --login {} …", good.name));
            }
            None => {
                add("in use", "none: there is no login yet");
                add("", &sign_in_again("default"));
            }
        },
    }
    drawn
}

/// `airlock status --name NAME`: only the lines of these logins.
#[must_use]
pub fn status_of(
    all: &[LoginStatus],
    login_choice: &LoginChoice,
    now: u64,
    style: Style,
) -> String {
    let mut drawn = String::new();
    let mut add = |label: &str, text: &str| {
        drawn.push_str(&labelled(label, &sanitize::line(text), COLUMNS, style));
        drawn.push('\n');
    };
    for login in all {
        let name = &login.name;
        let marks = if is_in_use(login_choice, name) { " · in use" } else { "" };
        match &login.state {
            LoginState::Unusable(why) => {
                add("login", &format!("{name} · cannot be used: {why}{marks}"));
                add("", &sign_in_again(name));
            }
            LoginState::Login { login_info, usage } => {
                if let Some(gone) = &login_info.gone {
                    add(
                        "login",
                        &format!("{name} · {} · {}{marks}", login_info.describe(), gone.reason),
                    );
                    add("", &sign_in_again(name));
                    continue;
                }
                let good = login_info.good_for().map(|good| format!(" · {good}"));
                let model = login_info.model.as_ref().map(|model| format!(" · model {model}"));
                let (good, model) = (good.unwrap_or_default(), model.unwrap_or_default());
                add("login", &format!("{name} · {}{good}{model}{marks}", login_info.describe()));
                match usage {
                    PlanUsage::None => {}
                    PlanUsage::Known(usage) => add("", &windows(usage, now)),
                    PlanUsage::Unknown(why) => add("", &format!("the usage is not known: {why}")),
                }
            }
        }
    }
    drawn
}

/// `airlock status --json`: one line for each login.
#[must_use]
pub fn status_json(all: &[LoginStatus], login_choice: &LoginChoice) -> String {
    let line = |login: &LoginStatus| {
        let in_use = is_in_use(login_choice, &login.name);
        let (login_info, usage) = match &login.state {
            LoginState::Login { login_info, usage } => (login_info, usage),
            LoginState::Unusable(why) => {
                return object(&[
                    ("login", json!(login.name)),
                    ("state", json!("unusable")),
                    ("why", json!(why)),
                    ("pays", json!(in_use)),
                ]);
            }
        };
        let (usage, note) = match usage {
            PlanUsage::None => (None, None),
            PlanUsage::Known(usage) => (Some(usage_json(usage)), None),
            PlanUsage::Unknown(why) => (None, Some(why)),
        };
        object(&[
            ("login", json!(login.name)),
            ("state", json!(if login_info.gone.is_some() { "gone" } else { "good" })),
            ("why", json!(login_info.gone.as_ref().map(|gone| &gone.reason))),
            ("pays", json!(in_use)),
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

fn is_in_use(login_choice: &LoginChoice, name: &str) -> bool {
    match login_choice {
        LoginChoice::Default => name == "default",
        LoginChoice::Login(login) => login == name,
        LoginChoice::Env
        | LoginChoice::KeyOnStdin
        | LoginChoice::KeyFile(_)
        | LoginChoice::Replay => false,
    }
}

/// `5h window 4% · week 11%, resets on 24 Nov 08:00 UTC`
fn windows(usage: &Usage, now: u64) -> String {
    let window = |window: &Window| {
        let name = match window.seconds {
            604_800 => "week".to_owned(),
            seconds if seconds >= 86_400 => format!("{}d window", seconds / 86_400),
            seconds => format!("{}h window", seconds.div_ceil(3_600)),
        };
        let resets = window.resets_at.and_then(|at| resets(at, now)).unwrap_or_default();
        format!("{name} {}%{resets}", window.percent)
    };
    let windows: Vec<String> = usage.windows.iter().map(window).collect();
    match (usage.allowed, windows.is_empty()) {
        (true, true) => "no usage windows".to_owned(),
        (true, false) => windows.join(" · "),
        (false, true) => "full".to_owned(),
        (false, false) => format!("full: {}", windows.join(" · ")),
    }
}

/// `, resets at 14:20 UTC`; `None` if the time is invalid or has passed.
fn resets(at: u64, now: u64) -> Option<String> {
    let wait = at.checked_sub(now).filter(|wait| *wait > 0)?;
    let at = Timestamp::from_second(i64::try_from(at).ok()?).ok()?;
    let clock = match wait < 86_400 {
        true => at.strftime("at %H:%M UTC"),
        false => at.strftime("on %-d %b %H:%M UTC"),
    };
    Some(format!(", resets {clock}"))
}

/// `airlock secrets --json`: variables for a container. A login without an account has no
/// `CODEX_ACCOUNT_ID`.
#[must_use]
pub fn secrets(given: &ContainerSecrets) -> Zeroizing<String> {
    let mut parts = json!({ "CODEX_ACCESS_TOKEN": given.access_token.reveal() });
    if let Some(account) = &given.account_id {
        parts["CODEX_ACCOUNT_ID"] = json!(account);
    }
    Zeroizing::new(format!("{parts}\n"))
}

/// `airlock logout`: says which of the two steps worked. `path`: as shown.
#[must_use]
pub fn logged_out(done: &LoggedOut, path: &str, style: Style) -> String {
    let line =
        |label: &str, text: &str| labelled(label, &sanitize::line(text), COLUMNS, style) + "\n";
    let revoked = match &done.revoked {
        Revocation::Done(issuer) => {
            line("revoked", &format!("by {issuer}: copies of it do not work any more either"))
        }
        Revocation::Manual => {
            line("not revoked", "airlock cannot revoke a key: revoke it where you made it")
        }
        Revocation::NotNeeded => line("revoked", "it was not valid any more"),
        Revocation::Failed(why) => {
            let advice = "if a copy of it may exist, log out of all devices in ChatGPT's settings";
            line("not revoked", why) + &line("", advice)
        }
    };
    revoked + &line("deleted", path)
}

#[cfg(test)]
mod tests;
