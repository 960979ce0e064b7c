//! The way to one origin: system roots, the machine's proxies, one certificate authority more
//! where a person named one; no redirect followed, no cookie kept.

use std::time::Duration;

/// Connections that wait to be used again.
const IDLE_CONNECTIONS: usize = 4;

/// One origin. `https`, or `http` on loopback; never a user or password in it.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// Scheme, host and port.
    pub origin: &'a str,
    pub is_loopback: bool,
    /// PEM, one certificate or several.
    pub ca: Option<&'a str>,
    pub connect: Duration,
}

/// # Errors
/// A certificate authority that is none, or TLS that cannot be set up, as a sentence.
pub fn client(reach: Reach<'_>) -> Result<reqwest::Client, String> {
    // Another part of the process may have been first, with the same one.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(reach.connect)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .tcp_nodelay(true);
    // A proxy set for the machine would read, in the clear, a credential that was to stay on it.
    if reach.is_loopback {
        builder = builder.no_proxy();
        // Without TLS nobody is verified: the machine's certificates (a hundred files) stay unread.
        if reach.origin.starts_with("http://") {
            builder = builder.tls_certs_only([]);
        }
    }
    if let Some(pem) = reach.ca {
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|_| "the certificate authority is not PEM".to_owned())?;
        if certificates.is_empty() {
            return Err("the certificate authority holds no certificate".to_owned());
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| format!("no connection can be made: {}", cause(&error)))
}

/// The deepest reason, which says what happened; the outer ones say where we were.
#[must_use]
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(deeper) = deepest.source() {
        deepest = deeper;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_authority_that_is_none_is_said() {
        let with = |ca| {
            let connect = Duration::from_secs(1);
            let origin = "http://127.0.0.1:1";
            client(Reach { origin, is_loopback: true, ca: Some(ca), connect }).err()
        };
        assert_eq!(with("").as_deref(), Some("the certificate authority holds no certificate"));
        let broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert_eq!(with(broken).as_deref(), Some("the certificate authority is not PEM"));
    }
}
