//! What the file may contain, as data: for the JSON schema, the reference page and the comments of the example.

/// The values that a reader accepts.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A string that matches this regular expression.
    Text(&'static str),
    /// An RFC 3339 time.
    Time,
    /// A number of bytes: an integer, or a string with a unit.
    Size,
    /// True or false.
    Boolean,
    /// An integer within a range, both ends of it included.
    Integer(String, String),
    /// One of several words.
    Words(Vec<&'static str>),
    /// A value of JSON without parts: a string, an integer, true or false.
    Scalar,
    /// A list with at least so many items.
    List(Box<Shape>, usize),
    /// A table with keys of the author's choice, each of which matches the regular expression.
    Map(&'static str, Box<Shape>),
    /// A table with these keys.
    Table(fn() -> Vec<Row>),
    /// A table with exactly one of several keys.
    OneOf(Vec<Row>),
    /// A value of either shape.
    Either(Box<Shape>, Box<Shape>),
}

/// One key of the file, as its section declares it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The key in its table.
    pub key: &'static str,
    /// The sentences that describe the key.
    pub about: &'static str,
    /// The values that it accepts.
    pub shape: Shape,
    /// What applies where the key is absent.
    pub absent: Absent,
}

/// What applies where a key is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The file is refused.
    Refused,
    /// The file is refused, unless the table has this other key instead.
    RefusedWithout(&'static str),
    /// Nothing: the key has no default.
    Nothing,
    /// This value, in TOML.
    Value(String),
    /// A value that depends on others, in words.
    Words(&'static str),
}
