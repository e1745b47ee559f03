//! The table of `docs/api/authorization.md`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::world::Operation;

/// The table as it is written.
pub(crate) struct Page {
    /// Who calls.
    pub(crate) columns: Vec<String>,
    /// What is answered to each of them.
    pub(crate) rows: BTreeMap<Operation, Vec<String>>,
}

impl Page {
    /// Reads the page.
    pub(crate) fn read() -> Result<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api/authorization.md");
        let text = std::fs::read_to_string(path)?;
        let mut lines =
            text.lines().skip_while(|line| !line.starts_with("| operation |")).map(cells);
        let columns = lines.next().context("the page has no table")?.split_off(1);
        let mut rows = BTreeMap::new();
        for mut line in lines.skip(1) {
            let answers = line.split_off(1);
            ensure!(answers.len() == columns.len(), "a row of another length: {line:?}");
            let operation = line.pop().and_then(|name| Operation::parse(&name));
            rows.insert(operation.with_context(|| format!("no operation: {line:?}"))?, answers);
        }
        ensure!(rows.len() > 50, "the page has {} rows", rows.len());
        Ok(Self { columns, rows })
    }
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}
