//! What the browser is shown: whole pages, written here. Nothing of a request is in any of them, so
//! there is nothing to escape; no script, no picture, no token.

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
    /// A callback that is not of this sign-in.
    Stranger,
    NotOurs,
    NotFound,
}

impl Page {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Done => {
                (StatusCode::OK, "Signed in", "You can close this window; the terminal goes on.")
            }
            Self::Declined => (
                StatusCode::OK,
                "Not signed in",
                "The sign-in was declined. The terminal says what can be done.",
            ),
            Self::Failed => (
                StatusCode::OK,
                "Not signed in",
                "The issuer did not take it. The terminal says why.",
            ),
            Self::Used => (
                StatusCode::GONE,
                "This address has been used",
                "It was for one browser. Take the address that the terminal shows.",
            ),
            Self::Stranger => (
                StatusCode::BAD_REQUEST,
                "Not this sign-in",
                "This answer belongs to another sign-in, or to another browser. Nothing was taken \
                 from it; the sign-in in the terminal is still open.",
            ),
            Self::NotOurs => {
                (StatusCode::BAD_REQUEST, "Not here", "This address is only for localhost.")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "Not here", "There is nothing here."),
        }
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let (status, title, words) = self.parts();
        let text = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
             <body><h1>{title}</h1><p>{words}</p></body></html>\n"
        );
        let mut response = bare(status, text);
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// To another place; `cookie` goes with it.
pub(super) fn redirect(
    status: StatusCode,
    place: &str,
    cookie: Option<&str>,
) -> Response<Full<Bytes>> {
    let Ok(place) = HeaderValue::from_str(place) else { return Page::NotFound.response() };
    let mut response = bare(status, String::new());
    response.headers_mut().insert(header::LOCATION, place);
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// THREAT: the code or the state leaves the machine in a `Referer`, stays in a cache, or a page of
/// somebody else's frames ours. Tried by auth::browser::every_answer_keeps_to_itself.
fn bare(status: StatusCode, text: String) -> Response<Full<Bytes>> {
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
