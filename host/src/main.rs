//! The binary `airlock`: a door to the library.

fn main() {}
