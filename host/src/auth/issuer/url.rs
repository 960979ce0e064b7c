//! The URL of an issuer.

use http::Uri;

/// The longest URL that is accepted.
const URL_BYTES: usize = 1024;

/// `https`, or `http` on loopback. No user, query or fragment, and no `/` at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl(String);

impl IssuerUrl {
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.len() > URL_BYTES {
            return Err("it is too long for a URL");
        }
        if text.contains(['?', '#']) {
            return Err("an issuer's URL has no query and no fragment");
        }
        let not_a_url = "it is not an http or https URL";
        let uri: Uri = text.parse().map_err(|_| not_a_url)?;
        let authority = uri.authority().ok_or(not_a_url)?;
        if authority.as_str().contains('@') {
            return Err("a URL with a user or password is not accepted");
        }
        let host = authority.host();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        if host.is_empty() || !authority.as_str().chars().all(plain) {
            return Err(not_a_url);
        }
        // THREAT: an attacker on the network reads the code and the verifier, and takes the login.
        // Tried by auth::issuer::url::an_issuer_that_would_leak_a_login_is_refused.
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") if is_loopback(host) => "http",
            Some("http") => {
                return Err(
                    "plain http is allowed only for this machine (127.0.0.1, ::1, localhost)",
                );
            }
            _ => return Err(not_a_url),
        };
        let path = uri.path().trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        if !path.chars().all(plain) || path.split('/').any(|part| part == "..") {
            return Err("its path may have only letters, digits and -._~/");
        }
        Ok(Self(format!("{scheme}://{}{path}", authority.as_str().to_ascii_lowercase())))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host alone, for messages.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &str {
        let start = self.0.len() - self.after_scheme().len();
        &self.0[..start + self.authority().len()]
    }

    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    fn after_scheme(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, rest)| rest)
    }

    fn authority(&self) -> &str {
        self.after_scheme().split('/').next().unwrap_or_default()
    }
}

impl Default for IssuerUrl {
    fn default() -> Self {
        Self(super::ISSUER.to_owned())
    }
}

impl std::fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_url_is_parsed() {
        // Given, whole, host, origin.
        let cases = [
            ("https://auth.openai.com", "", "auth.openai.com", "https://auth.openai.com"),
            (
                "https://Auth.OpenAI.com/",
                "https://auth.openai.com",
                "auth.openai.com",
                "https://auth.openai.com",
            ),
            (
                "https://id.example.org:8443/tenant-1/",
                "https://id.example.org:8443/tenant-1",
                "id.example.org",
                "https://id.example.org:8443",
            ),
            ("http://127.0.0.1:4455", "", "127.0.0.1", "http://127.0.0.1:4455"),
            (" http://[::1]:4455\n", "http://[::1]:4455", "[::1]", "http://[::1]:4455"),
            ("http://localhost", "", "localhost", "http://localhost"),
        ];
        for (given, whole, host, origin) in cases {
            let url = IssuerUrl::parse(given).expect("an issuer");
            let whole = if whole.is_empty() { given } else { whole };
            assert_eq!((url.as_str(), url.host(), url.origin()), (whole, host, origin), "{given}");
        }
        assert_eq!(IssuerUrl::parse(super::super::ISSUER), Ok(IssuerUrl::default()));
    }

    #[test]
    fn an_issuer_that_would_leak_a_login_is_refused() {
        let long = format!("https://example.org/{}", "a".repeat(URL_BYTES));
        let cases = [
            "",
            "auth.openai.com",
            "ftp://example.org",
            "http://example.org",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
            "https://user:pass@example.org",
            "https://user@example.org",
            "https://example.org?x=1",
            "https://example.org/#x",
            "https://",
            "https://exa mple.org",
            "https://example.org/../x",
            "https://example.org/%2e",
            "javascript:alert(1)",
            &long,
        ];
        for given in cases {
            assert!(IssuerUrl::parse(given).is_err(), "{given}");
        }
    }
}
