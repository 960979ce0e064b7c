//! Whole runs of `airlock` in real containers, against the scripted backend. What does not depend
//! on the credentials is run in both.

/// Runs each body twice, with the credential on the host and with it in the sandbox.
macro_rules! in_both_custodies {
    ($($(#[$meta:meta])* async fn $name:ident($rig:ident: Rig) $body:block)*) => {
        mod relay {
            use super::*;
            $($(#[$meta])* async fn $name() { let $rig = Rig::new(); $body })*
        }
        mod handoff {
            use super::*;
            $($(#[$meta])* async fn $name() {
                let $rig = Rig::new().credentials(airlock_tests::CredentialsMode::Handoff);
                $body
            })*
        }
    };
}

mod blocked; // a command that does not end by itself
mod accents; // engines that show or say less than Docker
mod changes; // what comes out, and what of it is applied
mod end; // cancelled, terminated, killed: nothing left behind
mod faults; // what the backend does wrong
mod frozen; // a process that cannot be ended
mod image; // pulled, named by digest, refused
mod halfway; // an apply that was killed
mod left_out; // what never enters a sandbox
mod killed; // a host, a sandbox, a command that are killed
mod so_far; // killed while the model thinks
mod live; // the folder itself in the sandbox
mod load; // more work than there is room for
mod logins; // a token file pays, and is renewed
mod plain; // the sandbox by itself
mod pulled; // images from a registry
mod repository; // somebody else's code, edited and applied
mod room; // what goes in, and where it lies
mod spent; // budgets, and signals at bad moments
mod tls; // whom the backend's certificate convinces
mod tricks; // a repository that means harm
mod turn; // ask, act, ask again
