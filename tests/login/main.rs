//! Signing in, staying signed in, leaving: the real programs against the scripted issuer.

mod issuer; // the issuer tried on itself
mod killed; // a refresh that is killed at each of its steps
mod machine; // a machine on which somebody signs in
mod refresh; // one refresher for all
mod sign_in; // without a browser here, again, and after the login is gone
mod browser; // the way of the browser
mod opener; // the program that is started for it
mod account; // whose it becomes, and who pays
mod leave; // status, logout, import, secrets
mod store; // where logins are kept
mod faults; // what goes wrong at the issuer and on the way to it
mod clock; // ten hours off
mod secrets; // nothing is shown, logged, or stands where others read
mod run; // a login pays for a run
mod model; // which model it asks, chosen once
