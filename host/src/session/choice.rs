//! Which model a run uses: the one that was named, the one that is kept with the login, or the
//! backend's default. Where that gives none a person is asked, if one is there.

use std::time::Duration;

use airlock_shared::limits;
use airlock_shared::model::{Catalogue, ChoiceError, Model, list_names};
use airlock_shared::outcome::{Fault, FaultKind};
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::SessionError;
use super::settings::ModelSelection;

/// The command of one who must name a model.
const NAME_ONE: &str = "airlock run -m NAME …";

/// A person who can be asked.
pub trait Person: Send {
    /// The name of a model; `None`: no answer that can be used.
    fn choose<'a>(&'a mut self, question: &'a Question) -> BoxFuture<'a, Option<String>>;
}

/// Which of these models?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub why: Unsettled,
    /// Names that can be asked for, best first where the backend ranks them.
    pub names: Vec<String>,
}

/// Why a run has no model yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// None was named, none is kept, and the backend has no default.
    NoDefault,
    /// The person wants to choose, whatever is kept.
    Wanted,
    /// The backend does not list this one any more, which is kept with the login.
    Gone(String),
}

impl Question {
    /// How a run ends whose question has no answer. `was_asked`: a person saw it.
    pub(super) fn unanswered(self, was_asked: bool) -> SessionError {
        let names = list_names(&self.names);
        let message = match self.why {
            _ if was_asked => format!("no model was chosen: the backend lists {names}"),
            Unsettled::NoDefault => ChoiceError::NoDefault(self.names).to_string(),
            Unsettled::Wanted => format!(
                "a model can only be chosen at a terminal, without --json: the backend lists {names}"
            ),
            Unsettled::Gone(slug) => format!(
                "{slug} is kept with the login, and the backend does not list it any more: it \
                 lists {names}"
            ),
        };
        SessionError {
            fault: Fault::new(FaultKind::Choice, message),
            hint: Some(NAME_ONE.to_owned()),
        }
    }
}

/// A model, or what has to be asked for one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Model(Model),
    Asks(Question),
}

/// How long the catalogue may take: where a model is known it can be done without.
pub(super) fn patience(wish: &ModelSelection, known: Option<&str>) -> Duration {
    let known = !wish.ask && (wish.slug.is_some() || known.is_some());
    let seconds = if known { limits::CATALOGUE_SECONDS_NAMED } else { limits::CATALOGUE_SECONDS };
    Duration::from_secs(seconds)
}

/// The catalogue as the sandbox may see it. A base without one serves a model that is known; a login
/// that is gone serves none.
pub(super) fn catalogue(
    answer: Result<Value, Fault>,
    wish: &ModelSelection,
    known: Option<&str>,
) -> Result<Value, Fault> {
    let known = !wish.ask && (wish.slug.is_some() || known.is_some());
    match answer {
        Err(fault) if fault.kind != FaultKind::SignIn && known => {
            tracing::info!(%fault, "no catalogue; the model that is known is used");
            Ok(serde_json::json!({"models": []}))
        }
        answer => answer,
    }
}

/// By what was named, else by what is kept, else by the backend's default.
pub(super) fn settle(
    catalogue: &Value,
    wish: &ModelSelection,
    kept: Option<&str>,
) -> Result<Settled, SessionError> {
    let catalogue = Catalogue::parse(catalogue);
    let asks = |why| Ok(Settled::Asks(Question { why, names: catalogue.names() }));
    if wish.ask {
        return asks(Unsettled::Wanted);
    }
    let kept = kept.filter(|_| wish.slug.is_none());
    // An empty list says nothing about any model.
    if let Some(kept) = kept.filter(|kept| !catalogue.is_empty() && !catalogue.has(kept)) {
        return asks(Unsettled::Gone(kept.to_owned()));
    }
    match chosen(&catalogue, wish, wish.slug.as_deref().or(kept)) {
        Ok(model) => Ok(Settled::Model(model)),
        Err(ChoiceError::NoDefault(_)) => asks(Unsettled::NoDefault),
        Err(error) => Err(unusable(&error)),
    }
}

/// The model that a person chose.
pub(super) fn named(
    catalogue: &Value,
    wish: &ModelSelection,
    slug: &str,
) -> Result<Model, SessionError> {
    let catalogue = Catalogue::parse(catalogue);
    chosen(&catalogue, wish, Some(slug)).map_err(|error| unusable(&error))
}

/// With what the person wants of it beside.
fn chosen(
    catalogue: &Catalogue,
    wish: &ModelSelection,
    slug: Option<&str>,
) -> Result<Model, ChoiceError> {
    let mut model = catalogue.choose(slug, wish.effort.as_deref())?;
    match wish.summary.as_deref() {
        Some("none") => model.summary = None,
        Some(summary) => model.summary = Some(summary.to_owned()),
        None => {}
    }
    if let Some(verbosity) = &wish.verbosity {
        model.verbosity = Some(verbosity.clone());
    }
    Ok(model)
}

fn unusable(error: &ChoiceError) -> SessionError {
    let hint = match error {
        ChoiceError::NoDefault(_) | ChoiceError::Slug(_) => NAME_ONE.to_owned(),
        ChoiceError::Effort { known, .. } => {
            // The backend's word, which may not be one for a shell.
            let is_word = |effort: &&String| effort.bytes().all(|it| it.is_ascii_alphanumeric());
            let effort = known.iter().find(is_word).map_or("EFFORT", String::as_str);
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

    fn wish(slug: Option<&str>) -> ModelSelection {
        ModelSelection { slug: slug.map(str::to_owned), ..ModelSelection::default() }
    }

    /// The model's name, or why it is asked for.
    fn settled(
        catalogue: &Value,
        wish: &ModelSelection,
        kept: Option<&str>,
    ) -> Result<String, Unsettled> {
        match settle(catalogue, wish, kept).expect("a choice") {
            Settled::Model(model) => Ok(model.slug),
            Settled::Asks(question) => {
                assert_eq!(question.names, Catalogue::parse(catalogue).names());
                Err(question.why)
            }
        }
    }

    #[test]
    fn what_was_named_goes_over_what_is_kept_which_goes_over_the_default() {
        let two = plain(&["dall-e-2", "gpt-5.5"]);
        let ranked = json!({"models": [
            {"slug": "a", "visibility": "list", "priority": 1},
            {"slug": "b", "visibility": "list", "priority": 2}]});
        let ok = |slug: &str| Ok(slug.to_owned());
        assert_eq!(settled(&two, &wish(None), None), Err(Unsettled::NoDefault));
        assert_eq!(settled(&two, &wish(None), Some("gpt-5.5")), ok("gpt-5.5"));
        assert_eq!(settled(&two, &wish(Some("new")), Some("gpt-5.5")), ok("new"));
        assert_eq!(settled(&two, &wish(Some("new")), Some("gone")), ok("new"));
        assert_eq!(settled(&two, &wish(None), Some("gone")), Err(Unsettled::Gone("gone".into())));
        assert_eq!(settled(&ranked, &wish(None), None), ok("a"));
        assert_eq!(settled(&ranked, &wish(None), Some("b")), ok("b"));
        assert_eq!(settled(&json!({"models": []}), &wish(None), Some("kept")), ok("kept"));
        assert_eq!(settled(&plain(&["llama3:8b"]), &wish(None), None), ok("llama3:8b"));
        let ask = ModelSelection { ask: true, ..ModelSelection::default() };
        for (catalogue, kept) in [(&two, None), (&two, Some("gpt-5.5")), (&ranked, None)] {
            assert_eq!(settled(catalogue, &ask, kept), Err(Unsettled::Wanted));
        }
    }

    #[test]
    fn a_catalogue_can_be_done_without_where_a_model_is_known() {
        let away = |kind| Err(Fault::new(kind, "away"));
        let ask = ModelSelection { ask: true, ..ModelSelection::default() };
        let named = limits::CATALOGUE_SECONDS_NAMED;
        let usual = limits::CATALOGUE_SECONDS;
        let cases = [
            (wish(Some("a")), None, true),
            (wish(None), Some("a"), true),
            (wish(None), None, false),
            (ask, Some("a"), false),
        ];
        for (wish, kept, is_known) in cases {
            let found = catalogue(away(FaultKind::Backend), &wish, kept);
            assert_eq!(found.is_ok(), is_known, "{wish:?} {kept:?}");
            assert!(catalogue(away(FaultKind::SignIn), &wish, kept).is_err());
            let seconds = if is_known { named } else { usual };
            assert_eq!(patience(&wish, kept), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn who_must_name_a_model_is_told_which_there_are() {
        let said = |why: Unsettled, was_asked| {
            let names = vec!["dall-e-2".to_owned(), "gpt-5.5".to_owned()];
            refused(Question { why, names }.unanswered(was_asked))
        };
        assert_eq!(
            said(Unsettled::NoDefault, false),
            "no model was named, and the backend has no default: it lists dall-e-2, \
             gpt-5.5 airlock run -m NAME …"
        );
        assert_eq!(
            said(Unsettled::Wanted, false),
            "a model can only be chosen at a terminal, without --json: the backend lists \
             dall-e-2, gpt-5.5 airlock run -m NAME …"
        );
        assert_eq!(
            said(Unsettled::Gone("old".to_owned()), false),
            "old is kept with the login, and the backend does not list it any more: it \
             lists dall-e-2, gpt-5.5 airlock run -m NAME …"
        );
        assert_eq!(
            said(Unsettled::NoDefault, true),
            "no model was chosen: the backend lists dall-e-2, gpt-5.5 airlock run -m NAME …"
        );
    }

    #[test]
    fn who_names_an_effort_that_is_none_is_told_which_there_are() {
        let chosen = |levels: &[&str], effort: &str| {
            let levels: Vec<Value> = levels.iter().map(|level| json!({"effort": level})).collect();
            let entry = json!({"slug": "gpt-5.5", "supported_reasoning_levels": levels});
            let wish =
                ModelSelection { effort: Some(effort.to_owned()), ..ModelSelection::default() };
            named(&json!({"models": [entry]}), &wish, "gpt-5.5")
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

    /// Exit 2, with what is said and what mends it.
    #[track_caller]
    fn refused(broken: SessionError) -> String {
        assert_eq!(Exit::of_fault(broken.fault.kind), Exit::Usage);
        format!("{} {}", broken.fault.message, broken.hint.expect("a command"))
    }
}
