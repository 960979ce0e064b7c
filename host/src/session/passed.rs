//! The variables that commands get: none of them has the credential that is used.

use std::collections::BTreeMap;

use airlock_shared::outcome::{Fault, FaultKind};
use airlock_shared::scrub::Needles;
use airlock_shared::secret::Secret;

use super::SessionError;

/// Refuses a variable with one of the `secrets` in its value, as it is, in JSON or in base64.
///
/// THREAT: commands read their environment. `--env OPENAI_API_KEY` beside `--login env` gives them
/// the key that relay keeps out. Tried by
/// flow::left_out::a_variable_with_the_key_in_use_is_refused.
///
/// # Errors
/// A variable has a secret; the error names the first such variable.
pub(super) fn check(
    env: &BTreeMap<String, String>,
    secrets: &[Secret],
) -> Result<(), SessionError> {
    let needles = Needles::for_texts(secrets);
    let holds = |value: &str| needles.bytes(value.as_bytes().to_vec()) != value.as_bytes();
    match env.iter().find(|(_, value)| holds(value)) {
        None => Ok(()),
        Some((name, _)) => {
            let reason = format!(
                "--env {name}: its value has the key or token that is used, and commands could \
                 read it"
            );
            Err(SessionError {
                fault: Fault::new(FaultKind::Choice, reason),
                hint: Some(format!("airlock run … without --env {name} (in config.toml: `env`)")),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_variable_with_the_credential_is_refused() {
        let key = "sk-canary-0123456789";
        let refusal = |value: &str, key: &str| {
            let env = BTreeMap::from([
                ("A".to_owned(), "sk-other-0123456789".to_owned()),
                ("B".to_owned(), value.to_owned()),
            ]);
            let error = check(&env, &[Secret::new(key.to_owned())]).err();
            error.map(|error| (error.fault.kind, error.fault.message))
        };
        let reason =
            "--env B: its value has the key or token that is used, and commands could read it";
        let expected = Some((FaultKind::Choice, reason.to_owned()));
        for value in [key, &format!("Bearer {key}"), "c2stY2FuYXJ5LTAxMjM0NTY3ODk="] {
            assert_eq!(refusal(value, key), expected, "{value}");
        }
        for (value, key) in [("", key), ("sk-canary", key), ("http://ollama:11434", "ollama")] {
            assert_eq!(refusal(value, key), None, "{value}");
        }
    }
}
