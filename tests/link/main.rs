//! A hostile program in the sandbox's place, on a real engine's pipe: whatever it does, `airlock`
//! ends with a typed fault, in time, with its memory bounded, and leaves nothing behind.

mod after; // attacks after the handoff, in HTTP/2
mod before;
mod impostor; // what every attack begins with // attacks before it
