//! Signing in as a person sees it, a line at a time, and as a program reads it. Everything that the
//! issuer, the service or a stranger said is neutralised.

use std::path::Path;

use serde_json::json;

use super::object;
use crate::cli::progress::labelled;
use crate::cli::style::Style;
use crate::failure::Failure;
use crate::neutral;
use crate::setup::codex_auth::{SetupEvent, SignedIn, StoredLogin};
use crate::setup::doctor::CheckState;
use crate::setup::{LoginInfo, PortHolder, ProofResult, SignInEvent, SignInMethods};
use crate::text::{self, COLUMNS};

/// The face of one sign-in, for a person.
pub struct SignInView<'a> {
    pub style: Style,
    /// How a path is shown.
    pub shown: &'a (dyn Fn(&Path) -> String + Sync),
    ways: SignInMethods,
    /// Ways that were numbered.
    numbered: u32,
    /// The line about pasting was shown.
    pasting: bool,
    /// The ways that have said what they have to say.
    browser_said: bool,
    device_said: bool,
    /// Where it was stored: said after the proof, which a person waits for.
    stored: String,
}

impl<'a> SignInView<'a> {
    /// `ways`: the ones that will be open.
    pub fn new(
        ways: SignInMethods,
        style: Style,
        shown: &'a (dyn Fn(&Path) -> String + Sync),
    ) -> Self {
        let (browser_said, device_said) = (!ways.browser, !ways.device);
        Self {
            style,
            shown,
            ways,
            numbered: 0,
            pasting: false,
            browser_said,
            device_said,
            stored: String::new(),
        }
    }

    /// What is said of it, newline included where the line is whole; empty for what is not shown.
    pub fn text(&mut self, told: &SetupEvent) -> String {
        match told {
            SetupEvent::Machine(check) => {
                let said = neutral::line(&check.text);
                match check.state {
                    CheckState::Ok => self.ok(check.name, &said),
                    CheckState::Missing(_) | CheckState::Unknown => self.line(check.name, &said),
                }
            }
            SetupEvent::Before(before) => self.before(before),
            SetupEvent::Method(said) => self.way(said),
            SetupEvent::ConfirmReplace(two) => {
                let [has, is] = &**two;
                let question = format!(
                    "login `{}` is {}; put {} in its place?",
                    has.login,
                    neutral::line(&has.describe_beside(is)),
                    neutral::line(&is.describe_beside(has))
                );
                self.question("another", &question, "[y/N]")
            }
            SetupEvent::OfferOwnLogin => {
                self.question("instead", "sign in for a login of airlock's own?", "[Y/n]")
            }
            SetupEvent::SignedIn(login_info) => self.signed_in(login_info),
            SetupEvent::Stored { path } => {
                let path = neutral::line(&(self.shown)(path));
                self.stored = self.line("stored", &format!("{path} (0600, only this machine)"));
                String::new()
            }
            SetupEvent::Proof(proof) => self.proof(proof) + &std::mem::take(&mut self.stored),
            SetupEvent::Note(note) => self.line("note", &neutral::line(note)),
        }
    }

    fn before(&self, before: &StoredLogin) -> String {
        match before {
            StoredLogin::None => self.line("login", "none yet"),
            StoredLogin::Good { login_info, proof } => {
                let said = [Some(login_info.describe()), login_info.good_for()];
                let said: Vec<String> = said.into_iter().flatten().collect();
                let said = neutral::line(&said.join(" · "));
                match proof {
                    ProofResult::Listed { .. } => self.ok("signed in", &said),
                    ProofResult::Unknown(why) | ProofResult::Refused(why) => {
                        self.line("signed in", &said)
                            + &self.line("note", &format!("not tried: {}", neutral::line(why)))
                    }
                }
            }
            StoredLogin::Gone(login_info) => {
                let words = login_info.gone.as_ref().map_or("gone", |gone| gone.reason.as_str());
                self.line("login", &neutral::line(words))
            }
            StoredLogin::Unusable(why) => {
                self.line("login", &format!("cannot be used: {}", neutral::line(why)))
            }
            StoredLogin::Kept(login_info) => {
                let said = neutral::line(&login_info.describe());
                self.line("login", &format!("{said}; it stays until another takes its place"))
            }
        }
    }

    fn way(&mut self, said: &SignInEvent) -> String {
        let drawn = match said {
            SignInEvent::Browser { authorize, opened, .. } => {
                self.browser_said = true;
                let open = match opened {
                    true if self.is_race() => "your browser should be open; if not: ",
                    true => "in your browser; if it did not open: ",
                    false => "in a browser on this machine: ",
                };
                self.numbered(open, &neutral::line(authorize))
            }
            SignInEvent::Device { page, code, expires_in } => {
                self.device_said = true;
                let within = match self.is_race() {
                    true => String::new(),
                    false => {
                        format!("   ({})", text::long_time(*expires_in).replace("min", "minutes"))
                    }
                };
                let code =
                    format!("{}   code  {}{within}", neutral::line(page), neutral::line(code));
                self.numbered("on any device: ", &code)
            }
            SignInEvent::Address { authorize } => {
                self.browser_said = true;
                self.pasting = true;
                let then = "the page it ends on will not load: paste its address here";
                let authorize = neutral::line(authorize);
                format!("{}     {then}\n", self.numbered("in a browser anywhere: ", &authorize))
            }
            SignInEvent::PortsBusy { holders } => {
                // Where something can be pasted, the address to begin at comes next.
                (self.browser_said, self.pasting) = (true, true);
                self.note(&neutral::line(&held(holders)))
            }
            SignInEvent::NoDevice { why } => {
                self.device_said = true;
                self.note(&format!("no code for another device: {}", neutral::line(why)))
            }
            SignInEvent::NotPasted { why } => {
                self.note(&format!("not taken: {}; paste it again", neutral::line(why)))
            }
            SignInEvent::Rejected { why } => self.note(&format!(
                "something called that this sign-in did not ask for, and got \
                                    nothing: {why}"
            )),
            SignInEvent::Denied { why } => self.note(&format!("denied: {}", neutral::line(why))),
        };
        let all_said = self.browser_said && self.device_said;
        match self.ways.paste && all_said && !self.pasting {
            true => {
                self.pasting = true;
                drawn + &self.numbered("paste the address your browser ended on, here:", "")
            }
            false => drawn,
        }
    }

    fn is_race(&self) -> bool {
        let SignInMethods { browser, device, paste, .. } = self.ways;
        [browser, device, paste].into_iter().filter(|is_open| *is_open).count() > 1
    }

    /// A way, and what it needs; that is there to be copied and is never wrapped.
    fn numbered(&mut self, how: &str, what: &str) -> String {
        if !self.is_race() {
            return format!("Sign in to ChatGPT {}\n", format!("{how}{what}").trim_end());
        }
        self.numbered += 1;
        let head = match self.numbered {
            1 => "\nSign in to ChatGPT, any of these. The first to finish wins.\n",
            _ => "",
        };
        format!("{head}  {}  {}\n", self.numbered, format!("{how}{what}").trim_end())
    }

    fn signed_in(&self, login_info: &LoginInfo) -> String {
        let lasts = match (login_info.renews, login_info.good_for()) {
            (true, _) => Some("renews itself until you log out".to_owned()),
            (false, Some(good)) => Some(format!("{good}, and nothing renews it")),
            (false, None) => None,
        };
        let name = (login_info.login != "default").then(|| login_info.login.clone());
        let parts = [name, Some(login_info.describe()), lasts].into_iter().flatten();
        let said = parts.collect::<Vec<_>>().join(" · ");
        let space = if self.numbered > 0 { "\n" } else { "" };
        let label = if login_info.key.is_some() { "login" } else { "signed in" };
        space.to_owned() + &self.line(label, &neutral::line(&said))
    }

    fn proof(&self, proof: &ProofResult) -> String {
        match proof {
            ProofResult::Listed { models, default } => {
                let said = format!("asked the service for its models: {models} listed");
                match default {
                    Some(slug) => {
                        self.ok("proof", &format!("{said}, default {}", neutral::line(slug)))
                    }
                    None if *models == 0 => self.ok("proof", &said),
                    None => {
                        let choose = "it names no default: a run at a terminal asks once, or airlock \
                                      run -m NAME …";
                        self.ok("proof", &said) + &self.note(choose)
                    }
                }
            }
            ProofResult::Unknown(why) | ProofResult::Refused(why) => {
                self.line("proof", &format!("none yet: {}", neutral::line(why)))
            }
        }
    }

    fn ok(&self, label: &str, said: &str) -> String {
        let said = labelled(label, said, COLUMNS - "  ok".len(), self.style);
        format!("{said}  {}\n", self.style.good("ok"))
    }

    fn note(&self, said: &str) -> String {
        self.line("note", said)
    }

    fn line(&self, label: &str, said: &str) -> String {
        labelled(label, said, COLUMNS, self.style) + "\n"
    }

    fn question(&self, label: &str, said: &str, answers: &str) -> String {
        let asked = labelled(label, &format!("{said} {answers}"), COLUMNS, self.style);
        format!("{asked} ")
    }
}

/// What happens as one object of the lines that `--json` prints, where a program has to know it.
#[must_use]
pub fn event(told: &SetupEvent) -> Option<String> {
    Some(match told {
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
        SetupEvent::Method(SignInEvent::PortsBusy { holders }) => note(&held(holders)),
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

/// Who holds the ports of the browser way.
fn held(holders: &[PortHolder]) -> String {
    let held = holders.iter().map(|holder| {
        let program = holder.program.as_deref().unwrap_or("another user's program");
        format!("port {} by {program}", holder.port)
    });
    let held = held.collect::<Vec<_>>().join(", ");
    format!("no browser way, its ports are taken: {held}")
}

/// The last line of a sign-in that ended well.
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

/// The last line of one that did not.
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

/// What `--step codex-auth` prints for the framework that called it.
#[must_use]
pub fn status_block(done: Result<&SignedIn, &Failure>) -> String {
    let (auth, status, error) = match done {
        Ok(done) if done.already => ("already_authenticated", "success", None),
        Ok(_) => ("authenticated", "success", None),
        Err(failure) => ("failed", "failed", Some(failure)),
    };
    let error = error.map(|failure| {
        format!("ERROR: {}\n", neutral::line(&format!("{}: {}", failure.headline, failure.reason)))
    });
    format!(
        "=== NANOCLAW SETUP: CODEX_AUTH ===\nAUTH_STATUS: {auth}\nSTATUS: {status}\n{}=== END ===\n",
        error.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
