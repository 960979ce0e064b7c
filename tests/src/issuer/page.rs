//! What a person sees at the issuer: plain pages with a form, for a browser or for a program.

use super::book::Agreement;
use crate::wire::plain::Plain;

fn page(status: u16, title: &str, body: &str) -> Plain {
    let html = format!(
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>{title}</title></head>\
         <body><h1>{title}</h1>{body}</body></html>"
    );
    Plain::of(status, "text/html; charset=utf-8", &html).with("cache-control", "no-store")
}

/// Will you?
pub(super) fn consent(shown: &str, agreement: &Agreement) -> Plain {
    let body = format!(
        "<p>Sign in to Codex as <b>{}</b>?</p>\
         <form method=post action=/oauth/authorize>\
         <input type=hidden name=shown value=\"{shown}\">\
         <button id=allow name=answer value=allow>Continue</button>\
         <button id=deny name=answer value=deny>Cancel</button></form>",
        agreement.account.email
    );
    page(200, "Sign in", &body)
}

pub(super) fn refused(why: &str) -> Plain {
    page(400, "This sign-in cannot be shown", &format!("<p id=why>{why}</p>"))
}

/// Where the code of another device is typed.
pub(super) fn device() -> Plain {
    let body = "<form method=post action=/codex/device>\
                <input name=user_code autocomplete=off placeholder=XXXX-XXXX>\
                <button id=allow>Continue</button></form>";
    page(200, "Enter the code of your device", body)
}

pub(super) fn said(status: u16, title: &str) -> Plain {
    page(status, title, "")
}
