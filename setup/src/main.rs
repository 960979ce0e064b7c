//! The program `setup`: another door to what `airlock setup` does.

fn main() -> std::process::ExitCode {
    airlock_host::cli::setup()
}
