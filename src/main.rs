//! The `bonafide` binary: everything is in the library.

/// A review makes some hundred short-lived allocations; this one serves them in half the time of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bonafide::cli::main()
}
