#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod matrix;
mod rules;
