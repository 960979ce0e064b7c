//! Random trees of links, with random changes by an agent. After the apply the file system shows
//! where the agent's links lead, and what a program finds under the names that it runs.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::workspace::autorun::{self, Aliases, RunsWhen};

/// How many trees. One that fails is named by its seed, and is the same each time.
const TREES: u64 = 300;
/// Names that are looked at in a tree, shortest first: links make endless ones.
const LOOKED_AT: usize = 600;

const NAMES: [&str; 14] = [
    ".vscode",
    ".husky",
    ".claude",
    ".config",
    "mise",
    "settings.json",
    "tasks.json",
    ".mcp.json",
    "a",
    "b",
    "c",
    "d",
    "up",
    "x",
];

fn any_name(random: &mut StdRng) -> &'static str {
    NAMES[random.random_range(0..NAMES.len())]
}

fn any_target(random: &mut StdRng) -> String {
    let count = random.random_range(1..=4);
    let part = |random: &mut StdRng| match random.random_range(0..6) {
        0 | 1 => "..",
        2 => ".",
        _ => any_name(random),
    };
    (0..count).map(|_| part(random)).collect::<Vec<_>>().join("/")
}

/// Makes, changes and removes so many things, none of them through a link.
fn work_on(root: &Path, random: &mut StdRng, whose: &str, count: usize) {
    for number in 0..count {
        let depth = random.random_range(1..=3);
        let path: PathBuf = (0..depth).map(|_| any_name(random)).collect();
        let (at, target) = (root.join(&path), any_target(random));
        let kind = random.random_range(0..20);
        let is_real = |folder: &Path| folder.is_dir() && !folder.is_symlink();
        let mut folders = path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev();
        let has_folder = folders.all(|folder| {
            let folder = root.join(folder);
            is_real(&folder) || std::fs::create_dir(&folder).is_ok()
        });
        if !has_folder {
            continue;
        }
        match kind {
            _ if kind < 14 && is_real(&at) => {}
            0..7 => {
                let _none = std::fs::remove_file(&at);
                std::fs::write(&at, format!("{whose} {number}\n")).unwrap();
            }
            7..14 => {
                let _none = std::fs::remove_file(&at);
                symlink(target, &at).unwrap();
            }
            14..17 => drop(std::fs::create_dir(&at)),
            17..19 => drop(std::fs::remove_file(&at)),
            _ if is_real(&at) => std::fs::remove_dir_all(&at).unwrap(),
            _ => {}
        }
    }
}

/// What makes one tree of another, as the sandbox would say it.
fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> TarBytes {
    let changed = after.iter().filter(|(path, node)| before.get(*path) != Some(*node));
    let tar = changed.fold(TarBytes::default(), |tar, (path, node)| {
        match (node.strip_prefix("-> "), node.strip_prefix("644 ")) {
            (Some(target), _) => tar.link(path, target),
            (_, Some(content)) => tar.file(path, content),
            _ => tar.folder(path),
        }
    });
    before.keys().filter(|path| !after.contains_key(*path)).fold(tar, |tar, path| tar.gone(path))
}

/// Whether a link ends inside, a name at a time, as the file system has it. What is not there is
/// taken for a plain name.
fn ends_inside(root: &Path, link: &Path) -> bool {
    let mut at = root.join(link.parent().unwrap());
    let mut todo = vec![PathBuf::from(link.file_name().unwrap())];
    let mut followed = 0;
    while let Some(rest) = todo.pop() {
        let mut parts = rest.components();
        let Some(first) = parts.next() else { continue };
        todo.push(parts.as_path().to_owned());
        match first {
            Component::ParentDir if at == root => return false,
            Component::ParentDir => _ = at.pop(),
            Component::Normal(name) => match std::fs::read_link(at.join(name)) {
                Ok(target) if followed < 41 => {
                    followed += 1;
                    todo.push(target);
                }
                Ok(_) => return true,
                Err(_) => at.push(name),
            },
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Files and what is in them.
type Files = BTreeSet<(PathBuf, String)>;

/// The files that a program finds under a name that it runs by itself: any name, through links too.
/// And whether that is all of them.
fn run_by_themselves(root: &Path) -> (Files, bool) {
    let (mut found, mut todo) = (BTreeSet::new(), VecDeque::from([PathBuf::new()]));
    let mut left = LOOKED_AT;
    while let Some(folder) = todo.pop_front() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            left = left.saturating_sub(1);
            let name = folder.join(entry.file_name());
            let real = root.join(&name).canonicalize().ok();
            let Some(real) = real.filter(|real| left > 0 && real.starts_with(root)) else {
                continue;
            };
            if real.is_dir() {
                todo.push_back(name);
                continue;
            }
            let path = RelPath::parse(name.to_str().unwrap().as_bytes()).unwrap();
            let runs = autorun::read_by_name(&path, false, &Aliases::default());
            if matches!(runs, Some(RunsWhen::VersionControl(_) | RunsWhen::ByItself(_))) {
                let content = std::fs::read_to_string(&real).unwrap();
                found.insert((real.strip_prefix(root).unwrap().to_owned(), content));
            }
        }
    }
    (found, left > 0)
}

/// What is wrong with a tree that an agent's changes came to.
fn wrong(
    root: &Path,
    before: &BTreeMap<String, String>,
    (ran_before, is_all): &(Files, bool),
) -> Vec<String> {
    let root = &root.canonicalize().unwrap();
    let is_new = |path: &str, node: &str| {
        node.starts_with("-> ") && before.get(path).is_none_or(|it| it != node)
    };
    let links = tree(root).into_iter().filter(|(path, node)| is_new(path, node));
    let outside = links.filter(|(path, _)| !ends_inside(root, Path::new(path)));
    let outside = outside.map(|(path, node)| format!("{path} {node} leads outside"));
    let session = run_by_themselves(root).0;
    // Of the person's own files it is only known what ran before where all of them were found.
    let session =
        session.difference(ran_before).filter(|(_, it)| *is_all || it.starts_with("agent"));
    let session = session.map(|(path, _)| format!("{} runs", path.display()));
    outside.chain(session).collect()
}

// THREAT: links of links, held and not held, that together do what none of them does alone.
#[tokio::test]
async fn what_is_applied_leads_nowhere_and_runs_nothing() {
    let mut would_be_wrong = 0;
    for seed in 0..TREES {
        let trial = ApplyFixture::new(&[]);
        let agent = tempfile::tempdir().unwrap();
        for root in [trial.root.as_path(), agent.path()] {
            work_on(root, &mut StdRng::seed_from_u64(seed), "person", 14);
        }
        let before = tree(&trial.root);
        let ran_before = run_by_themselves(&trial.root.canonicalize().unwrap());
        work_on(agent.path(), &mut StdRng::seed_from_u64(!seed), "agent", 8);
        taken(&trial, difference(&before, &tree(agent.path()))).await;
        match apply(&trial.session) {
            Ok(_) | Err(ApplyError::NoChanges) => {}
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
        let wrong_now = wrong(&trial.root, &before, &ran_before);
        assert_eq!(wrong_now, Vec::<String>::new(), "seed {seed}");
        would_be_wrong += usize::from(!wrong(agent.path(), &before, &ran_before).is_empty());
    }
    // The control: were all of it applied, half of the trees would be taken over.
    assert!(would_be_wrong > TREES as usize / 4, "blind: {would_be_wrong}");
}
