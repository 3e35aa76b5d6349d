//! The roles that ship with claviger, by product: `jumpserver:read-only`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::roles;
use crate::config::file::{self, File};
use crate::config::{Declared, Problem, Spanned, did_you_mean, parse};
use crate::policy::{Role, Rule};

/// The roles of each product, in the format of the configuration file.
const PACKS: [(&str, &str); 4] = [
    ("jumpserver", include_str!("../../../config/roles/jumpserver.toml")),
    ("jumpcloud", include_str!("../../../config/roles/jumpcloud.toml")),
    ("foresight", include_str!("../../../config/roles/foresight.toml")),
    ("ops", include_str!("../../../config/roles/ops.toml")),
];

/// The role whose denials are added to every other role of its pack.
const ALWAYS: &str = "no-new-keys";

/// The roles that ship for one product, as its pack writes them.
pub struct Pack {
    /// The product that the pack is for.
    pub product: &'static str,
    /// The description of the pack.
    pub about: String,
    /// The roles, by their names in the pack.
    pub roles: Declared<file::Role>,
    text: &'static str,
}

impl Pack {
    /// All packs that ship with claviger.
    pub fn all() -> impl Iterator<Item = Self> {
        PACKS.into_iter().map(|(product, text)| {
            let about = comment(text.lines().take_while(|line| line.starts_with('#')));
            let roles = parse(text, Path::new(product)).0.map(|file| file.roles).unwrap_or_default();
            Self { product, about, roles, text }
        })
    }

    /// The description of one of the pack's roles.
    #[must_use]
    pub fn describe_role(&self, name: &str) -> String {
        let heading = format!("[roles.{name}]");
        let before: Vec<&str> = self.text.lines().take_while(|line| *line != heading).collect();
        let lines = before.iter().rev().take_while(|line| line.starts_with('#')).count();
        comment(before.iter().skip(before.len() - lines).copied())
    }

    /// The role whose denials are added to `name`, unless it is `name` itself.
    #[must_use]
    pub fn goes_with(&self, name: &str) -> Option<&file::Role> {
        self.roles.find(ALWAYS).filter(|_| name != ALWAYS)
    }
}

/// The text of comment lines, without the comment signs.
fn comment<'t>(lines: impl Iterator<Item = &'t str>) -> String {
    let lines = lines.map(|line| line.strip_prefix("# ").unwrap_or_else(|| line.trim_start_matches('#')));
    lines.collect::<Vec<_>>().join("\n")
}

/// The shipped roles; each pack is parsed when one of its roles is first named.
#[derive(Default)]
pub(super) struct Packs(BTreeMap<&'static str, BTreeMap<String, Arc<Role>>>);

impl Packs {
    /// The role of the name `product:role`.
    pub(super) fn role(&mut self, name: &str) -> Option<Arc<Role>> {
        let (product, role) = name.split_once(':')?;
        let (product, text) = PACKS.into_iter().find(|(known, _)| *known == product)?;
        self.0.entry(product).or_insert_with(|| read(product, text)).get(role).map(Arc::clone)
    }

    /// Whether a role ships for a product other than this one.
    pub(super) fn is_of_another(role: &Spanned<String>, product: &str) -> bool {
        let of = role.value.split_once(':').map(|(of, _)| of);
        of.is_some_and(|of| of != product && text_of(of).is_some())
    }

    /// The problem that no shipped role has this name.
    pub(super) fn unknown(name: &Spanned<String>) -> Problem {
        let packs = PACKS.map(|(product, text)| (product, read(product, text)));
        let names = packs
            .iter()
            .flat_map(|(product, roles)| roles.keys().map(move |role| format!("{product}:{role}")));
        let names: Vec<String> = names.collect();
        let help = match did_you_mean(&name.value, names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("shipped are {}", names.join(", ")),
        };
        Problem::error(name.span, format!("there is no shipped role `{}`", name.value)).help(help)
    }
}

/// The allow rule that the trail names as `users-admin.allow[0]`: of a role in the file, or of a shipped one.
#[must_use]
pub fn allowing_rule(file: &File, name: &str) -> Option<file::Rule> {
    let (role, number) = name.strip_suffix(']')?.rsplit_once(".allow[")?;
    let number: usize = number.parse().ok()?;
    let of = |file: &File, role: &str| file.roles.find(role)?.allow.get(number).cloned();
    let Some((product, shipped)) = role.split_once(':') else { return of(file, role) };
    of(&parse(text_of(product)?, Path::new(product)).0?, shipped)
}

/// The deny rules that a grant of this role adds: of a role in the file, or of a shipped one.
#[must_use]
pub fn denying_rules(file: &File, role: &str) -> Vec<file::Rule> {
    let of =
        |file: &File, role: &str| file.roles.find(role).map(|role| role.deny.clone()).unwrap_or_default();
    let Some((product, shipped)) = role.split_once(':') else { return of(file, role) };
    let pack = text_of(product).and_then(|text| parse(text, Path::new(product)).0);
    let Some(pack) = pack else { return Vec::new() };
    let always = if shipped == ALWAYS { Vec::new() } else { of(&pack, ALWAYS) };
    [of(&pack, shipped), always].concat()
}

/// The text of the pack of a product.
fn text_of(product: &str) -> Option<&'static str> {
    PACKS.into_iter().find(|(known, _)| *known == product).map(|(_, text)| text)
}

/// Parses a pack. A pack that cannot be used has no roles; tests ensure that there is none.
fn read(product: &str, text: &str) -> BTreeMap<String, Arc<Role>> {
    let (file, mut problems) = parse(text, Path::new(product));
    let Some(file) = file else { return BTreeMap::new() };
    let roles = file.roles.iter();
    let mut roles: BTreeMap<String, Role> = roles
        .map(|(name, role)| {
            (name.to_owned(), roles::compile(&format!("{product}:{name}"), role, &mut problems))
        })
        .collect();
    if !problems.is_empty() {
        return BTreeMap::new();
    }
    let always: Vec<Rule> = roles.get(ALWAYS).map(|role| role.deny.clone()).unwrap_or_default();
    for (_, role) in roles.iter_mut().filter(|(name, _)| *name != ALWAYS) {
        role.deny.extend(always.iter().cloned());
    }
    roles.into_iter().map(|(name, role)| (name, Arc::new(role))).collect()
}
