//! `relevo`: see [`agent::cli`].

use tikv_jemallocator::Jemalloc;

/// The C library's allocator keeps nearly all that a burst has taken, for as long as the process lives (docs/dependencies.md
/// has the figures).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How it works. What is free goes back to the system within some seconds, by a thread of the allocator, which sleeps
/// while nothing is freed; and few arenas, because each of them keeps some.
///
/// The name is the one under which the allocator looks for a pointer to text that ends with a zero.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 70] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:2\0";

fn main() -> std::process::ExitCode {
    agent::cli::main()
}
