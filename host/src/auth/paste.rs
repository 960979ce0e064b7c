//! Sign-in with an address that a person pastes here, or with the part of it that they copied.

use std::borrow::Cow;

use airlock_shared::secret::Secret;
use oauth2::url::{Host, Url, form_urlencoded};
use tokio::sync::mpsc;

use super::browser::authorize::{Attempt, CALLBACK};
use super::issuer::{Issuer, IssuerError, Tokens, sanitized};
use super::sign_in::{CodeExchange, SignInError, SignInEvent};

/// The longest line that is read.
const LINE_BYTES: usize = 8 << 10;
/// A shorter line is not a code that was copied.
const CODE_BYTES_LEAST: usize = 8;

/// Ends when a pasted code was exchanged, or when there is no more input.
pub(super) async fn wait(
    issuer: &Issuer,
    code_exchange: &CodeExchange<'_>,
    attempt: &Attempt,
    mut pasted: mpsc::Receiver<Secret>,
    emit: &(dyn Fn(SignInEvent) + Sync),
) -> Result<Tokens, SignInError> {
    let mut last = None;
    while let Some(line) = pasted.recv().await {
        let why = match code(line.reveal(), attempt) {
            Err(why) => why,
            Ok(code) => {
                let exchanged =
                    code_exchange.exchange(&code, &attempt.verifier, &attempt.redirect).await;
                match exchanged {
                    Ok(tokens) => return Ok(tokens),
                    Err(error @ IssuerError::Refused { .. }) => error.to_string(),
                    Err(error) => {
                        let why = format!("{}: {error}", issuer.url.host());
                        last = Some(error);
                        why
                    }
                }
            }
        };
        emit(SignInEvent::NotPasted { why });
    }
    Err(last.map_or_else(
        || SignInError::NoMethod("nothing was pasted that could be used".to_owned()),
        SignInError::Issuer,
    ))
}

/// The code in a line, which is a whole address, `code#state`, a query, or a code alone. The error
/// says what is wrong. It holds no part of the line except the issuer's message.
fn code(line: &str, attempt: &Attempt) -> Result<Secret, String> {
    let fail = |why: &str| Err(why.to_owned());
    if line.len() > LINE_BYTES {
        return fail("it is too long");
    }
    let line = line.trim().trim_matches(['"', '\'', '<', '>', '`']).trim();
    if line.is_empty() {
        return fail("nothing was pasted");
    }
    if line.contains(char::is_whitespace) || line.contains(char::is_control) {
        return fail("there is a space in it: paste the whole address as one line");
    }
    let is_local = ["localhost:", "127.0.0.1:"].iter().any(|local| line.starts_with(local));
    if line.contains("://") || is_local {
        let whole = if is_local { format!("http://{line}") } else { line.to_owned() };
        let url = Url::parse(&whole).map_err(|_| "it is not an address".to_owned())?;
        if !is_callback(&url, attempt) {
            return Err(format!(
                "it is another page's address; the right one starts with {}?",
                attempt.redirect
            ));
        }
        return code_in_query(url.query().unwrap_or_default(), attempt);
    }
    let query = line.strip_prefix('?').unwrap_or(line);
    if ["code=", "state=", "error="]
        .iter()
        .any(|key| query.starts_with(key) || query.contains(&format!("&{key}")))
    {
        return code_in_query(query.split('#').next().unwrap_or_default(), attempt);
    }
    match line.split_once('#') {
        Some((code, state)) if attempt.is_state(state) => checked_code(code),
        Some(_) => fail(OTHER),
        // There is no state to check. The PKCE challenge protects it: the issuer gives tokens only
        // for a code of this sign-in.
        None if line.len() < CODE_BYTES_LEAST => fail("it is too short for a code"),
        None => checked_code(line),
    }
}

const OTHER: &str =
    "it belongs to another sign-in: open the address shown here, and paste the one it ends on";

fn is_callback(url: &Url, attempt: &Attempt) -> bool {
    let Ok(own) = Url::parse(&attempt.redirect) else { return false };
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        _ => false,
    };
    is_here
        && url.scheme() == "http"
        && url.username().is_empty()
        && url.port_or_known_default() == own.port_or_known_default()
        && url.path() == CALLBACK
}

fn code_in_query(query: &str, attempt: &Attempt) -> Result<Secret, String> {
    let fields: Vec<(Cow<'_, str>, Cow<'_, str>)> =
        form_urlencoded::parse(query.as_bytes()).collect();
    // `None`: missing, empty, or given more than once.
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(known, _)| known == name);
        let first = found.next().map(|(_, value)| value.as_ref());
        first.filter(|value| !value.is_empty() && found.next().is_none())
    };
    // THREAT: an attacker persuades the person to paste the address of another sign-in, and the
    // login is for the attacker's account. Tried by
    // auth::paste::tests::an_address_of_another_sign_in_is_refused.
    if !field("state").is_some_and(|state| attempt.is_state(state)) {
        return Err(OTHER.to_owned());
    }
    if let Some(error) = field("error") {
        let message = format!("{error} {}", field("error_description").unwrap_or_default());
        return Err(format!("the issuer did not sign you in: {}", sanitized(&message, &[])));
    }
    field("code").map_or_else(|| Err("there is no code in it".to_owned()), checked_code)
}

fn checked_code(code: &str) -> Result<Secret, String> {
    if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("there is no code in it".to_owned());
    }
    Ok(Secret::new(code.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::browser::authorize::Attempt;
    use super::super::issuer::IssuerUrl;
    use super::*;

    fn attempt() -> (Attempt, String) {
        let attempt = Attempt::begin(&IssuerUrl::default(), "x", 1457).expect("an attempt");
        let url = Url::parse(attempt.address()).expect("a url");
        let state = url.query_pairs().find(|(name, _)| name == "state").expect("a state").1;
        (attempt.clone(), state.into_owned())
    }

    fn read(line: &str, attempt: &Attempt) -> Result<String, String> {
        code(line, attempt).map(|code| code.reveal().to_owned())
    }

    #[test]
    fn every_part_that_a_person_may_copy_is_accepted() {
        let (attempt, state) = attempt();
        let lines = [
            format!("http://localhost:1457/auth/callback?code=ac_Canary-1&scope=x&state={state}"),
            format!("http://localhost:1457/auth/callback?state={state}&code=ac_Canary-1#"),
            format!("http://127.0.0.1:1457/auth/callback?state={state}&code=ac_Canary-1"),
            format!("HTTP://LOCALHOST:1457/auth/callback?state={state}&code=ac_Canary-1"),
            format!("localhost:1457/auth/callback?state={state}&code=ac_Canary-1"),
            format!("127.0.0.1:1457/auth/callback?state={state}&code=ac_Canary-1"),
            format!("  \"http://localhost:1457/auth/callback?state={state}&code=ac_Canary-1\"\r\n"),
            format!("<http://localhost:1457/auth/callback?state={state}&code=ac_Canary-1>"),
            format!("?code=ac_Canary-1&state={state}"),
            format!("code=ac_Canary-1&state={state}"),
            format!("state={state}&code=ac%5FCanary-1"),
            format!("ac_Canary-1#{state}"),
            " ac_Canary-1 ".to_owned(),
        ];
        for line in lines {
            assert_eq!(read(&line, &attempt).as_deref(), Ok("ac_Canary-1"), "{line}");
        }
    }

    #[test]
    fn an_address_of_another_sign_in_is_refused() {
        let (attempt, state) = attempt();
        let (_, other) = super::tests::attempt();
        let lines = [
            format!("http://localhost:1457/auth/callback?code=ac_Canary-1&state={other}"),
            "http://localhost:1457/auth/callback?code=ac_Canary-1".to_owned(),
            format!("http://localhost:1457/auth/callback?code=ac_1&state={state}&state={other}"),
            format!("code=ac_Canary-1&state={other}"),
            "code=ac_Canary-1".to_owned(),
            format!("ac_Canary-1#{other}"),
            "ac_Canary-1#".to_owned(),
            format!("?error=access_denied&state={other}"),
        ];
        for line in lines {
            assert_eq!(read(&line, &attempt), Err(OTHER.to_owned()), "{line}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_hold_no_code() {
        let (attempt, state) = attempt();
        let place = "it is another page's address; the right one starts with \
                     http://localhost:1457/auth/callback?";
        let query = format!("code=ac_Canary-1&state={state}");
        let cases = [
            (String::new(), "nothing was pasted"),
            ("\"\"".to_owned(), "nothing was pasted"),
            ("a".repeat(LINE_BYTES + 1), "it is too long"),
            ("yes".to_owned(), "it is too short for a code"),
            (format!("{query} x"), "there is a space in it: paste the whole address as one line"),
            (
                "ac_Canary\u{1b}[2J-1".to_owned(),
                "there is a space in it: paste the whole address as one line",
            ),
            ("ac_Canáry-1".to_owned(), "there is no code in it"),
            (format!("state={state}"), "there is no code in it"),
            (format!("state={state}&code="), "there is no code in it"),
            (format!("state={state}&code=a&code=b"), "there is no code in it"),
            (format!("#{state}"), "there is no code in it"),
            (format!("https://localhost:1457/auth/callback?{query}"), place),
            (format!("http://localhost:1455/auth/callback?{query}"), place),
            (format!("http://localhost/auth/callback?{query}"), place),
            (format!("http://localhost:1457/auth/callback/x?{query}"), place),
            (format!("http://localhost:1457@attacker.example/auth/callback?{query}"), place),
            (format!("http://x@localhost:1457/auth/callback?{query}"), place),
            (format!("http://attacker.example:1457/auth/callback?{query}"), place),
            (format!("http://[::1]:1457/auth/callback?{query}"), place),
            (attempt.address().to_owned(), place),
            ("://".to_owned(), "it is not an address"),
            (
                format!("?error=access_denied&error_description=not%20today&state={state}"),
                "the issuer did not sign you in: access_denied not today",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(read(&line, &attempt), Err(expected.to_owned()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_line_is_a_code_alone_or_has_the_state(line in "(\\PC|[?&=#:/%]|code=|state=|localhost:1457){0,60}") {
            let (attempt, _) = attempt();
            if let Ok(code) = read(&line, &attempt) {
                prop_assert!(line.contains(&code) && !code.contains(['#', ' ']), "{}", code);
                prop_assert!(!line.contains("://"), "{}", line);
            }
        }

        #[test]
        fn a_code_is_found_in_every_form(given in "[A-Za-z0-9._~-]{8,120}") {
            let (attempt, state) = attempt();
            for line in [
                format!("{}?code={given}&state={state}", attempt.redirect),
                format!("code={given}&state={state}"),
                format!("{given}#{state}"),
                given.clone(),
            ] {
                prop_assert_eq!(read(&line, &attempt), Ok(given.clone()));
            }
        }
    }
}
