//! What a fault-free answer is: every step a proper stream, every way on the wire the same events.

use airlock_shared::stream::{StreamEvent, Usage};
use airlock_tests::backend::{
    Backend, Options, Wire, answer, answer_echoing_headers, api_catalogue, calls, patch, reason,
    script,
};
use serde_json::{Value, json};

use crate::client::{End, good, post, send, user};

const WIRES: [Wire; 9] = [
    Wire::Lf,
    Wire::CrLf,
    Wire::Cr,
    Wire::Bom,
    Wire::Bytewise,
    Wire::Multiline,
    Wire::Comments,
    Wire::NoNames,
    Wire::Junk,
];

fn items(events: &[Value]) -> Vec<Value> {
    let parsed = events.iter().map(|event| StreamEvent::parse(&event.to_string()));
    parsed
        .filter_map(|event| if let StreamEvent::Item(item) = event { Some(item) } else { None })
        .collect()
}

#[test]
fn a_conversation_of_every_item_is_taken_back() {
    let backend = Backend::scripted(script![
        reason("gAAAA1")
            .text("let me look")
            .call("bash", json!({"command": "ls"}))
            .call("bash", json!({"command": "pwd"})),
        patch("*** Begin Patch\n*** End Patch\n"),
        answer("done").usage(100, 40, 7),
    ]);
    let mut input = vec![user("hi")];
    for expected in [4, 1, 1] {
        let came = post(&backend, &good(json!(input)));
        assert_eq!((came.status(), &came.end), (200, &End::Whole), "{}", came.text());
        let items = items(&came.events());
        assert_eq!(items.len(), expected);
        for item in &items {
            input.push(airlock_shared::item::resent(item.clone()));
        }
        let calls = items.iter().filter_map(airlock_shared::item::call);
        input.extend(calls.map(|call| airlock_shared::item::output(&call, "ok")));
        let last = came.events().pop().map(|event| StreamEvent::parse(&event.to_string()));
        assert!(matches!(last, Some(StreamEvent::Completed { .. })), "{last:?}");
        if expected == 1 && backend.left_over() == 0 {
            let usage = Usage { input: 100, cached: 40, output: 7, reasoning: 0 };
            assert_eq!(last, Some(StreamEvent::Completed { usage: Some(usage), more: false }));
        }
    }
    let none: [String; 0] = [];
    assert_eq!(backend.complaints(), none);
    assert_eq!(backend.left_over(), 0);
}

#[test]
fn every_way_on_the_wire_says_the_same() {
    for wire in WIRES {
        let text = "byte by byte: é世🦀 end";
        let backend = Backend::scripted(script![answer(text).wire(wire)]);
        let came = post(&backend, &good(json!([user("hi")])));
        let texts: Vec<_> =
            items(&came.events()).iter().filter_map(airlock_shared::item::assistant_text).collect();
        assert_eq!(texts, [text], "{wire:?}");
    }
}

#[test]
fn what_is_lost_from_the_history_is_complained_of() {
    let backend = Backend::scripted(script![reason("gAAAA1").text("a").and_goes_on(), answer("b")]);
    drop(post(&backend, &good(json!([user("hi")]))));
    let came = post(&backend, &good(json!([user("hi")])));
    assert_eq!(came.status(), 200, "the real backend takes it");
    assert!(backend.complaints()[0].starts_with("an item was lost"), "{:?}", backend.complaints());
}

#[test]
fn what_is_wrong_in_the_headers_is_complained_of() {
    let backend = Backend::scripted(script![answer("a")]);
    let body = good(json!([])).to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/responses HTTP/1.1\r\nauthorization: Bearer ey\r\nx-airlock-session-key: k\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    drop(send(&backend, &request));
    let complaints = backend.complaints().join("\n");
    for expected in ["no header originator", "x-airlock-session-key", "without chatgpt-account-id"]
    {
        assert!(complaints.contains(expected), "{expected}: {complaints}");
    }
}

#[test]
fn headers_are_said_back_where_the_script_says_so() {
    let backend = Backend::scripted(script![answer_echoing_headers()]);
    let came = post(&backend, &good(json!([])));
    let text = items(&came.events()).iter().find_map(airlock_shared::item::assistant_text);
    assert!(text.unwrap_or_default().contains("authorization: Bearer sk-1"));
}

#[test]
fn both_catalogues_and_a_token_that_is_refused() {
    for (catalogue, listed) in [(None, "\"models\""), (Some(api_catalogue()), "\"data\"")] {
        let mut options = Options { tokens: vec!["sk-1".into()], ..Options::default() };
        if let Some(catalogue) = catalogue {
            options.catalogue = catalogue;
        }
        let backend = Backend::start(options);
        let get = |token: &str| {
            let request = format!(
                "GET /backend-api/codex/models?client_version=1 HTTP/1.1\r\nauthorization: Bearer {token}\r\n\r\n"
            );
            send(&backend, &request)
        };
        assert!(get("sk-1").text().contains(listed));
        assert_eq!(get("sk-2").status(), 401);
        backend.refuse("sk-1");
        assert_eq!(get("sk-1").status(), 401);
    }
}

#[test]
fn parallel_calls_have_ids_of_their_own() {
    let backend = Backend::scripted(script![calls([("a", json!({})), ("b", json!({}))])]);
    let came = post(&backend, &good(json!([])));
    let ids: Vec<_> = items(&came.events()).iter().map(|item| item["call_id"].clone()).collect();
    assert_ne!(ids[0], ids[1]);
}
