//! The pages that a browser gets. They are constant: they hold no part of a request, so there is
//! nothing to escape. They have no script, no picture and no token.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// A page of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Done,
    Declined,
    Failed,
    /// The start page was used by another browser, or the sign-in is over.
    Used,
    /// The callback does not belong to this sign-in.
    Rejected,
    OtherHost,
    NotFound,
}

impl Page {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Done => (
                StatusCode::OK,
                "Signed in",
                "You can close this window and go back to the terminal.",
            ),
            Self::Declined => (
                StatusCode::OK,
                "Not signed in",
                "The sign-in was declined. The terminal says what to do.",
            ),
            Self::Failed => (
                StatusCode::OK,
                "Not signed in",
                "The issuer refused the sign-in. The terminal says why.",
            ),
            Self::Used => (
                StatusCode::GONE,
                "This address has been used",
                "It works in one browser only. Open the address that the terminal shows.",
            ),
            Self::Rejected => (
                StatusCode::BAD_REQUEST,
                "Not this sign-in",
                "This answer belongs to another sign-in or to another browser, and was ignored. \
                 The sign-in in the terminal is still open.",
            ),
            Self::OtherHost => {
                (StatusCode::BAD_REQUEST, "Not here", "This address is only for localhost.")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "Not here", "There is nothing here."),
        }
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let (status, title, text) = self.parts();
        let html = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
             <body><h1>{title}</h1><p>{text}</p></body></html>\n"
        );
        let mut response = with_security_headers(status, html);
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// A redirect, which may set a cookie.
pub(super) fn redirect(
    status: StatusCode,
    location: &str,
    cookie: Option<&str>,
) -> Response<Full<Bytes>> {
    let Ok(location) = HeaderValue::from_str(location) else { return Page::NotFound.response() };
    let mut response = with_security_headers(status, String::new());
    response.headers_mut().insert(header::LOCATION, location);
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// THREAT: the code or the state leaves the machine in a `Referer` header, stays in a cache, or
/// another site shows our page in a frame. Tried by
/// auth::browser::tests::bounds::every_answer_has_the_security_headers.
fn with_security_headers(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
