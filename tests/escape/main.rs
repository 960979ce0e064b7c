//! What an agent that means harm would try, in a box of ours and in one without our confinement.

mod secrets; // where could the key have been left?
