//! `airlock triggers`: the file names that `apply` holds or points out.

use crate::text::{self, COLUMNS};
use crate::workspace::NamedTrigger;

const HELD: &str = "\
Held: apply does not write these files, because a program of yours may run them by itself.
To see a session's changes to them: airlock diff SESSION --held
";
const NAMED: &str = "\
Pointed out: apply writes these files, and says that they run when their tool is started.
";
const HOW: &str = "\
Names match in upper and lower case, at any depth; `x/` is a directory with everything in it.
Nothing below a .git is ever written. Files of programs that are not listed are not recognized.
";

/// A line for each reason, with its file names below.
#[must_use]
pub fn text(triggers: impl Iterator<Item = NamedTrigger>) -> String {
    let (held, named): (Vec<_>, Vec<_>) = triggers.partition(|trigger| trigger.is_held);
    format!("{HELD}{}\n{NAMED}{}\n{HOW}", by_reason(&held), by_reason(&named))
}

fn by_reason(triggers: &[NamedTrigger]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for NamedTrigger { name, why, .. } in triggers {
        match reasons.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    let lines = reasons.iter().map(|(why, names)| {
        let names = text::wrap(&names.join(" "), COLUMNS - 6, "").replace('\n', "\n      ");
        format!("  {why}\n      {names}\n")
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_listed_under_its_reason() {
        let all = text(crate::workspace::triggers());
        let (held, named) = all.split_once(NAMED).expect("both parts");
        for trigger in crate::workspace::triggers() {
            let part = if trigger.is_held { held } else { named };
            let after = part.split(&format!("  {}\n", trigger.why)).nth(1).unwrap_or_default();
            let names = after.lines().take_while(|line| line.starts_with("      "));
            let names: Vec<&str> = names.flat_map(str::split_whitespace).collect();
            assert!(names.contains(&trigger.name), "{}: {names:?}", trigger.name);
        }
        assert!(held.contains(".vscode/") && named.contains("makefile"), "{all}");
        assert!(all.lines().all(|line| text::width(line) <= COLUMNS), "{all}");
    }
}
