//! Signing in: up to three ways at once, and the first to finish wins.

mod code_exchange; // codes for tokens
mod opener; // the person's browser
#[cfg(test)]
pub(super) mod rig; // a sign-in and a browser without eyes, for tests
#[cfg(test)]
mod tests; // the race

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlock_shared::secret::Secret;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

pub(super) use self::code_exchange::CodeExchange;
use super::browser::authorize::Attempt;
use super::browser::{self, Browser, BrowserEvent, PORTS, Phase};
use super::issuer::{Issuer, IssuerError, Tokens, shown};
use super::{device, paste};

/// How long the ways stay open.
pub(super) const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long a browser may take to be started.
const STARTING: Duration = Duration::from_secs(3);
/// Strangers that a person is told about.
const STRANGERS: usize = 5;
/// Which ways are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignInMethods {
    /// A callback on loopback.
    pub browser: bool,
    /// Open the person's browser for it.
    pub open: bool,
    pub device: bool,
    /// An address typed or pasted here.
    pub paste: bool,
}

/// What happens, for a face to show. Nothing in it is worth anything to a thief but `authorize`,
/// which is for the person at this terminal alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInEvent {
    /// The browser way is ready. `opened`: a browser was started; `authorize` is the address for a
    /// browser that was not.
    Browser {
        authorize: String,
        port: u16,
        opened: bool,
    },
    /// No callback is caught here: this is the address to sign in at, and the one that the browser
    /// ends on is to be pasted.
    Address {
        authorize: String,
    },
    /// Neither port is free; who holds them where that can be known. The other ways go on.
    PortsBusy {
        holders: Vec<PortHolder>,
    },
    Device {
        page: String,
        code: String,
        expires_in: u64,
    },
    /// The device way is closed, and why. The other ways go on.
    NoDevice {
        why: String,
    },
    /// What was pasted is not an address of this sign-in; ask again.
    NotPasted {
        why: String,
    },
    /// The callback was called, and not by this sign-in; nothing was taken from it.
    Stranger {
        why: &'static str,
    },
    /// The issuer's own refusal came back (`access_denied`), or it did not take the code; this way
    /// is closed.
    Denied {
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    pub port: u16,
    /// `name (pid 812)`; None where it belongs to somebody else.
    pub program: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignInMethod {
    Browser,
    Device,
    Paste,
}

/// Why nobody signed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// Every way that was open is closed; the last reason.
    #[error("{0}")]
    NoWay(String),
    /// 15 minutes have passed.
    #[error("nobody signed in within 15 minutes")]
    TimedOut,
    /// The last way closed because of the issuer.
    #[error("the issuer's answer could not be used: {0}")]
    Issuer(#[from] IssuerError),
}

/// Waits for the first way to finish. `pasted` gives lines as they are typed; it may end early.
/// Dropping the future closes every way.
///
/// # Errors
/// When no way is left.
pub async fn sign_in(
    issuer: &Issuer,
    ways: SignInMethods,
    originator: &str,
    pasted: mpsc::Receiver<Secret>,
    say: &mut (dyn FnMut(SignInEvent) + Send),
) -> Result<Tokens, SignInError> {
    let here = Machine { ports: &PORTS, start: Arc::new(opener::open) };
    let race = race(issuer, ways, originator, pasted, say, &here);
    let won = tokio::time::timeout(PATIENCE, race).await;
    won.unwrap_or(Err(SignInError::TimedOut)).map(|(_, tokens)| tokens)
}

/// What a sign-in finds on this machine.
pub(super) struct Machine<'a> {
    pub(super) ports: &'a [u16],
    /// Starts the person's browser at an address; false where there is none.
    pub(super) start: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

pub(super) async fn race(
    issuer: &Issuer,
    ways: SignInMethods,
    originator: &str,
    pasted: mpsc::Receiver<Secret>,
    say: &mut (dyn FnMut(SignInEvent) + Send),
    here: &Machine<'_>,
) -> Result<(SignInMethod, Tokens), SignInError> {
    let told = Mutex::new(say);
    let say = |said: SignInEvent| (told.lock().unwrap_or_else(PoisonError::into_inner))(said);
    let mut reason = None;
    let bound = match ways.browser {
        false => None,
        true => browser::bind(here.ports)
            .await
            .map_err(|holders| {
                reason = Some(SignInError::NoWay(busy(&holders)));
                say(SignInEvent::PortsBusy { holders });
            })
            .ok(),
    };
    let port = bound.as_ref().map_or(PORTS[0], |bound| bound.port);
    let begin = || {
        let attempt = Attempt::begin(&issuer.url, originator, port);
        attempt.ok_or_else(|| SignInError::NoWay("the issuer's URL takes no query".to_owned()))
    };
    // What is printed and what is pasted are one; the browser that we start has its own.
    let printed = begin()?;
    let opened = begin()?;
    let mut browser = bound.map(|bound| bound.open(opened, printed.clone()));
    let authorize = printed.address().to_owned();
    if let Some(browser) = &browser {
        let opened = ways.open && start(browser, here).await;
        say(SignInEvent::Browser { authorize, port, opened });
    } else if ways.paste {
        say(SignInEvent::Address { authorize });
    }

    let code_exchange = CodeExchange::new(issuer);
    let won = {
        let mut racing: FuturesUnordered<
            BoxFuture<'_, (SignInMethod, Result<Tokens, SignInError>)>,
        > = FuturesUnordered::new();
        if let Some(browser) = &mut browser {
            racing.push(Box::pin(async {
                (SignInMethod::Browser, by_browser(browser, &code_exchange, &say).await)
            }));
        }
        if ways.device {
            racing.push(Box::pin(async {
                (SignInMethod::Device, device::wait(issuer, &code_exchange, &say).await)
            }));
        }
        if ways.paste {
            let printed = &printed;
            racing.push(Box::pin(async {
                (
                    SignInMethod::Paste,
                    paste::wait(issuer, &code_exchange, printed, pasted, &say).await,
                )
            }));
        }
        loop {
            match racing.next().await {
                Some((way, Ok(tokens))) => break Ok((way, tokens)),
                // That nothing more can be pasted is the least of reasons.
                Some((SignInMethod::Paste, Err(SignInError::NoWay(_)))) if reason.is_some() => {}
                Some((_, Err(why))) => reason = Some(why),
                None => {
                    let none = || SignInError::NoWay("no way of signing in is open".to_owned());
                    break Err(reason.unwrap_or_else(none));
                }
            }
        }
    };
    if let Some(browser) = browser {
        browser.end().await;
    }
    won
}

/// A browser that takes its time to start is one that was started.
async fn start(browser: &Browser, here: &Machine<'_>) -> bool {
    let (start, address) = (Arc::clone(&here.start), browser.start_address());
    let starting = tokio::task::spawn_blocking(move || start(&address));
    let started = tokio::time::timeout(STARTING, starting).await;
    started.is_err() || matches!(started, Ok(Ok(true)))
}

async fn by_browser(
    browser: &mut Browser,
    code_exchange: &CodeExchange<'_>,
    say: &(dyn Fn(SignInEvent) + Sync),
) -> Result<Tokens, SignInError> {
    let mut strangers = 0;
    while let Some(event) = browser.next().await {
        match event {
            BrowserEvent::Stranger(why) => {
                strangers += 1;
                if strangers <= STRANGERS {
                    say(SignInEvent::Stranger { why });
                }
            }
            BrowserEvent::Declined(said) => {
                let why = denied(&said);
                say(SignInEvent::Denied { why: why.clone() });
                return Err(SignInError::NoWay(why));
            }
            BrowserEvent::Code(came) => {
                let (verifier, redirect) = (&came.attempt.verifier, &came.attempt.redirect);
                let traded = code_exchange.exchange(&came.code, verifier, redirect).await;
                browser.settle(if traded.is_ok() { Phase::Done } else { Phase::Failed });
                return traded.map_err(|error| {
                    say(SignInEvent::Denied { why: error.to_string() });
                    SignInError::Issuer(error)
                });
            }
        }
    }
    Err(SignInError::NoWay("the callback was closed".to_owned()))
}

/// What the issuer sent back in place of a code.
fn denied(said: &str) -> String {
    if said.contains("missing_codex_entitlement") {
        return "this workspace has no Codex: its administrator can give it".to_owned();
    }
    format!("the sign-in was declined: {}", shown(said, &[]))
}

fn busy(holders: &[PortHolder]) -> String {
    let each = holders.iter().map(|holder| match &holder.program {
        Some(program) => format!("port {} is held by {program}", holder.port),
        None => format!("port {} is held by a program of another user", holder.port),
    });
    each.collect::<Vec<_>>().join(", ")
}
