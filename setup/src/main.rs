//! The program `setup`: the same commands as `airlock setup`.

fn main() -> std::process::ExitCode {
    airlock_host::cli::setup()
}
