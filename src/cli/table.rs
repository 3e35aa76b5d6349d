//! Formats tables for people.

use crate::printable::printable_value;

/// Formats rows under their headings, or returns the given text if there are no rows.
pub(in crate::cli) fn table(
    headings: &[&str],
    rows: impl IntoIterator<Item = impl AsRef<[String]>>,
    none: &str,
) -> String {
    let printable = |row: &[String]| row.iter().map(|cell| printable_value(cell).into_owned()).collect();
    let mut all: Vec<Vec<String>> = vec![headings.iter().map(|heading| heading.to_uppercase()).collect()];
    all.extend(rows.into_iter().map(|row| printable(row.as_ref())));
    if all.len() == 1 {
        return format!("{none}\n");
    }
    let mut widths = vec![0; headings.len()];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let rows = vec![["a".to_owned(), String::new()], ["größer".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["id", "note"], rows, "none"), "ID      NOTE\na\ngrößer  x\n");
        let hostile = vec![["a\nb".to_owned(), "\u{202e}\u{1b}[2J".to_owned()]];
        assert_eq!(table(&["id", "note"], hostile, "none"), "ID        NOTE\na\\u000ab  \\u202e\\u001b[2J\n");
        assert_eq!(table(&["id"], Vec::<[String; 1]>::new(), "there is none"), "there is none\n");
    }
}
