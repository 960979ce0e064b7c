//! The program `airlock`: a door to the library.

fn main() -> std::process::ExitCode {
    airlock_host::cli::main()
}
