//! The table of a section's keys, from which its type, its reader and its description come.

use super::node::{Context, Read, Reported};
use super::reader::Reader;
use super::shape::{Absent, Row, Shape};
use super::table::Table;
use crate::config::span::{Span, Spanned};
use crate::name::Name;

/// Declares a section of the file: a type with one field for each key. The documentation of a field also describes the
/// key in the JSON schema, the reference page and the example; [`Key`] says how it is read.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $Section:ident { $($(#[doc = $doc:literal])+ $key:ident: $Type:ty = $how:expr,)* }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $Section { $($(#[doc = $doc])+ pub $key: $Type,)* }

        impl $crate::config::decode::Section for $Section {
            fn read(table: &mut $crate::config::decode::Table<'_>) -> $crate::config::decode::Read<Self> {
                // Every key is read before the first problem ends the section.
                let ($($key,)*): ($($crate::config::decode::Read<$Type>,)*) =
                    ($($how.read(table, stringify!($key)),)*);
                Ok(Self { $($key: $key?,)* })
            }

            fn rows() -> Vec<$crate::config::decode::Row> {
                let rows = [$(
                    $crate::config::decode::Key::<$Type>::row($how, stringify!($key), concat!($($doc),+)),
                )*];
                rows.into_iter().flatten().collect()
            }
        }
    };
}
pub(in crate::config) use section;

/// A table of the file with fixed keys, as [`section!`] declares it.
pub(in crate::config) trait Section: Sized + 'static {
    /// Reads every key, in the order of the declaration.
    fn read(table: &mut Table<'_>) -> Read<Self>;

    /// Describes every key, in the order of the declaration.
    fn rows() -> Vec<Row>;

    /// A reader of the whole table.
    fn reader() -> Reader<Self> {
        Reader::new(Shape::Table(Self::rows), |node| {
            let mut table = Table::of(node)?;
            let section = Self::read(&mut table);
            table.finish();
            section
        })
    }
}

impl Section for () {
    fn read(_: &mut Table<'_>) -> Read<Self> {
        Ok(())
    }

    fn rows() -> Vec<Row> {
        Vec::new()
    }
}

/// Reads a field of a section from the key of this name.
type FieldReader<T> = dyn FnOnce(&mut Table<'_>, &'static str) -> Read<T>;

/// How the value of one field is found in its table.
pub(in crate::config) struct Key<T> {
    read: Box<FieldReader<T>>,
    /// The description of the key; `None` for a field that is no key.
    described: Option<(Shape, Absent)>,
    /// The key, if it has another name than the field.
    name: Option<&'static str>,
}

impl<T: 'static> Key<T> {
    pub(in crate::config) fn new(
        described: (Shape, Absent),
        read: impl FnOnce(&mut Table<'_>, &'static str) -> Read<T> + 'static,
    ) -> Self {
        Self { read: Box::new(read), described: Some(described), name: None }
    }

    /// Sets the words for a default that depends on other values.
    pub(in crate::config) fn by(self, words: &'static str) -> Self {
        let described = self.described.map(|(shape, _)| (shape, Absent::Words(words)));
        Self { described, ..self }
    }

    /// Sets the key, for a field that has another name.
    pub(in crate::config) fn called(self, key: &'static str) -> Self {
        Self { name: Some(key), ..self }
    }

    pub(in crate::config) fn read(self, table: &mut Table<'_>, field: &'static str) -> Read<T> {
        (self.read)(table, self.name.unwrap_or(field))
    }

    pub(in crate::config) fn row(self, field: &'static str, about: &'static str) -> Option<Row> {
        let key = self.name.unwrap_or(field);
        self.described.map(|(shape, absent)| Row { key, about: about.trim(), shape, absent })
    }
}

/// A key that must be there.
pub(in crate::config) fn required<T: 'static>(reader: Reader<T>) -> Key<T> {
    Key::new((reader.shape.clone(), Absent::Refused), move |table, key| {
        table.required(key, |node| reader.read(node))
    })
}

/// A key that may be absent.
pub(in crate::config) fn optional<T: 'static>(reader: Reader<T>) -> Key<Option<T>> {
    Key::new((reader.shape.clone(), Absent::Nothing), move |table, key| {
        table.optional(key, |node| reader.read(node))
    })
}

/// A key with a default. A value that is refused fails the section.
pub(in crate::config) fn or<T: 'static>(default: T, reader: Reader<T>) -> Key<T> {
    let written = Absent::Value(reader.write(&default));
    Key::new((reader.shape.clone(), written), move |table, key| {
        Ok(table.optional(key, |node| reader.read(node))?.unwrap_or(default))
    })
}

/// A key with a default, which also replaces a value that is refused: the other keys are then still checked.
pub(in crate::config) fn or_default<T: 'static>(default: T, reader: Reader<T>) -> Key<T> {
    let written = Absent::Value(reader.write(&default));
    or_from(written, |_| default, reader)
}

/// Like [`or_default`], with a default that depends on the folders of the document.
pub(in crate::config) fn or_from<T: 'static>(
    absent: Absent,
    default: impl FnOnce(&Context<'_>) -> T + 'static,
    reader: Reader<T>,
) -> Key<T> {
    Key::new((reader.shape.clone(), absent), move |table, key| {
        let value = table.optional(key, |node| reader.read(node)).ok().flatten();
        Ok(value.unwrap_or_else(|| default(table.context)))
    })
}

/// A section all of whose keys have defaults. These also apply if it is absent, or cannot be read.
pub(in crate::config) fn section_or_default<T: Section>() -> Key<T> {
    Key::new((Shape::Table(T::rows), Absent::Nothing), |table, key| {
        match table.optional(key, |node| T::reader().read(node)) {
            Ok(Some(section)) => Ok(section),
            Ok(None) | Err(_) => T::read(&mut Table::root(table.context, &table.context.absent)),
        }
    })
}

/// The place of the section in the text.
pub(in crate::config) fn place() -> Key<Span> {
    Key { read: Box::new(|table, _| Ok(table.span)), described: None, name: None }
}

/// The name under which the file declares the object.
pub(in crate::config) fn declared_name() -> Key<Spanned<Name>> {
    let read = |table: &mut Table<'_>, _| table.name.clone().ok_or_else(Reported::later);
    Key { read: Box::new(read), described: None, name: None }
}
