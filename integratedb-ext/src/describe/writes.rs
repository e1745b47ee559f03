//! What a statement may write beyond the relation that it names.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;

use super::findings::{Findings, Target};
use super::pins::Pins;
use super::relations::{Pin, Relation, told, translate};
use super::walk::{ON_DELETE, ON_UPDATE};

/// Oids of Postgres's own trigger functions (pg_proc.dat).
const UNIQUE_KEY_RECHECK: u32 = 1250;
const CASCADE_DELETE: u32 = 1646;
const CASCADE_UPDATE: u32 = 1647;
const SET_NULL_DELETE: u32 = 1650;
const SET_NULL_UPDATE: u32 = 1651;
const SET_DEFAULT_DELETE: u32 = 1652;
const SET_DEFAULT_UPDATE: u32 = 1653;

/// The relations that are written, with the pins of the rows; `None` where that can't be told.
pub(super) fn of(findings: &Findings) -> Option<BTreeMap<u32, Vec<Pin>>> {
    if findings.writes_everything {
        return None;
    }
    let mut writes = Writes::default();
    for target in &findings.targets {
        writes.target(target)?;
    }
    Some(writes.pins)
}

#[derive(Default)]
struct Writes {
    pins: BTreeMap<u32, Vec<Pin>>,
    /// What was looked at already, with which events.
    seen: BTreeSet<(u32, i16)>,
}

impl Writes {
    fn target(&mut self, target: &Target) -> Option<()> {
        let relation = Relation::open(target.oid);
        let mut events = target.events;
        if relation.kind() == b'p' && events & ON_UPDATE != 0 {
            // A row may move to another partition.
            events |= super::walk::ON_INSERT | ON_DELETE;
        }
        let below = if target.inherits { relation.descendants() } else { Vec::new() };
        for oid in std::iter::once(target.oid).chain(below) {
            let relation = Relation::open(oid);
            let identity = relation.identity();
            let moved = |numbers: &BTreeSet<i16>| -> BTreeSet<i16> {
                numbers.iter().filter_map(|n| translate(target.oid, oid, *n)).collect()
            };
            let assigned = moved(&target.assigned);
            let pins: Pins = if assigned.is_disjoint(&identity) {
                target
                    .pins
                    .iter()
                    .filter_map(|(n, from)| Some((translate(target.oid, oid, *n)?, from.clone())))
                    .collect()
            } else {
                Pins::new()
            };
            self.add(oid, told(oid, &pins, &identity));
            self.consequences(oid, &relation, events, Some(&assigned))?;
        }
        Some(())
    }

    /// A relation that is written twice is pinned only if it is so in the same way.
    fn add(&mut self, oid: pg_sys::Oid, pins: Vec<Pin>) {
        let known = self.pins.entry(oid.to_u32());
        let mut is_new = false;
        let stored = known.or_insert_with(|| {
            is_new = true;
            Vec::new()
        });
        if is_new {
            *stored = pins;
        } else if *stored != pins {
            stored.clear();
        }
    }

    /// What triggers and foreign keys do when rows of a relation change; `None` when that can't be told.
    fn consequences(
        &mut self,
        oid: pg_sys::Oid,
        relation: &Relation,
        events: i16,
        assigned: Option<&BTreeSet<i16>>,
    ) -> Option<()> {
        if !matches!(relation.kind(), b'r' | b'p') {
            return None;
        }
        if !self.seen.insert((oid.to_u32(), events)) {
            return Some(());
        }
        let changes_keys = assigned.is_none_or(|columns| relation.has_key_among(columns));
        for trigger in relation.triggers() {
            if trigger.tgenabled as u8 == b'D' || trigger.tgtype & events == 0 {
                continue;
            }
            // SAFETY: any oid may be asked for.
            let of_foreign_key = unsafe { pg_sys::RI_FKey_trigger_type(trigger.tgfoid) } != 0;
            let function = trigger.tgfoid.to_u32();
            if !of_foreign_key && function != UNIQUE_KEY_RECHECK {
                return None;
            }
            let event = match function {
                CASCADE_DELETE => ON_DELETE,
                SET_NULL_DELETE | SET_DEFAULT_DELETE => ON_UPDATE,
                CASCADE_UPDATE | SET_NULL_UPDATE | SET_DEFAULT_UPDATE if changes_keys => ON_UPDATE,
                _ => continue,
            };
            self.cascade(trigger.tgconstrrelid, event)?;
        }
        Some(())
    }

    fn cascade(&mut self, oid: pg_sys::Oid, event: i16) -> Option<()> {
        let top = Relation::open(oid);
        for oid in std::iter::once(oid).chain(top.descendants()) {
            let relation = Relation::open(oid);
            self.add(oid, Vec::new());
            self.consequences(oid, &relation, event, None)?;
        }
        Some(())
    }
}
