//! What the tests of the tools share: a real toolbox on a temporary directory. The tests need root.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::exec::tests::user;

/// A workspace that the tool user owns, and its tools.
pub(super) struct ToolFixture {
    pub(super) dir: tempfile::TempDir,
    pub(super) tools: Toolbox,
}

impl ToolFixture {
    pub(super) fn new(number: u32) -> Self {
        Self::with(number, Model::default(), BTreeMap::new())
    }

    pub(super) fn with(number: u32, model: Model, env: BTreeMap<String, String>) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let user = user(number);
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("mode");
        std::os::unix::fs::chown(dir.path(), Some(user.uid()), Some(user.gid()))
            .expect("these tests need root");
        let job: Job = serde_json::from_value(json!({
            "prompt": "", "backend": {"base_url": "https://api.openai.com"}, "env": env,
            "workspace": {"path": dir.path(), "uid": user.uid(), "gid": user.gid()},
        }))
        .expect("a job");
        let tools = Toolbox::new(&job, &model).expect("these tests need root");
        Self { dir, tools }
    }

    /// Writes a file that the tool user may change.
    pub(super) async fn put(&self, path: &str, content: &str) {
        let answer = self.call("write_file", json!({"path": path, "content": content})).await;
        assert!(answer.ok, "{}", answer.output);
    }

    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(path)).expect("a file")
    }

    pub(super) async fn call(&self, name: &str, arguments: Value) -> ToolResult {
        self.run(name, Input::Arguments(arguments.to_string()), &CancellationToken::new()).await
    }

    pub(super) async fn run(
        &self,
        name: &str,
        input: Input,
        cancel: &CancellationToken,
    ) -> ToolResult {
        let call = Call { call_id: "c".to_owned(), name: name.to_owned(), input };
        let deadline = Instant::now() + Duration::from_secs(60);
        self.tools.call(&call, deadline, cancel).await.expect("a sandbox that is safe")
    }
}

#[tokio::test]
async fn an_invalid_call_is_answered_with_the_reason() {
    let fixture = ToolFixture::new(10);
    let output = |name: &'static str, input: &str| {
        let input = Input::Arguments(input.to_owned());
        let fixture = &fixture;
        async move { fixture.run(name, input, &CancellationToken::new()).await.output }
    };
    assert_eq!(
        output("shell", "{}").await,
        "unsupported call: shell\nThe tools are: bash, read_file, list_files, write_file, apply_patch, update_plan"
    );
    for name in ["bash", "read_file", "list_files", "write_file", "apply_patch", "update_plan"] {
        let text = output(name, "{\"command\": 7").await;
        assert!(text.starts_with("failed to parse function arguments: "), "{name}: {text}");
    }
    assert_eq!(
        fixture
            .run("x", Input::Raw(String::new()), &CancellationToken::new())
            .await
            .output
            .lines()
            .next(),
        Some("unsupported custom tool call: x")
    );
}

#[tokio::test]
async fn definitions_have_one_shape_and_order() {
    let freeform = Model { patch: PatchForm::Freeform, ..Model::default() };
    let fixture = ToolFixture::with(11, freeform, BTreeMap::new());
    let definitions = fixture.tools.definitions();
    let names: Vec<&str> = definitions.iter().filter_map(|d| d["name"].as_str()).collect();
    assert_eq!(
        names,
        ["bash", "read_file", "list_files", "write_file", "apply_patch", "update_plan"]
    );
    let alone: Vec<bool> = names.iter().map(|name| fixture.tools.runs_alone(name)).collect();
    assert_eq!(alone, [true, false, false, true, true, true]);
    for definition in &definitions {
        match definition["type"].as_str() {
            Some("function") => {
                assert_eq!(definition["strict"], false);
                assert_eq!(definition["parameters"]["additionalProperties"], false);
            }
            kind => assert_eq!(
                (kind, &definition["format"]["syntax"]),
                (Some("custom"), &json!("lark"))
            ),
        }
    }
}

#[tokio::test]
async fn a_plan_is_shown() {
    let fixture = ToolFixture::new(12);
    let plan = json!({"explanation": "x", "plan": [{"step": "look", "status": "in_progress"}]});
    let result = fixture.call("update_plan", plan).await;
    let step =
        PlanStep { step: "look".into(), status: airlock_shared::event::StepStatus::InProgress };
    assert_eq!((result.output.as_str(), result.plan), ("Plan updated", Some(vec![step])));
}

#[test]
fn an_invalid_variable_is_refused() {
    for name in ["", "A=B", "A\0"] {
        assert!(environment(&BTreeMap::from([(name.to_owned(), "x".to_owned())])).is_err());
    }
}

#[tokio::test]
async fn a_text_whose_secret_was_removed_is_not_written_back() {
    let fixture = ToolFixture::new(13);
    let write = |path: &'static str, content: &'static str| {
        fixture.call("write_file", json!({"path": path, "content": content}))
    };
    let patch = |hunks: &'static str| {
        let text = format!("*** Begin Patch\n{hunks}\n*** End Patch\n");
        fixture.call("apply_patch", json!({"input": text}))
    };
    let refusal = "the new text contains `[secret removed]`: a credential was removed";
    fixture.put("config", "key = sk-canary-0123456789\nport = 1\n").await;
    for refused in [
        write("config", "key = [secret removed]\nport = 2\n").await,
        write("new", "[secret removed]").await,
        patch("*** Add File: new\n+[secret removed]").await,
        patch("*** Update File: config\n-key = sk-canary-0123456789\n+key = [secret removed]")
            .await,
    ] {
        assert!(!refused.ok && refused.output.contains(refusal), "{}", refused.output);
    }
    assert!(patch("*** Update File: config\n-port = 1\n+port = 2").await.ok);
    assert_eq!(fixture.read("config"), "key = sk-canary-0123456789\nport = 2\n");

    // A file that already has those words can be edited, moved, and written with bash.
    let hand = "printf '[secret removed]\\nport = 1\\n' > words";
    assert!(fixture.call("bash", json!({"command": hand})).await.ok);
    assert!(write("words", "[secret removed]\nport = 2\n").await.ok);
    let moved =
        "*** Update File: words\n*** Move to: moved\n [secret removed]\n-port = 2\n+port = 3";
    let moved = patch(moved).await;
    assert!(moved.ok, "{}", moved.output);
    assert_eq!(fixture.read("moved"), "[secret removed]\nport = 3\n");
    assert!(!write("moved", "[secret removed]\n[secret removed]\n").await.ok);
}
