//! The queries, each as a text and as a function of the tables.

use std::fmt;

use crate::model::{Row, State, Table};

/// Settings of the schema, by their ids in `switches`.
pub(crate) mod switch {
    /// The group that the view `chosen` shows.
    pub(crate) const VIEW: i64 = 1;
    /// 1 while the third partition of `parts` is attached.
    pub(crate) const PARTITION: i64 = 2;
    /// The value of the further column of `wide`; 0 if there is none.
    pub(crate) const COLUMN: i64 = 3;
    /// 1 while `app` may read `secrets`.
    pub(crate) const GRANT: i64 = 4;
    /// What changes nothing that can be seen: indexes, keys.
    pub(crate) const OTHER: i64 = 5;
}

/// The region whose partition comes and goes.
pub(crate) const LOOSE_REGION: i64 = 3;

/// A query with its values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Query {
    Item(i64),
    ItemsIn([i64; 3]),
    Join(i64),
    Totals(Table),
    /// A total that takes a while, after its snapshot is taken.
    Slow,
    Audit(i64),
    Owner(i64),
    /// Of a view.
    Chosen,
    Part(i64, i64),
    Region(i64),
    Wide(i64),
    Secret(i64),
    Name(i64),
}

/// What a query was answered, or would be at a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Rows, in order of their values.
    Rows(Vec<Row>),
    /// The role may not read this.
    Denied,
}

impl Answer {
    pub(crate) fn rows(mut rows: Vec<Row>) -> Self {
        rows.sort_unstable();
        Self::Rows(rows)
    }
}

impl Query {
    /// Its text, with `$1`, `$2`, … for the values.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Item(_) => "SELECT id, grp, v FROM items WHERE id = $1".to_owned(),
            Self::ItemsIn(_) => "SELECT id, v FROM items WHERE id IN ($1, $2, $3)".to_owned(),
            Self::Join(_) => {
                "SELECT i.id, i.v, o.id, o.v FROM items i JOIN orders o ON o.item = i.id \
                              WHERE i.id = $1"
                    .to_owned()
            }
            Self::Totals(table) => format!(
                "SELECT count(*), coalesce(sum(v), 0), coalesce(max(v), 0) FROM {}",
                table.name()
            ),
            Self::Slow => "SELECT count(*), coalesce(sum(v), 0), \
                           (SELECT count(*) FROM generate_series(1, 40000)) FROM items"
                .to_owned(),
            Self::Audit(_) => "SELECT v FROM audit WHERE item = $1".to_owned(),
            Self::Owner(_) => "SELECT id, v FROM owned WHERE owner = $1 ORDER BY id".to_owned(),
            Self::Chosen => "SELECT id, v FROM chosen".to_owned(),
            Self::Part(..) => "SELECT v FROM parts WHERE id = $1 AND region = $2".to_owned(),
            Self::Region(_) => "SELECT id, v FROM parts WHERE region = $1".to_owned(),
            Self::Wide(_) => "SELECT * FROM wide WHERE id = $1".to_owned(),
            Self::Secret(_) => "SELECT v FROM secrets WHERE id = $1".to_owned(),
            Self::Name(_) => "SELECT v FROM names WHERE name = $1".to_owned(),
        }
    }

    /// The values, as text.
    pub(crate) fn values(&self) -> Vec<String> {
        match self {
            Self::Item(id)
            | Self::Join(id)
            | Self::Audit(id)
            | Self::Owner(id)
            | Self::Region(id)
            | Self::Wide(id)
            | Self::Secret(id) => vec![id.to_string()],
            Self::ItemsIn(ids) => ids.iter().map(i64::to_string).collect(),
            Self::Part(id, region) => vec![id.to_string(), region.to_string()],
            Self::Name(id) => vec![format!("n{id}")],
            Self::Totals(_) | Self::Slow | Self::Chosen => Vec::new(),
        }
    }

    /// Whether its answer may depend on this row.
    pub(crate) fn reads(&self, table: Table, row: &[i64]) -> bool {
        if table == Table::Switches {
            return self.switch() == Some(row[0]);
        }
        match self {
            Self::Item(id) => table == Table::Items && row[0] == *id,
            Self::ItemsIn(ids) => table == Table::Items && ids.contains(&row[0]),
            Self::Join(id) => {
                table == Table::Items && row[0] == *id || table == Table::Orders && row[1] == *id
            }
            Self::Totals(of) => table == *of,
            Self::Slow => table == Table::Items,
            Self::Audit(id) => table == Table::Audit && row[0] == *id,
            Self::Owner(id) => table == Table::Owned && row[1] == *id,
            // Any group may be the one that is shown.
            Self::Chosen => table == Table::Items,
            Self::Part(id, region) => table == Table::Parts && row[..2] == [*id, *region],
            Self::Region(region) => table == Table::Parts && row[1] == *region,
            Self::Wide(id) => table == Table::Wide && row[0] == *id,
            Self::Secret(id) => table == Table::Secrets && row[0] == *id,
            Self::Name(id) => table == Table::Names && row[0] == *id,
        }
    }

    /// The setting of the schema that its answer depends on.
    pub(crate) const fn switch(&self) -> Option<i64> {
        match self {
            Self::Chosen => Some(switch::VIEW),
            Self::Part(..) | Self::Region(_) | Self::Totals(Table::Parts) => {
                Some(switch::PARTITION)
            }
            Self::Wide(_) => Some(switch::COLUMN),
            Self::Secret(_) => Some(switch::GRANT),
            _ => None,
        }
    }

    /// Whether its answer is decided by its snapshot alone, though this be an old one.
    pub(crate) const fn is_of_snapshot(&self) -> bool {
        self.switch().is_none() && !matches!(self, Self::Owner(_) | Self::Totals(Table::Owned))
    }

    /// What it is answered when the tables are as this.
    pub(crate) fn answer(&self, state: &State) -> Answer {
        let of = |table: Table| state.rows(table).filter(move |row| self.reads(table, row));
        let plain = |table: Table, from: usize| {
            Answer::rows(of(table).map(|row| row[from..].to_vec()).collect())
        };
        let is_attached = state.switch(switch::PARTITION) == 1;
        let hidden = |row: &Row| row[1] == LOOSE_REGION && !is_attached;
        let without_middle = |row: &Row| vec![row[0], row[2]];
        match self {
            Self::Item(_) => plain(Table::Items, 0),
            Self::ItemsIn(_) => Answer::rows(of(Table::Items).map(without_middle).collect()),
            Self::Join(_) => {
                let orders: Vec<_> = of(Table::Orders).collect();
                let pairs = of(Table::Items).flat_map(|item| {
                    orders.iter().map(|order| vec![item[0], item[2], order[0], order[2]])
                });
                Answer::rows(pairs.collect())
            }
            Self::Totals(Table::Parts) => {
                Answer::Rows(vec![totals(of(Table::Parts).filter(|row| !hidden(row)))])
            }
            Self::Totals(table) => Answer::Rows(vec![totals(of(*table))]),
            Self::Slow => {
                let mut row = totals(of(Table::Items));
                row[2] = 40_000;
                Answer::Rows(vec![row])
            }
            Self::Audit(_) => plain(Table::Audit, 1),
            Self::Owner(_) => Answer::rows(of(Table::Owned).map(without_middle).collect()),
            Self::Chosen => {
                let group = state.switch(switch::VIEW);
                let rows = of(Table::Items).filter(|row| row[1] == group);
                Answer::rows(rows.map(without_middle).collect())
            }
            Self::Part(..) => {
                let rows = of(Table::Parts).filter(|row| !hidden(row));
                Answer::rows(rows.map(|row| row[2..].to_vec()).collect())
            }
            Self::Region(_) => {
                let rows = of(Table::Parts).filter(|row| !hidden(row));
                Answer::rows(rows.map(without_middle).collect())
            }
            Self::Wide(_) => {
                let further = Some(state.switch(switch::COLUMN)).filter(|value| *value != 0);
                let rows = of(Table::Wide);
                Answer::rows(rows.map(|row| row.iter().copied().chain(further).collect()).collect())
            }
            Self::Secret(_) if state.switch(switch::GRANT) == 0 => Answer::Denied,
            Self::Secret(_) => plain(Table::Secrets, 1),
            Self::Name(_) => plain(Table::Names, 1),
        }
    }
}

/// Count, sum and maximum of versions.
fn totals<'a>(rows: impl Iterator<Item = &'a Row>) -> Row {
    rows.fold(vec![0, 0, 0], |sums, row| {
        let version = crate::model::version(row);
        vec![sums[0] + 1, sums[1] + version, sums[2].max(version)]
    })
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {:?}", self.text(), self.values())
    }
}
