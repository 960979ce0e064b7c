//! What is heavy: refused where it is large in memory only, passed where it is honest.

use airlock_shared::limits;
use serde_json::json;

use super::rig::*;
use super::*;

/// An event that would be large in memory is not taken, and what a sandbox says of it is forged.
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

/// What an honest history of a long session is: thousands of items, large outputs, a picture.
#[tokio::test]
async fn a_large_honest_request_passes() {
    let (mut rig, script) = Rig::scripted(vec![says("done")]).await;
    let picture = format!("data:image/png;base64,{}", "A".repeat(10 << 20));
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
        Some((10 << 20) + 22)
    );
}
