//! An issuer of logins on the wire: a real HTTP/1.1 server on 127.0.0.1 that signs people in as the
//! real one does (codex protocol, A and B), refuses what it refuses, fails in every way a network
//! can, and remembers every request.
//!
//! Two things it holds its clients to: PKCE and the redirect address, and that a refresh token is
//! good once. Who comes with a used one kills every token of that sign-in.
//!
//! Deliberately absent: passwords (whoever opens the page is the person), signatures that could be
//! verified, and scopes with a meaning.

mod book; // what it knows: codes, families of tokens
mod device; // the code typed on another device
mod fault; // the ways it fails
mod jwt; // tokens that look like the real ones
mod page; // what a person sees
mod route; // which request is answered how
mod serve; // on the wire

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use book::{Account, Granted};
pub use fault::Fault;

use crate::backend::Taken;
use crate::wire::Serving;
use crate::wire::record::Recorded;
use book::Book;

/// The public client (A.1).
pub const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The page on which a person agrees.
    Authorize,
    /// A code for tokens.
    Exchange,
    /// A refresh token for tokens.
    Refresh,
    /// An id token for an API key.
    ApiKey,
    Revoke,
    /// A code to be typed on another device.
    UserCode,
    /// Whether it has been typed.
    Poll,
    /// Any other page.
    Page,
}

/// What the person with the code does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Types it once it has been asked for this often.
    Types { after_polls: u32 },
    /// Nothing, until [`Issuer::type_code`].
    Waits,
    /// There is no such sign-in here: 404.
    Off,
}

/// How an issuer is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// 0: any free one.
    pub port: u16,
    pub tls: bool,
    /// Who signs in.
    pub account: Account,
    /// Seconds an access token is good for.
    pub lifetime: u64,
    pub device: Device,
    /// Seconds between polls, as text, as the real one says it.
    pub interval: String,
    /// How far its clock is ahead of this machine's, in seconds.
    pub ahead: i64,
    /// Hold the client to what ours promises, beyond what the real issuer refuses.
    pub ours: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            tls: false,
            account: Account::named("ada"),
            lifetime: 864_000,
            device: Device::Types { after_polls: 1 },
            interval: "0".to_owned(),
            ahead: 0,
            ours: true,
        }
    }
}

/// One request, what it was for, and how it was answered (`status`, 0 where it was not).
#[derive(Clone, Debug)]
pub struct Asked {
    pub what: What,
    pub request: Recorded,
}

/// A running issuer. Dropping it ends it.
pub struct Issuer {
    book: Arc<Mutex<Book>>,
    serving: Serving,
}

impl Default for Issuer {
    fn default() -> Self {
        Self::start(Options::default())
    }
}

impl Issuer {
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (port, tls) = (options.port, options.tls);
        let book = Arc::new(Mutex::new(Book::new(options)));
        let serving = Serving::start(port, tls, serve::Answering(Arc::clone(&book)));
        let issuer = Self { book, serving };
        issuer.lock().url = issuer.url();
        issuer
    }

    /// Scheme, host and port: what `--issuer` takes.
    #[must_use]
    pub fn url(&self) -> String {
        self.serving.origin()
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.serving.port()
    }

    /// The authority to trust, as PEM, where it speaks TLS.
    #[must_use]
    pub fn ca(&self) -> Option<&str> {
        self.serving.ca()
    }

    /// Everything it was asked so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// The requests for one thing, in order.
    #[must_use]
    pub fn asked_for(&self, what: What) -> Vec<Recorded> {
        let asked = self.asked().into_iter().filter(|asked| asked.what == what);
        asked.map(|asked| asked.request).collect()
    }

    /// What a client did that the real issuer lets pass and we do not.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.lock().complaints.clone()
    }

    /// The next request for this fails so. Several wait in line.
    pub fn fault(&self, what: What, fault: Fault) {
        self.fault_times(what, fault, 1);
    }

    /// The next requests for this fail so.
    pub fn fault_times(&self, what: What, fault: Fault, times: usize) {
        let faults = std::iter::repeat_n((what, fault), times);
        self.lock().faults.extend(faults);
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Who signs in from now on.
    pub fn account(&self, account: Account) {
        self.lock().options.account = account;
    }

    /// The person types this code on another device. False: nobody was given it.
    pub fn type_code(&self, user_code: &str) -> bool {
        self.lock().type_code(user_code)
    }

    /// Tokens of a new sign-in, without one having been made.
    #[must_use]
    pub fn grant(&self) -> Granted {
        let mut book = self.lock();
        let account = book.options.account.clone();
        book.grant(account)
    }

    /// The next tokens of this sign-in, as another program would have asked for them. None: it is
    /// not taken any more.
    #[must_use]
    pub fn rotate(&self, refresh: &str) -> Option<Granted> {
        self.lock().refresh(refresh, None).ok()
    }

    /// From now on the sign-in of this refresh token is gone, and this is the code it is told.
    pub fn end(&self, refresh: &str, code: &'static str) {
        self.lock().end(refresh, code);
    }

    /// Whether this refresh token would be taken now.
    #[must_use]
    pub fn takes(&self, refresh: &str) -> bool {
        self.lock().takes(refresh)
    }

    /// What a backend asks of it: only the last access token of a living sign-in is taken.
    #[must_use]
    pub fn newest(&self) -> Taken {
        let book = Arc::clone(&self.book);
        Taken(Arc::new(move |bearer| {
            book.lock().unwrap_or_else(PoisonError::into_inner).is_newest(bearer)
        }))
    }

    /// Everything that nobody but client and issuer may see, each with a name: what a scan looks
    /// for.
    #[must_use]
    pub fn secrets(&self) -> Vec<(String, String)> {
        self.lock().secrets.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
