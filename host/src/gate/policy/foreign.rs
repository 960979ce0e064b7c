//! What would make the provider look elsewhere: pictures that are none, schemas that point away.

use serde_json::json;

use super::*;

#[test]
fn only_pictures_are_pictures() {
    for kind in ["png", "jpeg", "gif", "webp"] {
        assert!(is_picture(&format!("data:image/{kind};base64,iVBORw0KGgo=")), "{kind}");
    }
    for url in [
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/svg+xml,<svg/>",
        "data:image/../text/html;base64,eA==",
        "data:image/png,x",
        "data:image/png;base64,",
        "data:image/png;base64,eA==\nhttps://evil.example",
        "data:image/png;charset=x;base64,eA==",
        "data:image/png;base64,eA==;base64,eA==",
        "DATA:image/png;base64,eA==",
        " data:image/png;base64,eA==",
        "https://evil.example/data:image/png;base64,eA==",
    ] {
        assert!(!is_picture(url), "{url}");
    }
}

#[test]
fn a_schema_points_nowhere_else() {
    let evil = "https://evil.example/?q";
    for key in ["$ref", "$dynamicRef", "$recursiveRef", "$schema", "$id"] {
        assert!(
            schema(&mut json!({"properties": {"a": {key: "#/$defs/x"}}}), "x").is_ok(),
            "{key}"
        );
        for target in [json!(evil), json!([evil]), json!({"url": evil}), json!(7), json!("")] {
            let refused = schema(&mut json!({"properties": {"a": {key: target}}}), "x");
            assert!(refused.is_err_and(|denied| denied.0.contains(key)), "{key}: {target}");
        }
    }
}
