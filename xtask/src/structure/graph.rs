//! Which file uses which, and the circles in that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    resolve::{Target, resolve},
    sources::Package,
};

/// One file uses what another defines. Files have the names of their modules.
#[derive(Clone)]
pub(super) struct Edge {
    pub(super) user: String,
    pub(super) used: String,
    /// The first use, and how it is written.
    pub(super) line: usize,
    pub(super) path: String,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Edge {
            user,
            used,
            line,
            path,
        } = self;
        write!(f, "{user} → {used} (line {line}: {path})")
    }
}

/// Files, or the folders that they lie in, each of which leads to all others.
pub(super) struct Circle {
    pub(super) members: Vec<String>,
    /// The uses between the members.
    pub(super) edges: Vec<Edge>,
}

/// The uses between files of a crate, one for each pair.
pub(super) fn edges(package: &Package) -> Vec<Edge> {
    let mut edges: BTreeMap<(usize, usize), Edge> = BTreeMap::new();
    let mut add = |user: usize, used: usize, line: usize, path: &[String]| {
        if user != used {
            edges.entry((user, used)).or_insert_with(|| Edge {
                user: package.files[user].clone(),
                used: package.files[used].clone(),
                line,
                path: path.join("::"),
            });
        }
    };
    for (at, module) in package.modules.iter().enumerate() {
        for import in &module.imports {
            // A module alone is no use: the paths that go through it are.
            let Some(Target::Item(used)) = resolve(package, at, &import.path) else {
                continue;
            };
            let (user, below) = (&package.files[module.file], &package.files[used]);
            let facade = at == 0 || is_below(user, below);
            if !(import.passed_on && facade) {
                add(module.file, used, import.line, &import.path);
            }
        }
        for (path, line) in &module.mentions {
            if let Some(Target::Item(used)) = resolve(package, at, path) {
                add(module.file, used, *line, path);
            }
        }
    }
    edges.into_values().collect()
}

/// The circles between files, and between what lies in one folder: a module with all
/// below it counts there as one.
///
/// A module that uses its children, which use what it defines, is not one: nobody reads
/// or moves either without the other.
pub(super) fn circles(edges: &[Edge]) -> Vec<Circle> {
    let mut found = strongly_connected(edges, |edge| {
        let of_parent = is_below(&edge.used, &edge.user);
        (!of_parent).then(|| (edge.user.clone(), edge.used.clone()))
    });
    let folders: BTreeSet<&str> = edges
        .iter()
        .flat_map(|edge| [&edge.user, &edge.used])
        .flat_map(|file| file.match_indices("::").map(|(at, _)| &file[..at]))
        .chain([""])
        .collect();
    for folder in folders {
        let circles = strongly_connected(edges, |edge| {
            let pair = (below(folder, &edge.user)?, below(folder, &edge.used)?);
            (pair.0 != pair.1).then_some(pair)
        });
        // One of files only has been found already.
        for circle in circles {
            if !found.iter().any(|other| other.members == circle.members) {
                found.push(circle);
            }
        }
    }
    found
}

/// Whether a module lies in another, at whatever depth.
fn is_below(upper: &str, lower: &str) -> bool {
    lower
        .strip_prefix(upper)
        .is_some_and(|rest| rest.starts_with("::"))
}

/// The part of a file's path that lies directly in the folder, if it is in there.
fn below(folder: &str, file: &str) -> Option<String> {
    let rest = if folder.is_empty() {
        file
    } else {
        file.strip_prefix(folder)?.strip_prefix("::")?
    };
    let first = rest.split("::").next().unwrap_or(rest);
    let length = file.len() - rest.len() + first.len();
    Some(file[..length].to_owned())
}

/// The largest sets of nodes each of which leads to all others of its set. `nodes` says
/// between which ones an edge is, if it counts.
fn strongly_connected(
    edges: &[Edge],
    nodes: impl Fn(&Edge) -> Option<(String, String)>,
) -> Vec<Circle> {
    let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (user, used) in edges.iter().filter_map(&nodes) {
        next.entry(user).or_default().insert(used);
    }
    let reached: BTreeMap<&String, BTreeSet<&String>> = next
        .keys()
        .map(|node| (node, reachable(&next, node)))
        .collect();
    let mut circles = Vec::new();
    let mut done = BTreeSet::new();
    for (node, from_it) in &reached {
        if !from_it.contains(node) || !done.insert(*node) {
            continue;
        }
        let back = |other: &&String| reached.get(other).is_some_and(|to| to.contains(node));
        let members: BTreeSet<&String> = from_it.iter().copied().filter(back).collect();
        done.extend(&members);
        let inside = |edge: &&Edge| {
            nodes(edge).is_some_and(|(user, used)| {
                user != used && members.contains(&user) && members.contains(&used)
            })
        };
        circles.push(Circle {
            edges: edges.iter().filter(inside).cloned().collect(),
            members: members.into_iter().cloned().collect(),
        });
    }
    circles
}

/// Where one comes to from a node, the node itself only if by a circle.
fn reachable<'a>(next: &'a BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(node) = open.pop() {
        for other in next.get(node).into_iter().flatten() {
            if reached.insert(other) {
                open.push(other);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(pairs: &[(&str, &str)]) -> Vec<Edge> {
        let edge = |(user, used): &(&str, &str)| Edge {
            user: (*user).to_owned(),
            used: (*used).to_owned(),
            line: 1,
            path: String::new(),
        };
        pairs.iter().map(edge).collect()
    }

    fn members(pairs: &[(&str, &str)]) -> Vec<String> {
        let circles = circles(&uses(pairs));
        circles
            .iter()
            .map(|circle| circle.members.join(" "))
            .collect()
    }

    #[test]
    fn a_chain_is_no_circle() {
        assert!(members(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
    }

    #[test]
    fn files_that_lead_to_each_other_are_a_circle_once() {
        let pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")];
        assert_eq!(members(&pairs), ["a b c"]);
    }

    #[test]
    fn folders_are_in_a_circle_where_their_files_are_not() {
        let pairs = [("a::one", "b::one"), ("b::two", "a::two")];
        assert_eq!(members(&pairs), ["a b"]);
        let pairs = [("x::a::one", "x::b"), ("x::b", "x::a::two")];
        assert_eq!(members(&pairs), ["x::a x::b"]);
    }

    #[test]
    fn a_folder_is_in_no_circle_with_its_own_files() {
        assert!(members(&[("a", "a::one"), ("a::one", "a::two")]).is_empty());
        let children = [("a", "a::one"), ("a::one", "a"), ("a::two", "a")];
        assert!(members(&children).is_empty());
        let siblings = [("a::one", "a::two"), ("a::two", "a::one")];
        assert_eq!(
            members(&[children.as_slice(), &siblings].concat()),
            ["a::one a::two"]
        );
    }
}
