//! The texts that are generated from the sections of `src/config/file`: the JSON schema, the tables of the reference
//! page, and the comments of the example. `UPDATE=1 cargo test --test it docs::keys` writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use claviger::config::{self, Absent, Row, Shape};
use toml::{Table, Value};

use super::configs::{COMPLETE, all_set};

/// The column at which the comments of the example start.
const COMMENT: usize = 40;
/// The longest JSON that is written on one line.
const LINE: usize = 140;

/// Compares a committed file with the generated text, or writes it.
pub(super) fn hold(path: &str, generated: &str) {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap();
    let differing = generated.lines().zip(committed.lines()).find(|(new, old)| new != old);
    assert!(
        generated == committed,
        "{path} is not what is generated: run `UPDATE=1 cargo test --test it docs::`\n{differing:#?}"
    );
}

/// JSON that keeps the order of its members.
enum Json {
    Plain(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    fn text(text: &str) -> Self {
        Self::Plain(serde_json::to_string(text).unwrap())
    }

    fn one_line(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::List(items) => format!("[{}]", join(items.iter().map(Self::one_line))),
            Self::Object(members) => {
                format!(
                    "{{{}}}",
                    join(members.iter().map(|(key, value)| format!("\"{key}\": {}", value.one_line())))
                )
            }
        }
    }

    fn pretty(&self, indent: usize) -> String {
        let line = self.one_line();
        let nested =
            matches!(self, Self::Object(members) if members.iter().any(|(key, _)| *key == "properties"));
        if indent + line.len() <= LINE && !nested {
            return line;
        }
        let pad = " ".repeat(indent + 2);
        let lines = |lines: Vec<String>| lines.join(&format!(",\n{pad}"));
        let (open, inside, close) = match self {
            Self::Plain(text) => return text.clone(),
            Self::List(items) => ('[', items.iter().map(|item| item.pretty(indent + 2)).collect(), ']'),
            Self::Object(members) => {
                let member = |(key, value): &(&str, Self)| format!("\"{key}\": {}", value.pretty(indent + 2));
                ('{', members.iter().map(member).collect(), '}')
            }
        };
        format!("{open}\n{pad}{}\n{}{close}", lines(inside), " ".repeat(indent))
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn plain(text: &str) -> Json {
    Json::Plain(text.to_owned())
}

/// The schema of the values of one shape.
fn schema(shape: &Shape) -> Vec<(&'static str, Json)> {
    let of_type = |name: &str| ("type", Json::text(name));
    match shape {
        Shape::Text(pattern) => vec![of_type("string"), ("pattern", Json::text(pattern))],
        Shape::Time => vec![of_type("string"), ("format", Json::text("date-time"))],
        Shape::Size => {
            let number = Json::Object(vec![of_type("integer"), ("minimum", plain("0"))]);
            let text = Json::Object(schema(&Shape::Text("^[0-9]+(B|KiB|MiB|GiB|TiB)$")));
            vec![("oneOf", Json::List(vec![number, text]))]
        }
        Shape::Boolean => vec![of_type("boolean")],
        Shape::Integer(least, most) => {
            vec![of_type("integer"), ("minimum", plain(least)), ("maximum", plain(most))]
        }
        Shape::Words(words) => {
            vec![("enum", Json::List(words.iter().map(|word| Json::text(word)).collect()))]
        }
        Shape::Scalar => {
            vec![("type", Json::List(["boolean", "integer", "string"].map(Json::text).into_iter().collect()))]
        }
        Shape::List(items, least) => {
            let mut list = vec![of_type("array"), ("items", Json::Object(schema(items)))];
            list.extend((*least > 0).then(|| ("minItems", plain(&least.to_string()))));
            list
        }
        Shape::Map(names, values) => {
            let mut map = vec![of_type("object")];
            if !names.is_empty() {
                map.push(("propertyNames", Json::Object(vec![("pattern", Json::text(names))])));
            }
            map.push(("additionalProperties", Json::Object(schema(values))));
            map
        }
        Shape::Table(rows) => table(&rows()),
        Shape::OneOf(rows) => {
            [table(rows), vec![("minProperties", plain("1")), ("maxProperties", plain("1"))]]
                .into_iter()
                .flatten()
                .collect()
        }
        Shape::Either(one, other) => {
            vec![("oneOf", Json::List(vec![Json::Object(schema(one)), Json::Object(schema(other))]))]
        }
    }
}

fn table(rows: &[Row]) -> Vec<(&'static str, Json)> {
    let properties = rows.iter().map(|row| {
        let mut property = vec![("description", Json::text(row.about))];
        property.extend(schema(&row.shape));
        if let Absent::Value(value) = &row.absent
            && !value.is_empty()
        {
            property.push(("default", plain(value)));
        }
        (row.key, Json::Object(property))
    });
    let mut table = vec![("type", Json::text("object")), ("additionalProperties", plain("false"))];
    table.push(("properties", Json::Object(properties.collect())));
    let required: Vec<Json> =
        rows.iter().filter(|row| row.absent == Absent::Refused).map(|row| Json::text(row.key)).collect();
    if !required.is_empty() {
        table.push(("required", Json::List(required)));
    }
    for row in rows {
        if let Absent::RefusedWithout(other) = row.absent {
            let needs = |key: &str| Json::Object(vec![("required", Json::List(vec![Json::text(key)]))]);
            table.push(("oneOf", Json::List(vec![needs(row.key), needs(other)])));
        }
    }
    table
}

#[test]
fn the_schema_is_what_the_sections_say() {
    let about = "The configuration of claviger. `claviger check` judges more than this can.";
    let mut whole = vec![
        ("$schema", Json::text("http://json-schema.org/draft-07/schema#")),
        ("title", Json::text("claviger")),
        ("description", Json::text(about)),
    ];
    whole.extend(table(&config::keys()));
    hold("config/claviger.schema.json", &format!("{}\n", Json::Object(whole).pretty(0)));
}

/// The keys inside a value of this shape, whatever the names and positions of its objects.
fn inside(shape: &Shape) -> Vec<Row> {
    match shape {
        Shape::Table(rows) => rows(),
        Shape::OneOf(rows) => rows.clone(),
        Shape::List(items, _) => inside(items),
        Shape::Map(_, values) => inside(values),
        Shape::Either(one, other) => [inside(one), inside(other)].concat(),
        Shape::Text(_)
        | Shape::Time
        | Shape::Size
        | Shape::Boolean
        | Shape::Integer(..)
        | Shape::Words(_)
        | Shape::Scalar => Vec::new(),
    }
}

/// The rows of a table of the reference page: the keys, and those of nested tables. Objects by name, lists of tables
/// and choices have their own tables.
fn lines(rows: &[Row], prefix: &str, page: &mut String) {
    for row in rows.iter().filter(|row| !matches!(row.shape, Shape::Map(names, _) if !names.is_empty())) {
        let default = match &row.absent {
            Absent::Value(value) if !value.is_empty() => format!("`{value}`"),
            Absent::Words(words) => (*words).to_owned(),
            Absent::Value(_) | Absent::Refused | Absent::RefusedWithout(_) | Absent::Nothing => {
                "—".to_owned()
            }
        };
        writeln!(page, "| `{prefix}{}` | {default} | {} |", row.key, row.about.replace('|', "\\|")).unwrap();
        if let Shape::Table(rows) = row.shape {
            lines(&rows(), &format!("{prefix}{}.", row.key), page);
        }
    }
}

/// The rows at a place such as `audit.sinks`; at the top level only those that are not sections.
fn rows_at(place: &str) -> Vec<Row> {
    let top = config::keys();
    if place == "top" {
        return top.into_iter().filter(|row| inside(&row.shape).is_empty()).collect();
    }
    place.split('.').fold(top, |rows, key| {
        let row = rows.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("{place}"));
        inside(&row.shape)
    })
}

#[test]
fn the_reference_page_is_what_the_sections_say() {
    const PAGE: &str = "docs/en/configuration.md";
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let (mut page, mut rest) = (String::new(), text.as_str());
    let mut places = 0;
    while let Some((before, after)) = rest.split_once("<!-- keys: ") {
        let (place, after) = after.split_once(" -->\n").unwrap();
        let (_, after) = after.split_once("<!-- end -->\n").unwrap();
        let prefix = if place == "upstreams.scheme" { "scheme." } else { "" };
        let head = "| key | default | meaning |\n| --- | --- | --- |\n";
        write!(page, "{before}<!-- keys: {place} -->\n\n{head}").unwrap();
        lines(&rows_at(place), prefix, &mut page);
        page.push_str("\n<!-- end -->\n");
        (rest, places) = (after, places + 1);
    }
    page.push_str(rest);
    assert_eq!(places, 15);
    hold(PAGE, &page);
}

#[test]
fn the_comments_of_the_example_are_what_the_sections_say() {
    let mut place: Vec<String> = Vec::new();
    let mut described = BTreeSet::new();
    let mut text = String::new();
    for line in COMPLETE.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if let Some(header) = bare.strip_prefix('[') {
            let header = header.trim_matches(['[', ']']);
            place = header.split('.').map(str::to_owned).collect();
        }
        let key = bare.split_once(" = ").map(|(key, _)| key).filter(|key| !key.contains([' ', '"', '{']));
        let row = key.and_then(|key| {
            let keys: Vec<&str> = place.iter().map(String::as_str).chain(key.split('.')).collect();
            row_of(&config::keys(), &keys, "")
        });
        let Some((row, path)) = row else {
            writeln!(text, "{line}").unwrap();
            continue;
        };
        let setting = line.rsplit_once(" # ").map_or(line, |(setting, _)| setting).trim_end();
        if described.insert(path) {
            writeln!(text, "{setting:<0$} # {1}", COMMENT - 1, row.about).unwrap();
        } else {
            writeln!(text, "{setting}").unwrap();
        }
    }
    hold("config/claviger.toml", &text);
}

/// The row of a key of the example, and its path without the names of objects.
fn row_of(rows: &[Row], keys: &[&str], path: &str) -> Option<(Row, String)> {
    let (key, rest) = keys.split_first()?;
    let row = rows.iter().find(|row| row.key == *key)?;
    let path = format!("{path}.{key}");
    let is_named = matches!(row.shape, Shape::Map(names, _) if !names.is_empty());
    let rest = if is_named { rest.get(1..)? } else { rest };
    if rest.is_empty() {
        return (!is_named).then(|| (row.clone(), path));
    }
    row_of(&inside(&row.shape), rest, &path)
}

/// Every key with its path; a list or an object by name adds nothing to the path.
fn walk(rows: &[Row], path: &str, visit: &mut dyn FnMut(&str, &Row)) {
    for row in rows {
        let path = format!("{path}.{}", row.key);
        visit(&path, row);
        walk(&inside(&row.shape), &path, visit);
    }
}

/// The paths of all keys that a document sets.
fn paths(rows: &[Row], value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| paths(rows, item, path, found)),
        Value::Table(table) => {
            for (key, value) in table {
                let Some(row) = rows.iter().find(|row| row.key == key) else { continue };
                let path = format!("{path}.{key}");
                let below = inside(&row.shape);
                match (&row.shape, value) {
                    (Shape::Map(..), Value::Table(objects)) => {
                        objects.values().for_each(|object| paths(&below, object, &path, found));
                    }
                    _ => paths(&below, value, &path, found),
                }
                found.insert(path);
            }
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

#[test]
fn the_example_has_every_key_and_every_word() {
    let mut written = BTreeSet::new();
    paths(&config::keys(), &Value::Table(all_set(COMPLETE).parse::<Table>().unwrap()), "", &mut written);
    let (mut missing, mut choices, mut number) = (Vec::new(), BTreeSet::new(), 0);
    walk(&config::keys(), "", &mut |path, row| {
        number += 1;
        let is_alternative = choices.contains(path.rsplit_once('.').map_or("", |(parent, _)| parent));
        if matches!(row.shape, Shape::OneOf(_) | Shape::Either(..)) {
            choices.insert(path.to_owned());
        }
        // Allow and deny rules have the same keys; the text shows a key that excludes others.
        let twins = [path.replace(".deny.", ".allow."), path.replace(".allow.", ".deny.")];
        let is_set = twins.iter().any(|path| written.contains(path));
        let is_shown = is_set || COMPLETE.contains(&format!("`{} = ", row.key));
        if !is_shown && !is_alternative {
            missing.push(path.to_owned());
        }
        if let Shape::Words(words) = &row.shape {
            missing.extend(
                words.iter().filter(|word| !COMPLETE.contains(**word)).map(|word| format!("{path}: {word}")),
            );
        }
    });
    assert_eq!(missing, Vec::<String>::new(), "config/claviger.toml has not all that the sections have");
    assert!(number > 110, "only {number} keys were found");
}
