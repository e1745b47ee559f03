//! What may be kept of the functions that a query calls.

use std::collections::HashMap;
use std::sync::LazyLock;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::node::text;

/// Oids that Postgres assigned by hand (pg_language.dat, pg_namespace.dat).
const SQL_LANGUAGE: u32 = 14;
const PG_CATALOG: u32 = 11;

const LIST: &str = include_str!("functions.txt");

/// The list, readable for people as `integratedb.function_judgements()`.
static JUDGEMENTS: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| entries().collect());

fn entries() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut section = "";
    LIST.lines().filter(|line| !line.starts_with('#')).flat_map(move |line| {
        let words = match line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            Some((name, _)) => {
                section = name;
                ""
            }
            None => line,
        };
        words.split_ascii_whitespace().map(move |word| (word, section))
    })
}

/// What is known of a function of pg_catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Its answer follows from what is in an entry's key or told of catalogs.
    Same,
    /// It reads the clock.
    Clock,
    /// It gives another answer each time.
    Random,
    /// It reads something that replication does not see.
    Outside,
    /// It belongs to the session or the transaction, or does something.
    Session,
    /// It may change settings.
    Settings,
}

/// Where a function comes from, and how it is written.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) volatile: u8,
    pub(super) is_sql: bool,
    pub(super) is_plain: bool,
    is_builtin: bool,
}

impl Function {
    /// Reads what the catalog says of a function.
    pub(super) fn read(oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: a tuple of the cache PROCOID is a pg_proc row, valid until it is released.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(
                pg_sys::SysCacheIdentifier::PROCOID as i32,
                pg_sys::Datum::from(oid),
            );
            if tuple.is_null() {
                return None;
            }
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
            let function = Self {
                schema: text(pg_sys::get_namespace_name(row.pronamespace)).unwrap_or_default(),
                name: text(row.proname.data.as_ptr()).unwrap_or_default(),
                volatile: row.provolatile as u8,
                is_sql: row.prolang.to_u32() == SQL_LANGUAGE,
                is_plain: row.prokind as u8 == b'f',
                is_builtin: oid.to_u32() < pg_sys::FirstNormalObjectId
                    && row.pronamespace.to_u32() == PG_CATALOG,
            };
            pg_sys::ReleaseSysCache(tuple);
            Some(function)
        }
    }

    /// How to call it in a sentence.
    pub(super) fn title(&self) -> String {
        match self.schema.as_str() {
            "pg_catalog" => format!("{}()", self.name),
            schema => format!("{schema}.{}()", self.name),
        }
    }

    /// The judgement of a function that Postgres brings; `None` for all others.
    pub(super) fn judgement(&self, oid: pg_sys::Oid) -> Option<Judgement> {
        if !self.is_builtin {
            return None;
        }
        if self.volatile == b'i' {
            return Some(Judgement::Same);
        }
        let section = JUDGEMENTS
            .get(signature(oid, &self.name).as_str())
            .or_else(|| JUDGEMENTS.get(self.name.as_str()));
        Some(match section {
            Some(&"same") => Judgement::Same,
            Some(&"clock") => Judgement::Clock,
            Some(&"random") => Judgement::Random,
            Some(&"outside") => Judgement::Outside,
            Some(&"settings") => Judgement::Settings,
            Some(_) => Judgement::Session,
            None if self.volatile == b's' => Judgement::Outside,
            None => Judgement::Session,
        })
    }
}

/// The name with the types of the arguments, as the list writes it.
fn signature(oid: pg_sys::Oid, name: &str) -> String {
    // SAFETY: get_func_signature allocates an array of `count` oids for a function that exists.
    unsafe {
        let (mut types, mut count) = (std::ptr::null_mut(), 0);
        pg_sys::get_func_signature(oid, &mut types, &mut count);
        let types: Vec<String> = (0..usize::try_from(count).unwrap_or(0))
            .filter_map(|at| text(pg_sys::format_type_be(*types.add(at))))
            .map(|name| name.replace(' ', "_"))
            .collect();
        format!("{name}({})", types.join(","))
    }
}

/// How the functions of pg_catalog that are not IMMUTABLE are judged; those not listed are never kept, or only by a
/// rule where they are STABLE.
#[pg_extern(schema = "integratedb", immutable)]
pub(crate) fn function_judgements()
-> TableIterator<'static, (name!(function, String), name!(judgement, String))> {
    TableIterator::new(entries().map(|(name, section)| (name.to_owned(), section.to_owned())))
}
