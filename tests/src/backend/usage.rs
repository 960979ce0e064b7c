//! What `GET …/wham/usage` answers (codex protocol, F).

use serde_json::{Value, json};

/// A plan of whose windows 4 and 11 of a hundred are used.
#[must_use]
pub fn plus() -> Value {
    let window = |percent: u32, seconds: u64| {
        json!({
            "used_percent": percent, "limit_window_seconds": seconds,
            "reset_after_seconds": seconds / 2, "reset_at": 1_795_000_000_u64 + seconds,
        })
    };
    json!({
        "plan_type": "plus",
        "rate_limit": {
            "allowed": true, "limit_reached": false,
            "primary_window": window(4, 18_000), "secondary_window": window(11, 604_800),
        },
        "credits": {"has_credits": false, "unlimited": false, "balance": null},
        "additional_rate_limits": null,
    })
}
