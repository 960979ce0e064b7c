//! Whole turns against a backend on loopback, as in plain mode.

use super::*;
use crate::exec::tests::OutOfReach;

#[tokio::test]
async fn the_first_request_in_full() {
    let backend = Backend::start([answer("three files")]).await;
    let workspace = WorkspaceFixture::new();
    workspace.write("AGENTS.md", "use tabs");
    let job = job(&format!("http://{}/v1", backend.authority), &workspace);
    let turn = direct_in(&backend, job, CancellationToken::new()).await;
    assert_eq!(turn.outcome, finished("three files"));

    let seen = &turn.seen[0];
    assert_eq!(seen.line, "POST /v1/responses HTTP/1.1");
    let header = |name: &str| seen.headers.get(name).map(String::as_str);
    assert_eq!(header("authorization"), Some("Bearer sk-test-0123456789abcdef"));
    assert_eq!(header("chatgpt-account-id"), Some("acc-1"));
    assert_eq!(header("session-id"), Some("s-1"));
    assert_eq!(header("x-codex-turn-state"), None);
    assert_eq!(seen.body["model"], "gpt-test");
    assert_eq!(seen.body["prompt_cache_key"], "s-1");
    let input = seen.body["input"].as_array().expect("input");
    let roles: Vec<_> = input.iter().map(|item| item["role"].as_str()).collect();
    assert_eq!(roles, [Some("developer"), Some("user"), Some("user")]);
    let docs = input[1]["content"][0]["text"].as_str().expect("text");
    assert!(docs.contains("not from the person") && docs.contains("use tabs"), "{docs}");
    assert_eq!(input[2]["content"][0]["text"], "what is here?");

    let names: Vec<_> = turn.events.iter().map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["up", "docs", "request", "usage", "item"].map(Some));
}

#[tokio::test]
async fn calls_are_answered_in_order_on_one_connection() {
    let reasoning =
        done(json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}));
    let first = vec![
        reasoning,
        text("looking"),
        bash("c1", "sleep 0.03; echo one"),
        call("c2", "read_file", r#"{"path":"AGENTS.md"}"#),
        call("c3", "nothing", "{"),
    ];
    let backend = Backend::start([asks(first), answer("done")]).await;
    let workspace = WorkspaceFixture::new();
    let job = job(&format!("http://{}/v1", backend.authority), &workspace);
    let turn = direct_in(&backend, job, CancellationToken::new()).await;
    assert_eq!(turn.outcome, finished("done"));
    let outputs = turn.outputs(1);
    let starts = ["c1=", "c2=", "c3="];
    assert!(
        outputs.iter().zip(starts).all(|(output, start)| output.starts_with(start)),
        "{outputs:?}"
    );
    assert!(outputs[0].contains("one") && outputs[2].contains("nothing"), "{outputs:?}");
    assert_eq!(turn.seen[1].headers["x-codex-turn-state"], "turn-1");
    assert_eq!(turn.events_named("text"), [&json!({"event": "text", "text": "looking"})]);
    let input = turn.seen[1].body["input"].as_array().expect("input");
    assert!(input.iter().all(|item| item.get("id").is_none()), "{input:?}");
    assert_eq!(input[2]["encrypted_content"], "e");
    let ended: Vec<_> = turn.events_named("call_ended").iter().map(|e| e["ok"].clone()).collect();
    assert_eq!(ended, [true, false, false]);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn reads_behind_a_write_see_what_it_wrote() {
    let read = |id| call(id, "read_file", r#"{"path":"a"}"#);
    let calls = [read("c1"), read("c2"), bash("c3", "echo new > a"), read("c4"), read("c5")];
    let backend = Backend::start([asks(calls), answer("done")]).await;
    let workspace = WorkspaceFixture::new();
    workspace.write("a", "old");
    let job = job(&format!("http://{}/v1", backend.authority), &workspace);
    let turn = direct_in(&backend, job, CancellationToken::new()).await;
    let outputs = turn.outputs(1);
    let saw: Vec<_> = outputs.iter().map(|output| output.contains("new")).collect();
    assert_eq!(saw, [false, false, false, true, true], "{outputs:?}");
}

#[tokio::test]
async fn a_repeated_call_runs_once() {
    let twice = [bash("c1", "printf x >> written"), bash("c1", "printf x >> written")];
    let backend =
        Backend::start([asks(twice), asks([bash("c1", "printf x >> written")]), answer("done")])
            .await;
    let workspace = WorkspaceFixture::new();
    let job = job(&format!("http://{}/v1", backend.authority), &workspace);
    let turn = direct_in(&backend, job, CancellationToken::new()).await;
    assert_eq!(turn.outcome, finished("done"));
    assert_eq!(workspace.read("written"), "x");
    assert_eq!(turn.outputs(2).len(), 1);
    assert_eq!(turn.events_named("note").len(), 2);
}

/// A process that cannot be ended could watch the next call, so there is no next call.
#[tokio::test]
async fn a_process_that_cannot_be_ended_ends_the_turn() {
    let script = || [asks([bash("c1", "true"), bash("c2", "touch ran")]), answer("done")];
    for is_left in [false, true] {
        let backend = Backend::start(script()).await;
        let workspace = WorkspaceFixture::new();
        let left = is_left.then(|| OutOfReach::start(workspace.uid));
        let job = job(&format!("http://{}/v1", backend.authority), &workspace);
        let turn = direct_in(&backend, job, CancellationToken::new()).await;
        drop(left);
        let ended: Vec<_> =
            turn.events_named("call_ended").iter().map(|e| e["ok"].clone()).collect();
        let ran = workspace.dir.path().join("ran").exists();
        if is_left {
            let message = "1 process of a command could not be ended";
            assert_eq!(turn.fault(), (FaultKind::Sandbox, message));
            assert_eq!((ended, ran, turn.seen.len()), (vec![json!(false)], false, 1));
        } else {
            assert_eq!(turn.outcome, finished("done"));
            assert_eq!((ended, ran, turn.seen.len()), (vec![json!(true); 2], true, 2));
        }
    }
}

#[tokio::test]
async fn a_cut_stream_is_tried_again_and_starts_no_call() {
    let cut = ScriptedReply::Cut(vec![bash("c1", "printf lost >> written")]);
    let backend = Backend::start([
        cut.clone(),
        ScriptedReply::Close,
        cut,
        asks([bash("c2", "printf x >> written")]),
        answer("done"),
    ])
    .await;
    let workspace = WorkspaceFixture::new();
    let job = job(&format!("http://{}/v1", backend.authority), &workspace);
    let turn = direct_in(&backend, job, CancellationToken::new()).await;
    assert_eq!(turn.outcome, finished("done"));
    assert_eq!(workspace.read("written"), "x");
    assert_eq!(turn.events_named("retry").len(), 3);
    assert_eq!(turn.events_named("request").len(), 2);
    assert_eq!(turn.seen[0].body, turn.seen[3].body);
}

#[tokio::test]
async fn a_permanent_refusal_ends_the_turn_at_once() {
    let cases = [
        (
            ScriptedReply::Status(400, "", r#"{"detail":"Store must be set to false"}"#.into()),
            FaultKind::Refused,
            "the backend refused the request: 400: Store must be set to false",
        ),
        (
            ScriptedReply::Status(307, "location: http://127.0.0.1:1/steal\r\n", String::new()),
            FaultKind::Refused,
            "the backend redirects (307) to http://127.0.0.1:1/steal, and redirects are not followed",
        ),
        (
            ScriptedReply::Status(403, "", "<html>\nJust a moment".into()),
            FaultKind::Refused,
            "the backend refused the request: 403: the answer is a web page, not the service's",
        ),
        (
            ScriptedReply::Status(401, "", r#"{"error":{"message":"expired"}}"#.into()),
            FaultKind::SignIn,
            "the backend refused the login: 401: expired",
        ),
    ];
    for (reply, kind, message) in cases {
        let backend = Backend::start([reply]).await;
        let turn = direct(&backend, |_| {}).await;
        assert_eq!(turn.fault(), (kind, message));
        assert_eq!(turn.seen.len(), 1);
    }
}

#[tokio::test]
async fn a_usage_limit_stops_the_turn() {
    let body = r#"{"error":{"type":"usage_limit_reached","message":"full","plan_type":"plus","resets_at":5}}"#;
    let backend = Backend::start([ScriptedReply::Status(429, "", body.into())]).await;
    let turn = direct(&backend, |_| {}).await;
    let reason =
        Stop::UsageLimit { plan: Some("plus".into()), resets_at: Some(5), message: "full".into() };
    assert_eq!(turn.outcome, Outcome::Stopped { reason, answer: None });
}

#[tokio::test]
async fn a_token_the_backend_echoes_is_removed() {
    let echo = ScriptedReply::Status(400, "", format!(r#"{{"detail":"you sent Bearer {TOKEN}"}}"#));
    let backend = Backend::start([answer(&format!("I know {TOKEN}")), echo]).await;
    let turn = direct(&backend, |_| {}).await;
    assert_eq!(turn.outcome, finished("I know [secret removed]"));
    assert!(!turn.events.iter().any(|event| event.to_string().contains(TOKEN)));
    let turn = direct(&backend, |_| {}).await;
    assert_eq!(
        turn.fault().1,
        "the backend refused the request: 400: you sent Bearer [secret removed]"
    );
}

#[tokio::test]
async fn what_a_command_prints_of_our_token_is_removed() {
    let spread = bash("c1", "cat key; base64 -w0 key; cat word");
    let backend = Backend::start([asks([spread]), answer("done")]).await;
    let workspace = WorkspaceFixture::new();
    workspace.write("key", &format!("{TOKEN}\n"));
    workspace.write("word", "ollama\n");
    workspace
        .write("AGENTS.md", &format!("the key is {TOKEN}, see {}", airlock_shared::scrub::MARK));
    let mut job = job(&format!("http://{}/v1", backend.authority), &workspace);
    job["prompt"] = json!(format!("use {TOKEN}"));
    let turn = direct_in(&backend, job, CancellationToken::new()).await;
    assert_eq!(turn.outcome, finished("done"));
    let ended = turn.events_named("call_ended")[0]["output"].as_str().expect("text").to_owned();
    assert!(ended.contains("[secret removed]\n[secret removed]"), "{ended}");
    assert!(ended.ends_with("ollama\n"), "{ended}");
    assert_eq!(turn.outputs(1)[0], format!("c1={ended}"));
    let sent = turn.seen[1].body.to_string();
    assert!(sent.contains("use [secret removed]") && sent.contains("key is [secret removed]"));
    // The control: the command could print it.
    assert_eq!(workspace.read("key"), format!("{TOKEN}\n"));
    assert!(!sent.contains(TOKEN) && !turn.events.iter().any(|e| e.to_string().contains(TOKEN)));
    let explanations = sent.matches("stands for a credential that was removed").count();
    assert_eq!(explanations, 1, "the model must know what the mark means: {sent}");
}

#[tokio::test]
async fn what_a_cut_leaves_of_our_token_is_removed() {
    let far = |letters| format!("head -c {letters} /dev/zero | tr '\\0' a; cat key");
    let half = TOKEN.len() / 2;
    let kept = &TOKEN[..half];
    let calls = |name: &str| {
        let arguments = json!({"path": name}).to_string();
        [
            bash(
                "c1",
                &format!(
                    "{}; head -c 30000 /dev/zero | tr '\\0' b",
                    far(limits::TOOL_OUTPUT_BYTES / 2 - half)
                ),
            ),
            call("c2", "read_file", &arguments),
        ]
    };
    for name in ["far", "plain"] {
        let backend = Backend::start([asks(calls(name)), answer("done")]).await;
        let workspace = WorkspaceFixture::new();
        // The control: other text is cut at the same place, and its part stays.
        let is_secret = name == "far";
        let printed = if is_secret { TOKEN.to_owned() } else { "z".repeat(TOKEN.len()) };
        workspace.write("key", &printed);
        workspace.write(name, &format!("{}{printed}", "a".repeat(limits::READ_LINE_BYTES - half)));
        let job = job(&format!("http://{}/v1", backend.authority), &workspace);
        let turn = direct_in(&backend, job, CancellationToken::new()).await;
        for output in turn.outputs(1) {
            assert_eq!(output.contains("a[secret removed]"), is_secret, "{output}");
            assert_eq!(output.contains(&"z".repeat(half)), !is_secret, "{output}");
            assert!(!output.contains(kept) && output.contains('…'), "{output}");
        }
    }
}

#[tokio::test]
async fn the_last_step_has_no_tools_and_gives_an_answer() {
    let backend = Backend::start([asks([bash("c1", "echo x")]), answer("as far as I got")]).await;
    let turn = direct(&backend, |job| job["budget"] = json!({"steps": 2})).await;
    assert_eq!(turn.outcome, budget(Spent::Steps, Some("as far as I got")));
    assert_eq!(turn.seen[1].body["tools"], json!([]));
    assert_eq!(turn.seen[0].body["instructions"], turn.seen[1].body["instructions"]);
}

#[tokio::test]
async fn spent_tokens_end_the_turn_before_the_next_request() {
    let backend = Backend::start([asks([bash("c1", "echo x")])]).await;
    let turn = direct(&backend, |job| job["budget"] = json!({"tokens": 15})).await;
    assert_eq!(turn.outcome, budget(Spent::Tokens, None));
    assert_eq!(turn.seen.len(), 1);
}

#[tokio::test]
async fn seconds_end_a_call_and_a_stream() {
    // Enough time to start the call.
    let backend = Backend::start([asks([bash("c1", "sleep 60")])]).await;
    let turn = direct(&backend, |job| job["budget"] = json!({"seconds": 3})).await;
    assert_eq!(turn.outcome, budget(Spent::Seconds, None));
    assert_eq!(turn.events_named("call_ended")[0]["ok"], false);

    let backend = Backend::start([ScriptedReply::Silent(vec![])]).await;
    let turn = direct(&backend, |job| job["budget"] = json!({"seconds": 1})).await;
    assert_eq!(turn.outcome, budget(Spent::Seconds, None));
}

#[tokio::test]
async fn an_empty_answer_gets_a_reminder() {
    let empty = ScriptedReply::Events(vec![completed()]);
    let backend = Backend::start([empty.clone(), answer("done")]).await;
    assert_eq!(direct(&backend, |_| {}).await.outcome, finished("done"));
    let backend = Backend::start([empty.clone(), empty.clone(), empty]).await;
    assert_eq!(
        direct(&backend, |_| {}).await.fault(),
        (FaultKind::Backend, "the model gives no answer")
    );
}

#[tokio::test]
async fn a_model_that_wants_to_go_on_is_asked_again() {
    let more = json!({"type": "response.completed", "response": {"end_turn": false}});
    let backend =
        Backend::start([ScriptedReply::Events(vec![text("wait"), more]), answer("done")]).await;
    let turn = direct(&backend, |_| {}).await;
    assert_eq!(turn.outcome, finished("done"));
    assert_eq!(turn.events_named("text").len(), 1);
}

#[tokio::test]
async fn the_model_comes_from_the_catalogue_unless_it_was_named() {
    let models = json!({"models": [{"slug": "gpt-best", "visibility": "list", "priority": 1}]});
    let unresolved = |job: &mut Value| job["model"] = json!({});
    let backend = Backend::start_with([answer("done")], Some(models), None).await;
    let turn = direct(&backend, unresolved).await;
    assert_eq!(turn.seen[0].line, "GET /v1/models?client_version=0.169.0 HTTP/1.1");
    assert_eq!(turn.seen[1].body["model"], "gpt-best");

    let backend = Backend::start([answer("done")]).await;
    let turn = direct(&backend, |job| job["model"] = json!({"slug": "mine"})).await;
    assert_eq!(turn.outcome, finished("done"));
    assert_eq!(turn.seen[1].body["model"], "mine");

    let backend = Backend::start([]).await;
    let turn = direct(&backend, unresolved).await;
    assert_eq!(turn.fault().0, FaultKind::Refused);
}

#[tokio::test]
async fn cancelling_ends_a_call_and_the_turn() {
    let backend = Backend::start([asks([bash("c1", ": >begun; sleep 60")])]).await;
    let workspace = WorkspaceFixture::new();
    let job = job(&format!("http://{}/v1", backend.authority), &workspace);
    let cancel = CancellationToken::new();
    let cancels = async {
        workspace.wait_for("begun").await;
        cancel.cancel();
    };
    let (turn, ()) = tokio::join!(direct_in(&backend, job, cancel.clone()), cancels);
    assert_eq!(turn.outcome, Outcome::Stopped { reason: Stop::Cancelled, answer: None });
    assert_eq!(turn.events_named("call_ended").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_does_not_hold_a_cancelled_turn() {
    let backend = Backend::start([asks([bash("c1", "sleep 60")])]).await;
    let workspace = WorkspaceFixture::new();
    let job = job(&format!("http://{}/v1", backend.authority), &workspace);
    let handoff = Handoff {
        protocol: 1,
        session: "session-1".into(),
        session_key: Secret::new(String::new()),
        link: LinkKind::None,
        secrets: secrets(),
        job: serde_json::from_value(job).expect("a job"),
    };
    let (ours, _theirs) = tokio::io::duplex(8);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let began = Instant::now();
    let code = alone(handoff, Box::new(ours), began + Duration::from_secs(60), cancel).await;
    assert!(is_code(code, 1));
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
}
