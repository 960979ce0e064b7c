//! An HTTP client for one origin. It uses the system's certificates, the machine's proxies, and a
//! certificate authority that a person named. It follows no redirect and keeps no cookie.

use std::time::Duration;

/// Idle connections that are kept open.
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
/// The certificate authority cannot be read, or TLS cannot be set up: a message.
pub fn client(reach: Reach<'_>) -> Result<reqwest::Client, String> {
    // It fails if the same provider is already installed.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(reach.connect)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .tcp_nodelay(true);
    // A proxy could read the credential in clear text, and it must not leave this machine.
    if reach.is_loopback {
        builder = builder.no_proxy();
        // Plain HTTP needs no certificates, and reading the system's takes a hundred files.
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

/// The innermost error, which says what happened. The outer ones only say where.
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
    fn an_unusable_certificate_authority_is_reported() {
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
