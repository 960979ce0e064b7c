//! What each request of a browser means: no sockets here, and no time.
//!
//! ```text
//! GET /start/<random>    the browser we opened: a cookie, and on to the issuer with state A
//! GET /auth/callback?…   back from it: state A needs that cookie, state B (printed) does not
//! GET /done …            what became of it, at an address without a code
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

/// How far the sign-in is, as a browser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Phase {
    Open,
    /// A code is being exchanged.
    Asking,
    Done,
    Declined,
    Failed,
}

/// A code came back with the right state.
pub(in crate::auth) struct Callback {
    pub(in crate::auth) code: Secret,
    pub(in crate::auth) attempt: Attempt,
}

/// What to do about a request.
pub(super) enum CallbackAction {
    Answer(Response<Full<Bytes>>),
    /// Nothing was taken from it; a person may want to know.
    Stranger(&'static str),
    /// Exchange it, and answer with what becomes of it.
    Code(Callback),
    /// The issuer's own refusal; holds what it said.
    Declined(String),
    /// A right callback once more: answer with what becomes of the first.
    Again,
}

/// The state of one sign-in.
pub(super) struct CallbackHandler {
    port: u16,
    phase: Phase,
    start: Secret,
    /// Whoever fetched the start page first has it.
    cookie: Option<Secret>,
    /// A: of the browser that we open.
    opened: Attempt,
    /// B: of the address that is printed.
    printed: Attempt,
}

const RANDOM_BYTES: u32 = 32;
/// Sign-ins that are open together: the other port has another cookie.
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

    /// The address to open: neither state nor challenge is in it.
    pub(super) fn start_address(&self) -> String {
        format!("http://localhost:{}/start/{}", self.port, self.start.reveal())
    }

    pub(super) fn phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Whether the start page is asked for, by whoever has its address: the one page where it
    /// matters whose connection this is, and slow to know.
    pub(super) fn is_start<B>(&self, request: &Request<B>) -> bool {
        let offered = request.uri().path().strip_prefix("/start/");
        let offered = offered.filter(|_| self.is_ours(request) && request.method() == Method::GET);
        offered.is_some_and(|offered| self.start.matches(offered.as_bytes()))
    }

    /// `is_anothers`: the connection belongs to another person of this machine.
    pub(super) fn judge<B>(&mut self, request: &Request<B>, is_anothers: bool) -> CallbackAction {
        // THREAT: a page of the open web whose name was rebound to 127.0.0.1 reads our answers.
        // Tried by auth::browser::a_request_for_another_host_gets_nothing.
        if !self.is_ours(request) {
            return CallbackAction::Answer(Page::NotOurs.response());
        }
        let path = request.uri().path();
        if request.method() != Method::GET {
            return CallbackAction::Answer(Page::NotFound.response());
        }
        if let Some(offered) = path.strip_prefix("/start/") {
            return self.start(request.headers(), offered, is_anothers);
        }
        match (path, self.phase) {
            (CALLBACK, _) => self.callback(request),
            ("/done", Phase::Done) => CallbackAction::Answer(Page::Done.response()),
            ("/declined", Phase::Declined) => CallbackAction::Answer(Page::Declined.response()),
            ("/failed", Phase::Failed) => CallbackAction::Answer(Page::Failed.response()),
            _ => CallbackAction::Answer(Page::NotFound.response()),
        }
    }

    fn is_ours<B>(&self, request: &Request<B>) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let known = ["localhost", "127.0.0.1"].map(|name| format!("{name}:{}", self.port));
        hosts.next().is_none() && known.iter().any(|known| host.eq_ignore_ascii_case(known))
    }

    fn start(&mut self, headers: &HeaderMap, offered: &str, is_anothers: bool) -> CallbackAction {
        if !self.start.matches(offered.as_bytes()) {
            return CallbackAction::Answer(Page::NotFound.response());
        }
        // THREAT: another user reads this address in the arguments of the browser we start, is
        // there first, and the login becomes one to an account of theirs. Tried by
        // auth::browser::a_connection_of_another_user_gets_no_start_page.
        if is_anothers {
            return CallbackAction::Stranger("another user of this machine opened the start page");
        }
        if self.phase != Phase::Open {
            return CallbackAction::Answer(Page::Used.response());
        }
        // THREAT: the same, from a browser of our own user's that is not the person's. Tried by
        // auth::browser::a_second_browser_gets_no_start_page.
        let cookie = match &self.cookie {
            Some(_) if self.has_cookie(headers) => None,
            Some(_) => return CallbackAction::Stranger("a second browser opened the start page"),
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
        // None: not there, or more than once.
        let field = |name: &str| {
            let mut found = fields.iter().filter(|(known, _)| known == name);
            let first = found.next().map(|(_, value)| value.as_ref());
            first.filter(|value| !value.is_empty() && found.next().is_none())
        };
        let state = field("state").unwrap_or_default();
        // THREAT: somebody's link or page calls this address with a code of their own, and the
        // person is signed in to their account. Tried by
        // auth::browser::a_callback_with_another_state_takes_nothing.
        let attempt = if self.printed.is_state(state) {
            &self.printed
        } else if !self.opened.is_state(state) {
            return CallbackAction::Stranger("a callback came that is not of this sign-in");
        } else if !self.has_cookie(request.headers()) {
            // THREAT: whoever learned state A brings it from another browser. Tried by
            // auth::browser::a_callback_from_another_browser_takes_nothing.
            return CallbackAction::Stranger(
                "the callback came from another browser than was opened",
            );
        } else {
            &self.opened
        };
        // THREAT: a replayed callback has its code exchanged twice, which ends the login (a code
        // is good once). Tried by auth::browser::a_replayed_callback_exchanges_nothing.
        if self.phase != Phase::Open {
            return CallbackAction::Again;
        }
        if let Some(error) = field("error") {
            let words = field("error_description").unwrap_or_default();
            self.phase = Phase::Declined;
            return CallbackAction::Declined(format!("{error} {words}"));
        }
        let code = field("code").filter(|code| {
            code.len() <= CODE_BYTES && code.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let Some(code) = code else {
            return CallbackAction::Stranger("a callback came without a code");
        };
        let came = Callback { code: Secret::new(code.to_owned()), attempt: attempt.clone() };
        self.phase = Phase::Asking;
        CallbackAction::Code(came)
    }
}
