//! Which request is answered how, before any fault.

use form_urlencoded::{Serializer, parse};
use serde_json::{Value, json};

use super::book::{Agreement, Book, Granted};
use super::{CLIENT_ID, Fault, What, jwt, page};
use crate::wire::plain::Plain;
use crate::wire::record::Recorded;

/// What the address of an authorization says, in this order (A.2).
const AUTHORIZE: [&str; 10] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "code_challenge",
    "code_challenge_method",
    "id_token_add_organizations",
    "codex_cli_simplified_flow",
    "state",
    "originator",
];
/// Only these are registered (A.1).
const REDIRECTS: [&str; 2] =
    ["http://localhost:1455/auth/callback", "http://localhost:1457/auth/callback"];
const SCOPE: &str = "openid profile email offline_access";

/// Names and values of a query or a form.
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(parse(text).into_owned().collect())
    }

    /// A body, in whichever of the two ways it came.
    fn body(request: &Recorded) -> Self {
        let Value::Object(body) = request.json() else { return Self::of(&request.body) };
        let pair = |(name, value): (String, Value)| Some((name, value.as_str()?.to_owned()));
        Self(body.into_iter().filter_map(pair).collect())
    }

    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// What a request is for.
pub(super) fn what(request: &Recorded) -> What {
    match request.path() {
        "/oauth/authorize" => What::Authorize,
        "/oauth/token" => match Pairs::body(request).get("grant_type") {
            "refresh_token" => What::Refresh,
            "urn:ietf:params:oauth:grant-type:token-exchange" => What::ApiKey,
            _ => What::Exchange,
        },
        "/oauth/revoke" => What::Revoke,
        "/api/accounts/deviceauth/usercode" => What::UserCode,
        "/api/accounts/deviceauth/token" => What::Poll,
        _ => What::Page,
    }
}

impl Book {
    pub(super) fn answer(
        &mut self,
        what: What,
        request: &Recorded,
        fault: Option<&Fault>,
    ) -> Plain {
        if what != What::Authorize && what != What::Page && request.method != "POST" {
            return Plain::json(405, &json!({"detail": "Method Not Allowed"}));
        }
        match what {
            What::Authorize => self.authorize(request),
            What::Exchange => self.exchanged(request, fault),
            What::Refresh => self.refreshed(request, fault),
            What::ApiKey => Plain::json(200, &json!({"access_token": "sk-scripted-api-key"})),
            What::Revoke => self.revoked(request),
            What::UserCode => self.user_code(&request.json()),
            What::Poll => self.poll(&request.json()),
            What::Page => self.page(request),
        }
    }

    /// Every request, before it is answered or fails: what in it is secret, and what of it the real
    /// issuer lets pass and we do not.
    pub(super) fn watch(&mut self, what: What, request: &Recorded) {
        let body = Pairs::body(request);
        for name in ["code", "code_verifier", "refresh_token", "token", "subject_token"] {
            self.secret(name, body.get(name));
        }
        if matches!(what, What::Authorize | What::Page) {
            return;
        }
        if request.target.contains('?') {
            self.note("a query where everything belongs into the body");
        }
        for header in ["cookie", "authorization", "referer"] {
            if request.header(header).is_some() {
                self.note(&format!("the header {header} in {what:?}"));
            }
        }
    }

    fn authorize(&mut self, request: &Recorded) -> Plain {
        if request.method == "POST" {
            let form = Pairs::of(&request.body);
            let Some(agreement) = self.shown.remove(form.get("shown")) else {
                return page::refused("this page is no longer good");
            };
            return self.decided(agreement, form.get("answer"));
        }
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let query = Pairs::of(query.as_bytes());
        let agreement = match self.agreement(&query) {
            Ok(agreement) => agreement,
            Err(why) => return page::refused(why),
        };
        match query.get("auto") {
            "" => {
                let shown = jwt::random(16);
                let page = page::consent(&shown, &agreement);
                self.shown.insert(shown, agreement);
                page
            }
            answer => self.decided(agreement, answer),
        }
    }

    fn agreement(&mut self, query: &Pairs) -> Result<Agreement, &'static str> {
        let is = |name: &str, value: &str| query.get(name) == value;
        let (challenge, state) = (query.get("code_challenge"), query.get("state"));
        let wrong = [
            (is("response_type", "code"), "response_type"),
            (is("client_id", CLIENT_ID), "client_id"),
            (REDIRECTS.contains(&query.get("redirect_uri")), "redirect_uri"),
            (query.get("scope").starts_with(SCOPE), "scope"),
            (is("code_challenge_method", "S256"), "code_challenge_method"),
            (challenge.len() == 43, "code_challenge"),
            (!state.is_empty(), "state"),
        ];
        if let Some((_, name)) = wrong.iter().find(|(right, _)| !right) {
            return Err(name);
        }
        let names: Vec<&str> = query.names().into_iter().filter(|name| *name != "auto").collect();
        if names != AUTHORIZE {
            self.note(&format!("an authorize address of other parts or order: {names:?}"));
        }
        let flags = ["id_token_add_organizations", "codex_cli_simplified_flow"];
        let flagged = flags.iter().all(|name| is(name, "true"));
        if !flagged || !is("scope", SCOPE) || !is("originator", "codex_cli_rs") || state.len() < 43
        {
            self.note("an authorize address with other values than promised");
        }
        self.secret("a state", state);
        Ok(Agreement {
            account: self.options.account.clone(),
            redirect: query.get("redirect_uri").to_owned(),
            challenge: challenge.to_owned(),
            state: state.to_owned(),
        })
    }

    fn decided(&mut self, agreement: Agreement, answer: &str) -> Plain {
        let (redirect, state) = (agreement.redirect.clone(), agreement.state.clone());
        let mut query = Serializer::new(String::new());
        if answer == "deny" {
            query.append_pair("error", "access_denied");
            query.append_pair("error_description", "The person said <b>no</b>");
        } else {
            query.append_pair("code", &self.code_for(agreement));
            query.append_pair("scope", SCOPE);
        }
        query.append_pair("state", &state);
        page::said(302, "Back to your program")
            .with("location", &format!("{redirect}?{}", query.finish()))
    }

    fn exchanged(&mut self, request: &Recorded, fault: Option<&Fault>) -> Plain {
        let invalid = |error: &str, why: &str| {
            Plain::json(400, &json!({"error": error, "error_description": why}))
        };
        let form = "application/x-www-form-urlencoded";
        if !request.header("content-type").is_some_and(|kind| kind.starts_with(form)) {
            return invalid("invalid_request", "the body is no form");
        }
        let body = Pairs::of(&request.body);
        if body.get("grant_type") != "authorization_code" {
            return invalid("unsupported_grant_type", "no such grant");
        }
        if body.get("client_id") != CLIENT_ID {
            return invalid("invalid_client", "no such client");
        }
        let mut names = body.names();
        names.sort_unstable();
        if names != ["client_id", "code", "code_verifier", "grant_type", "redirect_uri"] {
            self.note(&format!("an exchange of other parts: {names:?}"));
        }
        let verifier = body.get("code_verifier");
        match self.exchange(body.get("code"), body.get("redirect_uri"), verifier) {
            Ok(granted) => tokens(&granted, fault),
            Err(why) => invalid("invalid_grant", why),
        }
    }

    fn refreshed(&mut self, request: &Recorded, fault: Option<&Fault>) -> Plain {
        let body = Pairs::body(request);
        let refused = |status: u16, code: &str, said: &str| {
            Plain::error(status, "invalid_request_error", code, said)
        };
        if body.get("client_id") != CLIENT_ID {
            return refused(401, "invalid_client", "no such client");
        }
        let mut names = body.names();
        names.sort_unstable();
        if names != ["client_id", "grant_type", "refresh_token"] {
            self.note(&format!("a refresh of other parts: {names:?}"));
        }
        match self.refresh(body.get("refresh_token"), fault) {
            Ok(granted) => tokens(&granted, fault),
            Err(code) => {
                let said = match code {
                    "refresh_token_reused" => {
                        "Your refresh token has already been used to generate a new access token. \
                         Please try signing in again."
                    }
                    "refresh_token_expired" => "Your refresh token has expired.",
                    _ => "Your refresh token has been invalidated. Please try signing in again.",
                };
                refused(401, code, said)
            }
        }
    }

    fn revoked(&mut self, request: &Recorded) -> Plain {
        let body = Pairs::body(request);
        let hint = body.get("token_type_hint");
        let client = body.get("client_id");
        if body.get("token").is_empty() || (hint == "refresh_token" && client != CLIENT_ID) {
            return Plain::error(400, "invalid_request_error", "invalid_request", "no token");
        }
        // RFC 7009: a token that nobody knows is revoked already.
        self.end(body.get("token"), "refresh_token_invalidated");
        Plain::json(200, &json!({}))
    }

    fn page(&mut self, request: &Recorded) -> Plain {
        match (request.method.as_str(), request.path()) {
            ("GET", "/codex/device") => page::device(),
            ("POST", "/codex/device") => {
                let form = Pairs::of(&request.body);
                if self.type_code(form.get("user_code")) {
                    page::said(200, "You may return to your device")
                } else {
                    page::said(404, "Nobody was given that code")
                }
            }
            ("GET", "/deviceauth/callback") => page::said(200, "You may close this page"),
            _ => Plain::json(404, &json!({"detail": "Not Found"})),
        }
    }
}

fn tokens(granted: &Granted, fault: Option<&Fault>) -> Plain {
    let mut body = json!({
        "id_token": granted.id, "access_token": granted.access,
        "refresh_token": granted.refresh, "expires_in": granted.lifetime,
        "token_type": "Bearer", "scope": SCOPE,
    });
    let missing: &[&str] = match fault {
        Some(Fault::KeepsRefresh) => &["refresh_token"],
        Some(Fault::Terse) => &["id_token", "expires_in", "token_type", "scope"],
        _ => &[],
    };
    for name in missing {
        body.as_object_mut().map(|body| body.remove(*name));
    }
    Plain::json(200, &body).with("cache-control", "no-store")
}
