//! What would make the provider fetch something: false pictures, and schemas with references.

use serde_json::json;

use super::*;

#[test]
fn only_pictures_are_pictures() {
    let begins: [(&str, &[u8]); 5] = [
        ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01"),
        ("gif", b"GIF87a\x01\0\x01\0\0\0"),
        ("gif", b"GIF89a\x01\0\x01\0\0\0"),
        ("webp", b"RIFF\x24\0\0\0WEBPVP8 "),
    ];
    let url =
        |kind: &str, data: &[u8]| format!("data:image/{kind};base64,{}", STANDARD.encode(data));
    for (kind, begin) in begins {
        assert!(is_picture(&url(kind, begin)), "{kind}");
        assert!(!is_picture(&url(kind, &begin[..6])), "{kind}: too short to be one");
        for (other, theirs) in begins.iter().filter(|(other, _)| *other != kind) {
            assert!(!is_picture(&url(kind, theirs)), "{other} as {kind}");
        }
        let svg = b"<svg><image href=\"https://evil.example/?q\"/></svg>";
        assert!(!is_picture(&url(kind, svg)), "svg as {kind}");
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
        // The form alone is refused: try each with the bytes of a real picture, too.
        let real = url.replace("eA==", "iVBORw0KGgoAAAANSUhEUgAA");
        assert!(!is_picture(url) && !is_picture(&real), "{url}");
    }
}

#[test]
fn the_detail_of_a_picture_is_one_of_ours() {
    let url = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA";
    let part = |detail: Value| json!([{"type": "input_image", "image_url": url, "detail": detail}]);
    for detail in DETAILS {
        let given = part(json!(detail));
        assert_eq!(parts(&mut given.clone(), "x", &["input_image"]), Ok(given));
    }
    for detail in [json!("https://evil.example/"), json!(""), json!("HIGH"), json!(null), json!(7)]
    {
        let refused = parts(&mut part(detail.clone()), "x", &["input_image"]);
        let why = "`x[0].detail` may be auto, low, high, original".to_owned();
        assert_eq!(refused, Err(Denied(why)), "{detail}");
    }
}

#[test]
fn a_schema_points_nowhere_else() {
    let evil = "https://evil.example/?q";
    for key in ["$ref", "$dynamicRef", "$recursiveRef", "$schema", "$id", "$vocabulary", "id"] {
        assert!(
            schema(&mut json!({"properties": {"a": {key: "#/$defs/x"}}}), "x").is_ok(),
            "{key}"
        );
        let odd = [json!([evil]), json!({"url": evil}), json!(7)];
        // A property may be named `id`, and is not a string.
        let odd = odd.into_iter().filter(|_| key != "id");
        for target in [json!(evil), json!("")].into_iter().chain(odd) {
            let refused = schema(&mut json!({"properties": {"a": {key: target}}}), "x");
            assert!(refused.is_err_and(|denied| denied.0.contains(key)), "{key}: {target}");
        }
    }
    let properties = json!({"properties": {"id": {"type": "string"}}, "required": ["id"]});
    assert_eq!(schema(&mut properties.clone(), "x"), Ok(properties));
}
