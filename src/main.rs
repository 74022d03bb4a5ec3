//! The `bonafide` binary.

fn main() {}
