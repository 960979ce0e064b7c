//! `update_plan`: the model's plan, for people who watch. It changes nothing.

use airlock_shared::event::PlanStep;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ToolResult, output};

pub(super) const NAME: &str = "update_plan";

/// The most steps of a plan.
const STEPS: usize = 50;
/// The longest step.
const STEP_BYTES: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    #[serde(default, rename = "explanation")]
    _explanation: Option<String>,
    plan: Vec<PlanStep>,
}

pub(super) fn definition() -> Value {
    super::function(
        NAME,
        "Shows your plan to the person who watches. Send all steps each time, at most one of them in_progress.",
        json!({
            "explanation": {"type": "string", "description": "Why the plan changed"},
            "plan": {
                "type": "array",
                "description": "All steps, in order",
                "items": {
                    "type": "object",
                    "properties": {
                        "step": {"type": "string"},
                        "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                    },
                    "required": ["step", "status"],
                    "additionalProperties": false,
                },
            },
        }),
        &["plan"],
    )
}

pub(super) fn call(arguments: Arguments) -> ToolResult {
    let steps = arguments.plan.into_iter().take(STEPS);
    let plan: Vec<PlanStep> = steps
        .map(|step| PlanStep { step: output::start(&step.step, STEP_BYTES), ..step })
        .collect();
    let note = output::counted(plan.len() as u64, "step");
    ToolResult { plan: Some(plan), ..ToolResult::done("Plan updated".to_owned(), note) }
}
