//! How much of its usage windows an account has used (codex protocol, F), for people. The endpoint is
//! not documented and may change: what is missing in it is left out.

use std::time::Duration;

use airlock_shared::base::Base;
use airlock_shared::job::Backend;
use airlock_shared::outcome::Fault;
use serde_json::Value;

use super::upstream;
use crate::auth::Signer;

/// The longest name of a plan that is shown.
const PLAN_BYTES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub plan: Option<String>,
    /// Whether the backend would take a request now.
    pub allowed: bool,
    /// The shortest first; usually two.
    pub windows: Vec<Window>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub percent: u64,
    /// Its length.
    pub seconds: u64,
    /// Unix seconds.
    pub resets_at: Option<u64>,
}

/// Asks the backend. Only a ChatGPT login has windows.
///
/// # Errors
/// `SignIn` if the credential is refused, else `Backend` with the reason.
pub async fn usage(
    client: &reqwest::Client,
    signer: &dyn Signer,
    base: &Base,
    backend: &Backend,
    patience: Duration,
) -> Result<Usage, Fault> {
    let answer = upstream::get(client, signer, base, backend, url(base), patience).await?;
    Ok(parse(&answer))
}

/// The usage endpoint, beside the model endpoint, on the same origin.
fn url(base: &Base) -> String {
    match base.to_string().strip_suffix("/backend-api/codex") {
        Some(before) => format!("{before}/backend-api/wham/usage"),
        None => format!("{}/api/codex/usage", base.origin()),
    }
}

fn parse(answer: &Value) -> Usage {
    let limit = &answer["rate_limit"];
    let window = |name: &str| {
        let window = limit.get(name)?;
        Some(Window {
            percent: window.get("used_percent").and_then(Value::as_f64).map(percent)?,
            seconds: window.get("limit_window_seconds").and_then(Value::as_u64)?,
            resets_at: window.get("reset_at").and_then(Value::as_u64),
        })
    };
    let mut windows: Vec<Window> =
        ["primary_window", "secondary_window"].into_iter().filter_map(window).collect();
    windows.sort_by_key(|window| window.seconds);
    let plan = answer["plan_type"].as_str().filter(|plan| plan.len() <= PLAN_BYTES);
    let reached = limit["limit_reached"].as_bool() == Some(true);
    Usage {
        plan: plan.map(str::to_owned),
        allowed: limit["allowed"].as_bool() != Some(false) && !reached,
        windows,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is clamped to what a percentage may be"
)]
fn percent(used: f64) -> u64 {
    used.clamp(0.0, 1_000.0).round() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_usage_endpoint_is_beside_the_models() {
        let cases = [
            ("https://chatgpt.com/backend-api/codex", "https://chatgpt.com/backend-api/wham/usage"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9/backend-api/wham/usage"),
            ("http://127.0.0.1:9/x", "http://127.0.0.1:9/api/codex/usage"),
        ];
        for (base, expected) in cases {
            assert_eq!(url(&Base::parse(base).expect("a base")), expected);
        }
    }

    #[test]
    fn windows_are_read_and_what_is_missing_is_left_out() {
        let answer = json!({"plan_type": "plus", "rate_limit": {
            "allowed": true, "limit_reached": false,
            "secondary_window": {"used_percent": 31, "limit_window_seconds": 604_800,
                "reset_after_seconds": 60, "reset_at": 1_795_264_800},
            "primary_window": {"used_percent": 3.6, "limit_window_seconds": 18_000}}});
        let expected = Usage {
            plan: Some("plus".into()),
            allowed: true,
            windows: vec![
                Window { percent: 4, seconds: 18_000, resets_at: None },
                Window { percent: 31, seconds: 604_800, resets_at: Some(1_795_264_800) },
            ],
        };
        assert_eq!(parse(&answer), expected);
        let reached = json!({"rate_limit": {"allowed": true, "limit_reached": true,
            "primary_window": null, "secondary_window": {"used_percent": "x"}}});
        assert_eq!(parse(&reached), Usage { plan: None, allowed: false, windows: vec![] });
        for junk in [json!(null), json!([1]), json!("x"), json!({"rate_limit": 7})] {
            assert!(parse(&junk).windows.is_empty());
        }
    }
}
