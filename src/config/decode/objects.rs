//! Reads the objects that a file declares: lists of tables, and tables by name. One that is invalid affects no other.

use std::collections::BTreeMap;

use super::node::{Node, Read};
use super::section::{Key, Section};
use super::shape::{Absent, Shape};
use super::table::Table;
use super::text::{NAME, no_name};
use crate::config::declared::Declared;
use crate::config::span::{Span, Spanned};
use crate::name::Name;

/// A list of tables (`[[key]]`); `default` applies if it is absent, or if all of it is invalid, which is reported.
pub(in crate::config) fn each<T: Section>(default: fn() -> Vec<T>) -> Key<Vec<T>> {
    let shape = Shape::List(Box::new(Shape::Table(T::rows)), 0);
    Key::new((shape, Absent::Nothing), move |table, key| {
        let items = table.optional(key, |node| {
            if node.value().is_table() {
                let problem = node.problem("must be a list of tables, found a table");
                return Err(node.report(problem.help(format!("write `[[{key}]]`"))));
            }
            let items: Vec<Read<T>> = node.items()?.map(|item| T::reader().read(&item)).collect();
            let bad = items.iter().find_map(|item| item.as_ref().err().copied());
            let good: Vec<T> = items.into_iter().filter_map(Result::ok).collect();
            bad.filter(|_| good.is_empty()).map_or(Ok(good), Err)
        });
        Ok(items.ok().flatten().unwrap_or_else(default))
    })
}

/// Named objects (`[key.NAME]`).
pub(in crate::config) fn named<T: Section>() -> Key<Declared<T>> {
    named_by(T::reader)
}

/// Named objects (`[key.NAME]`), each read by a reader.
pub(in crate::config) fn named_by<T: 'static>(reader: fn() -> super::Reader<T>) -> Key<Declared<T>> {
    let shape = Shape::Map(NAME, Box::new(reader().shape));
    Key::new((shape, Absent::Nothing), move |table, key| {
        let objects = table.optional(key, |node| {
            let mut objects = BTreeMap::new();
            for (name, node) in Table::of(node)?.entries() {
                let place = Span::from(name.span());
                let Some(name) = Name::parse(name.get_ref()) else {
                    node.report(no_name(place, &node.subject()));
                    continue;
                };
                let node = Node { name: Some(Spanned::new(name, place)), ..node };
                objects.insert(name, reader().read(&node).ok());
            }
            Ok(objects)
        });
        Ok(Declared::new(objects.ok().flatten().unwrap_or_default()))
    })
}
