//! The objects of one kind that a file declares, by name.

use std::collections::BTreeMap;

use super::problem::did_you_mean;
use crate::name::Name;

/// The objects that the file declares under one heading, such as `[upstreams.…]`.
///
/// An object that could not be read is remembered as declared, so that a reference to it causes no second error.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared<T> {
    objects: BTreeMap<Name, Option<T>>,
}

impl<T> Declared<T> {
    pub(super) fn new(objects: BTreeMap<Name, Option<T>>) -> Self {
        Self { objects }
    }

    /// The object of this name, if it could be read.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&T> {
        self.objects.get(name).and_then(Option::as_ref)
    }

    /// Whether the file declares this name, be it readable or not.
    #[must_use]
    pub fn declares(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }

    /// The declared name that `name` was most likely meant to be.
    #[must_use]
    pub fn did_you_mean(&self, name: &str) -> Option<&str> {
        did_you_mean(name, self.objects.keys().map(Name::as_str))
    }

    /// The names that could be read, with their objects, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.objects.iter().filter_map(|(name, object)| Some((name.as_str(), object.as_ref()?)))
    }

    /// Every declared name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.objects.keys().map(Name::as_str)
    }

    /// Whether nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

impl<T> Default for Declared<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new() }
    }
}
