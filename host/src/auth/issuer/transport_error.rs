//! Why there was no answer: errors of the connection and of TLS, each with advice.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustls::CertificateError;

use super::IssuerError;
use super::answer::proxy_password;

/// The error and its sources, from the outermost to the innermost.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let deeper = |error: &&'e (dyn Error + 'static)| -> Option<&'e (dyn Error + 'static)> {
        // The `source` of an `io::Error` skips the error that it wraps.
        let error: &'e (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        }
    };
    std::iter::successors(Some(error), deeper).collect()
}

pub(super) fn classify(error: &reqwest::Error) -> IssuerError {
    let was_sent = !error.is_connect() && !error.is_builder();
    why(error, was_sent, error.is_dns(), error.is_timeout())
}

fn why(
    error: &(dyn Error + 'static),
    was_sent: bool,
    is_name: bool,
    is_timeout: bool,
) -> IssuerError {
    let chain = chain(error);
    if chain.iter().any(|error| error.to_string().contains("proxy authorization required")) {
        return IssuerError::Intercepted(proxy_password());
    }
    let tls = chain.iter().find_map(|error| error.downcast_ref::<rustls::Error>());
    let kind = chain.iter().rev().find_map(|error| error.downcast_ref::<io::Error>());
    let kind = kind.map(io::Error::kind);
    let why = if let Some(tls) = tls {
        untrusted(tls)
    } else if is_name || chain.iter().any(|error| error.to_string() == "dns error") {
        "its name is not found: check the network and the DNS of this machine".to_owned()
    } else if is_timeout || kind == Some(ErrorKind::TimedOut) {
        "it did not answer in time".to_owned()
    } else {
        match kind {
            Some(ErrorKind::ConnectionRefused) => "the connection was refused".to_owned(),
            Some(ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) => {
                "it cannot be reached from this machine: check the network".to_owned()
            }
            _ if was_sent => "the connection broke before the whole answer came".to_owned(),
            _ => format!(
                "no connection: {}",
                super::message::sanitized(
                    &chain.last().map(ToString::to_string).unwrap_or_default(),
                    &[]
                )
            ),
        }
    };
    if was_sent { IssuerError::Lost(why) } else { IssuerError::Unreachable(why) }
}

fn untrusted(error: &rustls::Error) -> String {
    let day = |time: &rustls::pki_types::UnixTime| {
        let time = i64::try_from(time.as_secs()).ok();
        let time = time.and_then(|time| jiff::Timestamp::from_second(time).ok());
        time.map_or_else(String::new, |time| time.strftime("%-d %b %Y %H:%M UTC").to_string())
    };
    let rustls::Error::InvalidCertificate(why) = error else {
        return format!("no TLS with it: {}", super::message::sanitized(&error.to_string(), &[]));
    };
    let clock = "check the clock of this machine";
    match why {
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is not valid before {}, and this machine's clock says {}: {clock}",
            day(not_before),
            day(time)
        ),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate was valid until {}, and this machine's clock says {}: {clock}",
            day(not_after),
            day(time)
        ),
        CertificateError::NotValidYet => format!("its certificate is not valid yet: {clock}"),
        CertificateError::Expired => format!("its certificate has expired: {clock}"),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: another server may have answered".to_owned()
        }
        _ => "this machine does not trust the authority that signed its certificate; for your own \
              proxy: --ca FILE"
            .to_owned(),
    }
}
