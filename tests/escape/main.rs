//! What an agent that means harm would try, in a sandbox of ours and in one without our confinement.

mod attack; // how something is tried twice
mod hostile; // an image that means harm
mod memory; // what the sandbox knows
mod link; // what it says, and whether it lives
mod power; // what root could do
mod network; // other machines
mod beside; // other sandboxes
mod leftovers; // what one call leaves to the next
mod floods; // more of everything than there is
mod paths; // the file tools
mod planted; // modules of the image
mod image; // links, volumes and settings of the image, at every path that is used
mod secrets; // where could the key have been left?
