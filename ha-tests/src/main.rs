//! `relevo-lab`: Relevo clusters on one machine. All of it is in the library, see `ha_tests::lab`.

fn main() -> std::process::ExitCode {
    ha_tests::lab::cli::main()
}
