//! A machine whose clock is ten hours ahead or behind can sign in and stays signed in. There are
//! few requests, no expired token is used for long, and the wrong clock is reported.

use airlock_tests::issuer::Options;
use serde_json::{Value, json};

use crate::machine::{Machine, holder_output, run_to_end, unwrapped};

const TEN_HOURS: i64 = 36_000;

#[tokio::test]
async fn a_clock_that_is_ten_hours_wrong_is_reported() {
    // If the issuer's clock is ahead, ours is behind.
    for (ahead, expected) in [(TEN_HOURS, "10 h behind"), (-TEN_HOURS, "10 h ahead of")] {
        let machine = Machine::with(Options { ahead, ..Options::default() });
        let output = machine.signed_in(&["--device"]).await;
        let screen = unwrapped(&output.stderr);
        assert!(screen.contains(&format!("this machine's clock is {expected}")), "{screen}");
        assert_eq!(machine.run(&["secrets", "--json"]).await.exit, Some(0), "{expected}");
        assert_eq!(machine.refreshes(), 0, "{expected}: a fresh token was renewed");
    }
    let machine = Machine::new();
    let output = machine.signed_in(&["--device"]).await;
    assert!(!output.stderr.contains("clock"), "{output:#?}");
}

/// A token with a lifetime of one hour, on a machine whose clock is ten hours wrong: it is renewed
/// once, after one hour by this machine's clock.
#[tokio::test]
async fn a_token_is_valid_for_its_lifetime() {
    for ahead in [TEN_HOURS, -TEN_HOURS] {
        let machine = Machine::with(Options { ahead, lifetime: 3600, ..Options::default() });
        machine.signed_in(&["--device"]).await;
        let generation_after = async |seconds: &str| {
            let output = run_to_end(machine.holder("default", &["--ahead", seconds])).await;
            holder_output(&output)["generation"].clone()
        };
        for seconds in ["0", "1800", "3200"] {
            assert_eq!(generation_after(seconds).await, json!(0), "{ahead} {seconds}");
        }
        assert_eq!(machine.refreshes(), 0, "{ahead}: too many requests");
        for seconds in ["3400", "3500", "5000"] {
            assert_eq!(generation_after(seconds).await, json!(1), "{ahead} {seconds}");
        }
        assert_eq!(machine.refreshes(), 1, "{ahead}: too many requests");
        machine.assert_no_complaints();
    }
}

/// The clock jumps between two starts, for example after it was set by a time server.
#[tokio::test]
async fn a_jump_of_the_clock_causes_one_refresh_at_most() {
    let machine = Machine::new();
    machine.grant_login("me", 3600);
    for ahead in ["36000", "36000", "0", "0", "-36000", "0"] {
        let output = run_to_end(machine.holder("me", &["--ahead", ahead])).await;
        assert_eq!(output.exit, Some(0), "{ahead}: {output:#?}");
    }
    assert_eq!(machine.refreshes(), 1);
    assert_ne!(machine.stored("me"), Value::Null);
}
