//! What a model can do, and the catalogue that lists it (codex protocol, C.7, J.4).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{defaults, limits};

/// One model with its settings. The defaults are for a model that the catalogue does not list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    pub slug: String,
    /// Reasoning effort. `None`: the backend's default.
    pub effort: Option<String>,
    /// `auto`, `concise` or `detailed`. `None`: no summary.
    pub summary: Option<String>,
    /// `low`, `medium` or `high`. `None`: the model does not support it.
    pub verbosity: Option<String>,
    /// Whether one answer may hold several calls.
    pub parallel: bool,
    /// Whether requests have the lite shape (J.5).
    pub lite: bool,
    /// How `apply_patch` is offered.
    pub patch: PatchForm,
    /// How much of one tool's output is sent to the model.
    pub tool_output_bytes: usize,
    /// Its context window, in tokens.
    pub context_window: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PatchForm {
    /// Raw text under a grammar (`custom_tool_call`).
    Freeform,
    /// `{"input": "…"}` (`function_call`).
    #[default]
    Function,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            slug: String::new(),
            effort: None,
            summary: None,
            verbosity: None,
            parallel: false,
            lite: false,
            patch: PatchForm::Function,
            tool_output_bytes: limits::TOOL_OUTPUT_BYTES,
            context_window: 272_000,
        }
    }
}

/// The priority of a model that the catalogue does not rank. The first of such a list is no
/// default.
const UNRANKED: i64 = i64::MAX;
/// How many names a message shows.
const NAMES_SHOWN: usize = 100;

/// The answer of `GET /models`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

/// Unknown fields are ignored. A field of an unexpected type, or with an invalid name, counts as absent.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    slug: String,
    listed: bool,
    priority: i64,
    efforts: Vec<String>,
    model: Model,
}

/// Why no model was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChoiceError {
    /// No model was named and the catalogue has no default. It lists these models.
    NoDefault(Vec<String>),
    /// The model does not support this effort.
    Effort { slug: String, given: String, known: Vec<String> },
    /// It is not a valid slug.
    Slug(String),
}

impl std::fmt::Display for ChoiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoDefault(names) if names.is_empty() => {
                write!(f, "no model was named, and the backend lists none")
            }
            Self::NoDefault(names) => {
                let names = list_names(names);
                write!(f, "no model was named, and the backend has no default: it lists {names}")
            }
            Self::Effort { slug, given, known } => {
                write!(
                    f,
                    "{slug} does not support effort `{given}`; it supports {}",
                    known.join(", ")
                )
            }
            Self::Slug(slug) => write!(f, "`{slug}` is not a valid model name"),
        }
    }
}

impl std::error::Error for ChoiceError {}

/// The names on one line, at most as many as a message shows.
#[must_use]
pub fn list_names(names: &[String]) -> String {
    let shown = &names[..names.len().min(NAMES_SHOWN)];
    match (shown.join(", "), names.len() - shown.len()) {
        (_, _) if names.is_empty() => "none".to_owned(),
        (listed, 0) => listed,
        (listed, more) => format!("{listed} and {more} more"),
    }
}

impl Catalogue {
    /// Parses `{"models":[…]}` (ChatGPT) or `{"data":[{"id":…}]}` (API). Anything else gives an
    /// empty catalogue.
    #[must_use]
    pub fn parse(answer: &Value) -> Self {
        let list = |name: &str| answer.get(name).and_then(Value::as_array);
        let entries = match (list("models"), list("data")) {
            (Some(models), _) => models.iter().filter_map(entry).collect(),
            (None, Some(ids)) => ids.iter().filter_map(bare_entry).collect(),
            (None, None) => Vec::new(),
        };
        Self { entries }
    }

    /// The slugs a person can choose, best first.
    #[must_use]
    pub fn listed(&self) -> Vec<&str> {
        let mut listed: Vec<&Entry> = self.entries.iter().filter(|entry| entry.listed).collect();
        listed.sort_by_key(|entry| entry.priority);
        listed.into_iter().map(|entry| entry.slug.as_str()).collect()
    }

    /// The names of [`Self::listed`], each once.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let names = self.listed().into_iter().filter(|slug| seen.insert(*slug));
        names.map(str::to_owned).collect()
    }

    /// Whether it has a model of exactly this name, listed or not.
    #[must_use]
    pub fn has(&self, slug: &str) -> bool {
        self.entries.iter().any(|entry| entry.slug == slug)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Chooses a model. A given slug takes the settings of the entry that is its longest prefix,
    /// else the defaults. Without a slug it is the listed model of lowest priority, or the only
    /// listed one.
    ///
    /// # Errors
    /// If the slug is not valid, if there is no default, or if the model does not support the
    /// effort.
    pub fn choose(&self, slug: Option<&str>, effort: Option<&str>) -> Result<Model, ChoiceError> {
        let known = match slug {
            Some(slug) => {
                if !is_slug(slug) {
                    return Err(ChoiceError::Slug(slug.to_owned()));
                }
                let prefixes = self.entries.iter().filter(|entry| slug.starts_with(&entry.slug));
                prefixes.max_by_key(|entry| entry.slug.len())
            }
            None => {
                let listed = || self.entries.iter().filter(|entry| entry.listed);
                let ranked = listed().filter(|entry| entry.priority != UNRANKED);
                let only = listed().next().filter(|_| listed().count() == 1);
                let known = ranked.min_by_key(|entry| entry.priority).or(only);
                Some(known.ok_or_else(|| ChoiceError::NoDefault(self.names()))?)
            }
        };
        let mut model = known.map(|entry| entry.model.clone()).unwrap_or_default();
        if let Some(slug) = slug {
            slug.clone_into(&mut model.slug);
        }
        if let Some(effort) = effort {
            let efforts = known.map(|entry| entry.efforts.clone()).unwrap_or_default();
            if !efforts.is_empty() && !efforts.iter().any(|known| known == effort) {
                return Err(ChoiceError::Effort {
                    slug: model.slug,
                    given: effort.to_owned(),
                    known: efforts,
                });
            }
            model.effort = Some(effort.to_owned());
        }
        Ok(model)
    }
}

/// Whether it is a valid model name: plain characters, and at most 128.
#[must_use]
pub fn is_slug(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/@".contains(c);
    !text.is_empty() && text.len() <= 128 && text.chars().all(plain)
}

/// A name in the catalogue, if it is one: of a model, of an effort, of a way to answer.
// THREAT: a backend's word that steers a terminal, or fills it, stands where a person chooses, in the
// first line of a run and in its record. Tried by model::tests::only_valid_names_are_used.
fn word(value: &Value) -> Option<String> {
    value.as_str().filter(|text| is_slug(text)).map(str::to_owned)
}

fn bare_entry(value: &Value) -> Option<Entry> {
    let slug = word(value.get("id")?)?;
    let model = Model { slug: slug.clone(), ..Model::default() };
    Some(Entry { slug, listed: true, priority: UNRANKED, efforts: Vec::new(), model })
}

fn entry(value: &Value) -> Option<Entry> {
    let slug = word(value.get("slug")?)?;
    let text = |name: &str| value.get(name).and_then(word);
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    let efforts = value.get("supported_reasoning_levels").and_then(Value::as_array);
    let efforts: Vec<String> = efforts
        .into_iter()
        .flatten()
        .filter_map(|level| level.get("effort").and_then(word))
        .collect();
    let reasons = flag("supports_reasoning_summaries");
    let summary = match text("default_reasoning_summary").as_deref() {
        _ if !reasons => None,
        Some("none") => None,
        Some(given) => Some(given.to_owned()),
        None => Some(defaults::REASONING_SUMMARY.to_owned()),
    };
    let limit = value.get("truncation_policy").and_then(|policy| {
        let limit = usize::try_from(policy.get("limit")?.as_u64()?).ok()?;
        // A token is about four bytes (G.9).
        let per = if policy.get("mode")?.as_str()? == "tokens" { 4 } else { 1 };
        Some(limit.saturating_mul(per).clamp(1_000, limits::COMMAND_OUTPUT_BYTES))
    });
    let fallback = Model::default();
    let model = Model {
        slug: slug.clone(),
        effort: text("default_reasoning_level"),
        summary,
        verbosity: flag("support_verbosity")
            .then(|| text("default_verbosity").unwrap_or_else(|| "medium".to_owned())),
        parallel: flag("supports_parallel_tool_calls"),
        lite: flag("use_responses_lite"),
        patch: match text("apply_patch_tool_type").as_deref() {
            Some("freeform") => PatchForm::Freeform,
            _ => PatchForm::Function,
        },
        tool_output_bytes: limit.unwrap_or(fallback.tool_output_bytes),
        context_window: value
            .get("context_window")
            .and_then(Value::as_u64)
            .unwrap_or(fallback.context_window),
    };
    Some(Entry {
        slug,
        listed: text("visibility").as_deref() == Some("list"),
        priority: value.get("priority").and_then(Value::as_i64).unwrap_or(UNRANKED),
        efforts,
        model,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalogue() -> Catalogue {
        Catalogue::parse(&json!({"models": [
            {"slug": "gpt-5.6-luna", "visibility": "list", "priority": 2, "default_reasoning_level": "medium",
             "supported_reasoning_levels": [{"effort": "low"}, {"effort": "medium"}],
             "supports_reasoning_summaries": true, "default_reasoning_summary": "none",
             "support_verbosity": true, "default_verbosity": "low", "apply_patch_tool_type": "freeform",
             "supports_parallel_tool_calls": true, "use_responses_lite": true,
             "truncation_policy": {"mode": "tokens", "limit": 10000}, "context_window": 372000},
            {"slug": "gpt-5.5", "visibility": "list", "priority": 7},
            {"slug": "hidden", "visibility": "hide", "priority": 0},
            {"slug": 7}, "junk",
        ]}))
    }

    #[test]
    fn the_default_is_the_listed_model_of_lowest_priority() {
        let chosen = catalogue().choose(None, Some("low"));
        let expected = Model {
            slug: "gpt-5.6-luna".into(),
            effort: Some("low".into()),
            summary: None,
            verbosity: Some("low".into()),
            parallel: true,
            lite: true,
            patch: PatchForm::Freeform,
            tool_output_bytes: 40_000,
            context_window: 372_000,
        };
        assert_eq!(chosen, Ok(expected));
        assert_eq!(catalogue().listed(), ["gpt-5.6-luna", "gpt-5.5"]);
    }

    #[test]
    fn a_named_model_is_known_by_its_longest_prefix() {
        let chosen = catalogue().choose(Some("gpt-5.5-2026-09"), None);
        assert_eq!(chosen, Ok(Model { slug: "gpt-5.5-2026-09".into(), ..Model::default() }));
    }

    #[test]
    fn an_unordered_list_has_no_default() {
        let listed = |names: &[&str]| {
            let ids: Vec<Value> = names.iter().map(|name| json!({"id": name})).collect();
            Catalogue::parse(&json!({"object": "list", "data": ids})).choose(None, None)
        };
        let error = listed(&["dall-e-2", "a\u{1b}[2J", "gpt-5.5"]).expect_err("no choice");
        assert_eq!(error, ChoiceError::NoDefault(vec!["dall-e-2".into(), "gpt-5.5".into()]));
        assert_eq!(
            error.to_string(),
            "no model was named, and the backend has no default: it lists dall-e-2, gpt-5.5"
        );
        let only = listed(&["llama3:8b"]).map(|model| model.slug);
        assert_eq!(only, Ok("llama3:8b".to_owned()));
        let unranked = json!({"models": [
            {"slug": "a", "visibility": "list"}, {"slug": "b", "visibility": "list"}]});
        assert!(Catalogue::parse(&unranked).choose(None, None).is_err());
        let many: Vec<String> = (0..150).map(|n| format!("m{n}")).collect();
        assert!(ChoiceError::NoDefault(many).to_string().ends_with("m99 and 50 more"));
    }

    #[test]
    fn only_valid_names_are_offered() {
        let hostile = ["b", "\u{1b}[2J", "a", "x y", "\u{202e}a", "", &"x".repeat(129), "b"];
        let ids: Vec<Value> = hostile.iter().map(|name| json!({"id": name})).collect();
        let catalogue = Catalogue::parse(&json!({"object": "list", "data": ids}));
        assert_eq!(catalogue.names(), ["b", "a"]);
        assert!(catalogue.has("a") && !catalogue.has("a-2026") && !catalogue.is_empty());
        assert_eq!(list_names(&[]), "none");
    }

    #[test]
    fn only_valid_names_are_used() {
        let long = "x".repeat(129);
        for hostile in ["\u{1b}[2J", "a\nb", "x y", "\u{202e}a", "", &long] {
            let ranked = |slug: &str, priority: u32| {
                json!({"slug": slug, "visibility": "list", "priority": priority,
                    "default_reasoning_level": hostile, "default_reasoning_summary": hostile,
                    "supports_reasoning_summaries": true, "support_verbosity": true,
                    "default_verbosity": hostile, "supported_reasoning_levels": [{"effort": hostile}]})
            };
            // The control: by its rank it is the one that is chosen.
            let both = json!({"models": [ranked(hostile, 1), ranked("honest", 2)]});
            assert_eq!(ranked("first", 1)["priority"], both["models"][0]["priority"]);
            let chosen = Catalogue::parse(&both).choose(None, None).expect("a model");
            let expected = Model {
                slug: "honest".into(),
                summary: Some(defaults::REASONING_SUMMARY.into()),
                verbosity: Some("medium".into()),
                ..Model::default()
            };
            assert_eq!(chosen, expected, "{hostile:?}");
            let only = Catalogue::parse(&json!({"data": [{"id": hostile}]}));
            assert_eq!(only.choose(None, None), Err(ChoiceError::NoDefault(Vec::new())));
        }
    }

    #[test]
    fn a_model_that_cannot_be_chosen_says_why() {
        let none = Err(ChoiceError::NoDefault(Vec::new()));
        assert_eq!(Catalogue::parse(&json!([])).choose(None, None), none);
        assert_eq!(
            catalogue().choose(None, Some("max")),
            Err(ChoiceError::Effort {
                slug: "gpt-5.6-luna".into(),
                given: "max".into(),
                known: vec!["low".into(), "medium".into()]
            })
        );
        assert_eq!(catalogue().choose(Some("a b"), None), Err(ChoiceError::Slug("a b".into())));
    }
}
