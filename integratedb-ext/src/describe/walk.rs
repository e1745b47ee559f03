//! Walks through a rewritten query and notes what it reads, calls and writes.

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_void;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::body;
use super::findings::{Findings, Read, Target};
use super::judge::{Function, Judgement};
use super::literals::may_say_now;
use super::node::{cast, entry, items, oids};
use super::pins::{Kind, Level, Pins, Source};
use super::relations::Relation;
use super::targets::{arbiters, inserted, numbers};
use super::types::{Conversion, Way, conversion};

/// Bits of pg_trigger.tgtype (catalog/pg_trigger.h).
pub(super) const ON_INSERT: i16 = 1 << 2;
pub(super) const ON_DELETE: i16 = 1 << 3;
pub(super) const ON_UPDATE: i16 = 1 << 4;

/// The text that a query came from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// For the locations of its constants.
    pub(super) text: &'a [u8],
    /// Whether it is the text that was asked about, and not the body of a function.
    pub(super) is_own: bool,
    /// How many functions lie between.
    pub(super) depth: usize,
}

/// A walk through one query.
struct Walk<'a> {
    origin: Origin<'a>,
    findings: &'a mut Findings,
    /// What a level holds of the output of the level below it.
    above: HashMap<*mut pg_sys::Query, Pins>,
    /// Calls, to be judged when the walk is over: a body is another walk.
    calls: Vec<(pg_sys::Oid, *mut pg_sys::Node)>,
    /// The node whose functions are being told.
    node: *mut pg_sys::Node,
}

/// Notes what a query does.
///
/// # Safety
/// `query` is an analysed and rewritten query.
pub(super) unsafe fn query(query: *mut pg_sys::Query, origin: Origin<'_>, findings: &mut Findings) {
    let mut walk = Walk {
        origin,
        findings,
        above: HashMap::new(),
        calls: Vec::new(),
        node: std::ptr::null_mut(),
    };
    // SAFETY: as the caller promises; the context is the walk for as long as the call lasts.
    unsafe { visit(query.cast(), (&raw mut walk).cast()) };
    let calls = std::mem::take(&mut walk.calls);
    for (function, node) in calls {
        // SAFETY: the nodes are of the query.
        unsafe { walk.judge(function, node) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    use pg_sys::NodeTag::*;
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is a walk, and the tags say what the nodes are.
    unsafe {
        let walk = &mut *context.cast::<Walk<'_>>();
        match (*node).type_ {
            T_Query => {
                walk.level(node.cast());
                return pg_sys::query_tree_walker(
                    node.cast(),
                    Some(visit),
                    context,
                    pg_sys::QTW_EXAMINE_RTES_BEFORE as i32,
                );
            }
            // Its parts are walked by query_tree_walker.
            T_RangeTblEntry => return false,
            T_Const => walk.constant(&*node.cast()),
            T_CoerceViaIO => {
                let coercion = &*node.cast::<pg_sys::CoerceViaIO>();
                walk.converts(pg_sys::exprType(coercion.arg.cast()), Way::Out);
                walk.converts(coercion.resulttype, Way::In);
            }
            // JSON_VALUE and its kin read their result from text.
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            T_JsonExpr => {
                let returning = (*node.cast::<pg_sys::JsonExpr>()).returning;
                walk.converts((*returning).typid, Way::In);
            }
            T_SQLValueFunction => {
                let operation = (*node.cast::<pg_sys::SQLValueFunction>()).op;
                if operation <= pg_sys::SQLValueFunctionOp::SVFOP_LOCALTIMESTAMP_N {
                    walk.findings.refuse(true, "reads the clock: CURRENT_TIMESTAMP or its kin");
                }
            }
            T_NextValueExpr => walk.findings.refuse(false, "uses a sequence"),
            T_CurrentOfExpr => walk.findings.refuse(false, "reads a cursor"),
            _ => {
                walk.node = node;
                pg_sys::check_functions_in_node(node, Some(called), context);
            }
        }
        pg_sys::expression_tree_walker(node, Some(visit), context)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn called(function: pg_sys::Oid, context: *mut c_void) -> bool {
    // SAFETY: the context is a walk.
    let walk = unsafe { &mut *context.cast::<Walk<'_>>() };
    walk.calls.push((function, walk.node));
    false
}

impl<'a> Walk<'a> {
    fn source(&self) -> Source<'a> {
        self.origin.is_own.then_some(self.origin.text)
    }

    unsafe fn level(&mut self, query: *mut pg_sys::Query) {
        use pg_sys::RTEKind::{RTE_RELATION, RTE_SUBQUERY, RTE_TABLEFUNC};
        let above = self.above.remove(&query).unwrap_or_default();
        // SAFETY: the query is one, and Postgres made its lists.
        unsafe {
            if (*query).hasForUpdate {
                self.findings.refuse(false, "locks rows: FOR UPDATE or its kin");
            }
            let level = Level::new(query, self.source(), &above);
            let mut pins = level.pins();
            let entries = items::<pg_sys::RangeTblEntry>((*query).rtable);
            for (relation, index) in entries.zip(1..) {
                let pins = pins.entry(index).or_default();
                match (*relation).rtekind {
                    RTE_SUBQUERY => {
                        self.above.insert((*relation).subquery, pins.clone());
                    }
                    RTE_RELATION => {
                        if !(*relation).tablesample.is_null() {
                            self.findings.refuse(true, "takes a sample: TABLESAMPLE");
                        }
                        let is_only_target = index == (*query).resultRelation
                            && (*query).commandType == pg_sys::CmdType::CMD_INSERT;
                        if !is_only_target {
                            self.reads(&*relation, pins.clone());
                        }
                    }
                    // XMLTABLE and JSON_TABLE read the columns from text.
                    RTE_TABLEFUNC => {
                        for column in oids((*(*relation).tablefunc).coltypes) {
                            self.converts(column, Way::In);
                        }
                    }
                    _ => {}
                }
            }
            if (*query).resultRelation > 0
                && let Some(relation) = entry(query, (*query).resultRelation)
            {
                let pins = pins.remove(&(*query).resultRelation).unwrap_or_default();
                self.target(&*query, &level, &*relation, pins);
            }
        }
    }

    fn reads(&mut self, relation: &pg_sys::RangeTblEntry, pins: Pins) {
        match relation.relkind as u8 {
            // What a view reads stands beside it; EXCLUDED is a composite type.
            b'v' | b'c' => return,
            b'S' => return self.findings.refuse(false, "reads a sequence"),
            b'f' => self.findings.refuse(true, "reads a foreign table"),
            _ if relation.relid.to_u32() < pg_sys::FirstNormalObjectId => {
                let name = Relation::open(relation.relid).name();
                return self.findings.refuse(true, format!("reads a system catalog: {name}"));
            }
            _ => {}
        }
        // SAFETY: the relation exists: it was analysed in this transaction.
        match unsafe { pg_sys::get_rel_persistence(relation.relid) } as u8 {
            b't' => return self.findings.refuse(false, "reads a temporary table"),
            b'u' => self.findings.refuse(true, "reads an unlogged table"),
            _ => {}
        }
        let whole = (!self.origin.is_own).then_some("it is read in a function");
        let inherits = relation.inh;
        self.findings.reads.push(Read { oid: relation.relid, inherits, pins, whole });
    }

    /// Notes what INSERT, UPDATE, DELETE or MERGE writes.
    unsafe fn target(
        &mut self,
        query: &pg_sys::Query,
        level: &Level<'_>,
        relation: &pg_sys::RangeTblEntry,
        mut pins: Pins,
    ) {
        use pg_sys::CmdType::{CMD_DELETE, CMD_INSERT, CMD_UPDATE};
        self.findings.refuse(false, "writes");
        if !matches!(relation.relkind as u8, b'r' | b'p') {
            // A view with a trigger of its own, or a foreign table: who knows where it writes.
            self.findings.writes_everything = true;
            return;
        }
        let mut assigned = BTreeSet::new();
        // SAFETY: the target list and the clauses of ON CONFLICT are as Postgres makes them.
        let events = unsafe {
            match query.commandType {
                CMD_UPDATE => {
                    assigned = numbers(query.targetList);
                    ON_UPDATE
                }
                CMD_DELETE => ON_DELETE,
                CMD_INSERT => {
                    pins = inserted(query, level, relation.relid);
                    let conflict = query.onConflict;
                    if !conflict.is_null()
                        && (*conflict).action == pg_sys::OnConflictAction::ONCONFLICT_UPDATE
                    {
                        // The row that is updated has only these in common with the one that was to be inserted.
                        let arbiters = arbiters(&*conflict);
                        pins.retain(|number, _| arbiters.contains(number));
                        assigned = numbers((*conflict).onConflictSet);
                        ON_INSERT | ON_UPDATE
                    } else {
                        ON_INSERT
                    }
                }
                _ => {
                    pins.clear();
                    ON_INSERT | ON_UPDATE | ON_DELETE
                }
            }
        };
        let inherits = relation.inh || relation.relkind as u8 == b'p';
        let target = Target { oid: relation.relid, inherits, pins, assigned, events };
        self.findings.targets.push(target);
    }

    /// A literal of a date or time may be `now`, which was made a constant already.
    fn constant(&mut self, constant: &pg_sys::Const) {
        let is_plain = Kind::of(constant.consttype).is_some()
            || matches!(
                constant.consttype,
                pg_sys::NUMERICOID | pg_sys::UNKNOWNOID | pg_sys::JSONBOID | pg_sys::BPCHAROID
            );
        if is_plain || constant.constisnull || constant.location < 0 {
            return;
        }
        if conversion(constant.consttype, Way::In) == Conversion::Clock
            && may_say_now(self.origin.text, constant.location)
        {
            self.findings.refuse(false, "a constant reads the clock: now, today or its kin");
        }
    }

    fn converts(&mut self, oid: pg_sys::Oid, way: Way) {
        match conversion(oid, way) {
            Conversion::Plain => {}
            Conversion::Clock => {
                self.findings.refuse(true, "reads a date or time from text, which may be 'now'");
            }
            Conversion::Foreign(name) => {
                let why = format!("converts the type {name}, which is not Postgres's own");
                self.findings.refuse(true, why);
            }
        }
    }

    unsafe fn judge(&mut self, oid: pg_sys::Oid, node: *mut pg_sys::Node) {
        let Some(function) = Function::read(oid) else { return };
        let title = function.title();
        match function.judgement(oid) {
            Some(Judgement::Same) => {
                if function.volatile == b'i' {
                    return;
                }
                // SAFETY: the node is the call.
                unsafe {
                    if function.name == "current_setting" {
                        self.setting(node);
                    } else {
                        for argument in argument_types(node) {
                            self.converts(argument, Way::Out);
                        }
                    }
                }
            }
            Some(Judgement::Clock) => {
                self.findings.refuse(true, format!("reads the clock: {title}"));
            }
            Some(Judgement::Random) => {
                self.findings.refuse(true, format!("gives another answer each time: {title}"));
            }
            Some(Judgement::Outside) => {
                let why = format!("reads what replication does not see: {title}");
                self.findings.refuse(true, why);
            }
            Some(Judgement::Session) => {
                let why = format!("depends on the session, or changes something: {title}");
                self.findings.refuse(false, why);
                // These run a query that comes as text.
                if ["query_to_xml", "cursor_to_xml", "ts_stat", "ts_rewrite"]
                    .iter()
                    .any(|name| function.name.starts_with(name))
                {
                    self.findings.writes_everything = true;
                    self.findings.changes_session = true;
                }
            }
            Some(Judgement::Settings) => {
                self.findings.changes_session = true;
                self.findings.refuse(false, format!("may change settings: {title}"));
            }
            None if function.volatile == b'v' => {
                self.findings.writes_everything = true;
                self.findings.changes_session = true;
                self.findings.refuse(true, format!("calls a VOLATILE function: {title}"));
            }
            None if function.is_sql && function.is_plain => {
                // SAFETY: the node is the call.
                unsafe { body::look(oid, &function, node, self.origin.depth, self.findings) };
            }
            None => {
                let why = format!("calls a function that can't be looked into: {title}");
                self.findings.refuse(true, why);
            }
        }
    }

    /// Notes the setting that a call of current_setting() reads.
    unsafe fn setting(&mut self, node: *mut pg_sys::Node) {
        // SAFETY: the tags say what the nodes are; a constant of the type text is a text.
        let name = unsafe {
            cast::<pg_sys::FuncExpr>(node, pg_sys::NodeTag::T_FuncExpr)
                .and_then(|call| items::<pg_sys::Node>(call.args).next())
                .and_then(|first| cast::<pg_sys::Const>(first, pg_sys::NodeTag::T_Const))
                .filter(|name| name.consttype == pg_sys::TEXTOID && !name.constisnull)
                .and_then(|name| String::from_datum(name.constvalue, false))
        };
        match name {
            Some(name) => {
                self.findings.settings.insert(name.to_ascii_lowercase());
            }
            None => {
                self.findings.refuse(false, "reads a setting whose name is not a constant");
            }
        }
    }
}

/// The types of what a call is given.
unsafe fn argument_types(node: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    use pg_sys::NodeTag::{T_Aggref, T_FuncExpr, T_OpExpr, T_WindowFunc};
    // SAFETY: the tags say what the nodes are, and Postgres made their lists.
    unsafe {
        let arguments = if let Some(call) = cast::<pg_sys::FuncExpr>(node, T_FuncExpr) {
            call.args
        } else if let Some(operation) = cast::<pg_sys::OpExpr>(node, T_OpExpr) {
            operation.args
        } else if let Some(window) = cast::<pg_sys::WindowFunc>(node, T_WindowFunc) {
            window.args
        } else if let Some(aggregate) = cast::<pg_sys::Aggref>(node, T_Aggref) {
            return oids(aggregate.aggargtypes).collect();
        } else {
            return Vec::new();
        };
        items::<pg_sys::Node>(arguments).map(|one| pg_sys::exprType(one)).collect()
    }
}
