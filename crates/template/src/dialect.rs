//! Lives here: the parser's dialect for PostgreSQL, with a budget for its attempts.
//! Does not live here: what is parsed.
//!
//! Where a keyword may also be a name, the parser tries one reading after the other. In a short text
//! full of such words the attempts outgrow the text by far: 150 words were seen to take 250,000. The
//! parser cannot be stopped from outside, but it asks its dialect before each operand, and that can
//! refuse.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

/// `PostgreSqlDialect` that allows a number of operands, those of failed attempts included.
#[derive(Debug)]
pub(crate) struct Budgeted {
    inner: PostgreSqlDialect,
    left: Cell<usize>,
}

impl Budgeted {
    pub(crate) fn new(operands: usize) -> Self {
        Self { inner: PostgreSqlDialect {}, left: Cell::new(operands) }
    }
}

macro_rules! as_postgresql {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool { self.inner.$name() })*
    };
}

impl Dialect for Budgeted {
    fn dialect(&self) -> TypeId {
        self.inner.dialect()
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let Some(left) = self.left.get().checked_sub(1) else {
            // The one error after which the parser tries nothing else.
            return Some(Err(ParserError::RecursionLimitExceeded));
        };
        self.left.set(left);
        self.inner.parse_prefix(parser)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.inner.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.inner.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.inner.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.inner.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        self.inner.is_reserved_for_identifier(keyword)
    }

    fn is_table_alias(&self, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        self.inner.is_table_alias(keyword, parser)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        self.inner.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        self.inner.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        self.inner.prec_value(precedence)
    }

    // Every flag that PostgreSqlDialect sets itself. A new version of the parser may set more.
    as_postgresql! {
        supports_unicode_string_literal supports_filter_during_aggregation supports_group_by_expr
        supports_alter_user_as_alter_role allow_extract_custom allow_extract_single_quotes
        supports_create_index_with_clause supports_explain_with_utility_options
        supports_listen_notify supports_exclude_constraint supports_factorial_operator
        supports_bitwise_shift_operators supports_comment_on supports_load_extension
        supports_named_fn_args_with_colon_operator supports_named_fn_args_with_expr_name
        supports_empty_projections supports_nested_comments supports_string_escape_constant
        supports_numeric_literal_underscores supports_array_typedef_with_brackets
        supports_geometric_types supports_order_by_using_operator supports_set_names
        supports_alter_column_type_using supports_left_associative_joins_without_parens
        supports_notnull_operator supports_interval_options supports_insert_table_alias
        supports_create_table_like_parenthesized supports_select_wildcard_with_alias
        supports_comma_separated_trim supports_xml_expressions supports_aliased_function_args
        supports_comment_optimizer_hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::ast::Statement;

    fn parse(sql: &str, operands: usize) -> Result<Vec<Statement>, ParserError> {
        Parser::parse_sql(&Budgeted::new(operands), sql)
    }

    #[test]
    fn the_budget_ends_a_parse() {
        assert!(parse("select 1 + 2 + 3", 3).is_ok());
        assert_eq!(parse("select 1 + 2 + 3", 2), Err(ParserError::RecursionLimitExceeded));
    }

    #[test]
    fn all_else_is_postgresql() {
        for sql in [
            "select e'\\'', a -> 'b', c::text[], x'1f' from t where a ~* 'x' and b @> c",
            "select count(*) filter (where a) from t group by grouping sets ((a), ())",
            "insert into t as u values (1_000) on conflict do nothing",
            "explain (analyze, costs off) select 1",
            "listen x",
            "set names 'utf8'",
            "select from t",
            "comment on table t is 'x'",
        ] {
            let plain = Parser::parse_sql(&PostgreSqlDialect {}, sql);
            assert!(plain.is_ok(), "{sql}: {plain:?}");
            assert_eq!(parse(sql, 1000), plain, "{sql}");
        }
    }
}
