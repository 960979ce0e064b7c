//! Which model a session uses: the one that was named, else the one stored with the login, else the
//! backend's default. If there is none, a person is asked, if there is one.

use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::model::{Catalogue, ChoiceError, Model, list_names};
use airlock_shared::outcome::{Fault, FaultKind};
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::SessionError;
use super::settings::ModelSelection;

/// The command that names a model.
const NAME_ONE: &str = "airlock run -m NAME …";

/// A person who can be asked.
pub trait Person: Send {
    /// The name of a model; `None`: no usable answer.
    fn choose<'a>(&'a mut self, question: &'a Question) -> BoxFuture<'a, Option<String>>;
}

/// A question for a person: which of these models?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub why: AskReason,
    /// The models' names, best first if the backend ranks them.
    pub names: Vec<String>,
}

/// Why a person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskReason {
    /// No model was named or stored, and the backend has no default.
    NoDefault,
    /// The person wants to choose (`-m ask`).
    Requested,
    /// The backend does not list the model that is stored with the login.
    NotListed(String),
}

impl Question {
    /// The error if there is no answer. `was_asked`: a person saw the question.
    pub(super) fn into_error(self, was_asked: bool) -> SessionError {
        let names = list_names(&self.names);
        let message = match self.why {
            _ if was_asked => format!("no model was chosen: the backend lists {names}"),
            AskReason::NoDefault => ChoiceError::NoDefault(self.names).to_string(),
            AskReason::Requested => format!(
                "a model can only be chosen at a terminal, without --json: the backend lists {names}"
            ),
            AskReason::NotListed(slug) => format!(
                "{slug} is stored with the login, but the backend does not list it any more: it \
                 lists {names}"
            ),
        };
        SessionError {
            fault: Fault::new(FaultKind::Choice, message),
            hint: Some(NAME_ONE.to_owned()),
        }
    }
}

/// A model, or the question that a person must answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    Model(Model),
    Ask(Question),
}

/// How long the catalogue may take: less if a model is known, because it is not needed then.
pub(super) fn catalogue_timeout(selection: &ModelSelection, known: Option<&str>) -> Duration {
    let known = !selection.ask && (selection.slug.is_some() || known.is_some());
    let seconds = if known { limits::CATALOGUE_SECONDS_NAMED } else { limits::CATALOGUE_SECONDS };
    Duration::from_secs(seconds)
}

/// The catalogue for the sandbox: an empty one if the backend has none and a model is known. A
/// sign-in fault stays an error.
pub(super) fn catalogue(
    answer: Result<Value, Fault>,
    selection: &ModelSelection,
    known: Option<&str>,
) -> Result<Value, Fault> {
    let known = !selection.ask && (selection.slug.is_some() || known.is_some());
    match answer {
        Err(fault) if fault.kind != FaultKind::SignIn && known => {
            tracing::info!(%fault, "no catalogue; the known model is used");
            Ok(serde_json::json!({"models": []}))
        }
        answer => answer,
    }
}

/// The model that was named, else the stored one, else the backend's default.
pub(super) fn resolve(
    catalogue: &Value,
    selection: &ModelSelection,
    stored: Option<&str>,
) -> Result<Resolved, SessionError> {
    let catalogue = Catalogue::parse(catalogue);
    let ask = |why| Ok(Resolved::Ask(Question { why, names: catalogue.names() }));
    if selection.ask {
        return ask(AskReason::Requested);
    }
    let stored = stored.filter(|_| selection.slug.is_none());
    // An empty list says nothing about the stored model.
    if let Some(stored) = stored.filter(|stored| !catalogue.is_empty() && !catalogue.has(stored)) {
        return ask(AskReason::NotListed(stored.to_owned()));
    }
    match chosen(&catalogue, selection, selection.slug.as_deref().or(stored)) {
        Ok(model) => Ok(Resolved::Model(model)),
        Err(ChoiceError::NoDefault(_)) => ask(AskReason::NoDefault),
        Err(error) => Err(unusable(&error)),
    }
}

/// The model that a person chose.
pub(super) fn resolve_named(
    catalogue: &Value,
    selection: &ModelSelection,
    slug: &str,
) -> Result<Model, SessionError> {
    let catalogue = Catalogue::parse(catalogue);
    chosen(&catalogue, selection, Some(slug)).map_err(|error| unusable(&error))
}

/// With the effort, summary and verbosity that the person chose.
fn chosen(
    catalogue: &Catalogue,
    selection: &ModelSelection,
    slug: Option<&str>,
) -> Result<Model, ChoiceError> {
    let mut model = catalogue.choose(slug, selection.effort.as_deref())?;
    match selection.summary.as_deref() {
        Some("none") => model.summary = None,
        Some(summary) => model.summary = Some(summary.to_owned()),
        None => {}
    }
    if let Some(verbosity) = &selection.verbosity {
        model.verbosity = Some(verbosity.clone());
    }
    Ok(model)
}

fn unusable(error: &ChoiceError) -> SessionError {
    let hint = match error {
        ChoiceError::NoDefault(_) | ChoiceError::Slug(_) => NAME_ONE.to_owned(),
        ChoiceError::Effort { known, .. } => {
            // The backend's word may not be safe for a shell.
            let is_plain = |effort: &&String| effort.bytes().all(|it| it.is_ascii_alphanumeric());
            let effort = known.iter().find(is_plain).map_or("EFFORT", String::as_str);
            format!("airlock run --effort {effort} …")
        }
    };
    SessionError { fault: Fault::new(FaultKind::Choice, error.to_string()), hint: Some(hint) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exit::Exit;

    fn plain(names: &[&str]) -> Value {
        let ids: Vec<Value> = names.iter().map(|id| json!({"id": id})).collect();
        json!({"object": "list", "data": ids})
    }

    fn selection(slug: Option<&str>) -> ModelSelection {
        ModelSelection { slug: slug.map(str::to_owned), ..ModelSelection::default() }
    }

    /// The model's name, or why a person is asked.
    fn resolved(
        catalogue: &Value,
        selection: &ModelSelection,
        stored: Option<&str>,
    ) -> Result<String, AskReason> {
        match resolve(catalogue, selection, stored).expect("a choice") {
            Resolved::Model(model) => Ok(model.slug),
            Resolved::Ask(question) => {
                assert_eq!(question.names, Catalogue::parse(catalogue).names());
                Err(question.why)
            }
        }
    }

    #[test]
    fn a_named_model_wins_over_the_saved_one_and_that_over_the_default() {
        let two = plain(&["dall-e-2", "gpt-5.5"]);
        let ranked = json!({"models": [
            {"slug": "a", "visibility": "list", "priority": 1},
            {"slug": "b", "visibility": "list", "priority": 2}]});
        let ok = |slug: &str| Ok(slug.to_owned());
        assert_eq!(resolved(&two, &selection(None), None), Err(AskReason::NoDefault));
        assert_eq!(resolved(&two, &selection(None), Some("gpt-5.5")), ok("gpt-5.5"));
        assert_eq!(resolved(&two, &selection(Some("new")), Some("gpt-5.5")), ok("new"));
        assert_eq!(resolved(&two, &selection(Some("new")), Some("gone")), ok("new"));
        assert_eq!(
            resolved(&two, &selection(None), Some("gone")),
            Err(AskReason::NotListed("gone".into()))
        );
        assert_eq!(resolved(&ranked, &selection(None), None), ok("a"));
        assert_eq!(resolved(&ranked, &selection(None), Some("b")), ok("b"));
        assert_eq!(
            resolved(&json!({"models": []}), &selection(None), Some("stored")),
            ok("stored")
        );
        assert_eq!(resolved(&plain(&["llama3:8b"]), &selection(None), None), ok("llama3:8b"));
        let ask = ModelSelection { ask: true, ..ModelSelection::default() };
        for (catalogue, stored) in [(&two, None), (&two, Some("gpt-5.5")), (&ranked, None)] {
            assert_eq!(resolved(catalogue, &ask, stored), Err(AskReason::Requested));
        }
    }

    #[test]
    fn no_catalogue_is_needed_if_a_model_is_known() {
        let away = |kind| Err(Fault::new(kind, "away"));
        let ask = ModelSelection { ask: true, ..ModelSelection::default() };
        let named = limits::CATALOGUE_SECONDS_NAMED;
        let usual = limits::CATALOGUE_SECONDS;
        let cases = [
            (selection(Some("a")), None, true),
            (selection(None), Some("a"), true),
            (selection(None), None, false),
            (ask, Some("a"), false),
        ];
        for (selection, stored, is_known) in cases {
            let found = catalogue(away(FaultKind::Backend), &selection, stored);
            assert_eq!(found.is_ok(), is_known, "{selection:?} {stored:?}");
            assert!(catalogue(away(FaultKind::SignIn), &selection, stored).is_err());
            let seconds = if is_known { named } else { usual };
            assert_eq!(catalogue_timeout(&selection, stored), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn an_error_for_a_missing_model_lists_the_models() {
        let message = |why: AskReason, was_asked| {
            let names = vec!["dall-e-2".to_owned(), "gpt-5.5".to_owned()];
            refused(Question { why, names }.into_error(was_asked))
        };
        assert_eq!(
            message(AskReason::NoDefault, false),
            "no model was named, and the backend has no default: it lists dall-e-2, \
             gpt-5.5 airlock run -m NAME …"
        );
        assert_eq!(
            message(AskReason::Requested, false),
            "a model can only be chosen at a terminal, without --json: the backend lists \
             dall-e-2, gpt-5.5 airlock run -m NAME …"
        );
        assert_eq!(
            message(AskReason::NotListed("old".to_owned()), false),
            "old is stored with the login, but the backend does not list it any more: it \
             lists dall-e-2, gpt-5.5 airlock run -m NAME …"
        );
        assert_eq!(
            message(AskReason::NoDefault, true),
            "no model was chosen: the backend lists dall-e-2, gpt-5.5 airlock run -m NAME …"
        );
    }

    #[test]
    fn an_error_for_an_unknown_effort_lists_the_efforts() {
        let chosen = |levels: &[&str], effort: &str| {
            let levels: Vec<Value> = levels.iter().map(|level| json!({"effort": level})).collect();
            let entry = json!({"slug": "gpt-5.5", "supported_reasoning_levels": levels});
            let selection =
                ModelSelection { effort: Some(effort.to_owned()), ..ModelSelection::default() };
            resolve_named(&json!({"models": [entry]}), &selection, "gpt-5.5")
        };
        let why = |levels, effort| refused(chosen(levels, effort).expect_err("no choice"));
        assert_eq!(
            why(&["low", "medium"], "much"),
            "gpt-5.5 does not support effort `much`; it supports low, medium airlock run --effort low …"
        );
        assert!(chosen(&["$(x)"], "much").is_ok(), "a name that is none says nothing");
        assert_eq!(chosen(&["low"], "low").expect("taken").effort.as_deref(), Some("low"));
        assert!(chosen(&[], "much").is_ok(), "nothing is known of its efforts");
    }

    /// The message and the command of an error with exit code 2.
    #[track_caller]
    fn refused(error: SessionError) -> String {
        assert_eq!(Exit::of_fault(error.fault.kind), Exit::Usage);
        format!("{} {}", error.fault.message, error.hint.expect("a command"))
    }
}
