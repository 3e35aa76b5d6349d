//! Readers of values: each knows what it accepts, reads it, and can write it.

use super::node::{Node, Read};
use super::shape::Shape;
use super::table::Table;
use crate::config::span::Spanned;

/// Reads the value of a node.
type NodeReader<T> = dyn Fn(&Node<'_>) -> Read<T>;

/// Reads a value, and describes the values that it accepts.
pub(in crate::config) struct Reader<T> {
    pub(in crate::config) shape: Shape,
    read: Box<NodeReader<T>>,
    /// Writes a value in TOML; empty if no key has it as its default.
    write: Box<dyn Fn(&T) -> String>,
}

impl<T: 'static> Reader<T> {
    pub(in crate::config) fn new(shape: Shape, read: impl Fn(&Node<'_>) -> Read<T> + 'static) -> Self {
        Self { shape, read: Box::new(read), write: Box::new(|_| String::new()) }
    }

    /// Adds how a value is written in TOML.
    pub(super) fn written(self, write: impl Fn(&T) -> String + 'static) -> Self {
        Self { write: Box::new(write), ..self }
    }

    /// Replaces the described shape by a narrower one.
    pub(in crate::config) fn of_shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    pub(in crate::config) fn read(&self, node: &Node<'_>) -> Read<T> {
        (self.read)(node)
    }

    pub(super) fn write(&self, value: &T) -> String {
        (self.write)(value)
    }

    /// Adds a check or a conversion, which may report a problem.
    pub(in crate::config) fn then<U: 'static>(
        self,
        next: impl Fn(&Node<'_>, T) -> Read<U> + 'static,
    ) -> Reader<U> {
        Reader::new(self.shape, move |node| next(node, (self.read)(node)?))
    }

    pub(in crate::config) fn map<U: 'static>(self, change: impl Fn(T) -> U + 'static) -> Reader<U> {
        self.then(move |_, value| Ok(change(value)))
    }

    /// Adds a check that keeps the value; its problem begins with the value's name.
    pub(in crate::config) fn check(self, fault: impl Fn(&T) -> Option<&'static str> + 'static) -> Self {
        let read = move |node: &Node<'_>| {
            let value = (self.read)(node)?;
            fault(&value).map_or(Ok(()), |fault| Err(node.refuse(fault)))?;
            Ok(value)
        };
        Self { shape: self.shape, read: Box::new(read), write: self.write }
    }

    /// Adds a check of the node before it is read.
    pub(in crate::config) fn after(self, check: impl Fn(&Node<'_>) -> Read<()> + 'static) -> Self {
        let read = move |node: &Node<'_>| {
            check(node)?;
            (self.read)(node)
        };
        Self { shape: self.shape, read: Box::new(read), write: self.write }
    }

    /// Pairs the value with its place.
    pub(in crate::config) fn located(self) -> Reader<Spanned<T>> {
        let (read, write) = (self.read, self.write);
        Reader::new(self.shape, move |node| read(node).map(|value| node.at(value)))
            .written(move |value| write(&value.value))
    }

    /// Reads a list; it fails if any item fails.
    pub(in crate::config) fn list(self) -> Reader<Vec<T>> {
        self.list_of(0)
    }

    /// Reads a list that must not be empty, with the advice for one that is.
    pub(in crate::config) fn some(self, help: &'static str) -> Reader<Vec<T>> {
        self.list_of(1).then(move |node, items| {
            if items.is_empty() {
                return Err(node.report(node.problem("must not be empty").help(help)));
            }
            Ok(items)
        })
    }

    /// Reads a table with names of the author's choice as pairs, in the order of the text.
    pub(in crate::config) fn pairs(self) -> Reader<Vec<(Spanned<String>, T)>> {
        Reader::new(Shape::Map("", Box::new(self.shape)), move |node| {
            let pairs = Table::of(node)?.entries().into_iter().map(|(key, value)| {
                let name = Spanned::new(key.get_ref().to_string(), key.span().into());
                Ok((name, (self.read)(&value)?))
            });
            pairs.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// Reads a list that is described as having at least so many items.
    pub(in crate::config) fn list_of(self, least: usize) -> Reader<Vec<T>> {
        let (read, write) = (self.read, self.write);
        Reader::new(Shape::List(Box::new(self.shape), least), move |node| {
            // Every item is read, so that the problems of all are reported.
            node.items()?.map(|item| read(&item)).collect::<Vec<_>>().into_iter().collect()
        })
        .written(move |items: &Vec<T>| {
            format!("[{}]", items.iter().map(&write).collect::<Vec<_>>().join(", "))
        })
    }
}

/// Reads a string by one reader, and any other value by another.
pub(in crate::config) fn text_or<T: 'static>(text: Reader<T>, other: Reader<T>) -> Reader<T> {
    let shape = Shape::Either(Box::new(text.shape.clone()), Box::new(other.shape.clone()));
    Reader::new(
        shape,
        move |node| {
            if node.value().as_str().is_some() { text.read(node) } else { other.read(node) }
        },
    )
}
