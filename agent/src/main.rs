//! `relevo`: see [`agent::cli`].

fn main() -> std::process::ExitCode {
    agent::cli::main()
}
