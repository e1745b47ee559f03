//! Which rows of a table a query can depend on: columns that its predicates hold equal to parameters or constants.
//!
//! Invariant: a row of which a pinned column has none of the values cannot change the answer, neither by being there
//! nor by being absent. For a relation, only these predicates count: WHERE of its level, ON of the inner joins above
//! it, and ON of the outer joins on whose nullable side it is. All of them are strict equalities. So an output row that
//! such a table row takes part in, or that stands for its absence, either holds the actual value and fails one of
//! them, or holds NULL there and fails it too. A FULL join's ON never counts.

use std::collections::{BTreeMap, HashMap};

use pgrx::pg_sys;
use serde::Serialize;

use super::literals::is_literal;
use super::node::{cast, entry, items};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// `$n`.
    Parameter(i32),
    /// The byte of the text at which the literal begins, its sign included.
    ConstantAt(i32),
}

/// The columns that are pinned, by their numbers.
pub(super) type Pins = BTreeMap<i16, Vec<Origin>>;

/// More alternatives than these are no longer worth knowing one by one.
const MAX_ORIGINS: usize = 256;

/// Types whose equality is the equality of canonical values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Oid,
    Bool,
    Uuid,
    Text,
}

impl Kind {
    pub(super) fn of(oid: pg_sys::Oid) -> Option<Self> {
        Some(match oid {
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Self::Integer,
            pg_sys::OIDOID => Self::Oid,
            pg_sys::BOOLOID => Self::Bool,
            pg_sys::UUIDOID => Self::Uuid,
            pg_sys::TEXTOID | pg_sys::VARCHAROID => Self::Text,
            _ => return None,
        })
    }

    /// Whether an operator is this kind's btree equality (pg_opfamily.dat) under a collation that tells all
    /// different texts apart.
    fn is_equality(self, operator: pg_sys::Oid, collation: pg_sys::Oid) -> bool {
        let family: u32 = match self {
            Self::Integer => 1976,
            Self::Oid => 1989,
            Self::Bool => 424,
            Self::Uuid => 2968,
            Self::Text => 1994,
        };
        // SAFETY: any oids may be asked for; 3 is BTEqualStrategyNumber.
        unsafe {
            pg_sys::get_op_opfamily_strategy(operator, pg_sys::Oid::from(family)) == 3
                && (self != Self::Text
                    || (collation != pg_sys::InvalidOid
                        && pg_sys::get_collation_isdeterministic(collation)))
        }
    }
}

/// A column of a level: its entry of the range table, and its number there.
type Column = (i32, i16);
type Known = HashMap<Column, Vec<Origin>>;

/// The text that the locations of constants refer to; `None` where they refer to another one.
pub(super) type Source<'a> = Option<&'a [u8]>;

/// A level of a query, whose predicates are looked at.
pub(super) struct Level<'a> {
    query: *mut pg_sys::Query,
    source: Source<'a>,
    /// What the level above holds of this one's output, as if WHERE said so.
    above: Known,
}

impl<'a> Level<'a> {
    /// # Safety
    /// `query` is an analysed query that outlives the value.
    pub(super) unsafe fn new(query: *mut pg_sys::Query, source: Source<'a>, above: &Pins) -> Self {
        let mut level = Self { query, source, above: Known::new() };
        // SAFETY: as the caller promises.
        unsafe {
            if level.passes_predicates_down() {
                for (at, target) in items::<pg_sys::TargetEntry>((*query).targetList).enumerate() {
                    let pinned = i16::try_from(at + 1).ok().and_then(|number| above.get(&number));
                    if let Some(origins) = pinned
                        && let Some((column, _)) = level.column((*target).expr.cast())
                    {
                        level.above.insert(column, origins.clone());
                    }
                }
            }
        }
        level
    }

    /// Whether a predicate on its output could as well be one of its own: it has nothing that looks at other rows.
    unsafe fn passes_predicates_down(&self) -> bool {
        // SAFETY: the query is one, as promised to `new`.
        let query = unsafe { &*self.query };
        query.commandType == pg_sys::CmdType::CMD_SELECT
            && query.setOperations.is_null()
            && query.limitCount.is_null()
            && query.limitOffset.is_null()
            && query.groupClause.is_null()
            && query.groupingSets.is_null()
            && query.distinctClause.is_null()
            && !query.hasAggs
            && !query.hasWindowFuncs
            && !query.hasTargetSRFs
    }

    /// What is pinned of each entry of the range table.
    pub(super) unsafe fn pins(&self) -> HashMap<i32, Pins> {
        let mut predicates = HashMap::new();
        // SAFETY: the query is one; its join tree is a FromExpr.
        unsafe { collect((*self.query).jointree.cast(), &[], &mut predicates) };
        predicates
            .into_iter()
            .map(|(index, predicates)| {
                // SAFETY: the predicates are expressions of the query.
                let known = unsafe { self.known(&predicates) };
                let pins = known.into_iter().filter(|((of, _), _)| *of == index);
                (index, pins.map(|((_, number), origins)| (number, origins)).collect())
            })
            .collect()
    }

    /// What all of these predicates together pin, also through equalities of columns.
    unsafe fn known(&self, predicates: &[*mut pg_sys::Node]) -> Known {
        let mut known = self.above.clone();
        let mut equal = Vec::new();
        for predicate in predicates {
            // SAFETY: the predicates are expressions of the query.
            unsafe { self.conjunct(*predicate, &mut known, &mut equal) };
        }
        let mut grows = true;
        while grows {
            grows = false;
            for (a, b) in &equal {
                for (from, to) in [(a, b), (b, a)] {
                    if !known.contains_key(to)
                        && let Some(origins) = known.get(from).cloned()
                    {
                        known.insert(*to, origins);
                        grows = true;
                    }
                }
            }
        }
        known
    }

    unsafe fn conjunct(
        &self,
        node: *mut pg_sys::Node,
        known: &mut Known,
        equal: &mut Vec<(Column, Column)>,
    ) {
        use pg_sys::NodeTag::{T_BoolExpr, T_OpExpr, T_ScalarArrayOpExpr};
        // SAFETY: the tags say what the nodes are, and Postgres made their lists.
        unsafe {
            if let Some(operation) = cast::<pg_sys::OpExpr>(node, T_OpExpr) {
                let arguments: Vec<_> = items::<pg_sys::Node>(operation.args).collect();
                let [left, right] = arguments[..] else { return };
                let is_equality =
                    |kind: Kind| kind.is_equality(operation.opno, operation.inputcollid);
                match (self.column(left), self.column(right)) {
                    (Some((a, kind)), Some((b, other))) => {
                        if kind == other && is_equality(kind) {
                            equal.push((a, b));
                        }
                    }
                    (Some((column, kind)), None) | (None, Some((column, kind))) => {
                        let value = if self.column(left).is_some() { right } else { left };
                        if let Some(origin) = self.value(value, kind)
                            && is_equality(kind)
                        {
                            known.entry(column).or_insert_with(|| vec![origin]);
                        }
                    }
                    (None, None) => {}
                }
            } else if let Some(operation) =
                cast::<pg_sys::ScalarArrayOpExpr>(node, T_ScalarArrayOpExpr)
            {
                let arguments: Vec<_> = items::<pg_sys::Node>(operation.args).collect();
                let [left, right] = arguments[..] else { return };
                let Some((column, kind)) = self.column(left) else { return };
                if operation.useOr
                    && kind.is_equality(operation.opno, operation.inputcollid)
                    && let Some(origins) = self.elements(right, kind)
                {
                    known.entry(column).or_insert(origins);
                }
            } else if let Some(expression) = cast::<pg_sys::BoolExpr>(node, T_BoolExpr) {
                match expression.boolop {
                    pg_sys::BoolExprType::AND_EXPR => {
                        for one in items::<pg_sys::Node>(expression.args) {
                            self.conjunct(one, known, equal);
                        }
                    }
                    pg_sys::BoolExprType::OR_EXPR => {
                        for (column, origins) in self.every(expression.args) {
                            known.entry(column).or_insert(origins);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// What each of several alternatives pins, with all values that any of them gives.
    unsafe fn every(&self, alternatives: *mut pg_sys::List) -> Known {
        let mut all: Option<Known> = None;
        // SAFETY: the arguments of OR are expressions.
        for one in unsafe { items::<pg_sys::Node>(alternatives) } {
            let mut known = Known::new();
            // Equalities of columns hold in this alternative only, so they are left out.
            // SAFETY: as above.
            unsafe { self.conjunct(one, &mut known, &mut Vec::new()) };
            all = Some(match all {
                None => known,
                Some(before) => before
                    .into_iter()
                    .filter_map(|(column, mut origins)| {
                        origins.extend(known.remove(&column)?);
                        (origins.len() <= MAX_ORIGINS).then_some((column, origins))
                    })
                    .collect(),
            });
        }
        all.unwrap_or_default()
    }

    unsafe fn elements(&self, node: *mut pg_sys::Node, kind: Kind) -> Option<Vec<Origin>> {
        // SAFETY: the tag says what the node is; its elements are expressions.
        unsafe {
            let array = cast::<pg_sys::ArrayExpr>(node, pg_sys::NodeTag::T_ArrayExpr)?;
            if array.multidims {
                return None;
            }
            let origins: Option<Vec<_>> =
                items::<pg_sys::Node>(array.elements).map(|one| self.value(one, kind)).collect();
            origins.filter(|origins| !origins.is_empty() && origins.len() <= MAX_ORIGINS)
        }
    }

    /// The column of this level that an expression is.
    unsafe fn column(&self, node: *mut pg_sys::Node) -> Option<(Column, Kind)> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            if let Some(relabel) = cast::<pg_sys::RelabelType>(node, pg_sys::NodeTag::T_RelabelType)
            {
                let (column, kind) = self.column(relabel.arg.cast())?;
                return (kind == Kind::Text && Kind::of(relabel.resulttype) == Some(Kind::Text))
                    .then_some((column, kind));
            }
            let var = cast::<pg_sys::Var>(node, pg_sys::NodeTag::T_Var)?;
            if var.varlevelsup != 0 || var.varattno <= 0 {
                return None;
            }
            let relation = entry(self.query, index(var)?)?;
            if (*relation).rtekind == pg_sys::RTEKind::RTE_JOIN {
                let at = usize::try_from(var.varattno - 1).ok()?;
                let alias = items::<pg_sys::Node>((*relation).joinaliasvars).nth(at)?;
                return self.column(alias);
            }
            Some(((index(var)?, var.varattno), Kind::of(var.vartype)?))
        }
    }

    /// Where the value of an expression comes from, if its type is of this kind.
    pub(super) unsafe fn value(&self, node: *mut pg_sys::Node, kind: Kind) -> Option<Origin> {
        use pg_sys::NodeTag::{T_Const, T_FuncExpr, T_Param, T_RelabelType};
        // SAFETY: the tags say what the nodes are, and Postgres made their lists.
        unsafe {
            if let Some(constant) = cast::<pg_sys::Const>(node, T_Const) {
                let is_literal = Kind::of(constant.consttype) == Some(kind)
                    && !constant.constisnull
                    && self.source.is_some_and(|text| is_literal(text, constant.location));
                return is_literal.then_some(Origin::ConstantAt(constant.location));
            }
            if let Some(parameter) = cast::<pg_sys::Param>(node, T_Param) {
                let is_value = self.source.is_some()
                    && parameter.paramkind == pg_sys::ParamKind::PARAM_EXTERN
                    && Kind::of(parameter.paramtype) == Some(kind);
                return is_value.then_some(Origin::Parameter(parameter.paramid));
            }
            if let Some(relabel) = cast::<pg_sys::RelabelType>(node, T_RelabelType) {
                let target = Kind::of(relabel.resulttype)?;
                return (target == kind && kind == Kind::Text)
                    .then(|| self.value(relabel.arg.cast(), kind))
                    .flatten();
            }
            // An integer of another width: the same value, or an error (casts of pg_cast.dat).
            let call = cast::<pg_sys::FuncExpr>(node, T_FuncExpr)?;
            let is_widened = kind == Kind::Integer
                && [313, 314, 480, 481, 714, 754].contains(&call.funcid.to_u32());
            let argument = items::<pg_sys::Node>(call.args).next()?;
            is_widened.then(|| self.value(argument, kind)).flatten()
        }
    }

    /// The values of one expression of the target list of INSERT, in all of its rows.
    pub(super) unsafe fn inserted(
        &self,
        node: *mut pg_sys::Node,
        kind: Kind,
    ) -> Option<Vec<Origin>> {
        // SAFETY: the tags say what the nodes are, and Postgres made their lists.
        unsafe {
            if let Some(var) = cast::<pg_sys::Var>(node, pg_sys::NodeTag::T_Var) {
                let rows = entry(self.query, index(var)?)?;
                if (*rows).rtekind != pg_sys::RTEKind::RTE_VALUES || var.varlevelsup != 0 {
                    return None;
                }
                let at = usize::try_from(var.varattno - 1).ok()?;
                let origins: Option<Vec<_>> = items::<pg_sys::List>((*rows).values_lists)
                    .map(|row| self.value(items::<pg_sys::Node>(row).nth(at)?, kind))
                    .collect();
                return origins.filter(|origins| origins.len() <= MAX_ORIGINS);
            }
            self.value(node, kind).map(|origin| vec![origin])
        }
    }
}

/// The predicates that count for each entry of the range table, by the invariant above.
unsafe fn collect(
    node: *mut pg_sys::Node,
    above: &[*mut pg_sys::Node],
    found: &mut HashMap<i32, Vec<*mut pg_sys::Node>>,
) {
    use pg_sys::JoinType::{JOIN_INNER, JOIN_LEFT, JOIN_RIGHT};
    use pg_sys::NodeTag::{T_FromExpr, T_JoinExpr, T_RangeTblRef};
    let with = |one: *mut pg_sys::Node| {
        let mut all = above.to_vec();
        all.extend((!one.is_null()).then_some(one));
        all
    };
    // SAFETY: the tags say what the nodes are, and Postgres made their lists.
    unsafe {
        if let Some(reference) = cast::<pg_sys::RangeTblRef>(node, T_RangeTblRef) {
            found.insert(reference.rtindex, above.to_vec());
        } else if let Some(from) = cast::<pg_sys::FromExpr>(node, T_FromExpr) {
            let predicates = with(from.quals);
            for one in items(from.fromlist) {
                collect(one, &predicates, found);
            }
        } else if let Some(join) = cast::<pg_sys::JoinExpr>(node, T_JoinExpr) {
            let (own, none) = (with(join.quals), above.to_vec());
            let (left, right) = match join.jointype {
                JOIN_INNER => (&own, &own),
                JOIN_LEFT => (&none, &own),
                JOIN_RIGHT => (&own, &none),
                _ => (&none, &none),
            };
            collect(join.larg, left, found);
            collect(join.rarg, right, found);
        }
    }
}

/// The entry of the range table that a column is of.
#[allow(clippy::useless_conversion, reason = "before PostgreSQL 15 it has no sign")]
fn index(var: &pg_sys::Var) -> Option<i32> {
    i32::try_from(var.varno).ok()
}
