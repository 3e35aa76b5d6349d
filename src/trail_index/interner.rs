//! Interning: texts that many events refer to by number.

use std::collections::HashMap;

use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::fault::Fault;

/// Number of rows per statement.
const ROWS: usize = 500;

/// Appends rows to a statement that begins with `before`, and executes it for all rows. `bind` appends the values
/// of a single row.
pub(super) async fn write_rows<R>(
    connection: &mut SqliteConnection,
    (before, after): (&str, &str),
    rows: &[R],
    mut bind: impl FnMut(&mut Separated<'_, Sqlite, &'static str>, &R),
) -> Result<(), Fault> {
    for rows in rows.chunks(ROWS) {
        QueryBuilder::<Sqlite>::new(before)
            .push_values(rows, |mut values, row| bind(&mut values, row))
            .push(after)
            .build()
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A table of texts: the rows that this run knows, and how many new events refer to each.
#[derive(Default)]
pub(super) struct Dictionary {
    table: &'static str,
    pub(super) known: HashMap<String, (i64, u64)>,
    pub(super) new: Vec<(i64, String)>,
    next: i64,
    /// Whether `known` has all rows of the table.
    pub(super) whole: bool,
}

impl Dictionary {
    pub(super) async fn begin(connection: &mut SqliteConnection, table: &'static str) -> Result<Self, Fault> {
        let next: i64 = QueryBuilder::<Sqlite>::new("SELECT coalesce(max(id), 0) + 1 FROM ")
            .push(table)
            .build_query_scalar()
            .fetch_one(connection)
            .await?;
        Ok(Self { table, next, whole: next == 1, ..Self::default() })
    }

    /// Returns the number of `text` if it is known, or adds it if the table cannot have it.
    fn number(&mut self, text: &str) -> Option<i64> {
        if let Some((number, count)) = self.known.get_mut(text) {
            *count += 1;
            return Some(*number);
        }
        self.whole.then(|| self.add(text))
    }

    fn add(&mut self, text: &str) -> i64 {
        let number = self.next;
        self.next += 1;
        self.known.insert(text.to_owned(), (number, 1));
        self.new.push((number, text.to_owned()));
        number
    }

    /// Returns the number of `text`, and looks it up in the table if necessary.
    pub(super) async fn find(&mut self, connection: &mut SqliteConnection, text: &str) -> Result<i64, Fault> {
        if let Some(number) = self.number(text) {
            return Ok(number);
        }
        let found: Option<i64> = QueryBuilder::<Sqlite>::new("SELECT id FROM ")
            .push(self.table)
            .push(" WHERE text = ")
            .push_bind(text.to_owned())
            .build_query_scalar()
            .fetch_optional(connection)
            .await?;
        match found {
            Some(number) => {
                self.known.insert(text.to_owned(), (number, 1));
                Ok(number)
            }
            None => Ok(self.add(text)),
        }
    }

    /// Adds the counts of new events to the rows of the table.
    pub(super) async fn count(&mut self, connection: &mut SqliteConnection) -> Result<(), Fault> {
        let counted = self.known.values_mut().filter(|(_, count)| *count > 0);
        let mut counted: Vec<(i64, i64)> = counted
            .map(|(number, count)| (*number, i64::try_from(std::mem::take(count)).unwrap_or(i64::MAX)))
            .collect();
        counted.sort_unstable();
        let table = self.table;
        let after =
            format!(") UPDATE {table} SET events = events + more FROM counted WHERE {table}.id = counted.id");
        write_rows(connection, ("WITH counted (id, more) AS (", &after), &counted, |row, (number, more)| {
            row.push_bind(*number).push_bind(*more);
        })
        .await
    }
}
