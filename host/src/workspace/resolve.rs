//! Where the links of a tree lead. Each link is followed once, however many lead through it, and
//! however long the way is.

use std::collections::HashMap;

use airlock_shared::limits;

use super::node::Node;
use super::rel_path::RelPath;

/// How many links a target may lead through, as the kernel has it.
const LINKS: usize = 40;
/// The root among the entries.
const ROOT: usize = 0;

/// A tree by its names, each entry by a number.
pub(super) struct LinkResolver<'a> {
    entries: Vec<TreeEntry<'a>>,
    names: HashMap<(usize, &'a [u8]), usize>,
    #[cfg(test)]
    pub(super) looked_up: usize,
}

struct TreeEntry<'a> {
    parent: usize,
    name: &'a [u8],
    depth: usize,
    /// Of a link.
    target: Option<&'a [u8]>,
    known: Resolution,
}

#[derive(Clone, Copy)]
enum Resolution {
    No,
    /// It is being followed: who meets it again goes in a circle.
    Busy,
    Outside,
    Inside {
        at: TreePlace,
        through: usize,
    },
}

/// A place of the tree: an entry, and how many names beyond it that are not there.
#[derive(Clone, Copy)]
struct TreePlace {
    entry: usize,
    beyond: usize,
}

/// A link on its way.
struct LinkWalk<'a> {
    link: usize,
    at: TreePlace,
    /// Other links it led through.
    through: usize,
    left: &'a [u8],
}

impl<'a> LinkResolver<'a> {
    pub(super) fn of(tree: impl Iterator<Item = (&'a RelPath, &'a Node)>) -> Self {
        let root =
            TreeEntry { parent: ROOT, name: b"", depth: 0, target: None, known: Resolution::No };
        let mut links = Self {
            entries: vec![root],
            names: HashMap::new(),
            #[cfg(test)]
            looked_up: 0,
        };
        for (path, node) in tree {
            let mut at = ROOT;
            for name in path.components() {
                let next = links.entries.len();
                let entry = *links.names.entry((at, name)).or_insert(next);
                if entry == next {
                    let depth = links.entries[at].depth + 1;
                    let new =
                        TreeEntry { parent: at, name, depth, target: None, known: Resolution::No };
                    links.entries.push(new);
                }
                at = entry;
            }
            if let Node::Link { target } = node {
                links.entries[at].target = Some(target);
            }
        }
        links
    }

    /// Whether a link of the tree, followed through the others, stays in it. What is not in the
    /// tree is taken for a plain name.
    pub(super) fn stays_inside(&mut self, link: &RelPath) -> bool {
        self.entry(link).is_some_and(|entry| self.follow(entry))
    }

    /// Where a link of the tree ends, if it ends at something in it.
    pub(super) fn leads_to(&mut self, link: &RelPath) -> Option<RelPath> {
        let link = self.entry(link).filter(|entry| self.follow(*entry))?;
        let Resolution::Inside { at: TreePlace { entry: mut at, beyond: 0 }, .. } =
            self.entries[link].known
        else {
            return None;
        };
        let mut names = Vec::new();
        while at != ROOT {
            names.push(self.entries[at].name);
            at = self.entries[at].parent;
        }
        names.reverse();
        RelPath::parse(&names.join(&b'/')).ok()
    }

    fn entry(&self, path: &RelPath) -> Option<usize> {
        path.components().try_fold(ROOT, |at, name| self.names.get(&(at, name)).copied())
    }

    fn follow(&mut self, link: usize) -> bool {
        let mut ways: Vec<LinkWalk<'_>> = Vec::new();
        ways.extend(self.begin(link));
        while let Some(way) = ways.last_mut() {
            let link = way.link;
            match self.step(way) {
                WalkStep::On => {}
                WalkStep::First(other) => ways.extend(self.begin(other)),
                WalkStep::End(known) => {
                    self.entries[link].known = known;
                    ways.pop();
                }
            }
        }
        matches!(self.entries[link].known, Resolution::Inside { .. })
    }

    /// A link that nobody followed yet sets out.
    fn begin(&mut self, link: usize) -> Option<LinkWalk<'a>> {
        let entry = &mut self.entries[link];
        let (Resolution::No, Some(target)) = (entry.known, entry.target) else { return None };
        if target.is_empty() || target.starts_with(b"/") {
            entry.known = Resolution::Outside;
            return None;
        }
        entry.known = Resolution::Busy;
        let at = TreePlace { entry: entry.parent, beyond: 0 };
        Some(LinkWalk { link, at, through: 0, left: target })
    }

    /// One name further.
    fn step(&mut self, way: &mut LinkWalk<'a>) -> WalkStep {
        if way.left.is_empty() {
            return WalkStep::End(Resolution::Inside { at: way.at, through: way.through });
        }
        let end = way.left.iter().position(|byte| *byte == b'/').unwrap_or(way.left.len());
        let (name, rest) = (&way.left[..end], way.left.get(end + 1..).unwrap_or_default());
        let TreePlace { entry, beyond } = way.at;
        match name {
            b"" | b"." => {}
            b".." if beyond > 0 => way.at.beyond -= 1,
            b".." if entry == ROOT => return WalkStep::End(Resolution::Outside),
            b".." => way.at.entry = self.entries[entry].parent,
            _ if self.entries[entry].depth + beyond >= limits::PATH_COMPONENTS => {
                return WalkStep::End(Resolution::Outside);
            }
            _ if beyond > 0 => way.at.beyond += 1,
            _ => {
                #[cfg(test)]
                {
                    self.looked_up += 1;
                }
                let Some(&next) = self.names.get(&(entry, name)) else {
                    way.at.beyond = 1;
                    way.left = rest;
                    return WalkStep::On;
                };
                if self.entries[next].target.is_none() {
                    way.at.entry = next;
                    way.left = rest;
                    return WalkStep::On;
                }
                match self.entries[next].known {
                    Resolution::No => return WalkStep::First(next),
                    Resolution::Busy | Resolution::Outside => {
                        return WalkStep::End(Resolution::Outside);
                    }
                    Resolution::Inside { at, through } => {
                        way.through += 1 + through;
                        way.at = at;
                        if way.through > LINKS {
                            return WalkStep::End(Resolution::Outside);
                        }
                    }
                }
            }
        }
        way.left = rest;
        WalkStep::On
    }
}

enum WalkStep {
    On,
    /// Another link must be followed first.
    First(usize),
    End(Resolution),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tree(links: impl Iterator<Item = (String, String)>) -> BTreeMap<RelPath, Node> {
        let node = |(path, target): (String, String)| {
            let target = target.into_bytes();
            (RelPath::parse(path.as_bytes()).unwrap(), Node::Link { target })
        };
        links.map(node).collect()
    }

    /// `count` links that lead through a chain of 39, each of whose targets is a long way round.
    fn looked_up(count: usize) -> usize {
        let way = "d/../".repeat(800);
        let chain = (0..39).map(|n| (format!("l{n}"), format!("{way}l{}", n + 1)));
        let others = (0..count).map(|n| (format!("x/{n}"), "../l0".to_owned()));
        let tree = tree(chain.chain(others));
        let mut links = LinkResolver::of(tree.iter());
        for path in tree.keys() {
            assert!(links.stays_inside(path), "{path}");
        }
        links.looked_up
    }

    #[test]
    fn a_chain_is_followed_once_however_many_lead_through_it() {
        // A link that was not followed yet is looked up again once it was.
        assert!(looked_up(1) <= 39 * 802 + 2, "{}", looked_up(1));
        assert_eq!(looked_up(2_000) - looked_up(1_000), 1_000);
    }

    #[test]
    fn more_links_than_the_kernel_follows_and_circles_are_outside() {
        let chain = |length: usize| {
            tree((0..length).map(|n| (format!("l{n:06}"), format!("l{:06}", n + 1))))
        };
        let first = |tree: &BTreeMap<RelPath, Node>| {
            let path = RelPath::parse(b"l000000").unwrap();
            LinkResolver::of(tree.iter()).stays_inside(&path)
        };
        assert!(first(&chain(41)));
        assert!(!first(&chain(42)));
        assert!(!first(&chain(200_000)), "and no stack ends");
        let circle = tree(
            [("a", "b"), ("b", "c/../a"), ("d", "x/../b")]
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .into_iter(),
        );
        let mut links = LinkResolver::of(circle.iter());
        assert!(circle.keys().all(|path| !links.stays_inside(path)));
    }
}
