//! What to do with each request of a browser. No sockets and no time here.
//!
//! ```text
//! GET /start/<random>    the browser we opened: sets a cookie, redirects to the issuer with state A
//! GET /auth/callback?…   back from the issuer: state A needs the cookie, state B (printed) does not
//! GET /done …            the result, at an address without a code
//! ```

use std::borrow::Cow;

use airlock_shared::secret::Secret;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use oauth2::CsrfToken;
use oauth2::url::form_urlencoded;

use super::authorize::{Attempt, CALLBACK};
use super::pages::{Page, redirect};

/// The progress of a sign-in, as a browser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Phase {
    Open,
    /// A code is being exchanged.
    Exchanging,
    Done,
    Declined,
    Failed,
}

/// A callback with the right state and a code.
pub(in crate::auth) struct Callback {
    pub(in crate::auth) code: Secret,
    pub(in crate::auth) attempt: Attempt,
}

/// What to do about a request.
pub(super) enum CallbackAction {
    Answer(Response<Full<Bytes>>),
    /// Reject it. The reason may be shown to the person.
    Reject(&'static str),
    /// Exchange the code, and answer with the result.
    Code(Callback),
    /// The issuer sent this error instead of a code.
    Declined(String),
    /// A valid callback came again: answer with the result of the first one.
    Repeat,
}

/// The state of one sign-in.
pub(super) struct CallbackHandler {
    port: u16,
    phase: Phase,
    start: Secret,
    /// The browser that fetched the start page first has it.
    cookie: Option<Secret>,
    /// Authorization A: for the browser that we open.
    opened: Attempt,
    /// Authorization B: for the address that is printed.
    printed: Attempt,
}

const RANDOM_BYTES: u32 = 32;
/// The start of the cookie's name. The port follows, because two sign-ins can be open at once.
const COOKIE: &str = "airlock_sign_in";
/// The longest code.
const CODE_BYTES: usize = 4096;

fn random() -> Secret {
    Secret::new(CsrfToken::new_random_len(RANDOM_BYTES).into_secret())
}

impl CallbackHandler {
    pub(super) fn new(port: u16, opened: Attempt, printed: Attempt) -> Self {
        let (phase, start) = (Phase::Open, random());
        Self { port, phase, start, cookie: None, opened, printed }
    }

    /// The address of the start page. It holds neither state nor challenge.
    pub(super) fn start_address(&self) -> String {
        format!("http://localhost:{}/start/{}", self.port, self.start.reveal())
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Whether this is a request for the start page, with the right address. Only for this page it
    /// matters which user the connection belongs to, and to find that out is slow.
    pub(super) fn is_start<B>(&self, request: &Request<B>) -> bool {
        let offered = request.uri().path().strip_prefix("/start/");
        let offered =
            offered.filter(|_| self.has_own_host(request) && request.method() == Method::GET);
        offered.is_some_and(|offered| self.start.matches(offered.as_bytes()))
    }

    /// `is_other_user`: the connection belongs to another user of this machine.
    pub(super) fn handle<B>(
        &mut self,
        request: &Request<B>,
        is_other_user: bool,
    ) -> CallbackAction {
        // THREAT: DNS rebinding: the name of a web page is changed to 127.0.0.1, and the page reads
        // our answers. Tried by auth::browser::tests::a_request_for_another_host_gets_nothing.
        if !self.has_own_host(request) {
            return CallbackAction::Answer(Page::OtherHost.response());
        }
        let path = request.uri().path();
        if request.method() != Method::GET {
            return CallbackAction::Answer(Page::NotFound.response());
        }
        if let Some(offered) = path.strip_prefix("/start/") {
            return self.start(request.headers(), offered, is_other_user);
        }
        match (path, self.phase) {
            (CALLBACK, _) => self.callback(request),
            ("/done", Phase::Done) => CallbackAction::Answer(Page::Done.response()),
            ("/declined", Phase::Declined) => CallbackAction::Answer(Page::Declined.response()),
            ("/failed", Phase::Failed) => CallbackAction::Answer(Page::Failed.response()),
            _ => CallbackAction::Answer(Page::NotFound.response()),
        }
    }

    fn has_own_host<B>(&self, request: &Request<B>) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let known = ["localhost", "127.0.0.1"].map(|name| format!("{name}:{}", self.port));
        hosts.next().is_none() && known.iter().any(|known| host.eq_ignore_ascii_case(known))
    }

    fn start(&mut self, headers: &HeaderMap, offered: &str, is_other_user: bool) -> CallbackAction {
        if !self.start.matches(offered.as_bytes()) {
            return CallbackAction::Answer(Page::NotFound.response());
        }
        // THREAT: another user reads this address in the arguments of the browser we start, opens
        // it first, and signs in, so that the login is for that user's account. Tried by
        // auth::browser::tests::a_connection_of_another_user_gets_no_start_page.
        if is_other_user {
            return CallbackAction::Reject("another user of this machine opened the start page");
        }
        if self.phase != Phase::Open {
            return CallbackAction::Answer(Page::Used.response());
        }
        // THREAT: the same with another browser of our own user. Tried by
        // auth::browser::tests::a_second_browser_gets_no_start_page.
        let cookie = match &self.cookie {
            Some(_) if self.has_cookie(headers) => None,
            Some(_) => return CallbackAction::Reject("a second browser opened the start page"),
            None => {
                let value = random();
                let name = self.cookie_name();
                let line = format!("{name}={}; HttpOnly; SameSite=Lax; Path=/", value.reveal());
                self.cookie = Some(value);
                Some(line)
            }
        };
        let to = self.opened.address();
        CallbackAction::Answer(redirect(StatusCode::FOUND, to, cookie.as_deref()))
    }

    fn cookie_name(&self) -> String {
        format!("{COOKIE}_{}", self.port)
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let Some(own) = &self.cookie else { return false };
        let name = self.cookie_name();
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(known, _)| known.trim() == name).map(|(_, value)| value);
        values.any(|value| own.matches(value.trim().as_bytes()))
    }

    fn callback<B>(&mut self, request: &Request<B>) -> CallbackAction {
        let query = request.uri().query().unwrap_or_default();
        let fields: Vec<(Cow<'_, str>, Cow<'_, str>)> =
            form_urlencoded::parse(query.as_bytes()).collect();
        // `None`: missing, empty, or given more than once.
        let field = |name: &str| {
            let mut found = fields.iter().filter(|(known, _)| known == name);
            let first = found.next().map(|(_, value)| value.as_ref());
            first.filter(|value| !value.is_empty() && found.next().is_none())
        };
        let state = field("state").unwrap_or_default();
        // THREAT: an attacker's link or page calls this address with the attacker's code, and the
        // person is signed in to the attacker's account. Tried by
        // auth::browser::tests::a_callback_with_another_state_is_rejected.
        let attempt = if self.printed.is_state(state) {
            &self.printed
        } else if !self.opened.is_state(state) {
            return CallbackAction::Reject("a callback came that does not belong to this sign-in");
        } else if !self.has_cookie(request.headers()) {
            // THREAT: an attacker who knows state A sends it from another browser. Tried by
            // auth::browser::tests::a_callback_from_another_browser_is_rejected.
            return CallbackAction::Reject(
                "the callback came from another browser than the one that was opened",
            );
        } else {
            &self.opened
        };
        // THREAT: a callback is replayed and its code exchanged twice, which ends the login,
        // because a code works only once. Tried by
        // auth::browser::tests::a_replayed_callback_exchanges_nothing.
        if self.phase != Phase::Open {
            return CallbackAction::Repeat;
        }
        if let Some(error) = field("error") {
            let description = field("error_description").unwrap_or_default();
            self.phase = Phase::Declined;
            return CallbackAction::Declined(format!("{error} {description}"));
        }
        let code = field("code").filter(|code| {
            code.len() <= CODE_BYTES && code.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let Some(code) = code else {
            return CallbackAction::Reject("a callback came without a code");
        };
        let callback = Callback { code: Secret::new(code.to_owned()), attempt: attempt.clone() };
        self.phase = Phase::Exchanging;
        CallbackAction::Code(callback)
    }
}
