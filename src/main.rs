//! The `bonafide` binary: everything is in the library.

/// In glibc's and in musl's own, threads that give back each other's memory wait for locks: a busy webhook spends a tenth of its time there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bonafide::cli::main()
}
