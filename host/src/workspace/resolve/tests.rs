//! Chains, circles, and how often a name is looked up.

use std::collections::BTreeMap;

use super::*;

fn tree(links: impl Iterator<Item = (String, String)>) -> BTreeMap<RelPath, Node> {
    let node = |(path, target): (String, String)| {
        let target = target.into_bytes();
        (RelPath::parse(path.as_bytes()).unwrap(), Node::Link { target })
    };
    links.map(node).collect()
}

/// The links of a tree, and the number of each.
fn links(tree: &BTreeMap<RelPath, Node>) -> (LinkResolver<'_>, Vec<u32>) {
    let mut links = LinkResolver::of(Path::new("/"), None);
    let mut put = |(path, node)| {
        let number = links.add(path);
        links.put(number, Some(node));
        number
    };
    let numbers = tree.iter().map(&mut put).collect();
    (links, numbers)
}

/// `count` links that lead through a chain of 39, each of whose targets is a long way round.
fn looked_up(count: usize) -> usize {
    let way = "d/../".repeat(800);
    let chain = (0..39).map(|n| (format!("l{n}"), format!("{way}l{}", n + 1)));
    let others = (0..count).map(|n| (format!("x/{n}"), "../l0".to_owned()));
    let tree = tree(chain.chain(others));
    let (mut links, numbers) = links(&tree);
    for (path, number) in tree.keys().zip(numbers) {
        assert!(links.stays_inside(number), "{path}");
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
    let chain =
        |length: usize| tree((0..length).map(|n| (format!("l{n:06}"), format!("l{:06}", n + 1))));
    let first = |tree: &BTreeMap<RelPath, Node>| {
        let (mut links, numbers) = links(tree);
        links.stays_inside(numbers[0])
    };
    assert!(first(&chain(41)));
    assert!(!first(&chain(42)));
    assert!(!first(&chain(200_000)), "and no stack ends");
    let circle = tree(
        [("a", "b"), ("b", "c/../a"), ("d", "x/../b")]
            .map(|(from, to)| (from.to_owned(), to.to_owned()))
            .into_iter(),
    );
    let (mut links, numbers) = links(&circle);
    assert!(numbers.into_iter().all(|number| !links.stays_inside(number)));
}
