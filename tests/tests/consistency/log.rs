//! The true order and content of commits, from the origin's log by a slot of the checker's own.

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::model::{Change, Commit, State, Table};

const MAKE: &str = "SELECT pg_create_logical_replication_slot('checker', 'test_decoding')";
const TAKE: &str =
    "SELECT (lsn - '0/0')::int8, data FROM pg_logical_slot_get_changes('checker', NULL, NULL)";

/// Has the log kept from now on.
pub(crate) async fn begin(admin: &Client) -> Result<()> {
    Ok(admin.batch_execute(MAKE).await?)
}

/// The commits since the last call. Nobody may be writing.
pub(crate) async fn take(admin: &Client) -> Result<Vec<Commit>> {
    let rows = admin.query(TAKE, &[]).await?;
    let lines = rows.iter().map(|row| (row.get::<_, i64>(0).unsigned_abs(), row.get::<_, &str>(1)));
    commits(lines)
}

/// All rows as they are. Nobody may be writing.
pub(crate) async fn state(admin: &Client) -> Result<State> {
    let mut state = State::default();
    for table in Table::ALL {
        // The loose partition is read even where it is not attached.
        let from = match table {
            Table::Parts => "(SELECT * FROM parts UNION SELECT * FROM parts_3) parts",
            _ => table.name(),
        };
        let columns = table.columns().iter().map(|name| match *name {
            "name" => "substr(name, 2)::int8".to_owned(),
            name => format!("{name}::int8"),
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        for row in admin.query(&format!("SELECT {columns} FROM {from}"), &[]).await? {
            state.put(table, (0..row.len()).map(|at| row.get(at)).collect());
        }
    }
    Ok(state)
}

/// Reads what `test_decoding` writes, each line with its position.
fn commits<'a>(lines: impl Iterator<Item = (u64, &'a str)>) -> Result<Vec<Commit>> {
    let mut commits = Vec::new();
    let mut open = Commit::default();
    for (position, line) in lines {
        if let Some(xid) = line.strip_prefix("BEGIN ") {
            open = Commit { xid: xid.parse()?, ..Commit::default() };
        } else if line.starts_with("COMMIT") {
            open.position = position;
            commits.push(std::mem::take(&mut open));
        } else if let Some(change) = line.strip_prefix("table ") {
            open.changes.extend(changes(change).with_context(|| line.to_owned())?);
        }
    }
    // Most others are the sidecar's own.
    commits.retain(|commit| !commit.changes.is_empty());
    Ok(commits)
}

/// The table of a name in the log, and the region if it is a partition.
fn table(name: &str) -> Option<(Table, Option<i64>)> {
    let name = name.strip_prefix("public.")?;
    if let Some(region) = name.strip_prefix("parts_") {
        return Some((Table::Parts, region.parse().ok()));
    }
    Table::ALL.into_iter().find(|table| table.name() == name).map(|table| (table, None))
}

fn changes(text: &str) -> Result<Vec<Change>> {
    let (names, rest) = text.split_once(": ").context("no table")?;
    let (verb, rest) = rest.split_once(':').context("no verb")?;
    if verb == "TRUNCATE" {
        // A partitioned table comes with those of its partitions that are attached.
        let known = names.split(", ").filter_map(table);
        let known = known.filter(|(table, region)| *table != Table::Parts || region.is_some());
        return Ok(known.map(|(table, region)| Change::Clear(table, region)).collect());
    }
    let Some((table, _)) = table(names) else { return Ok(Vec::new()) };
    let whole = |text: &str| row(table, text).context("a column is missing");
    let change = match verb {
        "INSERT" => Change::Put { old: None, row: whole(rest)?, table },
        "UPDATE" => match rest.split_once("new-tuple:") {
            Some((old, new)) => {
                let old = row(table, old.trim_start().trim_start_matches("old-key:"));
                let old = old.context("no key")?;
                Change::Put { old: Some(table.key(&old)), row: whole(new)?, table }
            }
            None => Change::Put { old: None, row: whole(rest)?, table },
        },
        "DELETE" => Change::Remove(table.key(&row(table, rest).context("no key")?)),
        _ => anyhow::bail!("unknown"),
    };
    Ok(vec![change])
}

/// The modelled columns of `name[type]:value …`, at least those of the key.
fn row(table: Table, text: &str) -> Option<Vec<i64>> {
    let value = |wanted: &&str| {
        let found = text.split_ascii_whitespace().find_map(|column| {
            let (name, rest) = column.split_once('[')?;
            (name == *wanted).then(|| rest.split_once("]:")).flatten()
        });
        found.and_then(|(_, value)| value.trim_matches('\'').trim_start_matches('n').parse().ok())
    };
    let found: Vec<i64> = table.columns().iter().map_while(value).collect();
    (found.len() >= table.key_columns()).then_some(found)
}

#[test]
fn the_log_is_read() -> Result<()> {
    let lines = [
        (1, "BEGIN 700"),
        (2, "table public.items: INSERT: id[integer]:1 grp[integer]:2 v[bigint]:7"),
        (
            3,
            "table public.items: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:3 grp[integer]:2 v[bigint]:8",
        ),
        (4, "table public.names: DELETE: name[text]:'n4'"),
        (5, "table public.bulk: INSERT: id[integer]:1"),
        (6, "table public.parts, public.parts_2, public.orders: TRUNCATE: cascade"),
        (7, "COMMIT 700"),
        (8, "BEGIN 701"),
        (9, "COMMIT 701"),
    ];
    let put = |old: Option<[i64; 1]>, row: [i64; 3]| {
        let old = old.map(|old| Table::Items.key(&old));
        Change::Put { old, row: row.to_vec(), table: Table::Items }
    };
    let changes = vec![
        put(None, [1, 2, 7]),
        put(Some([1]), [3, 2, 8]),
        Change::Remove(Table::Names.key(&[4])),
        Change::Clear(Table::Parts, Some(2)),
        Change::Clear(Table::Orders, None),
    ];
    assert_eq!(commits(lines.into_iter())?, [Commit { xid: 700, position: 7, changes }]);
    Ok(())
}
