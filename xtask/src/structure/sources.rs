//! Reads the crates: which modules there are, which names each defines and brings into
//! scope, and which paths it mentions. Tests are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

use super::REASON;

/// The sources of one crate: its library, or else its program.
pub(super) struct Package {
    pub(super) name: String,
    /// The first is the root.
    pub(super) modules: Vec<Module>,
    /// Each file's name as messages have it: its module path, as in `model::build`.
    pub(super) files: Vec<String>,
    pub(super) functions: Vec<Function>,
}

/// A module, in a file of its own or inside one.
#[derive(Default)]
pub(super) struct Module {
    /// Its place in `Package::files`.
    pub(super) file: usize,
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    /// What it defines itself.
    pub(super) items: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    /// The paths before `::*`.
    pub(super) globs: Vec<Vec<String>>,
    /// Paths that stand in code, and the line of each.
    pub(super) mentions: BTreeMap<Vec<String>, usize>,
}

/// One name that a `use` brings into scope.
pub(super) struct Import {
    pub(super) name: String,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// Whether others see it here.
    pub(super) passed_on: bool,
}

/// A function with its place and length.
pub(super) struct Function {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    /// With the name of its file's module before it.
    pub(super) name: String,
    /// From its signature to its closing brace.
    pub(super) lines: usize,
    pub(super) has_reason: bool,
}

/// All crates of the project: the folders in the root that have a manifest.
pub(super) fn crates(root: &Path) -> Result<Vec<Package>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("could not list {}", root.display()))? {
        let folder = entry?.path();
        if folder.join("Cargo.toml").exists() {
            folders.push(folder);
        }
    }
    folders.sort();
    let mut packages = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        for file in ["src/lib.rs", "src/main.rs"] {
            let file = folder.join(file);
            if file.exists() {
                packages.push(Package::read(&name, root, &file)?);
            }
        }
    }
    Ok(packages)
}

impl Package {
    /// Reads the file of a crate's root and those of all modules below it.
    fn read(name: &str, root: &Path, file: &Path) -> Result<Package> {
        let mut package = Package {
            name: name.to_owned(),
            modules: Vec::new(),
            files: Vec::new(),
            functions: Vec::new(),
        };
        let folder = file.parent().unwrap_or(root).to_owned();
        package.file(root, file, &folder, Vec::new(), None)?;
        Ok(package)
    }

    /// Reads one file as the module of that path. `folder` is where files of its
    /// children are. Gives its place in `modules`.
    fn file(
        &mut self,
        root: &Path,
        file: &Path,
        folder: &Path,
        path: Vec<String>,
        parent: Option<usize>,
    ) -> Result<usize> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("could not read {}", file.display()))?;
        let parsed = syn::parse_file(&text)
            .with_context(|| format!("could not make sense of {}", file.display()))?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let module = if path.is_empty() {
            stem.into_owned()
        } else {
            path.join("::")
        };
        self.files.push(module.clone());
        let place = Place {
            root,
            shown: file.strip_prefix(root).unwrap_or(file),
            file: self.files.len() - 1,
            module: &module,
            text: &text,
        };
        self.module(&place, folder, path, parent, &parsed.items)
    }

    fn module(
        &mut self,
        place: &Place<'_>,
        folder: &Path,
        path: Vec<String>,
        parent: Option<usize>,
        items: &[Item],
    ) -> Result<usize> {
        let own = self.modules.len();
        self.modules.push(Module {
            file: place.file,
            parent,
            ..Module::default()
        });
        let mut reader = Reader {
            module: Module::default(),
            functions: Vec::new(),
            place,
        };
        for item in items {
            match item {
                Item::Mod(module) if is_test(&module.attrs) => {}
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let below = folder.join(&name);
                    let path = [path.clone(), vec![name.clone()]].concat();
                    let child = match &module.content {
                        Some((_, items)) => self.module(place, &below, path, Some(own), items)?,
                        None => {
                            let flat = folder.join(format!("{name}.rs"));
                            let file = if flat.exists() {
                                flat
                            } else {
                                below.join("mod.rs")
                            };
                            self.file(place.root, &file, &below, path, Some(own))?
                        }
                    };
                    reader.module.children.insert(name, child);
                }
                item => {
                    if let Some(name) = defined(item) {
                        reader.module.items.insert(name);
                    }
                    reader.visit_item(item);
                }
            }
        }
        self.functions.append(&mut reader.functions);
        let read = reader.module;
        let module = &mut self.modules[own];
        *module = Module {
            file: module.file,
            parent,
            ..read
        };
        Ok(own)
    }
}

/// The file that is being read.
struct Place<'a> {
    root: &'a Path,
    /// The file as messages name it.
    shown: &'a Path,
    /// Its place in `Package::files`.
    file: usize,
    /// Its name there.
    module: &'a str,
    text: &'a str,
}

/// The name that an item defines in its module.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Whether an item is there for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, Meta::List(list) if {
                    let condition = list.tokens.to_string();
                    condition == "test" || condition.starts_with("all (test") || condition.starts_with("any (test")
                }))
    })
}

/// Collects what a module's items mention.
struct Reader<'a> {
    module: Module,
    functions: Vec<Function>,
    place: &'a Place<'a>,
}

impl Reader<'_> {
    fn mention(&mut self, path: Vec<String>, line: usize) {
        self.module.mentions.entry(path).or_insert(line);
    }

    /// Paths in the words that a macro or an attribute is given, which have no syntax
    /// of their own.
    fn tokens(&mut self, tokens: &TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens.clone() {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 && !path.is_empty() {
                        self.mention(std::mem::take(&mut path), line);
                    }
                    line = word.span().start().line;
                    path.push(word.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && colons < 2 => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.tokens(&group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            if !path.is_empty() {
                self.mention(std::mem::take(&mut path), line);
            }
            colons = 0;
        }
        if !path.is_empty() {
            self.mention(path, line);
        }
    }

    fn imports(&mut self, tree: &UseTree, before: &[String], passed_on: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.imports(&path.tree, &with(&path.ident), passed_on),
            UseTree::Name(name) if name.ident == "self" => {
                let own = before.last().cloned().unwrap_or_default();
                self.import(
                    own,
                    before.to_vec(),
                    name.ident.span().start().line,
                    passed_on,
                );
            }
            UseTree::Name(name) => self.import(
                name.ident.to_string(),
                with(&name.ident),
                name.ident.span().start().line,
                passed_on,
            ),
            UseTree::Rename(rename) => self.import(
                rename.rename.to_string(),
                with(&rename.ident),
                rename.ident.span().start().line,
                passed_on,
            ),
            UseTree::Glob(_) => self.module.globs.push(before.to_vec()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.imports(tree, before, passed_on);
                }
            }
        }
    }

    fn import(&mut self, name: String, path: Vec<String>, line: usize, passed_on: bool) {
        self.module.imports.push(Import {
            name,
            path,
            line,
            passed_on,
        });
    }

    /// Notes the length of a function.
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        // A reason stands in it or in the comment and the attributes above it.
        let above = self
            .place
            .text
            .lines()
            .take(first.saturating_sub(1))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .take_while(|line| line.trim_start().starts_with(['/', '#']));
        let within = self
            .place
            .text
            .lines()
            .take(last)
            .skip(first.saturating_sub(1));
        let has_reason = above
            .chain(within)
            .any(|line| line.trim_start().starts_with(REASON));
        self.functions.push(Function {
            file: self.place.shown.to_owned(),
            line: first,
            name: format!("{}::{}", self.place.module, signature.ident),
            lines: last + 1 - first,
            has_reason,
        });
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let passed_on = !matches!(item.vis, Visibility::Inherited);
        self.imports(&item.tree, &[], passed_on);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        let line = path
            .segments
            .first()
            .map_or(0, |first| first.ident.span().start().line);
        self.mention(segments.collect(), line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(&call.tokens);
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.tokens(&list.tokens);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_test(&item.attrs) {
            return;
        }
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::graph;

    /// The uses between the files of a crate with these files.
    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let lib = folder.path().join("lib.rs");
        let package = Package::read("x", folder.path(), &lib).expect("it can be read");
        let edges = graph::edges(&package);
        edges
            .iter()
            .map(|edge| format!("{} {}", edge.user, edge.used))
            .collect()
    }

    #[test]
    fn a_name_counts_for_the_file_that_defines_it() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod deep; pub use deep::{Deep as Shown, *};"),
            ("a/deep.rs", "pub struct Deep; pub struct Other;"),
            (
                "b.rs",
                "use crate::a; fn f(_: a::Shown, _: super::a::Other) {}",
            ),
        ];
        assert_eq!(uses(&files), ["b a::deep"]);
    }

    #[test]
    fn paths_in_code_macros_and_attributes_count() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d; mod user;"),
            ("a.rs", "pub fn a() {}"),
            ("b.rs", "pub const B: u8 = 1;"),
            ("c.rs", "pub fn parse() {}"),
            ("d.rs", "pub enum D { One }"),
            (
                "user.rs",
                "#[derive(Parser)] struct U { #[arg(value_parser = crate::c::parse)] u: u8 }\n\
                 fn f() { use crate::d::D; crate::a::a(); println!(\"{}\", crate::b::B); D::One; }",
            ),
        ];
        assert_eq!(uses(&files), ["user a", "user b", "user c", "user d"]);
    }

    #[test]
    fn tests_are_left_out() {
        let files = [
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod absent;"),
            ("a.rs", "pub struct A;"),
            (
                "b.rs",
                "#[cfg(test)] mod tests { use crate::a::A; }\n#[cfg(test)] use crate::a::A;",
            ),
        ];
        assert!(uses(&files).is_empty());
    }

    #[test]
    fn a_long_function_can_say_why() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lib = folder.path().join("lib.rs");
        let text = "struct S;\nimpl S {\n    // Long: it is a table.\n    fn a() {\n    }\n}\n\
                    fn b() {\n    // Long: as well\n}\nfn c() {}\n";
        fs::write(&lib, text).expect("written");
        let package = Package::read("x", folder.path(), &lib).expect("it can be read");
        let found: Vec<_> = package
            .functions
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines, f.has_reason))
            .collect();
        let wanted = [
            ("lib::a", 4, 2, true),
            ("lib::b", 7, 3, true),
            ("lib::c", 10, 1, false),
        ];
        assert_eq!(found, wanted);
    }
}
