//! A hostile program in the sandbox's place, on a real engine's pipe: whatever it does, `airlock`
//! ends with a typed fault, in time, with its memory bounded, and leaves nothing behind.

mod impostor; // what every attack begins with
mod before; // attacks before the handoff
mod after; // attacks after it
mod memory; // what is small on the pipe and large in memory
