//! Signing in, renewing and logging out: the real programs against the scripted issuer.

mod issuer; // tests of the scripted issuer itself
mod killed; // a refresh that is killed at each of its steps
mod machine; // a home, an issuer and a backend for a test
mod refresh; // one refresh for many processes
mod sign_in; // signing in without a browser, again, and after a login has ended
mod browser; // signing in with a browser
mod opener; // starting the browser
mod account; // whose account a login has, and which credential is used
mod leave; // status, logout, import, secrets
mod store; // where logins are kept
mod faults; // faults of the issuer and of the network
mod clock; // a clock that is ten hours wrong
mod secrets; // no secret in outputs, logs or process arguments
mod session; // sessions that use a login
mod model; // the choice of a model, stored with the login
