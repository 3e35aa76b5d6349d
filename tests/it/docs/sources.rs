//! The sources as syntax trees: their modules, who imports whom, and what stands where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Attribute, File, Item, UseTree, Visibility};

/// A module of the library that has a file of its own.
pub struct Module {
    pub file: PathBuf,
    pub tree: File,
    /// The paths that its code uses, each from the root of the crate.
    paths: BTreeSet<Vec<String>>,
    /// What it imports, and whether it does so to export it: name here, path from the root of the crate.
    imports: BTreeMap<String, (Vec<String>, bool)>,
}

/// All modules below `src`, by their path from the root of the crate. Tests are left out.
pub struct Sources(pub BTreeMap<Vec<String>, Module>);

impl Sources {
    pub fn read(src: &Path, files: &[PathBuf]) -> Self {
        let mut modules = BTreeMap::new();
        for file in files {
            let inside = file.strip_prefix(src).unwrap().with_extension("");
            let mut path: Vec<String> =
                inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            if path.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
                path.pop();
            }
            if path.iter().any(|part| part == "tests" || part == "main") {
                continue;
            }
            let mut tree = syn::parse_file(&std::fs::read_to_string(file).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            tree.items.retain(|item| !is_test(item));
            modules.insert(path, (file.clone(), tree));
        }
        let known: BTreeSet<Vec<String>> = modules.keys().cloned().collect();
        let modules = modules.into_iter().map(|(path, (file, tree))| {
            let module = Module::read(file, tree, &path, &known);
            (path, module)
        });
        Self(modules.collect())
    }

    /// The module in which the last part of `path` is defined: exports and imports of others are followed.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let mut path = path.to_vec();
        for _ in 0..20 {
            let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
            let next = path.get(length)?.clone();
            let Some((target, _)) = self.0[&path[..length]].imports.get(&next) else { break };
            path = target.iter().chain(&path[length + 1..]).cloned().collect();
            if self.0.contains_key(&path) {
                return Some(path);
            }
        }
        let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        Some(path[..length].to_vec())
    }

    /// Which modules of its room each module uses. That a module exports what a child defines is no use of the child.
    pub fn uses(&self) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
        let mut uses = BTreeMap::new();
        for (path, module) in &self.0 {
            let imported =
                module.imports.values().filter(|(_, exported)| !exported).map(|(target, _)| target);
            let targets = module.paths.iter().chain(imported).filter_map(|target| {
                if self.0.contains_key(target) { Some(target.clone()) } else { self.resolve(target) }
            });
            let inside = targets.filter(|target| target != path && target.first() == path.first());
            uses.insert(path.clone(), inside.collect());
        }
        uses
    }
}

impl Module {
    fn read(file: PathBuf, tree: File, path: &[String], known: &BTreeSet<Vec<String>>) -> Self {
        let mut module = Self { file, tree, paths: BTreeSet::new(), imports: BTreeMap::new() };
        let mut code = TokenStream::new();
        for item in &module.tree.items {
            if let Item::Use(item) = item {
                let is_exported = !matches!(item.vis, Visibility::Inherited);
                let mut leaves = Vec::new();
                gather_leaves(&item.tree, &mut Vec::new(), &mut leaves);
                for (leaf, name) in leaves {
                    let Some(target) = absolute(&leaf, path, known) else { continue };
                    module.imports.insert(name, (target, is_exported));
                }
            } else if !matches!(item, Item::Mod(item) if item.content.is_none()) {
                item.to_tokens(&mut code);
            }
        }
        let mut found = Vec::new();
        gather_paths(code, &mut found);
        for used in found {
            let target = match module.imports.get(&used[0]) {
                Some((target, _)) => Some(target.iter().chain(&used[1..]).cloned().collect()),
                None => absolute(&used, path, known),
            };
            module.paths.extend(target);
        }
        module
    }
}

/// Each name that a `use` brings, with its path as written.
fn gather_leaves(tree: &UseTree, before: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            gather_leaves(&path.tree, before, leaves);
            before.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            leaves.push((before.clone(), before.last().cloned().unwrap_or_default()));
        }
        UseTree::Name(name) => {
            leaves.push(([before.as_slice(), &[name.ident.to_string()]].concat(), name.ident.to_string()));
        }
        UseTree::Rename(name) => {
            leaves.push(([before.as_slice(), &[name.ident.to_string()]].concat(), name.rename.to_string()));
        }
        UseTree::Glob(_) => leaves.push((before.clone(), format!("*{}", before.join("::")))),
        UseTree::Group(group) => group.items.iter().for_each(|tree| gather_leaves(tree, before, leaves)),
    }
}

/// The path from the root of the crate; `None` if it leads to another crate, or to something in the module itself.
fn absolute(path: &[String], module: &[String], known: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    let base = match first.as_str() {
        "crate" => return Some(rest.to_vec()),
        "self" => module.to_vec(),
        "super" => {
            let mut base = module.split_last()?.1.to_vec();
            let supers = rest.iter().take_while(|part| *part == "super").count();
            base.truncate(base.len().checked_sub(supers)?);
            base.extend(rest[supers..].iter().cloned());
            return Some(base);
        }
        child => {
            let base = [module, &[child.to_owned()]].concat();
            if !known.contains(&base) {
                return None;
            }
            base
        }
    };
    Some(base.into_iter().chain(rest.iter().cloned()).collect())
}

/// Every path of two parts or more in the code, macros included. A visibility (`pub(in crate::room)`) uses nothing.
fn gather_paths(code: TokenStream, found: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    let mut is_visibility = false;
    for token in code {
        let follows_pub =
            std::mem::replace(&mut is_visibility, matches!(&token, TokenTree::Ident(word) if word == "pub"));
        if follows_pub && matches!(token, TokenTree::Group(_)) {
            continue;
        }
        match token {
            TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => path.push(ident.to_string()),
            TokenTree::Ident(ident) => {
                found.extend((path.len() > 1).then(|| std::mem::take(&mut path)));
                path = vec![ident.to_string()];
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                colons += 1;
                continue;
            }
            TokenTree::Group(group) => {
                found.extend((path.len() > 1).then(|| std::mem::take(&mut path)));
                path.clear();
                gather_paths(group.stream(), found);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                found.extend((path.len() > 1).then(|| std::mem::take(&mut path)));
                path.clear();
            }
        }
        colons = 0;
    }
    found.extend((path.len() > 1).then_some(path));
}

/// Whether an item is compiled for tests alone.
fn is_test(item: &Item) -> bool {
    let attributes: &[Attribute] = if let Item::Mod(item) = item {
        &item.attrs
    } else if let Item::Fn(item) = item {
        &item.attrs
    } else if let Item::Impl(item) = item {
        &item.attrs
    } else if let Item::Use(item) = item {
        &item.attrs
    } else {
        &[]
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.to_token_stream().to_string().contains("test")
    })
}

/// The groups of modules that use each other, directly or through others.
pub fn circles(uses: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Vec<BTreeSet<Vec<String>>> {
    let reach = |from: &Vec<String>| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(next) = todo.pop() {
            let new = uses.get(&next).into_iter().flatten().filter(|used| !seen.contains(*used));
            let new: Vec<_> = new.cloned().collect();
            seen.extend(new.iter().cloned());
            todo.extend(new);
        }
        seen
    };
    let reached: BTreeMap<_, _> = uses.keys().map(|from| (from, reach(from))).collect();
    let in_circle = reached.iter().filter(|(from, to)| to.contains(**from));
    let groups = in_circle.map(|(from, to)| {
        let back = to.iter().filter(|other| reached.get(other).is_some_and(|to| to.contains(*from)));
        back.cloned().collect::<BTreeSet<_>>()
    });
    groups.collect::<BTreeSet<_>>().into_iter().collect()
}
