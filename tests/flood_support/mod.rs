//! A webhook in a cluster whose users attack it, and one honest user beside them. The test of its memory and the benchmark share it.
#![allow(dead_code, missing_docs, unreachable_pub)]

mod attacks;
mod client;
mod objects;
mod world;

pub use attacks::*;
pub use world::{World, honest};
