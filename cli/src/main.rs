//! The `quoit` tool.

fn main() {}
