//! Signing in: up to three methods at once, and the first to finish wins.

mod code_exchange; // exchanges codes for tokens, each once
mod opener; // starts the person's browser
#[cfg(test)]
pub(super) mod rig; // a sign-in and a scripted browser, for tests
#[cfg(test)]
mod tests; // several methods at once

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
use super::issuer::{Issuer, IssuerError, Tokens, sanitized};
use super::{device, paste};

/// How long a sign-in may take.
pub(super) const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long to wait for the browser to start.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// How many rejected requests are reported.
const REJECTIONS_SHOWN: usize = 5;

/// Which methods are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignInMethods {
    /// A callback on loopback.
    pub browser: bool,
    /// Whether to start the person's browser for it.
    pub open: bool,
    pub device: bool,
    /// An address that is pasted here.
    pub paste: bool,
}

/// What happens, for a face to show. Only `authorize` is sensitive: it is for the person at this
/// terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInEvent {
    /// The callback is open. `opened`: a browser was started. `authorize` is the address for any
    /// other browser.
    Browser {
        authorize: String,
        port: u16,
        opened: bool,
    },
    /// There is no callback. This is the address to sign in at; the address that the browser ends
    /// on must be pasted.
    Address {
        authorize: String,
    },
    /// Neither port is free. The other methods go on.
    PortsBusy {
        holders: Vec<PortHolder>,
    },
    Device {
        page: String,
        code: String,
        expires_in: u64,
    },
    /// Sign-in with a device code has failed; why. The other methods go on.
    NoDevice {
        why: String,
    },
    /// The pasted line cannot be used; ask again.
    NotPasted {
        why: String,
    },
    /// A request to the callback was rejected: it does not belong to this sign-in.
    Rejected {
        why: &'static str,
    },
    /// The issuer sent an error (`access_denied`), or refused the code. The browser method has
    /// ended.
    Denied {
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    pub port: u16,
    /// `name (pid 812)`; `None` if it belongs to another user.
    pub program: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignInMethod {
    Browser,
    Device,
    Paste,
}

/// Why the sign-in failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// No method is left; the last reason.
    #[error("{0}")]
    NoMethod(String),
    /// 15 minutes have passed.
    #[error("no sign-in within 15 minutes")]
    TimedOut,
    /// The last method failed because of the issuer.
    #[error("the issuer's answer could not be used: {0}")]
    Issuer(#[from] IssuerError),
}

/// Waits for the first method to finish. `pasted` gives lines as they are typed; it may end early.
/// Dropping the future closes all methods.
///
/// # Errors
/// If no method is left.
pub async fn sign_in(
    issuer: &Issuer,
    methods: SignInMethods,
    originator: &str,
    pasted: mpsc::Receiver<Secret>,
    emit: &mut (dyn FnMut(SignInEvent) + Send),
) -> Result<Tokens, SignInError> {
    let machine = Machine { ports: &PORTS, start: Arc::new(opener::open) };
    let race = race(issuer, methods, originator, pasted, emit, &machine);
    let result = tokio::time::timeout(SIGN_IN_TIMEOUT, race).await;
    result.unwrap_or(Err(SignInError::TimedOut)).map(|(_, tokens)| tokens)
}

/// What a sign-in needs from this machine.
pub(super) struct Machine<'a> {
    pub(super) ports: &'a [u16],
    /// Opens an address in the browser. False: no browser was started.
    pub(super) start: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

pub(super) async fn race(
    issuer: &Issuer,
    methods: SignInMethods,
    originator: &str,
    pasted: mpsc::Receiver<Secret>,
    emit: &mut (dyn FnMut(SignInEvent) + Send),
    machine: &Machine<'_>,
) -> Result<(SignInMethod, Tokens), SignInError> {
    let emit = Mutex::new(emit);
    let emit = |event: SignInEvent| (emit.lock().unwrap_or_else(PoisonError::into_inner))(event);
    let mut reason = None;
    let bound = match methods.browser {
        false => None,
        true => browser::bind(machine.ports)
            .await
            .map_err(|holders| {
                reason = Some(SignInError::NoMethod(ports_busy(&holders)));
                emit(SignInEvent::PortsBusy { holders });
            })
            .ok(),
    };
    let port = bound.as_ref().map_or(PORTS[0], |bound| bound.port);
    let begin = || {
        let attempt = Attempt::begin(&issuer.url, originator, port);
        attempt
            .ok_or_else(|| SignInError::NoMethod("the issuer's URL cannot have a query".to_owned()))
    };
    // The printed and the pasted address share one authorization; the browser that we start has
    // another one.
    let printed = begin()?;
    let opened = begin()?;
    let mut browser = bound.map(|bound| bound.open(opened, printed.clone()));
    let authorize = printed.address().to_owned();
    if let Some(browser) = &browser {
        let opened = methods.open && start(browser, machine).await;
        emit(SignInEvent::Browser { authorize, port, opened });
    } else if methods.paste {
        emit(SignInEvent::Address { authorize });
    }

    let code_exchange = CodeExchange::new(issuer);
    let result = {
        let mut racing: FuturesUnordered<
            BoxFuture<'_, (SignInMethod, Result<Tokens, SignInError>)>,
        > = FuturesUnordered::new();
        if let Some(browser) = &mut browser {
            racing.push(Box::pin(async {
                (SignInMethod::Browser, by_browser(browser, &code_exchange, &emit).await)
            }));
        }
        if methods.device {
            racing.push(Box::pin(async {
                (SignInMethod::Device, device::wait(issuer, &code_exchange, &emit).await)
            }));
        }
        if methods.paste {
            let printed = &printed;
            racing.push(Box::pin(async {
                (
                    SignInMethod::Paste,
                    paste::wait(issuer, &code_exchange, printed, pasted, &emit).await,
                )
            }));
        }
        loop {
            match racing.next().await {
                Some((method, Ok(tokens))) => break Ok((method, tokens)),
                // That there is no more input is less important than an earlier reason.
                Some((SignInMethod::Paste, Err(SignInError::NoMethod(_)))) if reason.is_some() => {}
                Some((_, Err(why))) => reason = Some(why),
                None => {
                    let none =
                        || SignInError::NoMethod("no method of signing in is open".to_owned());
                    break Err(reason.unwrap_or_else(none));
                }
            }
        }
    };
    if let Some(browser) = browser {
        browser.end().await;
    }
    result
}

/// Starts the browser. If starting takes long, it counts as started.
async fn start(browser: &Browser, machine: &Machine<'_>) -> bool {
    let (start, address) = (Arc::clone(&machine.start), browser.start_address());
    let starting = tokio::task::spawn_blocking(move || start(&address));
    let started = tokio::time::timeout(START_TIMEOUT, starting).await;
    started.is_err() || matches!(started, Ok(Ok(true)))
}

async fn by_browser(
    browser: &mut Browser,
    code_exchange: &CodeExchange<'_>,
    emit: &(dyn Fn(SignInEvent) + Sync),
) -> Result<Tokens, SignInError> {
    let mut rejections = 0;
    while let Some(event) = browser.next().await {
        match event {
            BrowserEvent::Rejected(why) => {
                rejections += 1;
                if rejections <= REJECTIONS_SHOWN {
                    emit(SignInEvent::Rejected { why });
                }
            }
            BrowserEvent::Declined(error) => {
                let why = denied(&error);
                emit(SignInEvent::Denied { why: why.clone() });
                return Err(SignInError::NoMethod(why));
            }
            BrowserEvent::Code(callback) => {
                let (verifier, redirect) = (&callback.attempt.verifier, &callback.attempt.redirect);
                let tokens = code_exchange.exchange(&callback.code, verifier, redirect).await;
                browser.finish(if tokens.is_ok() { Phase::Done } else { Phase::Failed });
                return tokens.map_err(|error| {
                    emit(SignInEvent::Denied { why: error.to_string() });
                    SignInError::Issuer(error)
                });
            }
        }
    }
    Err(SignInError::NoMethod("the callback was closed".to_owned()))
}

/// A message for the error that the issuer sent instead of a code.
fn denied(error: &str) -> String {
    if error.contains("missing_codex_entitlement") {
        return "this ChatGPT workspace has no access to Codex: ask its administrator".to_owned();
    }
    format!("the sign-in was declined: {}", sanitized(error, &[]))
}

fn ports_busy(holders: &[PortHolder]) -> String {
    let each = holders.iter().map(|holder| match &holder.program {
        Some(program) => format!("port {} is held by {program}", holder.port),
        None => format!("port {} is held by a program of another user", holder.port),
    });
    each.collect::<Vec<_>>().join(", ")
}
