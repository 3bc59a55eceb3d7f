//! Finds the file that defines what a path names.

use super::sources::{Module, Package};

/// More steps than any honest chain of re-exports has.
const STEPS: usize = 24;

/// What a path leads to.
pub(super) enum Target {
    Module(usize),
    /// Something that a module of this file defines.
    Item(usize),
}

/// Follows a path as it stands in a module, through re-exports. Gives nothing for what
/// is not of this crate.
pub(super) fn resolve(package: &Package, module: usize, path: &[String]) -> Option<Target> {
    step(package, module, path, true, STEPS)
}

/// `first`: whether the path has just begun, and so may say `crate` or `super`.
fn step(
    package: &Package,
    at: usize,
    path: &[String],
    first: bool,
    steps: usize,
) -> Option<Target> {
    let steps = steps.checked_sub(1)?;
    let Some((name, rest)) = path.split_first() else {
        return Some(Target::Module(at));
    };
    let module = &package.modules[at];
    match name.as_str() {
        "crate" if first => return step(package, 0, rest, false, steps),
        "self" if first => return step(package, at, rest, false, steps),
        // Inside an inline module too: it is a module like the others.
        "super" => return step(package, module.parent?, rest, true, steps),
        _ => {}
    }
    let child = module.children.get(name);
    // A function may have the name of a module beside it.
    if module.items.contains(name) && (rest.is_empty() || child.is_none()) {
        return Some(Target::Item(module.file));
    }
    let mut to_module = None;
    for path in imported(module, name) {
        match step(package, at, &[&path, rest].concat(), true, steps) {
            Some(Target::Module(found)) => to_module = Some(Target::Module(found)),
            found @ Some(Target::Item(_)) => return found,
            None => {}
        }
    }
    if let Some(child) = child {
        return step(package, *child, rest, false, steps);
    }
    to_module.or_else(|| {
        module.globs.iter().find_map(|glob| {
            let path = [glob.as_slice(), path].concat();
            // `use x::*` in x itself would lead nowhere.
            (glob.as_slice() != [name.clone()]).then(|| step(package, at, &path, true, steps))?
        })
    })
}

/// The paths that a module brought into scope under this name. One that begins with the
/// name itself, as in `use text;`, is left out: it names a child.
fn imported(module: &Module, name: &str) -> impl Iterator<Item = Vec<String>> {
    module
        .imports
        .iter()
        .filter(move |import| import.name == name && import.path.first().is_none_or(|f| f != name))
        .map(|import| import.path.clone())
}
