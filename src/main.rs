//! The `bonafide` binary: everything is in the library.

/// musl's own takes a lock that all threads share.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bonafide::cli::main()
}
