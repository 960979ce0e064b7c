//! The answer of the model: the events of its stream, its usage, and its refusals (codex protocol,
//! D.2 to D.8).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{dense, limits};

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Usage {
    pub input: u64,
    /// The part of `input` that the backend had cached.
    pub cached: u64,
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Parses `response.usage` (D.3), also by the names of chat completions, which many compatible
    /// servers use. None: it does not say how much was used.
    ///
    /// THREAT: a server answers `"usage": {}` or other names, every request counts as nothing, and
    /// the budget of tokens never ends a turn. Tried by
    /// `gate::ledger::tests::what_is_no_count_is_estimated`.
    #[must_use]
    pub fn parse(usage: &Value) -> Option<Self> {
        let number = |name: &str| usage.get(name).and_then(Value::as_u64);
        let part = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let input = number("input_tokens").zip(number("output_tokens"));
        let said = match (input, number("prompt_tokens").zip(number("completion_tokens"))) {
            (Some((input, output)), _) => Self {
                input,
                cached: part("/input_tokens_details/cached_tokens"),
                output,
                reasoning: part("/output_tokens_details/reasoning_tokens"),
            },
            (None, Some((input, output))) => Self {
                input,
                cached: part("/prompt_tokens_details/cached_tokens"),
                output,
                reasoning: part("/completion_tokens_details/reasoning_tokens"),
            },
            (None, None) => return None,
        };
        // No request is free of tokens.
        Some(said).filter(|said| said.total() > 0)
    }

    /// The tokens that count against the budget.
    #[must_use]
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

/// One event of the stream, as far as we use it.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// A whole item. Items come from this event alone.
    Item(Value),
    /// A piece of the answer's text, for people who watch.
    Text(String),
    /// `x-codex-turn-state`, if it comes as an event (J.6).
    TurnState(String),
    /// A piece that is not shown (arguments, reasoning): how many bytes.
    Piece(u64),
    /// The only success. `usage` is `None` if the backend does not report it. `more`: the model
    /// wants to be asked again although it called nothing.
    Completed {
        usage: Option<Usage>,
        more: bool,
    },
    Failed(Refusal),
    /// Any other event, text that is not JSON, and JSON that would be too large in memory.
    Other,
}

/// Why the backend refused: `error` of an event, or the body of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// `error.code`, else `error.type`, else empty.
    pub code: String,
    /// One line of bounded length. It is never empty.
    pub message: String,
    pub plan: Option<String>,
    /// Seconds since 1970.
    pub resets_at: Option<u64>,
    pub resets_in_seconds: Option<u64>,
}

impl StreamEvent {
    #[must_use]
    pub fn parse(data: &str) -> Self {
        // THREAT: a backend, or a recording from a stranger, has an event that is small as text and
        // fills the memory. Tried by gate::heavy::a_dense_answer_is_not_taken.
        if dense::structure_bytes(data.as_bytes()) > limits::JSON_STRUCTURE_BYTES {
            return Self::Other;
        }
        let Ok(mut event) = serde_json::from_str::<Value>(data) else { return Self::Other };
        let Some(kind) = event.get("type").and_then(Value::as_str) else { return Self::Other };
        match kind {
            "response.output_item.done" => match event.get_mut("item").map(Value::take) {
                Some(item @ Value::Object(_)) => Self::Item(item),
                _ => Self::Other,
            },
            "response.output_text.delta" => match event.get("delta").and_then(Value::as_str) {
                Some(delta) => Self::Text(delta.to_owned()),
                None => Self::Other,
            },
            "response.metadata" => {
                match event.pointer("/headers/x-codex-turn-state").and_then(Value::as_str) {
                    Some(state) => Self::TurnState(state.to_owned()),
                    None => Self::Other,
                }
            }
            "response.completed" => {
                let Some(response) = event.get("response") else { return Self::Other };
                let usage = response.get("usage").and_then(Usage::parse);
                let more = response.get("end_turn").and_then(Value::as_bool) == Some(false);
                Self::Completed { usage, more }
            }
            "response.failed" => {
                Self::Failed(refusal(event.pointer("/response/error").unwrap_or(&Value::Null)))
            }
            "error" => Self::Failed(refusal(event.get("error").unwrap_or(&event))),
            "response.incomplete" => {
                let reason = event.pointer("/response/incomplete_details/reason");
                let reason = reason.and_then(Value::as_str).map_or("unknown".to_owned(), brief);
                Self::Failed(Refusal {
                    code: format!("incomplete_{reason}"),
                    message: format!("the answer is incomplete: {reason}"),
                    ..Refusal::default()
                })
            }
            kind if kind.ends_with(".delta") => {
                let delta = event.get("delta").and_then(Value::as_str);
                delta.map_or(Self::Other, |delta| Self::Piece(delta.len() as u64))
            }
            _ => Self::Other,
        }
    }
}

impl Refusal {
    /// Parses the body of an error answer in any of its three shapes (D.7).
    #[must_use]
    pub fn of_body(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            let text = String::from_utf8_lossy(body);
            let is_html = text.trim_start().starts_with('<');
            let message = match text.lines().next().map(brief) {
                _ if is_html => "the answer is a web page, not the service's".to_owned(),
                Some(line) if !line.is_empty() => line,
                _ => "no reason was given".to_owned(),
            };
            let code = if is_html { "html" } else { "" };
            return Self { code: code.to_owned(), message, ..Self::default() };
        };
        match (value.get("detail").and_then(Value::as_str), value.get("error")) {
            (Some(detail), _) => {
                Self { code: "detail".to_owned(), message: brief(detail), ..Self::default() }
            }
            (None, Some(Value::String(text))) => {
                Self { code: brief(text), message: brief(text), ..Self::default() }
            }
            (None, Some(error)) => refusal(error),
            (None, None) => refusal(&value),
        }
    }

    /// Whether this is the account's usage limit. It ends with time, or a person must act.
    #[must_use]
    pub fn is_usage_limit(&self) -> bool {
        matches!(
            self.code.as_str(),
            "usage_limit_reached" | "usage_not_included" | "insufficient_quota"
        )
    }

    /// The wait that the message of a rate limit asks for (`try again in 1.5s`), in milliseconds.
    #[must_use]
    pub fn wait_ms(&self) -> Option<u64> {
        let lower = self.message.to_ascii_lowercase();
        let (_, after) = lower.split_once("try again in")?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
        let number: f64 = after[..end].parse().ok()?;
        let factor = match after[end..].trim_start() {
            unit if unit.starts_with("ms") => 1.0,
            unit if unit.starts_with('s') => 1_000.0,
            unit if unit.starts_with('m') => 60_000.0,
            _ => return None,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped, and digits have no sign"
        )]
        let ms = (number * factor).min(86_400_000.0) as u64;
        Some(ms)
    }
}

/// How many characters of a backend's text are kept.
const BRIEF_CHARS: usize = 500;

/// Text of a backend as one line of bounded length. A cut is marked, so that the part of a
/// credential that it leaves is found (`scrub::cuts`).
///
/// THREAT: a backend answers with a megabyte, or with lines that look like ours, and the text
/// becomes part of our message. Tried by
/// `stream::tests::the_text_of_a_backend_is_one_bounded_line`.
fn brief(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if line.len() > 4 * BRIEF_CHARS {
            break;
        }
        if !line.is_empty() && !word.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(BRIEF_CHARS + 1));
    }
    match line.char_indices().nth(BRIEF_CHARS) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

fn refusal(error: &Value) -> Refusal {
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(brief);
    let number = |name: &str| error.get(name).and_then(Value::as_u64);
    // `usage_limit_reached` is in `type` (D.7), every other code is in `code`.
    let code = text("code").or_else(|| text("type")).unwrap_or_default();
    Refusal {
        message: text("message").filter(|m| !m.is_empty()).unwrap_or_else(|| match code.as_str() {
            "" => "no reason was given".to_owned(),
            code => code.to_owned(),
        }),
        code,
        plan: text("plan_type"),
        resets_at: number("resets_at"),
        resets_in_seconds: number("resets_in_seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_that_we_use() {
        let cases = [
            (
                r#"{"type":"response.output_item.done","item":{"type":"x"}}"#,
                StreamEvent::Item(serde_json::json!({"type": "x"})),
            ),
            (r#"{"type":"response.output_text.delta","delta":"a"}"#, StreamEvent::Text("a".into())),
            (
                r#"{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":3},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":1}}}}"#,
                StreamEvent::Completed {
                    usage: Some(Usage { input: 7, cached: 3, output: 2, reasoning: 1 }),
                    more: false,
                },
            ),
            (
                r#"{"type":"response.completed","response":{"end_turn":false}}"#,
                StreamEvent::Completed { usage: None, more: true },
            ),
            (
                r#"{"type":"response.metadata","headers":{"x-codex-turn-state":"t"}}"#,
                StreamEvent::TurnState("t".into()),
            ),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"context_length_exceeded","message":"too long"}}}"#,
                StreamEvent::Failed(Refusal {
                    code: "context_length_exceeded".into(),
                    message: "too long".into(),
                    ..Refusal::default()
                }),
            ),
            (
                r#"{"type":"response.function_call_arguments.delta","delta":"{\"a"}"#,
                StreamEvent::Piece(3),
            ),
            (r#"{"type":"response.created"}"#, StreamEvent::Other),
            ("{", StreamEvent::Other),
            ("7", StreamEvent::Other),
        ];
        for (data, expected) in cases {
            assert_eq!(StreamEvent::parse(data), expected, "{data}");
        }
    }

    #[test]
    fn what_was_used_is_read_where_its_meaning_is_plain() {
        let used = |input, output| Some(Usage { input, output, ..Usage::default() });
        let cases = [
            (r#"{"input_tokens":7,"output_tokens":2}"#, used(7, 2)),
            (r#"{"input_tokens":7,"output_tokens":0}"#, used(7, 0)),
            (r#"{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}"#, used(7, 2)),
            (
                r#"{"prompt_tokens":7,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens":2}"#,
                Some(Usage { input: 7, cached: 3, output: 2, reasoning: 0 }),
            ),
            (r#"{"input_tokens":"7","prompt_tokens":7,"completion_tokens":2}"#, used(7, 2)),
            ("{}", None),
            (r#"{"total_tokens":9999999}"#, None),
            (r#"{"input_tokens":7}"#, None),
            (r#"{"input_tokens":"7","output_tokens":"2"}"#, None),
            (r#"{"input_tokens":7.5,"output_tokens":2.5}"#, None),
            (r#"{"input_tokens":-7,"output_tokens":-2}"#, None),
            (r#"{"input_tokens":0,"output_tokens":0}"#, None),
            ("null", None),
            ("[7, 2]", None),
        ];
        for (text, expected) in cases {
            let value = serde_json::from_str(text).expect("JSON");
            assert_eq!(Usage::parse(&value), expected, "{text}");
        }
    }

    #[test]
    fn error_bodies_in_their_three_shapes() {
        let refusal = |body: &str| Refusal::of_body(body.as_bytes());
        assert_eq!(
            refusal(r#"{"detail":"Store must be set to false"}"#).message,
            "Store must be set to false"
        );
        let limit = refusal(
            r#"{"error":{"type":"usage_limit_reached","message":"full","plan_type":"plus","resets_at":5}}"#,
        );
        assert_eq!(
            limit,
            Refusal {
                code: "usage_limit_reached".into(),
                message: "full".into(),
                plan: Some("plus".into()),
                resets_at: Some(5),
                resets_in_seconds: None
            }
        );
        assert!(limit.is_usage_limit());
        assert_eq!(refusal("<html>Just a moment").code, "html");
        assert_eq!(refusal("").message, "no reason was given");
    }

    #[test]
    fn the_text_of_a_backend_is_one_bounded_line() {
        let long = "x".repeat(9_000);
        let cut = format!("{}…", "x".repeat(500));
        for (message, expected) in [
            ("no\r\n\tsuch\u{1b} model ", "no such model"),
            (&*long, &*cut),
            (" \n", "no reason was given"),
        ] {
            let error = serde_json::json!({"message": message});
            for body in [error.clone(), serde_json::json!({"error": error})] {
                let refusal = Refusal::of_body(body.to_string().as_bytes());
                assert_eq!(refusal.message, expected, "{body}");
            }
            let event = serde_json::json!({"type": "error", "error": error}).to_string();
            let StreamEvent::Failed(refusal) = StreamEvent::parse(&event) else {
                panic!("{event}")
            };
            assert_eq!(refusal.message, expected);
        }
        assert_eq!(Refusal::of_body(long.as_bytes()).message, cut);
        let many = "y ".repeat(9_000);
        assert_eq!(brief(&many).chars().count(), 501);
    }

    #[test]
    fn the_wait_in_a_message_is_parsed() {
        let wait =
            |message: &str| Refusal { message: message.into(), ..Refusal::default() }.wait_ms();
        assert_eq!(wait("Please try again in 1.5s."), Some(1_500));
        assert_eq!(wait("Try again in 350ms"), Some(350));
        assert_eq!(wait("try again in 2 minutes"), Some(120_000));
        assert_eq!(wait("try again in a while"), None);
        assert_eq!(wait("later"), None);
    }
}
