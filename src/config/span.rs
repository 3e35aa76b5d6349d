//! Places in the text of the configuration file.

use std::ops::Range;

/// A range of bytes in the text of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The offset of the first byte.
    pub start: usize,
    /// The offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The span of something that was not written: a default, or the file as a whole.
    pub const NOWHERE: Self = Self { start: usize::MAX, end: usize::MAX };

    /// Whether this is [`Span::NOWHERE`].
    #[must_use]
    pub fn is_nowhere(self) -> bool {
        self == Self::NOWHERE
    }

    /// Whether the span contains the byte at `offset`.
    #[must_use]
    pub fn holds(self, offset: usize) -> bool {
        self.start <= offset && offset < self.end
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A value with the place where it was written, so that a later check can point at it. Two are equal if their values
/// are, wherever they stand.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value that was written.
    pub value: T,
    /// The place of the value; [`Span::NOWHERE`] for a default.
    pub span: Span,
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T> Spanned<T> {
    /// Pairs a value with its span.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// Wraps a default value, which the file does not contain.
    pub fn synthetic(value: T) -> Self {
        Self { value, span: Span::NOWHERE }
    }

    /// Keeps the span and changes the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), span: self.span }
    }
}

/// The byte offset at which each line of a text starts.
pub(super) fn line_starts(text: &str) -> Vec<usize> {
    let after = |(at, byte): (usize, u8)| (byte == b'\n').then_some(at + 1);
    std::iter::once(0).chain(text.bytes().enumerate().filter_map(after)).collect()
}
