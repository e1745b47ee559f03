//! From a text to its description.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::findings::{Findings, Read};
use super::node::{cast, items, text as from_c};
use super::pins::Pins;
use super::relations::{Pin, Relation, told, translate};
use super::types::{Conversion, Way, conversion};
use super::walk::{self, Origin};
use super::writes;

/// What is told of a text.
#[derive(Debug, Serialize)]
pub(super) struct Description {
    /// `pg_current_snapshot()`, taken before the text was looked at.
    snapshot: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<u32>,
    /// Parameters whose text may be `now`, so that an answer may be kept only if it is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clock_parameters: Vec<usize>,
    cacheable: bool,
    #[serde(skip_serializing_if = "is_false")]
    by_rule: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    settings: BTreeSet<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tables: Vec<Table>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<Value>,
    #[serde(skip_serializing_if = "is_false")]
    changes_session: bool,
}

/// A relation that is read.
#[derive(Debug, Serialize)]
struct Table {
    oid: u32,
    schema: String,
    name: String,
    kind: char,
    /// `ok`, or why its changes are not seen.
    replication: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pins: Vec<Pin>,
    /// Why there are no pins.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<&'static str>,
}

fn is_false(value: &bool) -> bool {
    !value
}

pub(super) fn describe(text: &str, types: &[pg_sys::Oid]) -> Description {
    let snapshot = snapshot();
    let mut findings = Findings::default();
    let mut parameters = types.to_vec();
    let mut kinds = Vec::new();
    // SAFETY: the text ends with NUL and lives as long as the trees that are made of it: both are of the memory
    // context of this call. What the parser and the analysis give is as Postgres makes it.
    unsafe {
        let c_text = CString::new(text).unwrap_or_else(|_| error!("a query holds a NUL byte"));
        let c_text = pg_sys::pstrdup(c_text.as_ptr());
        for statement in items::<pg_sys::RawStmt>(pg_sys::pg_parse_query(c_text)) {
            let query = analyse(statement, c_text, &mut parameters);
            kinds.push(kind(query, &mut findings));
            if (*query).commandType == pg_sys::CmdType::CMD_SELECT {
                convert_results(&*query, &mut findings);
            }
            let origin = Origin { text: text.as_bytes(), is_own: true, depth: 0 };
            for rewritten in rewrite(query) {
                walk::query(rewritten, origin, &mut findings);
            }
        }
    }
    let kind = match kinds[..] {
        [one] => one,
        // An empty text does nothing, and is answered by nothing that were worth keeping.
        [] => "utility",
        _ => "several",
    };
    if kind != "select" {
        findings.refuse(false, "is not a single SELECT");
        if let Some(refusal) = &mut findings.refusal {
            refusal.by_rule = false;
        }
    }
    let writes = match writes::of(&findings) {
        None => Some(json!("everything")),
        Some(none) if none.is_empty() => None,
        Some(some) => Some(some.iter().map(|(oid, pins)| written(*oid, pins)).collect()),
    };
    let is_clock = |oid: &pg_sys::Oid| conversion(*oid, Way::In) != Conversion::Plain;
    Description {
        snapshot,
        kind,
        clock_parameters: parameters
            .iter()
            .zip(1..)
            .filter_map(|(oid, number)| is_clock(oid).then_some(number))
            .collect(),
        parameters: parameters.iter().map(|oid| oid.to_u32()).collect(),
        cacheable: findings.refusal.is_none(),
        by_rule: findings.refusal.as_ref().is_some_and(|refusal| refusal.by_rule),
        why: findings.refusal.take().map(|refusal| refusal.why),
        tables: tables(&findings.reads),
        settings: findings.settings,
        writes,
        changes_session: findings.changes_session,
    }
}

fn written(oid: u32, pins: &[Pin]) -> Value {
    if pins.is_empty() { json!({ "oid": oid }) } else { json!({ "oid": oid, "pins": pins }) }
}

fn snapshot() -> String {
    // SAFETY: both functions are Postgres's own: one takes nothing, the other a pg_snapshot.
    unsafe {
        let snapshot = pgrx::direct_function_call_as_datum(pg_sys::pg_current_snapshot, &[])
            .unwrap_or_else(|| error!("there is no snapshot"));
        pgrx::direct_function_call::<&std::ffi::CStr>(pg_sys::pg_snapshot_out, &[Some(snapshot)])
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_else(|| error!("there is no snapshot"))
    }
}

/// Parses as PREPARE does: parameters whose type was not declared are inferred.
unsafe fn analyse(
    statement: *mut pg_sys::RawStmt,
    text: *const std::ffi::c_char,
    parameters: &mut Vec<pg_sys::Oid>,
) -> *mut pg_sys::Query {
    // SAFETY: Postgres may make the array longer by repalloc, so it has to be its own.
    unsafe {
        let mut count = i32::try_from(parameters.len()).unwrap_or(i32::MAX);
        let size = parameters.len().max(1) * size_of::<pg_sys::Oid>();
        let mut types = pg_sys::palloc(size).cast::<pg_sys::Oid>();
        std::ptr::copy_nonoverlapping(parameters.as_ptr(), types, parameters.len());
        #[cfg(feature = "pg14")]
        let query = pg_sys::parse_analyze_varparams(statement, text, &mut types, &mut count);
        #[cfg(not(feature = "pg14"))]
        let query = pg_sys::parse_analyze_varparams(
            statement,
            text,
            &mut types,
            &mut count,
            std::ptr::null_mut(),
        );
        let length = usize::try_from(count).unwrap_or(0);
        *parameters = std::slice::from_raw_parts(types, length).to_vec();
        let is_unknown =
            |one: &pg_sys::Oid| matches!(*one, pg_sys::InvalidOid | pg_sys::UNKNOWNOID);
        if let Some(number) = parameters.iter().position(is_unknown) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_INDETERMINATE_DATATYPE,
                format!("could not determine data type of parameter ${}", number + 1)
            );
        }
        query
    }
}

unsafe fn rewrite(query: *mut pg_sys::Query) -> Vec<*mut pg_sys::Query> {
    // SAFETY: the query is an analysed one, which the rewriter may scribble on.
    unsafe {
        if (*query).commandType != pg_sys::CmdType::CMD_UTILITY {
            return items(pg_sys::pg_rewrite_query(query)).collect();
        }
        // A cursor's query runs later, in the same transaction; what it calls counts now.
        cast::<pg_sys::DeclareCursorStmt>(
            (*query).utilityStmt,
            pg_sys::NodeTag::T_DeclareCursorStmt,
        )
        .map(|cursor| pg_sys::copyObjectImpl(cursor.query.cast()).cast::<pg_sys::Query>())
        .map_or_else(Vec::new, |inner| items(pg_sys::pg_rewrite_query(inner)).collect())
    }
}

/// Results are written by the functions of their types.
unsafe fn convert_results(query: &pg_sys::Query, findings: &mut Findings) {
    // SAFETY: a target list has target entries.
    for target in unsafe { items::<pg_sys::TargetEntry>(query.targetList) } {
        // SAFETY: as above.
        let kind = unsafe { pg_sys::exprType((*target).expr.cast()) };
        if let Conversion::Foreign(name) = conversion(kind, Way::Out) {
            findings.refuse(true, format!("has a type that is not Postgres's own: {name}"));
        }
    }
}

unsafe fn kind(query: *mut pg_sys::Query, findings: &mut Findings) -> &'static str {
    use pg_sys::CmdType::*;
    // SAFETY: the query is an analysed one; a utility statement is a node.
    unsafe {
        match (*query).commandType {
            CMD_SELECT => "select",
            CMD_INSERT => "insert",
            CMD_UPDATE => "update",
            CMD_DELETE => "delete",
            CMD_UTILITY => {
                let (writes, keeps_session) = utility((*query).utilityStmt);
                findings.writes_everything |= writes;
                findings.changes_session |= !keeps_session;
                "utility"
            }
            #[cfg(not(feature = "pg14"))]
            CMD_MERGE => "merge",
            _ => "utility",
        }
    }
}

/// Whether a utility statement may write rows, and whether it leaves settings and temporary objects alone.
unsafe fn utility(node: *mut pg_sys::Node) -> (bool, bool) {
    use pg_sys::NodeTag::*;
    use pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED;
    // SAFETY: the tags say what the nodes are.
    unsafe {
        match (*node).type_ {
            T_VariableShowStmt | T_ListenStmt | T_UnlistenStmt | T_NotifyStmt | T_FetchStmt
            | T_ClosePortalStmt | T_DeclareCursorStmt | T_VacuumStmt | T_CheckPointStmt
            | T_LockStmt | T_ConstraintsSetStmt | T_PrepareStmt | T_DeallocateStmt => (false, true),
            T_VariableSetStmt | T_DiscardStmt => (false, false),
            T_TransactionStmt => {
                let kind = (*node.cast::<pg_sys::TransactionStmt>()).kind;
                // Rows that another session wrote are seen from now on.
                (kind == TRANS_STMT_COMMIT_PREPARED, false)
            }
            T_ExplainStmt => {
                let explain = &*node.cast::<pg_sys::ExplainStmt>();
                let runs = items::<pg_sys::DefElem>(explain.options)
                    .any(|option| from_c((*option).defname).as_deref() == Some("analyze"));
                (runs, !runs)
            }
            T_CopyStmt => {
                let copy = &*node.cast::<pg_sys::CopyStmt>();
                let writes = copy.is_from || copy.relation.is_null();
                (writes, !writes)
            }
            _ => (true, false),
        }
    }
}

/// The relations read, each once, with those below them, and with the pins that hold wherever it is read.
fn tables(reads: &[Read]) -> Vec<Table> {
    let mut found: BTreeMap<u32, (Pins, Option<&'static str>)> = BTreeMap::new();
    for read in reads {
        let below = if read.inherits { Relation::open(read.oid).descendants() } else { Vec::new() };
        for oid in std::iter::once(read.oid).chain(below) {
            let pins: Pins = read
                .pins
                .iter()
                .filter_map(|(n, from)| Some((translate(read.oid, oid, *n)?, from.clone())))
                .collect();
            match found.get_mut(&oid.to_u32()) {
                None => {
                    found.insert(oid.to_u32(), (pins, read.whole));
                }
                Some((known, whole)) => {
                    let mut pins = pins;
                    known.retain(|number, from| match pins.remove(number) {
                        Some(more) => {
                            from.extend(more);
                            true
                        }
                        None => false,
                    });
                    if known.is_empty() {
                        *whole = whole.or(read.whole).or(Some("it is read more than once"));
                    }
                }
            }
        }
    }
    found
        .into_iter()
        .map(|(number, (pins, whole))| {
            let oid = pg_sys::Oid::from(number);
            let relation = Relation::open(oid);
            let held = told(oid, &pins, &relation.identity());
            Table {
                oid: number,
                schema: relation.schema(),
                name: relation.name(),
                kind: char::from(relation.kind()),
                replication: relation.obstacle().unwrap_or("ok"),
                whole: held.is_empty().then(|| {
                    whole.unwrap_or(if pins.is_empty() {
                        "no predicate holds a column equal to a constant or parameter"
                    } else {
                        "the columns held equal are not of its replica identity"
                    })
                }),
                pins: held,
            }
        })
        .collect()
}
