//! What the issuer knows: who agreed to what, and which tokens belong to one sign-in.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::{Asked, Fault, Options, What, jwt};
use crate::clock;

/// A person, and the plan that pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub email: String,
    pub plan: String,
    /// `chatgpt_account_id`
    pub id: String,
    pub user: String,
}

impl Account {
    /// Somebody of plan plus with an account id of their own, the same each time.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Self {
            email: format!("{name}@example.org"),
            plan: "plus".to_owned(),
            id: parts.join("-"),
            user: format!("user-{name}"),
        }
    }
}

/// The tokens of one sign-in.
#[derive(Clone)]
pub struct Granted {
    pub access: String,
    pub refresh: String,
    pub id: String,
    pub lifetime: u64,
    pub account: Account,
}

/// Every token that came of one sign-in.
struct Family {
    account: Account,
    refresh: String,
    /// Refresh tokens of before, each used once.
    spent: HashSet<String>,
    access: String,
    /// Unix seconds, by the issuer's clock.
    expires: u64,
    /// Why no token of it is taken any more.
    ended: Option<&'static str>,
}

/// Somebody agreed, or is about to.
#[derive(Clone)]
pub(super) struct Agreement {
    pub(super) account: Account,
    pub(super) redirect: String,
    pub(super) challenge: String,
    pub(super) state: String,
}

pub(super) struct DeviceCode {
    pub(super) user_code: String,
    pub(super) polls: u32,
    pub(super) polled: Option<Instant>,
    pub(super) typed: bool,
}

pub(super) struct Book {
    pub(super) options: Options,
    pub(super) url: String,
    pub(super) asked: Vec<Asked>,
    pub(super) faults: VecDeque<(What, Fault)>,
    pub(super) complaints: Vec<String>,
    pub(super) secrets: Vec<(String, String)>,
    /// Pages that were shown and not yet answered.
    pub(super) shown: HashMap<String, Agreement>,
    /// Codes that were given out; None: used.
    codes: HashMap<String, Option<Agreement>>,
    pub(super) devices: HashMap<String, DeviceCode>,
    families: Vec<Family>,
    /// Refresh tokens that were refused for good.
    refused: HashSet<String>,
}

impl Book {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            url: String::new(),
            asked: Vec::new(),
            faults: VecDeque::new(),
            complaints: Vec::new(),
            secrets: Vec::new(),
            shown: HashMap::new(),
            codes: HashMap::new(),
            devices: HashMap::new(),
            families: Vec::new(),
            refused: HashSet::new(),
        }
    }

    /// What time it is here.
    pub(super) fn now(&self) -> u64 {
        clock::unix().saturating_add_signed(self.options.ahead)
    }

    pub(super) fn note(&mut self, complaint: &str) {
        if self.options.ours {
            self.complaints.push(complaint.to_owned());
        }
    }

    pub(super) fn secret(&mut self, name: &str, value: &str) {
        if value.len() >= 16 {
            self.secrets.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The fault that is next in line for this.
    pub(super) fn next_fault(&mut self, what: What) -> Option<Fault> {
        let at = self.faults.iter().position(|(of, _)| *of == what)?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }

    /// A code that is good once.
    pub(super) fn code_for(&mut self, agreement: Agreement) -> String {
        let code = format!("ac_{}", jwt::random(32));
        self.secret("a code", &code);
        self.codes.insert(code.clone(), Some(agreement));
        code
    }

    /// Tokens for a code, as PKCE and RFC 6749 have it.
    pub(super) fn exchange(
        &mut self,
        code: &str,
        redirect: &str,
        verifier: &str,
    ) -> Result<Granted, &'static str> {
        let agreement = match self.codes.get(code) {
            None => return Err("no such code"),
            Some(None) => return Err("the code has been used"),
            Some(Some(agreement)) => agreement.clone(),
        };
        if agreement.redirect != redirect {
            return Err("another redirect_uri than the code was made for");
        }
        let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        if digest != agreement.challenge {
            return Err("the verifier does not fit the challenge");
        }
        self.codes.insert(code.to_owned(), None);
        Ok(self.grant(agreement.account))
    }

    pub(super) fn grant(&mut self, account: Account) -> Granted {
        let granted = self.fresh(account);
        self.families.push(Family {
            account: granted.account.clone(),
            refresh: granted.refresh.clone(),
            spent: HashSet::new(),
            access: granted.access.clone(),
            expires: self.now() + granted.lifetime,
            ended: None,
        });
        granted
    }

    fn fresh(&mut self, account: Account) -> Granted {
        let (now, lifetime) = (self.now(), self.options.lifetime);
        let granted = Granted {
            access: jwt::access(&self.url, &account, now, lifetime),
            refresh: format!("rt_{}", jwt::random(48)),
            id: jwt::id(&self.url, &account, now),
            lifetime,
            account,
        };
        let tokens = [
            ("an access token", &granted.access),
            ("a refresh token", &granted.refresh),
            ("an id token", &granted.id),
        ];
        for (name, value) in tokens {
            self.secret(name, value);
        }
        granted
    }

    /// The next tokens of a family. Who brings a used one ends it (B.4).
    pub(super) fn refresh(
        &mut self,
        token: &str,
        fault: Option<&Fault>,
    ) -> Result<Granted, &'static str> {
        if self.refused.contains(token) {
            self.note("a refresh token that was refused for good came again");
        }
        let refused = self.refusal(token);
        if let Some(code) = refused {
            self.refused.insert(token.to_owned());
            return Err(code);
        }
        let Some(at) = self.families.iter().position(|family| family.refresh == token) else {
            return Err("refresh_token_invalidated");
        };
        let account = match fault {
            Some(Fault::OtherAccount) => Account::named("mallory"),
            _ => self.families[at].account.clone(),
        };
        let mut granted = self.fresh(account);
        let expires = self.now() + granted.lifetime;
        let family = &mut self.families[at];
        if fault == Some(&Fault::KeepsRefresh) {
            token.clone_into(&mut granted.refresh);
        } else {
            family.spent.insert(token.to_owned());
            family.refresh.clone_from(&granted.refresh);
        }
        family.access.clone_from(&granted.access);
        family.expires = expires;
        Ok(granted)
    }

    /// The code with which a refresh token is refused; a used one ends its family.
    fn refusal(&mut self, token: &str) -> Option<&'static str> {
        let of = |family: &&mut Family| family.refresh == token || family.spent.contains(token);
        let Some(family) = self.families.iter_mut().find(of) else {
            return Some("refresh_token_invalidated");
        };
        if family.spent.contains(token) {
            family.ended = Some("refresh_token_invalidated");
            return Some("refresh_token_reused");
        }
        family.ended
    }

    pub(super) fn end(&mut self, token: &str, code: &'static str) {
        for family in &mut self.families {
            if family.refresh == token || family.access == token || family.spent.contains(token) {
                family.ended = Some(code);
            }
        }
    }

    pub(super) fn takes(&self, refresh: &str) -> bool {
        self.families.iter().any(|family| family.refresh == refresh && family.ended.is_none())
    }

    pub(super) fn is_newest(&self, bearer: &str) -> bool {
        let now = self.now();
        let newest = |family: &Family| {
            family.access == bearer && family.ended.is_none() && now < family.expires
        };
        self.families.iter().any(newest)
    }
}
