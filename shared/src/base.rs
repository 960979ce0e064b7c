//! Where the backend is: the base URL that a person gave, and the URLs that follow from it.

use http::Uri;

/// A parsed base URL. `Display` gives the resolved base. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Base {
    scheme: Scheme,
    /// Host and port as written, in lower case.
    authority: String,
    /// It begins with `/` and ends with neither `/` nor `/responses`.
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

/// Why a base URL is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseError {
    NotAUrl,
    /// `http` to another machine.
    Insecure,
    /// It has a user or a password.
    UserInfo,
    /// It has a query or a fragment.
    Query,
}

impl std::fmt::Display for BaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAUrl => "it is not an http or https URL",
            Self::Insecure => {
                "plain http is allowed only for this machine (127.0.0.1, ::1, localhost)"
            }
            Self::UserInfo => "a URL must not hold a user or a password",
            Self::Query => "a base URL must not have a query or a fragment",
        })
    }
}

impl std::error::Error for BaseError {}

impl Base {
    /// Parses a base URL. `https://api.openai.com` gets `/v1`, another host without a path gets
    /// `/backend-api/codex`, and a path stays as it is. A final `/responses` is the endpoint and is
    /// removed.
    ///
    /// # Errors
    /// If it is not a URL, or if no credential may be sent there.
    pub fn parse(text: &str) -> Result<Self, BaseError> {
        if text.contains('#') {
            return Err(BaseError::Query);
        }
        let uri: Uri = text.trim().parse().map_err(|_| BaseError::NotAUrl)?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(BaseError::NotAUrl),
        };
        let authority = uri.authority().ok_or(BaseError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(BaseError::UserInfo);
        }
        if uri.query().is_some() {
            return Err(BaseError::Query);
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(BaseError::NotAUrl);
        }
        if scheme == Scheme::Http && !is_loopback(&host) {
            return Err(BaseError::Insecure);
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/responses").unwrap_or(path).trim_end_matches('/');
        let path = match path {
            "" if host == "api.openai.com" => "/v1",
            "" => "/backend-api/codex",
            given => given,
        };
        Ok(Self {
            scheme,
            authority: authority.as_str().to_ascii_lowercase(),
            path: path.to_owned(),
        })
    }

    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host alone: a name, an IPv4 address, or an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.authority,
        };
        host.trim_start_matches('[').trim_end_matches(']')
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        let given = self.authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        given.unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// Host and port as in the URL: the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Scheme, host and port. A credential is bound to them.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}", self.authority)
    }

    /// The path of `POST …/responses`.
    #[must_use]
    pub fn responses_path(&self) -> String {
        format!("{}/responses", self.path)
    }

    /// The path of `POST …/responses/compact`.
    #[must_use]
    pub fn compact_path(&self) -> String {
        format!("{}/responses/compact", self.path)
    }

    /// The path and query of `GET …/models`.
    #[must_use]
    pub fn models_path(&self, client_version: &str) -> String {
        format!("{}/models?client_version={client_version}", self.path)
    }

    /// Whether the base is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<String, BaseError> {
        Base::parse(text).map(|base| format!("{}{}", base.origin(), base.responses_path()))
    }

    #[test]
    fn a_base_resolves_as_documented() {
        let cases = [
            ("https://api.openai.com", "https://api.openai.com/v1/responses"),
            ("https://api.openai.com/", "https://api.openai.com/v1/responses"),
            ("https://API.openai.com/v1/", "https://api.openai.com/v1/responses"),
            (
                "https://chatgpt.com/backend-api/codex",
                "https://chatgpt.com/backend-api/codex/responses",
            ),
            ("https://codex.example.org", "https://codex.example.org/backend-api/codex/responses"),
            ("https://codex.example.org/x/responses", "https://codex.example.org/x/responses"),
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1/responses"),
            ("http://[::1]:8080/v1", "http://[::1]:8080/v1/responses"),
        ];
        for (given, expected) in cases {
            assert_eq!(resolved(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn a_base_that_would_leak_a_credential_is_refused() {
        let cases = [
            ("http://example.org", BaseError::Insecure),
            ("http://127.0.0.1.example.org", BaseError::Insecure),
            ("http://10.0.0.1", BaseError::Insecure),
            ("https://user:pass@example.org", BaseError::UserInfo),
            ("https://example.org/?x=1", BaseError::Query),
            ("https://example.org/#x", BaseError::Query),
            ("ftp://example.org", BaseError::NotAUrl),
            ("example.org", BaseError::NotAUrl),
            ("", BaseError::NotAUrl),
        ];
        for (given, expected) in cases {
            assert_eq!(resolved(given), Err(expected), "{given}");
        }
    }

    #[test]
    fn host_and_port_are_split() {
        let base = |text| Base::parse(text).map(|b| (b.host().to_owned(), b.port()));
        assert_eq!(base("https://a.example"), Ok(("a.example".to_owned(), 443)));
        assert_eq!(base("http://[::1]:81/x"), Ok(("::1".to_owned(), 81)));
        assert_eq!(base("http://localhost/x"), Ok(("localhost".to_owned(), 80)));
    }
}
