//! Parses one value of a flag, a variable or the configuration file, with the same errors for all
//! three. No error quotes a value that may be a secret.

use airlock_shared::base::Base;
use airlock_shared::secret::Secret;

use crate::session::settings::{CredentialsMode, DiskOn};
use crate::setup::IssuerUrl;
use crate::workspace::check_glob;

/// A size in bytes: `2GiB`, `512MiB`, `1.5GB`, `400_000`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const SHAPE: &str = "a size must look like 2GiB, 512MiB or 400_000";
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_' && c != '.');
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(SHAPE.to_owned()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction_is_plain =
        fraction.len() <= 6 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    if !fraction_is_plain || (digits.contains('.') && fraction.is_empty()) {
        return Err(SHAPE.to_owned());
    }
    let whole = count(whole).map_err(|_| SHAPE.to_owned())?;
    let part = match fraction {
        "" => 0,
        some => {
            let scale = 10_u64.pow(u32::try_from(some.len()).unwrap_or(6));
            let numerator: u64 = some.parse().map_err(|_| SHAPE.to_owned())?;
            u64::try_from(u128::from(factor) * u128::from(numerator) / u128::from(scale))
                .map_err(|_| SHAPE.to_owned())?
        }
    };
    let bytes = whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(part));
    bytes.filter(|bytes| *bytes <= 1 << 50).ok_or_else(|| "it must be at most 1 PiB".to_owned())
}

/// A whole number: `120`, `400_000`.
pub(super) fn count(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let plain = text.starts_with(|c: char| c.is_ascii_digit()) && !text.ends_with('_');
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let number = plain.then(|| digits.parse().ok()).flatten();
    number.ok_or_else(|| "it must be a whole number, like 120 or 400_000".to_owned())
}

fn between(number: u64, least: u64, most: u64, unit: &str) -> Result<u64, String> {
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    let thousands = crate::text::thousands;
    Err(format!("it must be from {} to {} {unit}", thousands(least), thousands(most)))
}

pub(super) fn steps(text: &str) -> Result<u32, String> {
    let number = between(count(text)?, 1, 100_000, "requests")?;
    u32::try_from(number).map_err(|_| "too many".to_owned())
}

pub(super) fn tokens(text: &str) -> Result<u64, String> {
    between(count(text)?, 1, 10_000_000_000, "tokens")
}

pub(super) fn seconds(text: &str) -> Result<u64, String> {
    between(count(text)?, 1, 604_800, "seconds")
}

pub(super) fn pids(text: &str) -> Result<u32, String> {
    let number = between(count(text)?, 16, 4_000_000, "processes")?;
    u32::try_from(number).map_err(|_| "too many".to_owned())
}

pub(super) fn memory(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < 32 << 20 { Err("it must be at least 32MiB".to_owned()) } else { Ok(bytes) }
}

pub(super) fn disk(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < 1 << 20 { Err("it must be at least 1MiB".to_owned()) } else { Ok(bytes) }
}

pub(super) fn cpus(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().parse().ok();
    let fits = |number: &f64| (0.05..=1024.0).contains(number);
    number.filter(fits).ok_or_else(|| "it must be from 0.05 to 1024, like 1.5".to_owned())
}

pub(super) fn credentials(text: &str) -> Result<CredentialsMode, String> {
    match text {
        "relay" => Ok(CredentialsMode::Relay),
        "handoff" => Ok(CredentialsMode::Handoff),
        _ => Err("it must be relay or handoff".to_owned()),
    }
}

pub(super) fn disk_on(text: &str) -> Result<DiskOn, String> {
    match text {
        "tmpfs" => Ok(DiskOn::Tmpfs),
        "engine" => Ok(DiskOn::Engine),
        _ => Err("it must be tmpfs or engine".to_owned()),
    }
}

pub(super) fn base(text: &str) -> Result<Base, String> {
    Base::parse(text).map_err(|error| error.to_string())
}

/// A name that goes into a request or a file name: letters, digits and `-._:/@`.
pub(super) fn plain(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/@".contains(c);
    if (1..=256).contains(&text.len()) && !text.starts_with('-') && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("it may only have letters, digits and -._:/@".to_owned())
}

/// A login's name. It becomes a file name, so it has no `/` and no dot at the start.
pub(super) fn login(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if text.len() <= 64 && starts_plain && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("a login's name may only have letters, digits and -._".to_owned())
}

/// The name of a stored login: as [`login`], except `env`, which means a variable.
pub(super) fn login_name(text: &str) -> Result<String, String> {
    match text {
        "env" => Err("`env` means OPENAI_API_KEY; use another name".to_owned()),
        text => login(text),
    }
}

pub(super) fn issuer(text: &str) -> Result<IssuerUrl, String> {
    IssuerUrl::parse(text).map_err(str::to_owned)
}

/// The value of a header.
pub(super) fn header(text: &str) -> Result<String, String> {
    if (1..=256).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Ok(text.to_owned());
    }
    Err("it must be one line of printable ASCII".to_owned())
}

pub(super) fn one_of(text: &str, known: &[&str]) -> Result<String, String> {
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("it must be one of {}", known.join(", ")))
}

/// The name of a variable for commands.
pub(super) fn variable(text: &str) -> Result<String, String> {
    if text.contains('=') {
        let why = "give only the name; the value is read from your environment, because `ps` shows \
                   arguments to everyone";
        return Err(why.to_owned());
    }
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(text.to_owned());
    }
    Err("a variable's name may only have letters, digits and _".to_owned())
}

/// A glob of paths.
pub(super) fn glob(text: &str) -> Result<String, String> {
    check_glob(text).map_err(|bad| bad.why).map(|()| text.to_owned())
}

/// The first four or more hexadecimal digits of a session's id.
pub(super) fn session_id(text: &str) -> Result<String, String> {
    let digits = text.replace('-', "");
    if (4..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(digits.to_ascii_lowercase());
    }
    Err("give the first 4 or more digits of the session's id; to list sessions: airlock sessions"
        .to_owned())
}

/// Never fails, so that no error can quote a key.
#[expect(clippy::unnecessary_wraps, reason = "the shape of a value parser")]
pub(super) fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// The part of an argument that cannot be a secret: the host of an address, the name of `NAME=VALUE`,
/// the beginning of a long word.
// THREAT: `ps` shows a key that was typed only for a second, but a CI log keeps our message for
// years. Tried by cli::tests::refused::no_message_repeats_a_possible_secret.
pub(super) fn shown(value: &str) -> String {
    const WORD_CHARS: usize = 15;
    let is_flag = value.starts_with('-');
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('@') => (format!("{scheme}://"), rest),
        _ => (String::new(), value),
    };
    let end = rest.find(['/', '?', '#', '=']).filter(|_| !scheme.is_empty());
    let end = end.or_else(|| rest.find('=').map(|at| at + 1)).unwrap_or(rest.len());
    let (shown, hidden) = rest.split_at(end);
    let is_long = shown.chars().count() > WORD_CHARS;
    let word = match shown {
        _ if rest.contains('@') => "…".to_owned(),
        word if is_long && scheme.is_empty() && !is_flag => {
            format!("{}…", word.chars().take(WORD_CHARS / 2).collect::<String>())
        }
        _ if hidden.is_empty() => shown.to_owned(),
        _ => format!("{shown}…"),
    };
    scheme + &word
}

/// `a,b{c,d}` → `a`, `b{c,d}`: commas inside braces belong to the glob.
pub(super) fn list(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (c, items.last_mut()) {
            (',', _) if depth == 0 => items.push(String::new()),
            (c, Some(item)) => item.push(c),
            (_, None) => {}
        }
    }
    let trimmed = items.iter().map(|item| item.trim().to_owned());
    trimmed.filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("2GiB", Ok(2 << 30)),
            ("512 mib", Ok(512 << 20)),
            ("1.5GB", Ok(1_500_000_000)),
            ("400_000", Ok(400_000)),
            ("2g", Ok(2 << 30)),
            ("0", Ok(0)),
            ("9EiB", Err("a size must look like 2GiB, 512MiB or 400_000")),
            ("2QB", Err("a size must look like 2GiB, 512MiB or 400_000")),
            ("-1", Err("a size must look like 2GiB, 512MiB or 400_000")),
            ("1.GiB", Err("a size must look like 2GiB, 512MiB or 400_000")),
            ("1.2.3", Err("a size must look like 2GiB, 512MiB or 400_000")),
            ("", Err("a size must look like 2GiB, 512MiB or 400_000")),
            ("99999999999TiB", Err("it must be at most 1 PiB")),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_bounds() {
        assert_eq!(steps("0"), Err("it must be from 1 to 100,000 requests".to_owned()));
        assert_eq!(tokens("400_000"), Ok(400_000));
        assert_eq!(cpus("NaN"), Err("it must be from 0.05 to 1024, like 1.5".to_owned()));
        assert_eq!(cpus("1.5"), Ok(1.5));
        assert_eq!(memory("1MiB"), Err("it must be at least 32MiB".to_owned()));
        assert!(session_id("7c4").is_err() && session_id("../x").is_err());
        assert_eq!(session_id("7C41"), Ok("7c41".to_owned()));
        assert_eq!(session_id("7C41aaaa-0"), Ok("7c41aaaa0".to_owned()));
        assert!(login("../x").is_err() && login(".x").is_err() && login("").is_err());
        assert!(variable("A=b").is_err() && variable("1A").is_err());
        assert!(plain("--privileged").is_err());
    }

    #[test]
    fn lists_keep_the_commas_of_globs() {
        assert_eq!(list("*.{rs,toml}, target ,,x"), ["*.{rs,toml}", "target", "x"]);
        assert_eq!(list(""), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in any::<String>()) {
            let _ = (size(&text), count(&text), cpus(&text), base(&text), list(&text));
        }
    }
}
