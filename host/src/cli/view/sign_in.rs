//! Shows a sign-in to a person, line by line, and to a program as JSON. All text from the issuer, the
//! backend or an unknown caller is sanitized.

use std::path::Path;

use serde_json::json;

use super::object;
use crate::cli::progress::labelled;
use crate::cli::style::Style;
use crate::failure::Failure;
use crate::sanitize;
use crate::setup::codex_auth::{SetupEvent, SignedIn, StoredLogin};
use crate::setup::doctor::CheckState;
use crate::setup::{LoginInfo, PortHolder, ProofResult, SignInEvent, SignInMethods};
use crate::text::{self, COLUMNS};

/// Shows one sign-in to a person.
pub struct SignInView<'a> {
    pub style: Style,
    /// Formats a path.
    pub shown: &'a (dyn Fn(&Path) -> String + Sync),
    methods: SignInMethods,
    /// How many methods have a number so far.
    numbered: u32,
    /// The line about pasting is shown.
    pasting: bool,
    /// Whether the lines of a method are shown.
    browser_shown: bool,
    device_shown: bool,
    /// The line about where it is stored. It is shown after the proof.
    stored: String,
}

impl<'a> SignInView<'a> {
    /// `methods`: those that will be open.
    pub fn new(
        methods: SignInMethods,
        style: Style,
        shown: &'a (dyn Fn(&Path) -> String + Sync),
    ) -> Self {
        let (browser_shown, device_shown) = (!methods.browser, !methods.device);
        Self {
            style,
            shown,
            methods,
            numbered: 0,
            pasting: false,
            browser_shown,
            device_shown,
            stored: String::new(),
        }
    }

    /// The text for an event, with its newline unless it is a question; empty if it is not shown.
    pub fn text(&mut self, event: &SetupEvent) -> String {
        match event {
            SetupEvent::Machine(check) => {
                let text = sanitize::line(&check.text);
                match check.state {
                    CheckState::Ok => self.ok(check.name, &text),
                    CheckState::Missing(_) | CheckState::Unknown => self.line(check.name, &text),
                }
            }
            SetupEvent::Before(before) => self.before(before),
            SetupEvent::Method(sign_in) => self.method(sign_in),
            SetupEvent::ConfirmReplace(two) => {
                let [has, is] = &**two;
                let question = format!(
                    "the login `{}` is {}; replace it with {}?",
                    has.login,
                    sanitize::line(&has.describe_beside(is)),
                    sanitize::line(&is.describe_beside(has))
                );
                self.question("replace", &question, "[y/N]")
            }
            SetupEvent::OfferOwnLogin => {
                self.question("instead", "sign in for a separate login for airlock?", "[Y/n]")
            }
            SetupEvent::SignedIn(login_info) => self.signed_in(login_info),
            SetupEvent::Stored { path } => {
                let path = sanitize::line(&(self.shown)(path));
                self.stored = self.line("stored", &format!("{path} (0600, only on this machine)"));
                String::new()
            }
            SetupEvent::Proof(proof) => self.proof(proof) + &std::mem::take(&mut self.stored),
            SetupEvent::Note(note) => self.line("note", &sanitize::line(note)),
        }
    }

    fn before(&self, before: &StoredLogin) -> String {
        match before {
            StoredLogin::None => self.line("login", "none yet"),
            StoredLogin::Good { login_info, proof } => {
                let parts = [Some(login_info.describe()), login_info.good_for()];
                let parts: Vec<String> = parts.into_iter().flatten().collect();
                let text = sanitize::line(&parts.join(" · "));
                match proof {
                    ProofResult::Listed { .. } => self.ok("signed in", &text),
                    ProofResult::Unknown(why) | ProofResult::Refused(why) => {
                        self.line("signed in", &text)
                            + &self.line("note", &format!("not tested: {}", sanitize::line(why)))
                    }
                }
            }
            StoredLogin::Gone(login_info) => {
                let words = login_info.gone.as_ref().map_or("gone", |gone| gone.reason.as_str());
                self.line("login", &sanitize::line(words))
            }
            StoredLogin::Unusable(why) => {
                self.line("login", &format!("cannot be used: {}", sanitize::line(why)))
            }
            StoredLogin::Kept(login_info) => {
                let text = sanitize::line(&login_info.describe());
                self.line("login", &format!("{text}; it stays until it is replaced"))
            }
        }
    }

    fn method(&mut self, event: &SignInEvent) -> String {
        let drawn = match event {
            SignInEvent::Browser { authorize, opened, .. } => {
                self.browser_shown = true;
                let open = match opened {
                    true if self.has_several_methods() => "your browser should be open; if not: ",
                    true => "in your browser; if it did not open: ",
                    false => "in a browser on this machine: ",
                };
                self.numbered(open, &sanitize::line(authorize))
            }
            SignInEvent::Device { page, code, expires_in } => {
                self.device_shown = true;
                let within = match self.has_several_methods() {
                    true => String::new(),
                    false => {
                        format!("   ({})", text::long_time(*expires_in).replace("min", "minutes"))
                    }
                };
                let code =
                    format!("{}   code  {}{within}", sanitize::line(page), sanitize::line(code));
                self.numbered("on any device: ", &code)
            }
            SignInEvent::Address { authorize } => {
                self.browser_shown = true;
                self.pasting = true;
                let then = "the last page will not load: paste its address here";
                let authorize = sanitize::line(authorize);
                format!("{}     {then}\n", self.numbered("in a browser anywhere: ", &authorize))
            }
            SignInEvent::PortsBusy { holders } => {
                // If pasting is open, its address comes next.
                (self.browser_shown, self.pasting) = (true, true);
                self.note(&sanitize::line(&ports_taken(holders)))
            }
            SignInEvent::NoDevice { why } => {
                self.device_shown = true;
                self.note(&format!("no code for other devices: {}", sanitize::line(why)))
            }
            SignInEvent::NotPasted { why } => {
                self.note(&format!("not accepted: {}; paste it again", sanitize::line(why)))
            }
            SignInEvent::Rejected { why } => self.note(&format!(
                "a request that does not belong to this sign-in was rejected: {why}"
            )),
            SignInEvent::Denied { why } => self.note(&format!("denied: {}", sanitize::line(why))),
        };
        let all_shown = self.browser_shown && self.device_shown;
        match self.methods.paste && all_shown && !self.pasting {
            true => {
                self.pasting = true;
                drawn + &self.numbered("paste the address your browser ended on, here:", "")
            }
            false => drawn,
        }
    }

    fn has_several_methods(&self) -> bool {
        let SignInMethods { browser, device, paste, .. } = self.methods;
        [browser, device, paste].into_iter().filter(|is_open| *is_open).count() > 1
    }

    /// A method, with an address or code that is never wrapped, so that it can be copied.
    fn numbered(&mut self, how: &str, what: &str) -> String {
        if !self.has_several_methods() {
            return format!("Sign in to ChatGPT {}\n", format!("{how}{what}").trim_end());
        }
        self.numbered += 1;
        let head = match self.numbered {
            1 => "\nSign in to ChatGPT in one of these ways. The first to finish wins.\n",
            _ => "",
        };
        format!("{head}  {}  {}\n", self.numbered, format!("{how}{what}").trim_end())
    }

    fn signed_in(&self, login_info: &LoginInfo) -> String {
        let lasts = match (login_info.renews, login_info.good_for()) {
            (true, _) => Some("renewed automatically until you log out".to_owned()),
            (false, Some(good)) => Some(format!("{good}, never renewed")),
            (false, None) => None,
        };
        let name = (login_info.login != "default").then(|| login_info.login.clone());
        let parts = [name, Some(login_info.describe()), lasts].into_iter().flatten();
        let text = parts.collect::<Vec<_>>().join(" · ");
        let space = if self.numbered > 0 { "\n" } else { "" };
        let label = if login_info.key.is_some() { "login" } else { "signed in" };
        space.to_owned() + &self.line(label, &sanitize::line(&text))
    }

    fn proof(&self, proof: &ProofResult) -> String {
        match proof {
            ProofResult::Listed { models, default } => {
                let text = format!("asked the backend for its models: {models} listed");
                match default {
                    Some(slug) => {
                        self.ok("proof", &format!("{text}, default {}", sanitize::line(slug)))
                    }
                    None if *models == 0 => self.ok("proof", &text),
                    None => {
                        let choose = "the backend has no default model: airlock asks once at a terminal, \
                                      or name one: airlock run -m NAME …";
                        self.ok("proof", &text) + &self.note(choose)
                    }
                }
            }
            ProofResult::Unknown(why) | ProofResult::Refused(why) => {
                self.line("proof", &format!("none yet: {}", sanitize::line(why)))
            }
        }
    }

    fn ok(&self, label: &str, text: &str) -> String {
        let line = labelled(label, text, COLUMNS - "  ok".len(), self.style);
        format!("{line}  {}\n", self.style.good("ok"))
    }

    fn note(&self, text: &str) -> String {
        self.line("note", text)
    }

    fn line(&self, label: &str, text: &str) -> String {
        labelled(label, text, COLUMNS, self.style) + "\n"
    }

    fn question(&self, label: &str, question: &str, answers: &str) -> String {
        let line = labelled(label, &format!("{question} {answers}"), COLUMNS, self.style);
        format!("{line} ")
    }
}

/// An event as one JSON line of `--json`; `None` if programs do not need it.
#[must_use]
pub fn event(event: &SetupEvent) -> Option<String> {
    Some(match event {
        SetupEvent::Method(SignInEvent::Browser { authorize, port, opened }) => object(&[
            ("event", json!("browser")),
            ("url", json!(authorize)),
            ("port", json!(port)),
            ("opened", json!(opened)),
        ]),
        SetupEvent::Method(SignInEvent::Device { page, code, expires_in }) => object(&[
            ("event", json!("device_code")),
            ("url", json!(page)),
            ("code", json!(code)),
            ("expires_in", json!(expires_in)),
        ]),
        SetupEvent::Method(SignInEvent::Address { authorize }) => {
            object(&[("event", json!("paste")), ("url", json!(authorize))])
        }
        SetupEvent::Method(SignInEvent::PortsBusy { holders }) => note(&ports_taken(holders)),
        SetupEvent::Method(
            SignInEvent::NoDevice { why }
            | SignInEvent::NotPasted { why }
            | SignInEvent::Denied { why },
        ) => note(why),
        SetupEvent::Method(SignInEvent::Rejected { why }) => note(why),
        SetupEvent::Note(text) => note(text),
        SetupEvent::Proof(ProofResult::Unknown(why)) => note(&format!("not tried: {why}")),
        SetupEvent::Machine(_)
        | SetupEvent::Before(_)
        | SetupEvent::ConfirmReplace(_)
        | SetupEvent::OfferOwnLogin
        | SetupEvent::SignedIn(_)
        | SetupEvent::Proof(_)
        | SetupEvent::Stored { .. } => return None,
    })
}

fn note(text: &str) -> String {
    object(&[("event", json!("note")), ("text", json!(text))])
}

/// Which programs use the ports of the browser method.
fn ports_taken(holders: &[PortHolder]) -> String {
    let ports = holders.iter().map(|holder| {
        let program = holder.program.as_deref().unwrap_or("another user's program");
        format!("{} by {program}", holder.port)
    });
    let ports = ports.collect::<Vec<_>>().join(", ");
    format!("the browser method is closed, because its ports are in use: {ports}")
}

/// The last line of a successful sign-in.
#[must_use]
pub fn signed_in(done: &SignedIn) -> String {
    let login_info = &done.login_info;
    let (models, model) = match &done.proof {
        ProofResult::Listed { models, default } => (Some(models), default.as_deref()),
        ProofResult::Unknown(_) | ProofResult::Refused(_) => (None, None),
    };
    object(&[
        ("event", json!("signed_in")),
        ("login", json!(login_info.login)),
        ("email", json!(login_info.email)),
        ("plan", json!(login_info.plan)),
        ("account", json!(login_info.account)),
        ("key", json!(login_info.key)),
        ("base", json!(login_info.base)),
        ("expires_at", json!(login_info.expires_at)),
        ("already", json!(done.already)),
        ("models", json!(models)),
        ("model", json!(model)),
    ])
}

/// The last line of a failed sign-in.
#[must_use]
pub fn failed(failure: &Failure) -> String {
    object(&[
        ("event", json!("failed")),
        ("headline", json!(failure.headline)),
        ("reason", json!(failure.reason)),
        ("command", json!(failure.hint)),
        ("exit", json!(failure.exit.code())),
    ])
}

/// The status block of `--step codex-auth` for the framework that called it.
#[must_use]
pub fn status_block(done: Result<&SignedIn, &Failure>) -> String {
    let (auth, status, error) = match done {
        Ok(done) if done.already => ("already_authenticated", "success", None),
        Ok(_) => ("authenticated", "success", None),
        Err(failure) => ("failed", "failed", Some(failure)),
    };
    let error = error.map(|failure| {
        format!("ERROR: {}\n", sanitize::line(&format!("{}: {}", failure.headline, failure.reason)))
    });
    format!(
        "=== NANOCLAW SETUP: CODEX_AUTH ===\nAUTH_STATUS: {auth}\nSTATUS: {status}\n{}=== END ===\n",
        error.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
