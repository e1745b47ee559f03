//! Which types there are, and what they are made of.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::array::Array;
use super::record::Record;
use super::value::Kind;
use super::{JsonType, TypesError, builtin};

/// How many types may be inside one another. A text of that many would have twice as many quotes at each.
const MAX_DEPTH: usize = 64;

/// Types by OID. Those that every server has are known; others are learned.
#[derive(Debug)]
pub struct Types {
    builtin: HashMap<u32, JsonType>,
    learned: HashMap<u32, JsonType>,
}

/// What the catalog says a type is.
enum Said {
    Plain(Kind),
    /// A domain, which is written as what it is over.
    Domain(u32),
    Array {
        of: u32,
        delimiter: u8,
    },
    /// Names and types of attributes.
    Record(Vec<(String, u32)>),
}

impl Types {
    /// Those that every server has.
    pub fn new() -> Self {
        Self { builtin: builtin::types(), learned: HashMap::new() }
    }

    /// The query whose rows `learn` takes: what the catalog says of these types and of all that they are made of. Every
    /// column is text. OIDs that are no types are left out.
    pub fn query(oids: &[u32]) -> String {
        let oids: Vec<_> = oids.iter().map(u32::to_string).collect();
        include_str!("types.sql").replace("$oids", &oids.join(","))
    }

    /// Takes the rows of `query`. Nothing is learned if one of them is wrong.
    pub fn learn(&mut self, rows: &[Vec<Option<String>>]) -> Result<(), TypesError> {
        let mut said: HashMap<u32, Said> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            add(&mut said, row).ok_or(TypesError::Row(at))?;
        }
        let mut found = HashMap::new();
        for oid in said.keys() {
            self.find(*oid, &said, &mut found, 0)?;
        }
        self.learned.extend(found);
        Ok(())
    }

    /// Which of these are not known, each once.
    pub fn missing(&self, oids: impl Iterator<Item = u32>) -> Vec<u32> {
        let is_missing =
            |oid: &u32| !self.builtin.contains_key(oid) && !self.learned.contains_key(oid);
        let mut missing: Vec<_> = oids.filter(is_missing).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Forgets what was learned, since it may have changed.
    pub fn forget(&mut self) {
        self.learned.clear();
    }

    /// How a type's values are written; None if it is neither built in nor learned. One that was dropped since can't be
    /// learned any more: [`JsonType::TEXT`] is left for its values.
    pub fn get(&self, oid: u32) -> Option<JsonType> {
        self.builtin.get(&oid).or_else(|| self.learned.get(&oid)).cloned()
    }

    /// Puts a type together from what was said, and keeps it in `found`. `depth` is how many others wait for it.
    fn find(
        &self,
        oid: u32,
        said: &HashMap<u32, Said>,
        found: &mut HashMap<u32, JsonType>,
        depth: usize,
    ) -> Result<JsonType, TypesError> {
        if let Some(known) = self.builtin.get(&oid).or_else(|| found.get(&oid)) {
            return Ok(known.clone());
        }
        if depth > MAX_DEPTH {
            return Err(TypesError::Depth(oid));
        }
        let json = match said.get(&oid) {
            None => self.learned.get(&oid).cloned().ok_or(TypesError::Unknown(oid))?,
            Some(Said::Plain(kind)) => kind.clone().into(),
            Some(Said::Domain(base)) => self.find(*base, said, found, depth + 1)?,
            Some(Said::Array { of, delimiter }) => {
                let element = self.find(*of, said, found, depth + 1)?;
                Kind::Array(Arc::new(Array::new(element, *delimiter))).into()
            }
            Some(Said::Record(attributes)) => {
                let mut typed = Vec::with_capacity(attributes.len());
                for (name, of) in attributes {
                    typed.push((name.clone(), self.find(*of, said, found, depth + 1)?));
                }
                Kind::Record(Arc::new(Record::new(typed))).into()
            }
        };
        if json.depth() > MAX_DEPTH {
            return Err(TypesError::Depth(oid));
        }
        found.insert(oid, json.clone());
        Ok(json)
    }
}

impl Default for Types {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds what a row says: a type's OID, its kind, the type that it is over or has elements of, and how those are parted. An
/// attribute has a row of its own: the OID of its composite type, its type and its name. None if the row can't be read.
fn add(said: &mut HashMap<u32, Said>, row: &[Option<String>]) -> Option<()> {
    let [Some(oid), Some(kind), of, label] = row else { return None };
    let oid = oid.parse().ok()?;
    let of = of.as_ref().map(|of| of.parse().ok());
    let type_said = match kind.as_str() {
        "text" => Said::Plain(Kind::Text),
        "cast" => Said::Plain(Kind::Opaque),
        "hstore" => Said::Plain(Kind::Hstore),
        "domain" => Said::Domain(of??),
        "array" => {
            let [delimiter] = label.as_ref()?.as_bytes() else { return None };
            Said::Array { of: of??, delimiter: *delimiter }
        }
        "composite" => Said::Record(Vec::new()),
        "attribute" => {
            let Some(Said::Record(attributes)) = said.get_mut(&oid) else { return None };
            attributes.push((label.clone()?, of??));
            return Some(());
        }
        _ => return None,
    };
    match said.entry(oid) {
        Entry::Occupied(_) => None,
        Entry::Vacant(entry) => {
            entry.insert(type_said);
            Some(())
        }
    }
}
