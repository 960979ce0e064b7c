//! The program `airlock`.

fn main() -> std::process::ExitCode {
    airlock_host::cli::main()
}
