//! Removes the credential from what passes the gate: from what the sandbox says, what is sent to the
//! model, and what the backend answers. In relay the sandbox does not know the credential, so only the
//! host can do this. Outputs of tools are cut before the host sees them, so parts of a credential
//! beside a cut are removed too.
//!
//! Every request contains the whole conversation. An item that was searched and found clean is
//! recognised by its place and a keyed hash, and is not searched again. An item with a secret is
//! searched each time, and becomes the same bytes each time, as the backend's cache needs.

use std::hash::{BuildHasher as _, RandomState};

use airlock_shared::event::Event;
use airlock_shared::outcome::Outcome;
use airlock_shared::scrub::Needles;
use airlock_shared::secret::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Replaces an event that cannot be parsed after the credential is removed.
pub(crate) const NOT_SHOWN: &str = "an event that contained a credential is not shown";

/// The current secrets in the form that is searched for, made again only if they change.
#[derive(Default)]
pub(crate) struct Sought {
    secrets: Vec<Secret>,
    texts: Needles,
}

#[derive(Default)]
pub(super) struct Scrub {
    sought: Sought,
    keyed: RandomState,
    /// Hashes of the items of the last request's input in which nothing was found, by place.
    clean: Vec<Option<u64>>,
    /// How many items were searched.
    #[cfg(test)]
    searched: usize,
}

impl Sought {
    /// What is searched for, given the current secrets.
    pub(crate) fn texts(&mut self, secrets: Vec<Secret>) -> Needles {
        self.learn(secrets);
        self.texts.clone()
    }

    /// Whether the secrets have changed.
    fn learn(&mut self, secrets: Vec<Secret>) -> bool {
        let is_same = |(a, b): (&Secret, &Secret)| a.matches(b.reveal().as_bytes());
        let is_same =
            self.secrets.len() == secrets.len() && self.secrets.iter().zip(&secrets).all(is_same);
        if !is_same {
            self.texts = Needles::for_texts(&secrets);
            self.secrets = secrets;
        }
        !is_same
    }
}

impl Scrub {
    pub(super) fn texts(&mut self, secrets: Vec<Secret>) -> Needles {
        if self.sought.learn(secrets) {
            self.clean.clear();
        }
        self.sought.texts.clone()
    }

    /// Scrubs a request that the policy made.
    ///
    /// THREAT: a command prints a key file of the workspace, and its output goes to the model, into
    /// recordings and into every later request. Tried by
    /// `gate::credential::what_a_command_prints_of_the_credential_is_not_sent_to_the_model`.
    pub(super) fn request(&mut self, secrets: Vec<Secret>, body: &mut Value) {
        let needles = self.texts(secrets);
        let Some(body) = body.as_object_mut().filter(|_| !needles.is_empty()) else { return };
        for (name, value) in body {
            match (name.as_str(), value) {
                ("input", Value::Array(items)) => {
                    self.clean.resize(items.len(), None);
                    for (item, clean) in items.iter_mut().zip(&mut self.clean) {
                        let hash = self.keyed.hash_one(&*item);
                        if *clean == Some(hash) {
                            continue;
                        }
                        #[cfg(test)]
                        {
                            self.searched += 1;
                        }
                        *clean = (!needles.value(item)).then_some(hash);
                    }
                }
                (_, value) => drop(needles.value(value)),
            }
        }
    }
}

/// A value without secrets, in whatever field they are.
///
/// # Errors
/// If what is left cannot be parsed.
pub(crate) fn clean<T: Serialize + DeserializeOwned>(
    needles: &Needles,
    whole: T,
) -> serde_json::Result<T> {
    if needles.is_empty() {
        return Ok(whole);
    }
    let mut value = serde_json::to_value(&whole)?;
    match needles.value(&mut value) {
        true => serde_json::from_value(value),
        false => Ok(whole),
    }
}

/// An event without secrets.
///
/// THREAT: a command prints the credential, and its output is shown, stored, and printed with `--json`.
/// Tried by `gate::credential::no_event_holds_the_credential`.
pub(super) fn event(needles: &Needles, event: Event) -> Event {
    let note = || Event::Note { text: NOT_SHOWN.to_owned() };
    clean(needles, event).unwrap_or_else(|_| note())
}

/// A backend's answer as it looks when it comes from the sandbox.
pub(super) fn answer(needles: &Needles, answer: &str) -> String {
    let outcome = Outcome::Finished { answer: answer.to_owned() };
    match event(needles, Event::Outcome { outcome }) {
        Event::Outcome { outcome: Outcome::Finished { answer } } => answer,
        _ => answer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use airlock_shared::item;
    use serde_json::json;

    use super::*;

    const KEY: &str = "sk-canary-0123456789";

    fn secrets() -> Vec<Secret> {
        vec![Secret::new(KEY.to_owned())]
    }

    fn output(n: usize, text: &str) -> Value {
        json!({"type": "function_call_output", "call_id": format!("c{n}"), "output": text})
    }

    #[test]
    fn an_output_is_searched_once_however_often_it_is_sent() {
        let mut scrub = Scrub::default();
        let mut input = vec![item::message("user", "hi")];
        for round in 1..=500 {
            input.push(output(round, "ordinary"));
            let mut body = json!({"instructions": "i", "input": input.clone()});
            scrub.request(secrets(), &mut body);
            assert_eq!(body["input"], json!(input));
            assert_eq!(scrub.searched, round + 1);
        }
        // An item in another place counts as new, and with a new secret every item does.
        input[3] = output(3, KEY);
        let mut body = json!({"input": input.clone()});
        scrub.request(secrets(), &mut body);
        assert_eq!(body["input"][3]["output"], "[secret removed]");
        assert_eq!(scrub.searched, 502);
        let renewed = [secrets(), vec![Secret::new("ordinary-but-renewed".into())]].concat();
        scrub.request(renewed, &mut json!({"input": input}));
        assert_eq!(scrub.searched, 502 + 501);
    }

    #[test]
    fn a_secret_gives_the_same_bytes_each_time() {
        let mut scrub = Scrub::default();
        let sent = json!({"input": [output(1, &format!("is {KEY}!")), output(2, "x")]});
        let mut twice = [sent.clone(), sent];
        twice.iter_mut().for_each(|body| scrub.request(secrets(), body));
        assert_eq!(twice[0], twice[1]);
        assert_eq!(twice[0]["input"][0]["output"], "is [secret removed]!");
    }

    #[test]
    fn no_escape_hides_a_secret_in_an_event() {
        let needles = Needles::for_texts(&secrets());
        let escaped = r#"{"event":"note","text":"\u0073k-canary-012345678\u0039 was read"}"#;
        let heard: Event = serde_json::from_str(escaped).expect("an event");
        let clean = event(&needles, heard);
        assert_eq!(clean, Event::Note { text: "[secret removed] was read".into() });
    }
}
