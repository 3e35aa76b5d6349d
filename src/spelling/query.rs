//! What servers may read in a query.

use std::borrow::Cow;

use super::decodings;
use super::name::{self, Name, NamePattern, Naming, Reading};
use super::value::Value;
use crate::query::decode_query;

/// The readings of a query by servers.
#[derive(Debug)]
pub enum Query<'t> {
    /// The members, split at every delimiter that some server uses; each name occurs once.
    Members(Vec<QueryMember<'t>>),
    /// The readings cannot be determined, or are too many to check.
    Unknown(Unclear),
}

/// The reason why the members of a query cannot be determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclear {
    /// The members are too many, or too long, to be read in every spelling.
    Many,
    /// The members are encoded too often.
    Deep,
}

impl Unclear {
    /// The reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Many => "the query has too many members to be judged",
            Self::Deep => "the query is encoded too often to be judged",
        }
    }
}

/// All members of a query that have one name.
#[derive(Debug)]
pub struct QueryMember<'t> {
    /// The common name, as written.
    pub name: Name<'t>,
    /// The decoded values, without duplicates.
    pub values: Vec<Value<'t>>,
    /// The number of members for servers that split only at `&`.
    pub count: usize,
}

/// A name, a value, and whether only `&` or the ends of the query delimit them.
type Split<'t> = (Cow<'t, str>, Cow<'t, str>, bool);

impl<'t> Query<'t> {
    /// Splits a query into its members.
    #[must_use]
    pub fn read(query: &'t str) -> Self {
        let mut all: Vec<Split<'t>> = members(query).collect();
        if hides_border(query) {
            let Some(decoded) = decodings(query) else { return Self::Unknown(Unclear::Deep) };
            for again in decoded.iter().skip(1) {
                let owned = |(name, value, _): Split<'_>| {
                    (name.into_owned().into(), value.into_owned().into(), false)
                };
                all.extend(members(again).map(owned));
            }
        }
        all.sort_unstable();
        Self::of(all).map_or(Self::Unknown(Unclear::Many), Self::Members)
    }

    fn of(sorted: Vec<Split<'t>>) -> Option<Vec<QueryMember<'t>>> {
        let (mut read, mut reading) = (Vec::<QueryMember<'t>>::new(), Reading::default());
        let mut last: Option<Cow<'t, str>> = None;
        for (name, value, whole) in sorted {
            let same = read.last_mut().filter(|member| member.name.written() == name);
            let known = same.is_some() && last.as_ref() == Some(&value);
            let member = if let Some(member) = same {
                member
            } else {
                let name = Name::read_query(name, &mut reading)?;
                read.push(QueryMember { name, values: Vec::new(), count: 0 });
                read.last_mut()?
            };
            member.count += usize::from(whole);
            if !known {
                let decoded = match &value {
                    Cow::Borrowed(value) => decode_query(value),
                    Cow::Owned(value) => Cow::Owned(decode_query(value).into_owned()),
                };
                member.values.push(Value::new(decoded));
                last = Some(value);
            }
        }
        Some(read)
    }

    /// The reason why the members cannot be determined, if they cannot.
    #[must_use]
    pub fn why_unclear(&self) -> Option<Unclear> {
        match self {
            Self::Members(_) => None,
            Self::Unknown(why) => Some(*why),
        }
    }

    /// Whether some server may read a member of the query as one of this name.
    #[must_use]
    pub fn has(&self, name: &NamePattern<'_>) -> bool {
        match self {
            Self::Members(members) => members.iter().any(|member| name.naming(&member.name) != Naming::Other),
            Self::Unknown(_) => true,
        }
    }
}

/// Whether a server that decodes a query before it splits it may find more delimiters; few queries have any.
fn hides_border(query: &str) -> bool {
    const BORDERS: [&[u8]; 4] = [b"26", b"3b", b"3f", b"25"];
    let hides = |at: usize| {
        let digits = query.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| BORDERS.iter().any(|border| digits.eq_ignore_ascii_case(border)))
    };
    memchr::memchr_iter(b'%', query.as_bytes()).any(hides)
}

/// The members of a query without further decoding: split at `&` alone, and at every delimiter that some server uses.
fn members(query: &str) -> impl Iterator<Item = Split<'_>> {
    const OTHERS: [char; 2] = [';', '?'];
    let split = |member: &'_ str| -> Option<(usize, usize)> {
        (!member.is_empty()).then(|| member.find('=').map_or((member.len(), member.len()), |at| (at, at + 1)))
    };
    query.split('&').flat_map(move |whole| {
        let finer = whole.contains(OTHERS).then(|| whole.split(OTHERS).map(|part| (part, false)));
        std::iter::once((whole, true)).chain(finer.into_iter().flatten()).filter_map(
            move |(member, whole)| {
                let (end, begin) = split(member)?;
                Some((member.get(..end)?.into(), member.get(begin..)?.into(), whole))
            },
        )
    })
}

/// Whether some server may read a member of `query` as one called `name`.
#[must_use]
pub fn may_be_named(query: &str, name: &str) -> bool {
    let pattern = NamePattern::literal(name);
    let name_of = |member: &'_ str| member.find('=').unwrap_or(member.len());
    let mut names = query.split('&').map(|member| member.get(..name_of(member)).unwrap_or(member));
    if memchr::memchr3(b'%', b';', b'?', query.as_bytes()).is_none() && names.clone().all(name::is_plain) {
        return names.any(|name| !name.is_empty() && pattern.is_plain(name));
    }
    Query::read(query).has(&pattern)
}
