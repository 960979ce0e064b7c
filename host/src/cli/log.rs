//! What the program says of itself to whoever debugs it: off unless `RUST_LOG` is set, on stderr.

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::prelude::*;

use crate::cli::environment::Environment;

/// Starts logging as `RUST_LOG` says. A filter that cannot be read logs nothing.
pub(super) fn start(environment: &Environment) {
    let Some(filter) = environment.text("RUST_LOG") else { return };
    let Ok(filter) = EnvFilter::try_new(filter) else { return };
    // THREAT: at `trace`, HTTP and Docker libraries print headers and bodies, and so the key. Ours
    // hold secrets in a type that cannot be printed; others say no more than `info`, whatever was
    // asked. Tried by cli::log::tests::libraries_never_say_more_than_info.
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(
            filter.and(filter_fn(|metadata| may_say(metadata.target(), *metadata.level()))),
        );
    // A second start, in tests, changes nothing.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

fn may_say(target: &str, level: Level) -> bool {
    target.split("::").next().is_some_and(|crate_name| crate_name.starts_with("airlock"))
        || level <= Level::INFO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_say_more_than_info() {
        assert!(may_say("airlock_host::gate", Level::TRACE));
        assert!(may_say("hyper::proto", Level::INFO));
        assert!(!may_say("hyper::proto::h1::role", Level::DEBUG));
        assert!(!may_say("bollard::docker", Level::TRACE));
    }
}
