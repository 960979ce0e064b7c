//! Reads `config.toml`. An unknown key is an error, because it is most likely a misspelt limit that
//! would have no effect.
//!
//! Deliberately absent: any configuration from the person's directory.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::cli::places::Places;
use crate::cli::settings::{CONFIG_ONLY, CONFIGURABLE, GivenValue, PER_SESSION, Settings, nearest};
use crate::failure::Failure;

const CONFIG_BYTES: u64 = 256 << 10;

/// The settings in the user's configuration file; a missing file sets nothing.
///
/// # Errors
/// A usage failure that names the file and the line.
pub fn read(places: &Places) -> Result<Settings, Failure> {
    let path = places.config_file();
    let unreadable = |why: &str| {
        let shown = path.display();
        Failure::usage(format!("{shown} cannot be read: {why}")).hint(format!("ls -l {shown}"))
    };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Settings::default()),
        Err(error) => return Err(unreadable(&error.to_string())),
    };
    let mut text = String::new();
    file.take(CONFIG_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(&error.to_string()))?;
    if text.len() as u64 > CONFIG_BYTES {
        return Err(unreadable("it is longer than 256 KiB"));
    }
    let mut settings = parse(&text, &path)?;
    // No shell expands these paths, and the current directory differs each time.
    for path in [&mut settings.api_key_file, &mut settings.ca].into_iter().flatten() {
        *path = absolute(path, places);
    }
    Ok(settings)
}

fn absolute(path: &Path, places: &Places) -> PathBuf {
    match (path.strip_prefix("~"), &places.home) {
        (Ok(below), Some(home)) => home.join(below),
        _ => places.config.join(path),
    }
}

/// Pure; `path` is for messages.
///
/// # Errors
/// A usage failure that names the file and the line.
pub fn parse(text: &str, path: &Path) -> Result<Settings, Failure> {
    let refuse = |at: usize, why: &str| {
        let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let place = format!("{}:{line}", path.display());
        Failure::usage(format!("{place}: {why}")).hint(format!("edit {}", path.display()))
    };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        refuse(at, &format!("not TOML: {}", error.message().replace('\n', ", ")))
    })?;
    let mut settings = Settings::default();
    for (key, value) in table.get_ref() {
        let (name, at) = (key.get_ref().as_ref(), key.span().start);
        if !CONFIGURABLE.contains(&name) && !CONFIG_ONLY.contains(&name) {
            return Err(refuse(at, &unknown(name)));
        }
        let set = given(value.get_ref()).and_then(|given| settings.set(name, &given));
        set.map_err(|why| refuse(at, &format!("{name}: {why}")))?;
    }
    match settings.contradiction() {
        Some(why) => Err(refuse(0, why)),
        None => Ok(settings),
    }
}

fn unknown(name: &str) -> String {
    match name {
        // THREAT: a key is in a file that people copy, show and commit. Tried by
        // cli::file::tests::an_error_names_the_line.
        "api_key" => {
            "a key must not be in this file: name the key's file with `api_key_file`".to_owned()
        }
        name if PER_SESSION.contains(&name) => {
            format!("`{name}` cannot be set here: give it as --{}", name.replace('_', "-"))
        }
        name => {
            let known = CONFIGURABLE.into_iter().chain(CONFIG_ONLY);
            match nearest(&name.replace('-', "_"), known) {
                Some(known) => format!("unknown key `{name}`; did you mean `{known}`?"),
                None => format!("unknown key `{name}`; `airlock run --help` lists all keys"),
            }
        }
    }
}

fn given(value: &DeValue<'_>) -> Result<GivenValue, String> {
    let number = |radix: u32, text: &str| match radix {
        10 => Ok(GivenValue::Text(text.to_owned())),
        _ => Err("it must be a decimal number".to_owned()),
    };
    match value {
        DeValue::String(text) => Ok(GivenValue::Text(text.to_string())),
        DeValue::Integer(integer) => number(integer.radix(), integer.as_str()),
        DeValue::Float(float) => number(10, float.as_str()),
        DeValue::Boolean(switch) => Ok(GivenValue::Switch(*switch)),
        DeValue::Array(array) => {
            let texts = array.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err("it must be a list of strings".to_owned()),
            });
            texts.collect::<Result<_, _>>().map(GivenValue::List)
        }
        DeValue::Datetime(_) | DeValue::Table(_) => Err("it must be a single value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::settings::CredentialsMode;

    fn refused(text: &str) -> String {
        match parse(text, Path::new("/c/config.toml")) {
            Err(failure) => failure.reason,
            Ok(_) => "taken".to_owned(),
        }
    }

    #[test]
    fn values_of_all_types_are_read() {
        let text = "model = \"gpt-5.5\"\ntokens = 400_000\ncpus = 1.5\nmemory = \"4GiB\"\n\
                    live = false\nenv = [\"CARGO_HOME\"]\ncredentials = \"handoff\"\nsteps = \"7\"\n\
                    disk = 4194304\nsummary = \"concise\"\n";
        let settings = parse(text, Path::new("x")).expect("taken");
        assert_eq!(settings.model.as_deref(), Some("gpt-5.5"));
        assert_eq!((settings.tokens, settings.steps), (Some(400_000), Some(7)));
        assert_eq!((settings.cpus, settings.memory), (Some(1.5), Some(4 << 30)));
        assert_eq!((settings.live, settings.disk), (Some(false), Some(4 << 20)));
        assert_eq!(settings.env, Some(vec!["CARGO_HOME".to_owned()]));
        assert_eq!(settings.credentials, Some(CredentialsMode::Handoff));
        assert_eq!(settings.summary.as_deref(), Some("concise"));
    }

    #[test]
    fn an_error_names_the_line() {
        let cases = [
            ("\nmodle = \"x\"", "/c/config.toml:2: unknown key `modle`; did you mean `model`?"),
            (
                "disk-on = \"tmpfs\"",
                "/c/config.toml:1: unknown key `disk-on`; did you mean `disk_on`?",
            ),
            (
                "plugins = 1",
                "/c/config.toml:1: unknown key `plugins`; `airlock run --help` lists all keys",
            ),
            (
                "api_key = \"sk-canary\"",
                "/c/config.toml:1: a key must not be in this file: name the key's file with `api_key_file`",
            ),
            ("json = true", "/c/config.toml:1: `json` cannot be set here: give it as --json"),
            (
                "# x\n\nmemory = \"2QB\"",
                "/c/config.toml:3: memory: a size must look like 2GiB, 512MiB or 400_000",
            ),
            ("tokens = 0x10", "/c/config.toml:1: tokens: it must be a decimal number"),
            ("live = 2", "/c/config.toml:1: live: it must be true or false"),
            ("[model]\nx = 1", "/c/config.toml:1: model: it must be a single value"),
            (
                "base_url = \"http://example.org\"",
                "/c/config.toml:1: base_url: plain http is allowed only for this machine (127.0.0.1, ::1, localhost)",
            ),
            (
                "login = \"a\"\napi_key_file = \"b\"",
                "/c/config.toml:1: login, api_key and api_key_file: only one of them can be set",
            ),
            ("model = \"a\"\nmodel = \"b\"", "/c/config.toml:2: not TOML: duplicate key"),
        ];
        for (text, expected) in cases {
            assert_eq!(refused(text), expected, "{text}");
        }
        assert!(!refused("model = sk-canary").contains("canary"));
    }
}
