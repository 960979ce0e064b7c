//! The shape of the house, as tests: who may know whom, what stands where, which promise is tried
//! by which test, and that the formatter and the linter have nothing to say.

mod arrows; // who may import whom
mod house; // what stands at the top, and what the workspace depends on
mod lints; // rustfmt and clippy
mod promises; // every promise names a test that exists
mod sources; // the sources, read once
mod texts; // what every source file has to be like
