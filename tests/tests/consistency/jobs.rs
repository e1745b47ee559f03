//! Transactions of all kinds, made at random.

use crate::client::Statement;
use crate::model::Table;
use crate::query::{LOOSE_REGION, Query};
use crate::random::Random;

/// Rows that are written and read: few, so that they meet.
pub(crate) const IDS: i64 = 12;

/// What a statement's answer says of what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The tag counts the rows that got the version.
    Rows,
    /// It returns the rows of this table that it has deleted.
    Deletes(Table),
    /// It returns how many rows got the version.
    Returns,
    /// Nothing.
    Unknown,
    /// It is a query that must see the version, if the statement before it has changed a row.
    Sees,
    /// It undoes all from the savepoint on.
    RollsBack,
}

/// A statement of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) statement: Statement,
    pub(crate) effect: Effect,
    /// The version that it gives.
    pub(crate) version: i64,
}

/// How a transaction begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is one statement.
    Alone,
    Commit,
    Rollback,
    /// By PREPARE TRANSACTION and COMMIT PREPARED.
    Prepared,
}

/// A transaction.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
}

/// Makes transactions.
pub(crate) struct Jobs<'a> {
    pub(crate) random: &'a mut Random,
    /// Gives versions that no row has had.
    pub(crate) version: &'a dyn Fn() -> i64,
}

/// A simple change, `$1` the version and `$2` the row.
const PLAIN: [&str; 7] = [
    "UPDATE items SET v = $1 WHERE id = $2",
    "UPDATE orders SET v = $1 WHERE id = $2",
    "UPDATE owned SET v = $1 WHERE owner = $2",
    "UPDATE parts SET v = $1 WHERE id = $2",
    "UPDATE wide SET v = $1 WHERE id = $2",
    "UPDATE secrets SET v = $1 WHERE id = $2",
    "UPDATE names SET v = $1 WHERE name = 'n' || $2::int",
];

impl Jobs<'_> {
    /// A row; some are written more often.
    fn id(&mut self) -> i64 {
        let most = if self.random.percent(60) { 4 } else { IDS };
        self.random.upto(most)
    }

    fn step(&mut self, text: &str, values: &[i64], effect: Effect, version: i64) -> Step {
        Step { statement: Statement::new(text, values), effect, version }
    }

    fn rows(&mut self, text: &str, rest: &[i64]) -> Step {
        let version = (self.version)();
        let values: Vec<i64> = std::iter::once(version).chain(rest.iter().copied()).collect();
        self.step(text, &values, Effect::Rows, version)
    }

    fn plain(&mut self) -> Step {
        let text = *self.random.one_of(&PLAIN);
        let id = self.id();
        self.rows(text, &[id])
    }

    /// A transaction of one simple change.
    pub(crate) fn change(&mut self) -> Job {
        alone(self.plain())
    }

    /// Any transaction.
    pub(crate) fn any(&mut self) -> Job {
        let weights = [30, 10, 3, 3, 10, 10, 4, 4, 2, 4, 8, 4, 4, 4, 3, 6, 1];
        match self.random.weighted(&weights) {
            0 => alone(self.plain()),
            1 => {
                let (id, group) = (self.id(), self.random.upto(3) - 1);
                let text = "INSERT INTO items (v, id, grp) VALUES ($1, $2, $3) \
                            ON CONFLICT (id) DO UPDATE SET grp = excluded.grp, v = excluded.v";
                alone(self.rows(text, &[id, group]))
            }
            2 => {
                let id = self.id();
                alone(self.deletes(Table::Items, "id", id))
            }
            3 => {
                let (from, to) = (self.id(), self.id());
                alone(self.rows("UPDATE items SET id = $2, v = $1 WHERE id = $3", &[to, from]))
            }
            4 => alone(self.order()),
            5 => self.several(End::Commit),
            6 => self.several(End::Rollback),
            7 => self.savepoint(),
            8 => self.truncate(),
            9 => self.several(End::Prepared),
            10 => alone(self.part()),
            11 => self.two_in_one(),
            12 => self.written_in_a_query(),
            13 => self.by_function(),
            14 => {
                let (id, version) = (self.id(), (self.version)());
                let text =
                    format!("DO $$ BEGIN UPDATE items SET v = {version} WHERE id = {id}; END $$");
                alone(self.step(&text, &[], Effect::Unknown, version))
            }
            15 => alone(self.owned()),
            _ => alone(self.rows("UPDATE items SET v = $1", &[])),
        }
    }

    /// All rows with this value in this column.
    fn deletes(&mut self, table: Table, column: &str, value: i64) -> Step {
        let (name, columns) = (table.name(), table.columns().join(", "));
        let text = format!("DELETE FROM {name} WHERE {column} = $1 RETURNING {columns}");
        self.step(&text, &[value], Effect::Deletes(table), 0)
    }

    fn order(&mut self) -> Step {
        let (id, item) = (self.random.upto(2 * IDS), self.id());
        match self.random.below(4) {
            0 => self.deletes(Table::Orders, "id", id),
            1 => self.rows("UPDATE orders SET item = $2, v = $1 WHERE id = $3", &[item, id]),
            _ => {
                let text = "INSERT INTO orders (v, id, item) VALUES ($1, $2, $3) \
                            ON CONFLICT (id) DO UPDATE SET v = excluded.v";
                self.rows(text, &[id, item])
            }
        }
    }

    fn owned(&mut self) -> Step {
        let (id, owner) = (self.id(), self.random.upto(6));
        match self.random.below(3) {
            0 => self.rows("UPDATE owned SET owner = $2, v = $1 WHERE id = $3", &[owner, id]),
            // Its ids are not unique by an index, so a row is there once by this.
            1 => self.rows(
                "INSERT INTO owned (v, id, owner) SELECT $1::int8, 1000 + $1::int8, $2::int \
                 WHERE (SELECT count(*) FROM owned) < 30",
                &[owner],
            ),
            _ => self.deletes(Table::Owned, "owner", owner),
        }
    }

    fn part(&mut self) -> Step {
        let (id, region) = (self.id(), self.random.upto(3));
        match self.random.below(5) {
            0 => self.rows("UPDATE parts SET region = $2, v = $1 WHERE id = $3", &[region, id]),
            1 => self.deletes(Table::Parts, "id", id),
            2 => {
                let text = format!("UPDATE parts_{LOOSE_REGION} SET v = $1 WHERE id = $2");
                self.rows(&text, &[id])
            }
            _ => self.rows(
                "INSERT INTO parts (v, id, region) VALUES ($1, $2, $3) \
                 ON CONFLICT (id, region) DO UPDATE SET v = excluded.v",
                &[id, region],
            ),
        }
    }

    /// A few changes with one version, with a look at the first before the end.
    fn several(&mut self, end: End) -> Job {
        let (id, version) = (self.id(), (self.version)());
        let mut steps = vec![self.step(PLAIN[0], &[version, id], Effect::Rows, version)];
        if self.random.percent(50) {
            let statement = Statement::from(&Query::Item(id));
            steps.push(Step { statement, effect: Effect::Sees, version });
        }
        for _ in 0..self.random.upto(3) {
            let text = *self.random.one_of(&PLAIN[1..]);
            let id = self.id();
            steps.push(self.step(text, &[version, id], Effect::Rows, version));
        }
        Job { steps, end }
    }

    fn savepoint(&mut self) -> Job {
        let mut steps = vec![self.plain()];
        steps.push(self.step("SAVEPOINT s", &[], Effect::Unknown, 0));
        steps.push(self.plain());
        steps.push(self.step("ROLLBACK TO SAVEPOINT s", &[], Effect::RollsBack, 0));
        steps.push(self.plain());
        Job { steps, end: End::Commit }
    }

    fn truncate(&mut self) -> Job {
        let table = *self.random.one_of(&["owned (v, id, owner)", "parts (v, id, region)"]);
        let name = table.split(' ').next().unwrap_or(table);
        let mut steps = vec![self.step(&format!("TRUNCATE {name}"), &[], Effect::Unknown, 0)];
        for id in 1..=IDS {
            let text = format!("INSERT INTO {table} VALUES ($1, $2, $3)");
            // The third partition may be away.
            steps.push(self.rows(&text, &[id, id % 2 + 1]));
        }
        Job { steps, end: End::Commit }
    }

    fn two_in_one(&mut self) -> Job {
        let (one, other, version) = (self.id(), self.id(), (self.version)());
        let text = format!(
            "UPDATE items SET v = {version} WHERE id = {one}; UPDATE wide SET v = {version} WHERE id = {other}"
        );
        alone(self.step(&text, &[], Effect::Unknown, version))
    }

    fn written_in_a_query(&mut self) -> Job {
        let (one, other, version) = (self.id(), self.id(), (self.version)());
        let text = "WITH done AS (UPDATE items SET v = $1 WHERE id = $2 RETURNING v) \
                    UPDATE owned SET v = $1 WHERE owner = $3 AND EXISTS (SELECT FROM done)";
        alone(self.step(text, &[version, one, other], Effect::Unknown, version))
    }

    fn by_function(&mut self) -> Job {
        let (id, version) = (self.id(), (self.version)());
        alone(self.step("SELECT touch($1, $2)", &[id, version], Effect::Returns, version))
    }
}

fn alone(step: Step) -> Job {
    Job { steps: vec![step], end: End::Alone }
}
