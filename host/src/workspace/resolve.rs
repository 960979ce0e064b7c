//! Finds where the links of a tree lead. Each link is followed once, however many others lead
//! through it.
//!
//! The tree consists of the entries that were added and, if there is one, the host's directory
//! below them: for a name that was not added, the host is asked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use airlock_shared::limits;

use super::beneath::Root;
use super::node::Node;
use super::rel_path::RelPath;

/// How many links the kernel follows in one path.
const LINKS: u32 = 40;
/// The number of the root.
const ROOT: u32 = 0;

/// A tree of names. Each entry has a number, and a folder has a smaller one than the entries in it.
/// Entries are small, because a hostile set of changes has as many as it may.
pub(super) struct LinkResolver<'a> {
    entries: Vec<TreeEntry<'a>>,
    numbers: HashMap<(u32, Cow<'a, [u8]>), u32>,
    /// The components of the path of the root, from the top of the file system.
    place: Vec<&'a [u8]>,
    host: Option<&'a Root>,
    #[cfg(test)]
    pub(super) looked_up: usize,
}

struct TreeEntry<'a> {
    parent: u32,
    depth: u32,
    /// The last entry that was added to this folder, then the one before (`sibling`), up to `ROOT`.
    child: u32,
    sibling: u32,
    name: Cow<'a, [u8]>,
    seen: Seen<'a>,
    known: Resolution,
}

/// What is at an entry.
enum Seen<'a> {
    /// The host was not asked yet.
    Unasked,
    Link(Cow<'a, [u8]>),
    /// Not a link. A name that does not exist counts as a plain name.
    Plain,
}

/// Where a link leads.
#[derive(Clone, Copy)]
enum Resolution {
    No,
    /// It is being followed now: to meet it again is a circle.
    Busy,
    Outside,
    Inside {
        at: TreePlace,
        through: u32,
        /// It leaves the tree on its way and comes back.
        leaves: bool,
    },
}

/// A place: an entry, and the number of names beyond it that do not exist; or the root, and the
/// number of folders above it.
#[derive(Clone, Copy)]
struct TreePlace {
    entry: u32,
    beyond: u32,
    above: u32,
}

/// The state of following one link.
struct LinkWalk {
    link: u32,
    at: TreePlace,
    /// How many other links it led through.
    through: u32,
    /// How much of the target was followed.
    followed: usize,
    leaves: bool,
    /// The entries on the way, if they are requested.
    met: Option<Vec<u32>>,
}

impl<'a> LinkResolver<'a> {
    /// An empty tree, on top of a directory of the host or none. `place`: its path, without links.
    pub(super) fn of(place: &'a Path, host: Option<&'a Root>) -> Self {
        let place = place.as_os_str().as_bytes().split(|byte| *byte == b'/');
        let mut links = Self {
            entries: Vec::new(),
            numbers: HashMap::new(),
            place: place.filter(|name| !name.is_empty()).collect(),
            host,
            #[cfg(test)]
            looked_up: 0,
        };
        links.entries.push(TreeEntry {
            parent: ROOT,
            depth: 0,
            child: ROOT,
            sibling: ROOT,
            name: Cow::Borrowed(b""),
            seen: Seen::Plain,
            known: Resolution::No,
        });
        links
    }

    /// Adds a path and the folders it is in. Returns its number.
    pub(super) fn add(&mut self, path: &'a RelPath) -> u32 {
        path.components().fold(ROOT, |at, name| self.enter(at, Cow::Borrowed(name)))
    }

    fn enter(&mut self, parent: u32, name: Cow<'a, [u8]>) -> u32 {
        let next = self.len();
        let number = *self.numbers.entry((parent, name.clone())).or_insert(next);
        if number == next {
            let above = self.at(parent);
            let (depth, sibling) = (above.depth + 1, above.child);
            let seen = if self.host.is_some() { Seen::Unasked } else { Seen::Plain };
            let known = Resolution::No;
            self.entries.push(TreeEntry { parent, depth, child: ROOT, sibling, name, seen, known });
            self.at_mut(parent).child = next;
        }
        number
    }

    /// Sets what is at an entry. Call [`Self::forget`] afterwards.
    pub(super) fn put(&mut self, entry: u32, node: Option<&'a Node>) {
        self.at_mut(entry).seen = match node {
            Some(Node::Link { target }) => Seen::Link(Cow::Borrowed(target)),
            _ => Seen::Plain,
        };
    }

    /// An entry is what the host has there, or `node` without a host.
    pub(super) fn leave(&mut self, entry: u32, node: Option<&'a Node>) {
        self.put(entry, node);
        if self.host.is_some() {
            self.at_mut(entry).seen = Seen::Unasked;
            self.ask(entry);
        }
    }

    pub(super) fn forget(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.known = Resolution::No);
    }

    /// Whether a link, followed through the others, stays in the tree all the way. A name that does
    /// not exist counts as a plain name.
    pub(super) fn stays_inside(&mut self, link: u32) -> bool {
        self.follow(link);
        matches!(self.at(link).known, Resolution::Inside { leaves: false, .. })
    }

    /// The entry at which a link ends, if it ends at one.
    pub(super) fn leads_to(&mut self, link: u32) -> Option<u32> {
        self.follow(link);
        match self.at(link).known {
            Resolution::Inside { at: TreePlace { entry, beyond: 0, above: 0 }, .. } => Some(entry),
            _ => None,
        }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> u32 {
        // The limits of a base and a set keep this small.
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    fn depth_of_root(&self) -> u32 {
        u32::try_from(self.place.len()).unwrap_or(u32::MAX)
    }

    fn at(&self, entry: u32) -> &TreeEntry<'a> {
        &self.entries[entry as usize]
    }

    fn at_mut(&mut self, entry: u32) -> &mut TreeEntry<'a> {
        &mut self.entries[entry as usize]
    }

    pub(super) fn is_link(&self, entry: u32) -> bool {
        matches!(self.at(entry).seen, Seen::Link(_))
    }

    pub(super) fn parent(&self, entry: u32) -> u32 {
        self.at(entry).parent
    }

    pub(super) fn name(&self, entry: u32) -> &[u8] {
        &self.at(entry).name
    }

    pub(super) fn children(&self, entry: u32) -> impl Iterator<Item = u32> {
        let some = |entry: u32| (entry != ROOT).then_some(entry);
        std::iter::successors(some(self.at(entry).child), move |child| {
            some(self.at(*child).sibling)
        })
    }

    /// The entries that a link leads through, one for each name of its target, and its end.
    pub(super) fn leads_through(&mut self, link: u32) -> Vec<u32> {
        self.follow(link);
        let Some(mut walk) = self.new_walk(link) else { return Vec::new() };
        walk.met = Some(Vec::new());
        while matches!(self.step(&mut walk), WalkStep::On) {}
        walk.met.unwrap_or_default()
    }

    fn path(&self, mut entry: u32) -> Option<RelPath> {
        let mut names = Vec::new();
        while entry != ROOT {
            names.push(self.name(entry));
            entry = self.at(entry).parent;
        }
        names.reverse();
        RelPath::parse(&names.join(&b'/')).ok()
    }

    /// Asks the host what is at an entry, if that is not known yet.
    fn ask(&mut self, entry: u32) {
        if matches!(self.at(entry).seen, Seen::Unasked) {
            let found = self.host.zip(self.path(entry)).and_then(|(host, path)| host.link(&path));
            let target = found.flatten();
            self.at_mut(entry).seen =
                target.map_or(Seen::Plain, |target| Seen::Link(Cow::Owned(target)));
        }
    }

    /// Adds the entry that the host has under this name. A name that the host does not have is not
    /// added: link targets may hold any number of them.
    fn found(&mut self, parent: u32, name: &[u8]) -> Option<u32> {
        let mut path = self.path(parent).unwrap_or_default();
        path = path.join(name).ok()?;
        let target = self.host?.link(&path)?;
        let entry = self.enter(parent, Cow::Owned(name.to_vec()));
        self.at_mut(entry).seen =
            target.map_or(Seen::Plain, |target| Seen::Link(Cow::Owned(target)));
        Some(entry)
    }

    fn follow(&mut self, link: u32) {
        let mut walks: Vec<LinkWalk> = Vec::new();
        walks.extend(self.begin(link));
        while let Some(walk) = walks.last_mut() {
            let link = walk.link;
            match self.step(walk) {
                WalkStep::On => {}
                WalkStep::First(other) => walks.extend(self.begin(other)),
                WalkStep::End(known) => {
                    self.at_mut(link).known = known;
                    walks.pop();
                }
            }
        }
    }

    /// Starts to follow a link, if it was not followed yet.
    fn begin(&mut self, link: u32) -> Option<LinkWalk> {
        let Resolution::No = self.at(link).known else { return None };
        let walk = self.new_walk(link)?;
        self.at_mut(link).known = Resolution::Busy;
        Some(walk)
    }

    fn new_walk(&self, link: u32) -> Option<LinkWalk> {
        let entry = self.at(link);
        let Seen::Link(target) = &entry.seen else { return None };
        let leaves = target.starts_with(b"/");
        let (entry, above) = if leaves { (ROOT, self.depth_of_root()) } else { (entry.parent, 0) };
        let at = TreePlace { entry, beyond: 0, above };
        Some(LinkWalk { link, at, through: 0, followed: 0, leaves, met: None })
    }

    /// Follows one more component.
    fn step(&mut self, walk: &mut LinkWalk) -> WalkStep {
        let left = match &self.entries[walk.link as usize].seen {
            Seen::Link(target) => target.get(walk.followed..).unwrap_or_default(),
            Seen::Unasked | Seen::Plain => &[],
        };
        if left.is_empty() {
            // An empty target leads nowhere.
            let LinkWalk { at, through, leaves, followed, .. } = *walk;
            return WalkStep::End(match followed {
                0 => Resolution::Outside,
                _ => Resolution::Inside { at, through, leaves },
            });
        }
        let end = left.iter().position(|byte| *byte == b'/').unwrap_or(left.len());
        let name = &left[..end];
        let followed = walk.followed + end + 1;
        let TreePlace { entry, beyond, above } = walk.at;
        match name {
            b"" | b"." => {}
            b".." if beyond > 0 => walk.at.beyond -= 1,
            // THREAT: `.vscode -> /home/me/project/config` is absolute and still leads into the
            // tree. The editor runs what the agent writes there. Tried by
            // workspace::export::tests::a_link_that_leaves_and_comes_back_is_followed.
            b".." if entry == ROOT && self.place.is_empty() => {
                return WalkStep::End(Resolution::Outside);
            }
            b".." if entry == ROOT => {
                walk.at.above = self.depth_of_root().min(above + 1);
                walk.leaves = true;
            }
            name if above > 0 => {
                if self.place.get(self.place.len() - above as usize) != Some(&name) {
                    return WalkStep::End(Resolution::Outside);
                }
                walk.at.above -= 1;
            }
            b".." => walk.at.entry = self.at(entry).parent,
            _ if self.at(entry).depth + beyond >= limits::PATH_COMPONENTS as u32 => {
                return WalkStep::End(Resolution::Outside);
            }
            _ if beyond > 0 => walk.at.beyond += 1,
            name => {
                #[cfg(test)]
                {
                    self.looked_up += 1;
                }
                let next = match self.numbers.get(&(entry, Cow::Borrowed(name))) {
                    Some(next) => Some(*next),
                    None if self.host.is_some() => {
                        let name = name.to_vec();
                        self.found(entry, &name)
                    }
                    None => None,
                };
                let Some(next) = next else {
                    walk.at.beyond = 1;
                    walk.followed = followed;
                    return WalkStep::On;
                };
                self.ask(next);
                if let Some(met) = &mut walk.met {
                    met.push(next);
                }
                match self.at(next).known {
                    _ if !self.is_link(next) => walk.at.entry = next,
                    Resolution::No => return WalkStep::First(next),
                    Resolution::Busy | Resolution::Outside => {
                        return WalkStep::End(Resolution::Outside);
                    }
                    Resolution::Inside { at, through, leaves } => {
                        walk.through += 1 + through;
                        walk.leaves |= leaves;
                        walk.at = at;
                        if walk.through > LINKS {
                            return WalkStep::End(Resolution::Outside);
                        }
                    }
                }
            }
        }
        walk.followed = followed;
        WalkStep::On
    }
}

enum WalkStep {
    On,
    /// Another link must be followed first.
    First(u32),
    End(Resolution),
}

#[cfg(test)]
mod tests;
