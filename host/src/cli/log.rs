//! Logging to stderr, for debugging. Off unless `RUST_LOG` is set.

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::prelude::*;

use crate::cli::environment::Environment;

/// Starts logging as `RUST_LOG` says. An invalid filter logs nothing.
pub(super) fn start(environment: &Environment) {
    let Some(filter) = environment.text("RUST_LOG") else { return };
    let Ok(filter) = EnvFilter::try_new(filter) else { return };
    // THREAT: at `trace`, HTTP and Docker libraries print headers and bodies, and so the key. Our
    // crates hold secrets in a type that cannot be printed; libraries log at most at `info`. Tried by
    // cli::log::tests::libraries_never_log_below_info.
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(
            filter.and(filter_fn(|metadata| may_log(metadata.target(), *metadata.level()))),
        );
    // A second start, in tests, has no effect.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

fn may_log(target: &str, level: Level) -> bool {
    target.split("::").next().is_some_and(|crate_name| crate_name.starts_with("airlock"))
        || level <= Level::INFO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_log_below_info() {
        assert!(may_log("airlock_host::gate", Level::TRACE));
        assert!(may_log("hyper::proto", Level::INFO));
        assert!(!may_log("hyper::proto::h1::role", Level::DEBUG));
        assert!(!may_log("bollard::docker", Level::TRACE));
    }
}
