//! The statements of a push. Values are one parameter, a JSON object by columns; Postgres itself reads them as the columns'
//! types have it.

use super::settings::Table;
use crate::replication::{identifier as quoted, literal};

/// A table as it is, for one model's columns.
pub(super) struct Statements<'a> {
    pub(super) table: &'a Table,
    pub(super) columns: &'a [String],
    pub(super) key: &'a [String],
}

/// What a table's columns are called, whether they can be written, and whether they are of the primary key.
pub(super) const SHAPE: &str = "
    SELECT a.attname::text AS name, a.attgenerated = '' AS is_written, coalesce(a.attnum = ANY (i.indkey), false) AS is_key
    FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
    WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

impl Statements<'_> {
    /// Inserts the row, or makes the one that is there what it should be.
    pub(super) fn upsert(&self) -> String {
        let columns = list(self.columns, |column| column.to_owned());
        let others: Vec<_> =
            self.columns.iter().filter(|column| !self.key.contains(column)).cloned().collect();
        let conflict = if others.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!(
                "UPDATE SET {}",
                list(&others, |column| format!("{column} = EXCLUDED.{column}"))
            )
        };
        format!(
            "INSERT INTO {} AS t ({columns}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} ON CONFLICT ({}) DO {conflict}",
            self.name(),
            list(self.columns, |column| format!("r.{column}")),
            self.given(),
            list(self.key, |column| column.to_owned()),
        )
    }

    /// Deletes the row of this key.
    pub(super) fn delete(&self) -> String {
        format!("DELETE FROM {} AS t USING {} WHERE {}", self.name(), self.given(), self.is_same())
    }

    /// The columns that differ, of the row if it is there. Compared as JSON of the columns' own values: not every type has
    /// an equality, and this one does not tell 1.0 from 1.00.
    pub(super) fn compare(&self) -> String {
        let differs = |column: &String| {
            let (name, text) = (quoted(column), literal(column));
            format!(
                "CASE WHEN to_jsonb(t.{name}) IS DISTINCT FROM to_jsonb(r.{name}) THEN {text} END"
            )
        };
        let columns: Vec<_> = self.columns.iter().map(differs).collect();
        format!(
            "SELECT array_remove(ARRAY[{}]::text[], NULL) FROM {} AS t JOIN {} ON {}",
            columns.join(", "),
            self.name(),
            self.given(),
            self.is_same(),
        )
    }

    fn name(&self) -> String {
        name(self.table)
    }

    fn given(&self) -> String {
        format!("json_populate_record(NULL::{}, $1::text::json) AS r", self.name())
    }

    fn is_same(&self) -> String {
        let pairs: Vec<_> = self
            .key
            .iter()
            .map(|column| quoted(column))
            .map(|column| format!("t.{column} = r.{column}"))
            .collect();
        pairs.join(" AND ")
    }
}

/// A table's name as SQL has it.
pub(super) fn name(table: &Table) -> String {
    table.name.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".")
}

fn list(columns: &[String], write: impl Fn(&str) -> String) -> String {
    columns.iter().map(|column| write(&quoted(column))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let (columns, key) = (["i\"d".to_owned(), "n'\\".to_owned()], ["i\"d".to_owned()]);
        let table =
            Table { name: vec!["a b".to_owned(), "t".to_owned()], columns: None, key: None };
        let statements = Statements { table: &table, columns: &columns, key: &key };
        assert_eq!(
            statements.upsert(),
            r#"INSERT INTO "a b"."t" AS t ("i""d", "n'\") OVERRIDING SYSTEM VALUE SELECT r."i""d", r."n'\" FROM json_populate_record(NULL::"a b"."t", $1::text::json) AS r ON CONFLICT ("i""d") DO UPDATE SET "n'\" = EXCLUDED."n'\""#
        );
        assert!(statements.compare().contains(r#"THEN E'n''\\' END"#), "{}", statements.compare());
        let only = Statements { table: &table, columns: &key, key: &key };
        assert!(only.upsert().ends_with("DO NOTHING"));
    }
}
