//! A machine whose clock is ten hours off, either way, is signed in and stays so: nobody is
//! hammered, no dead token is used for long, and the clock is named.

use airlock_tests::issuer::Options;
use serde_json::{Value, json};

use crate::machine::{Machine, ended, held, unwrapped};

const TEN_HOURS: i64 = 36_000;

#[tokio::test]
async fn ten_hours_off_are_named() {
    // Ahead of ours is its clock, so that ours is behind.
    for (ahead, words) in [(TEN_HOURS, "10 h behind"), (-TEN_HOURS, "10 h ahead of")] {
        let machine = Machine::with(Options { ahead, ..Options::default() });
        let said = machine.signed_in(&["--device"]).await;
        let screen = unwrapped(&said.stderr);
        assert!(screen.contains(&format!("this machine's clock is {words}")), "{screen}");
        assert_eq!(machine.said(&["secrets", "--json"]).await.exit, Some(0), "{words}");
        assert_eq!(machine.refreshes(), 0, "{words}: a fresh token was renewed");
    }
    let machine = Machine::new();
    let said = machine.signed_in(&["--device"]).await;
    assert!(!said.stderr.contains("clock"), "{said:#?}");
}

/// A token of an hour, on a machine ten hours off: it is renewed when its hour is over by this
/// machine's own clock, once, and not before.
#[tokio::test]
async fn a_token_is_good_for_as_long_as_it_was_given() {
    for ahead in [TEN_HOURS, -TEN_HOURS] {
        let machine = Machine::with(Options { ahead, lifetime: 3600, ..Options::default() });
        machine.signed_in(&["--device"]).await;
        let good_for = async |seconds: &str| {
            let said = ended(machine.holder("default", &["--ahead", seconds])).await;
            held(&said)["generation"].clone()
        };
        for seconds in ["0", "1800", "3200"] {
            assert_eq!(good_for(seconds).await, json!(0), "{ahead} {seconds}");
        }
        assert_eq!(machine.refreshes(), 0, "{ahead}: hammered");
        for seconds in ["3400", "3500", "5000"] {
            assert_eq!(good_for(seconds).await, json!(1), "{ahead} {seconds}");
        }
        assert_eq!(machine.refreshes(), 1, "{ahead}: hammered");
        machine.assert_no_complaints();
    }
}

/// The clock jumps between two starts, as it does when a machine finds its time server.
#[tokio::test]
async fn a_jump_of_the_clock_costs_one_refresh_at_most() {
    let machine = Machine::new();
    machine.hold("me", 3600);
    for ahead in ["36000", "36000", "0", "0", "-36000", "0"] {
        let said = ended(machine.holder("me", &["--ahead", ahead])).await;
        assert_eq!(said.exit, Some(0), "{ahead}: {said:#?}");
    }
    assert_eq!(machine.refreshes(), 1);
    assert_ne!(machine.stored("me"), Value::Null);
}
