//! Large messages: refused if they are only large in memory, passed if they are honest.

use airlock_shared::{limits, link};
use axum::body::Body;
use http::Method;
use serde_json::json;

use super::rig::*;
use super::*;

/// An event that would be large in memory is not accepted, and an outcome that uses it is forged.
#[tokio::test]
async fn a_dense_answer_is_not_taken() {
    let item = |content: Value| json!({"type": "message", "role": "assistant", "content": content});
    let many = vec![json!({}); limits::JSON_STRUCTURE_BYTES / 800 + 1];
    for (content, taken) in
        [(json!([{"type": "output_text", "text": "x"}]), true), (json!(many), false)]
    {
        let said = events(&[item_done(&item(content)), completed()]);
        let (mut rig, _) = Rig::scripted(vec![said]).await;
        assert_eq!(rig.ask_whole(user("x")).await.0, 200);
        assert_eq!(rig.served.gate.last_answer().is_some(), taken);
    }
}

/// The honest history of a long session: thousands of items, large outputs, a picture.
#[tokio::test]
async fn a_large_honest_request_passes() {
    let (mut rig, script) = Rig::scripted(vec![says("done")]).await;
    let picture = format!("data:image/png;base64,iVBORw0KGgoA{}", "A".repeat(10 << 20));
    let mut input = vec![json!({"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": "what is this?"}, {"type": "input_image", "image_url": picture}]})];
    for n in 0..2_000 {
        let call = format!("call_{n}");
        input.push(json!({"type": "function_call", "call_id": call, "name": "bash",
            "arguments": "{\"command\": \"ls, [a], {b}\"}"}));
        let output = "a line, [of], {output}\n".repeat(200);
        input.push(json!({"type": "function_call_output", "call_id": call, "output": output}));
    }
    let (status, said) = rig.ask_whole(Value::Array(input)).await;
    assert_eq!(status, 200, "{said}");
    let asked = script.asked();
    assert_eq!(asked[0].body["input"].as_array().map(Vec::len), Some(4_001));
    assert_eq!(
        asked[0].body["input"][0]["content"][1]["image_url"].as_str().map(str::len),
        Some((10 << 20) + 34)
    );
}

/// A catalogue has the limits of an answer: one that is small as text cannot fill the memory.
#[tokio::test]
async fn a_dense_catalogue_is_not_taken() {
    let model = json!({"slug": "m", "display_name": "M", "context_window": 1, "visibility": "list",
        "supported_reasoning_levels": [{"effort": "low"}, {"effort": "high"}]});
    let honest = json!({"models": vec![model; 1_000]});
    let dense = json!({"models": vec![json!({}); limits::JSON_STRUCTURE_BYTES / 800 + 1]});
    let body = |catalogue: &Value| whole("200 OK", "", &catalogue.to_string());
    let (_, base) = Script::start(vec![body(&honest), body(&dense)]).await;
    let Upstream::Live { client, signer } = live(&base) else { panic!("not live") };
    let backend = config(&base, live(&base)).backend;
    let patience = Duration::from_secs(5);
    let asked = async || catalogue(&client, signer.as_ref(), &base, &backend, patience).await;
    assert_eq!(asked().await, Ok(honest));
    let why = format!("{}: its answer has too many values", base.origin());
    assert_eq!(asked().await, Err(Fault::new(FaultKind::Backend, why)));
}

/// A compaction that is too large is not passed on in part.
#[tokio::test]
async fn a_compaction_that_is_too_large_is_refused() {
    let answer = |bytes: usize| {
        let item = json!({"type": "compaction", "encrypted_content": "e".repeat(bytes)});
        whole("200 OK", "", &json!({"output": [item], "usage": {"input_tokens": 3}}).to_string())
    };
    let replies = vec![answer(1 << 20), answer(limits::COMPACTION_BYTES)];
    let (mut rig, _) = Rig::scripted(replies).await;
    let mut compact = async || {
        let body = Body::from(json!({"input": user("long")}).to_string());
        text(rig.send(Method::POST, link::COMPACT, body).await).await
    };
    assert_eq!(compact().await.0, 200);
    let (status, said) = compact().await;
    assert_eq!((status, code(&said).as_str()), (413, "too_large"));
    assert_eq!(rig.served.gate.spent().steps, 2, "the backend did its work");
}
