//! What the extension says of a statement (`integratedb.describe_query`), and what follows from it for one run with
//! certain values.

use integratedb_cache::{ColumnId, Dependency, Scope, Snapshot, TableId, Value, ValueType, Xid};
use integratedb_template::Outline;
use integratedb_wire::{Bind, Frontend, frame, tag::frontend as tag};
use serde::Deserialize;

/// Values of one column beyond which an answer depends on the whole table: a list is bounded, an index is not.
const MOST_VALUES: usize = 100;

/// A statement as the origin's own analysis sees it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Description {
    snapshot: String,
    pub(crate) kind: String,
    parameters: Vec<u32>,
    /// Those whose text may be read by the clock, counted from 1.
    clock_parameters: Vec<usize>,
    pub(crate) cacheable: bool,
    /// Not by itself, but if a rule gives it a time to live.
    pub(crate) by_rule: bool,
    pub(crate) why: Option<String>,
    /// Settings of applications that the answer depends on.
    pub(crate) settings: Vec<String>,
    pub(crate) tables: Vec<Table>,
    writes: Option<Writes>,
    pub(crate) changes_session: bool,
    /// The SQLSTATE of what the origin says about a text that it can't run. The words are left out: they may quote
    /// a constant of the query.
    pub(crate) error: Option<String>,
}

/// A table that a statement reads or writes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    /// `ok`, or why the log does not carry its changes.
    pub(crate) replication: Option<String>,
    pub(crate) pins: Vec<Pin>,
    /// Why any of its rows may matter.
    pub(crate) whole: Option<String>,
}

/// Only rows with one of these values in this column matter.
#[derive(Debug, Deserialize)]
pub(crate) struct Pin {
    pub(crate) column: i16,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) type_oid: u32,
    from: Vec<From>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum From {
    /// `$n`
    Parameter(usize),
    /// The constant that starts at this byte of the text.
    ConstantAt(usize),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Writes {
    Tables(Vec<Table>),
    /// `everything`
    Everything(Word),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Everything,
}

/// A description, made ready for all texts with the same outline.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) description: Description,
    /// Schema changes that are not visible here may have changed what was described.
    pub(crate) snapshot: Snapshot,
    /// Stands for the text that was described.
    pub(crate) text: u128,
}

/// The values of one run.
pub(crate) struct Values<'a> {
    text: &'a [u8],
    outline: &'a Outline,
    /// Parameters, where there are any.
    bind: Option<Bind<'a>>,
    /// Client and origin have the encoding that the log is read in. Otherwise only ASCII is the same everywhere.
    is_utf8: bool,
}

impl<'a> Values<'a> {
    /// Of a text that stands alone.
    pub(crate) const fn of(text: &'a [u8], outline: &'a Outline) -> Self {
        Self { text, outline, bind: None, is_utf8: false }
    }

    /// Of a statement and a Bind with this body.
    pub(crate) fn bound(text: &'a [u8], outline: &'a Outline, body: &'a [u8]) -> Option<Self> {
        match Frontend::read(frame::Frame { tag: tag::BIND, body }) {
            Ok(Frontend::Bind(bind)) => Some(Self { bind: Some(bind), ..Self::of(text, outline) }),
            _ => None,
        }
    }

    /// The same, of a session where all is in UTF-8, or not.
    pub(crate) fn in_utf8(self, is_utf8: bool) -> Self {
        Self { is_utf8, ..self }
    }
}

impl Plan {
    /// Reads what `describe_query` has given for a text with this outline.
    pub(crate) fn read(json: &[u8], outline: &Outline, text: u128) -> Result<Self, String> {
        let mut description: Description =
            serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let snapshot = match &description.error {
            // Nothing is ever kept of it.
            Some(_) => Snapshot::new(Xid(1), Xid(1), Vec::new()),
            None => description.snapshot.parse(),
        };
        let snapshot = snapshot.map_err(|_| "no snapshot".to_owned())?;
        // Places in one text become positions in all that have its outline.
        let written = match &mut description.writes {
            Some(Writes::Tables(tables)) => tables.as_mut_slice(),
            _ => &mut [],
        };
        for table in description.tables.iter_mut().chain(written) {
            table.pins.retain_mut(|pin| {
                pin.from.iter_mut().all(|from| match from {
                    From::Parameter(_) => true,
                    From::ConstantAt(place) => match outline.position(*place) {
                        Some(position) => {
                            *place = position;
                            true
                        }
                        None => false,
                    },
                })
            });
        }
        Ok(Self { description, snapshot, text })
    }

    /// Why an answer is not kept; `None` if it is.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let description = &self.description;
        if let Some(code) = &description.error {
            return Some(format!("the origin refuses it with SQLSTATE {code}"));
        }
        if description.cacheable {
            return description
                .tables
                .iter()
                .find_map(|table| table.replication.as_deref().filter(|state| *state != "ok"))
                .map(str::to_owned);
        }
        Some(description.why.clone().unwrap_or_else(|| "it is not a query".to_owned()))
    }

    /// What an answer depends on; `None` if a value makes it depend on the clock.
    pub(crate) fn dependencies(&self, values: &Values<'_>) -> Option<Vec<Dependency>> {
        if let Some(bind) = &values.bind {
            let reads_clock = self.description.clock_parameters.iter().any(|number| {
                let at = number.saturating_sub(1);
                let of = self.description.parameters.get(at).copied().unwrap_or_default();
                let value = bind.values.iter().nth(at).flatten();
                !bind.is_binary(at) && value.is_some_and(|value| may_read_clock(of, value))
            });
            if reads_clock {
                return None;
            }
        }
        let mut dependencies = Vec::new();
        for table in &self.description.tables {
            let id = TableId(table.oid);
            // The pin with the fewest values: each is an entry of an index.
            let best = table
                .pins
                .iter()
                .filter_map(|pin| Some((pin, self.values_of(pin, values)?)))
                .filter(|(_, found)| found.len() <= MOST_VALUES)
                .min_by_key(|(_, found)| found.len());
            match best {
                None => dependencies.push(Dependency { table: id, pins: None }),
                Some((pin, found)) => dependencies.extend(found.into_iter().map(|value| {
                    Dependency { table: id, pins: Some((ColumnId(pin.column), value)) }
                })),
            }
        }
        Some(dependencies)
    }

    /// What a run may write.
    pub(crate) fn scopes(&self, values: Option<&Values<'_>>) -> Vec<Scope> {
        let tables = match &self.description.writes {
            None => return Vec::new(),
            Some(Writes::Everything(Word::Everything)) => return vec![Scope::Everything],
            Some(Writes::Tables(tables)) => tables,
        };
        tables
            .iter()
            .map(|table| {
                let id = TableId(table.oid);
                // One value a column: of a list, any row may be meant.
                let columns: Vec<_> = values.map_or_else(Vec::new, |values| {
                    let single = |pin: &Pin| {
                        let found = self.values_of(pin, values)?;
                        let [value] = <[Value; 1]>::try_from(found).ok()?;
                        Some((ColumnId(pin.column), value))
                    };
                    table.pins.iter().filter_map(single).collect()
                });
                match columns.is_empty() {
                    true => Scope::Table(id),
                    false => Scope::Row { table: id, columns },
                }
            })
            .collect()
    }

    /// All pins, each with the table it is of.
    pub(crate) fn all_pins(&self) -> impl Iterator<Item = (u32, &Pin)> {
        let written = match &self.description.writes {
            Some(Writes::Tables(tables)) => tables.as_slice(),
            _ => &[],
        };
        let tables = self.description.tables.iter().chain(written);
        tables.flat_map(|table| table.pins.iter().map(move |pin| (table.oid, pin)))
    }

    /// The tables of this name, given as `schema.name`, that it reads.
    pub(crate) fn tables_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        let wanted = name.split_once('.');
        let tables = self.description.tables.iter();
        tables
            .filter(move |table| wanted == Some((table.schema.as_str(), table.name.as_str())))
            .map(|table| table.oid)
    }

    /// Whether a run may write at all.
    pub(crate) const fn writes(&self) -> bool {
        self.description.writes.is_some()
    }

    /// The values that a pin stands for in this run; `None` if one can't be read for certain. NULL equals nothing.
    fn values_of(&self, pin: &Pin, values: &Values<'_>) -> Option<Vec<Value>> {
        let wanted = ValueType::from_oid(pin.type_oid)?;
        let Values { text, outline, bind, is_utf8 } = values;
        let mut found = Vec::with_capacity(pin.from.len());
        for from in &pin.from {
            match from {
                // Places are told in the origin's encoding.
                From::ConstantAt(_) if !is_utf8 && !text.is_ascii() => return None,
                From::ConstantAt(position) => {
                    let constant = outline.constants.get(*position)?.value(text)?;
                    found.push(Value::from_text(wanted, constant)?);
                }
                From::Parameter(number) => {
                    let bind = bind.as_ref()?;
                    let at = number.checked_sub(1)?;
                    let Some(value) = bind.values.iter().nth(at)? else { continue };
                    // Its own type decides how it is written, the column's how it is compared.
                    let own = ValueType::from_oid(*self.description.parameters.get(at)?)?;
                    let read = match bind.is_binary(at) {
                        true => Value::from_binary(own, value)?,
                        false => Value::from_text(own, value)?,
                    };
                    found.push(compared_as(wanted, read)?);
                }
            }
        }
        let is_foreign =
            |value: &Value| matches!(value, Value::Text(text) if !is_utf8 && !text.is_ascii());
        if found.iter().any(is_foreign) {
            return None;
        }
        let mut distinct: Vec<Value> = Vec::with_capacity(found.len().min(MOST_VALUES + 1));
        for value in found {
            if distinct.len() <= MOST_VALUES && !distinct.contains(&value) {
                distinct.push(value);
            }
        }
        Some(distinct)
    }
}

/// Whether the input of a type may take this text for a moment or a day that depends on when it is read.
fn may_read_clock(type_oid: u32, text: &[u8]) -> bool {
    /// Types from here on are not PostgreSQL's own, and may do anything.
    const FIRST_OF_USERS: u32 = 16_384;
    /// time with time zone: which offset a zone's name stands for depends on the day.
    const TIMETZ: u32 = 1266;
    let has_letters = text.iter().any(u8::is_ascii_alphabetic);
    type_oid >= FIRST_OF_USERS
        || type_oid == TIMETZ && has_letters
        || has_letters && integratedb_template::may_read_clock(text)
}

/// A value as it is compared with a column of this type; `None` if the two are of different kinds.
fn compared_as(column: ValueType, value: Value) -> Option<Value> {
    let is_number =
        matches!(column, ValueType::Int2 | ValueType::Int4 | ValueType::Int8 | ValueType::Oid);
    let fits = match &value {
        Value::Int(_) => is_number,
        Value::Bool(_) => column == ValueType::Bool,
        Value::Uuid(_) => column == ValueType::Uuid,
        Value::Text(_) => column == ValueType::Text,
    };
    fits.then_some(value)
}
