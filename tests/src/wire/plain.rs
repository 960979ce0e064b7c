//! An answer in HTTP that is no stream.

use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Plain {
    #[must_use]
    pub fn of(status: u16, content_type: &str, body: &str) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.to_owned() }
    }

    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json", &body.to_string())
    }

    /// The shape of most refusals.
    #[must_use]
    pub fn error(status: u16, kind: &str, code: &str, message: &str) -> Self {
        let error = json!({"message": message, "type": kind, "param": null, "code": code});
        Self::json(status, &json!({"error": error}))
    }

    #[must_use]
    pub fn detail(message: &str) -> Self {
        Self::json(400, &json!({"detail": message}))
    }

    /// A 403 web page, as a content delivery network shows to programs.
    #[must_use]
    pub fn challenge() -> Self {
        let page = format!(
            "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>\
             Enable JavaScript and cookies to continue{}</body></html>",
            " ".repeat(4096)
        );
        Self::of(403, "text/html; charset=UTF-8", &page).with("cf-mitigated", "challenge")
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}
