//! The program: allocator, crypto library, command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// What is read back from the store comes and goes in megabytes: the allocator of glibc gives each one back to the kernel and faults it
/// in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Fails only when there is a default already, and nobody was here before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    bits_gateway::cli::main()
}
