//! A process that holds a login and wants its token now, as a run does; it can be made to die by
//! SIGKILL at any step of a refresh, and to believe in another time.
//!
//! ```console
//! $ login-holder FOLDER NAME [--die-at STEP] [--ahead SECONDS] [--refused GENERATION]
//! ```
//!
//! It prints one line of JSON: the generation and a digest of the bearer it would use, or the error.
//! The steps are the `step` of the events that the product says of itself under the target
//! `airlock_host::auth::refresh`; nothing else of it is touched.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use airlock_host::auth::refresh::{RefreshCause, fresh_login};
use airlock_host::auth::store::LoginStore;
use airlock_host::auth::{AuthError, Clock};
use airlock_tests::clock;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(name)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let (mut ahead, mut cause, mut die_at) = (0_i64, RefreshCause::Early, String::new());
    while let (Some(flag), Some(value)) = (arguments.next(), arguments.next()) {
        match (flag.as_str(), value.parse::<i64>()) {
            ("--die-at", _) => die_at = value,
            ("--ahead", Ok(seconds)) => ahead = seconds,
            ("--refused", Ok(generation)) => {
                cause = RefreshCause::Refused(generation.unsigned_abs())
            }
            _ => return ExitCode::from(2),
        }
    }
    if tracing::subscriber::set_global_default(Steps { die_at }).is_err() {
        return ExitCode::from(2);
    }
    let time: Clock = Arc::new(move || clock::unix().saturating_add_signed(ahead));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::from(2) };
    let store = LoginStore::new(folder.as_ref());
    let held = runtime.block_on(fresh_login(&store, &name, cause, None, &time));
    let line = match &held {
        Ok(login) => {
            let digest = Sha256::digest(login.bearer.reveal().as_bytes());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"generation": login.generation, "bearer": digest})
        }
        Err(error) => json!({"error": named(error), "said": error.to_string()}),
    };
    // Whoever reads may have gone; there is nobody to tell.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
    if held.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn named(error: &AuthError) -> String {
    match error {
        AuthError::Ended { why, .. } => format!("ended: {why:?}").to_lowercase(),
        AuthError::Unreachable { .. } => "unreachable".to_owned(),
        AuthError::Store { .. } => "store".to_owned(),
        AuthError::Missing { .. } => "missing".to_owned(),
        AuthError::Unsafe { .. } => "unsafe".to_owned(),
        AuthError::OtherAccount { .. } => "other_account".to_owned(),
        AuthError::Malformed { .. } | AuthError::OtherBase { .. } => "malformed".to_owned(),
    }
}

/// Hears the steps of a refresh, and dies at one.
struct Steps {
    die_at: String,
}

impl Subscriber for Steps {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "airlock_host::auth::refresh"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut step = Step(String::new());
        event.record(&mut step);
        if !self.die_at.is_empty() && step.0 == self.die_at {
            // As a machine that loses power: nothing is flushed, nothing dropped, nothing closed.
            let _dead = kill_process(getpid(), Signal::KILL);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The value of the field `step`.
struct Step(String);

impl Visit for Step {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "step" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "step" {
            self.0 = format!("{value:?}").trim_matches('"').to_owned();
        }
    }
}
