//! Signing in, staying signed in, leaving: the real programs against the scripted issuer.

mod issuer; // the issuer tried on itself
