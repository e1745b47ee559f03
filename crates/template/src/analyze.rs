//! Lives here: what a parser says about a text: its tables and its class.
//! Does not live here: templates and effects, which need no parser (`shape.rs`).

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlparser::ast::{
    CommentObject, CopySource, Expr, FromTable, Ident, ObjectName, ObjectNamePart, ObjectType,
    Query, Select, Statement, TableFactor, TableObject, Visit, Visitor,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use crate::dialect::Budgeted;
use crate::effects::Class;
use crate::keyword::cut_name;
use crate::lexer::{Kind, Lexer};
use crate::shape::Shape;

/// What is done to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Its rows are read.
    Read,
    /// Its rows or its definition are changed.
    Write,
}

/// A table, or what stands in the place of one: a view, a sequence that is selected from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema, if the text names one. Folded and cut as PostgreSQL does.
    pub schema: Option<String>,
    /// The name within its schema, folded and cut as PostgreSQL does.
    pub name: String,
    /// What is done to it. A table that is read and written is there twice.
    pub access: Access,
}

/// What a parser says about a text. It holds names only, never a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// Whether the text was understood. If not, there are no tables, and the class is that of
    /// [`Shape`](crate::Shape).
    pub parsed: bool,
    /// What the statements do to data. Unlike in `Shape`, EXPLAIN ANALYZE counts as what it runs.
    pub class: Class,
    /// Each table once for each access, sorted. The target of UPDATE, DELETE and MERGE counts as
    /// written only. Functions, CTEs, and tables behind views, functions, triggers and foreign keys
    /// are not among them; nor are those of GRANT.
    pub tables: Vec<TableName>,
}

/// Longer texts are not parsed, in bytes.
const MOST_BYTES: usize = 1 << 20;
/// Texts with more tokens that can nest are not parsed.
const MOST_NESTING: usize = 16_384;
/// Open brackets, one in another. The time the parser takes can double with each.
const MOST_BRACKETS: usize = 40;
/// Recursion the parser allows itself.
const RECURSION: usize = 50;
/// Stack for one level of a tree, in bytes, and for the parser itself. A chain of operators nests
/// as deep as it is long, and is walked and dropped by recursion.
const STACK_PER_LEVEL: usize = 2048;
const STACK: usize = 4 << 20;

/// Parses `sql` and names its tables.
///
/// A text that the parser does not know, or that is very long or deeply nested, comes back with
/// `parsed: false`. Such a text may still be one that PostgreSQL runs.
#[must_use]
pub fn analyze(sql: &str) -> Analysis {
    let found = nesting(sql).and_then(|levels| {
        let size = STACK + levels * STACK_PER_LEVEL;
        // The parser is another project's. Its panic must not be the proxy's.
        catch_unwind(AssertUnwindSafe(|| stacker::maybe_grow(size, size, || find(sql))))
            .ok()
            .flatten()
    });
    let lexed = || Shape::of(sql.as_bytes()).class;
    match found {
        Some((class, finder)) => Analysis {
            parsed: true,
            class: class.unwrap_or_else(lexed),
            tables: finder.tables.into_iter().collect(),
        },
        None => Analysis { parsed: false, class: lexed(), tables: Vec::new() },
    }
}

/// How many tokens could make the tree one level deeper, or `None` for a text not to be parsed.
fn nesting(sql: &str) -> Option<usize> {
    let (mut levels, mut open) = (0_usize, 0_usize);
    if sql.len() > MOST_BYTES {
        return None;
    }
    for token in Lexer::new(sql.as_bytes()) {
        match token.kind {
            Kind::Punctuation if token.is_mark("(") || token.is_mark("[") => open += 1,
            Kind::Punctuation if token.is_mark(")") || token.is_mark("]") => {
                open = open.saturating_sub(1);
            }
            _ => {}
        }
        levels += usize::from(!token.is_constant() && !token.is_mark(","));
        if levels > MOST_NESTING || open > MOST_BRACKETS {
            return None;
        }
    }
    Some(levels)
}

fn find(sql: &str) -> Option<(Option<Class>, Finder)> {
    // Far more than a text needs whose every word is an operand.
    let dialect = Budgeted::new(1000 + 2 * sql.len());
    let tokens = Tokenizer::new(&dialect, sql).tokenize().ok()?;
    let statements = Parser::new(&dialect)
        .with_recursion_limit(RECURSION)
        .with_tokens(spell_out_table(tokens))
        .parse_statements()
        .ok()?;
    let mut finder = Finder::default();
    let mut classes = Vec::with_capacity(statements.len());
    for statement in &statements {
        (finder.changes_rows, finder.creates) = (false, false);
        let _ = statement.visit(&mut finder);
        classes.push(finder.class(statement));
    }
    // One that is not known here leaves the whole to the tokens.
    let class =
        classes.into_iter().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
    Some((class, finder))
}

/// Writes the command `TABLE t` as `SELECT * FROM t`. The parser's own reading of it loses whether
/// the name was quoted, and swallows the token after it.
fn spell_out_table(tokens: Vec<Token>) -> Vec<Token> {
    let mut spelled = Vec::with_capacity(tokens.len());
    // Whether a query may start after the last token.
    let mut starts = true;
    for token in tokens {
        if starts && matches!(&token, Token::Word(word) if word.keyword == Keyword::TABLE) {
            let space = Token::Whitespace(Whitespace::Space);
            spelled.extend([
                Token::make_keyword("SELECT"),
                space.clone(),
                Token::Mul,
                space,
                Token::make_keyword("FROM"),
            ]);
            starts = false;
            continue;
        }
        match &token {
            Token::Whitespace(_) => {}
            Token::LParen | Token::RParen | Token::SemiColon => starts = true,
            Token::Word(word) => {
                starts = matches!(
                    word.keyword,
                    Keyword::UNION
                        | Keyword::INTERSECT
                        | Keyword::EXCEPT
                        | Keyword::ALL
                        | Keyword::DISTINCT
                        | Keyword::AS
                );
            }
            _ => starts = false,
        }
        spelled.push(token);
    }
    spelled
}

/// The CTEs that one query brings.
#[derive(Default)]
struct Scope {
    /// Those that may be referred to by now.
    visible: Vec<String>,
    /// Those that are visible once their query, known by its address, was visited.
    pending: Vec<(*const Query, String)>,
}

#[derive(Default)]
struct Finder {
    tables: BTreeSet<TableName>,
    scopes: Vec<Scope>,
    /// Names in the place of a table that are not to be read: targets, and functions.
    passed: HashSet<*const ObjectName>,
    /// The statement holds INSERT, UPDATE, DELETE, MERGE.
    changes_rows: bool,
    /// The statement holds SELECT … INTO.
    creates: bool,
}

fn fold(ident: &Ident) -> String {
    cut_name(match ident.quote_style {
        None => ident.value.to_ascii_lowercase(),
        Some(_) => ident.value.clone(),
    })
}

impl Finder {
    fn class(&self, statement: &Statement) -> Option<Class> {
        match statement {
            _ if self.creates => Some(Class::Ddl),
            Statement::Query(_) if self.changes_rows => Some(Class::Dml),
            Statement::Query(_) => Some(Class::Dql),
            Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_)
            | Statement::Truncate(_) => Some(Class::Dml),
            Statement::Copy { to, .. } if !to || self.changes_rows => Some(Class::Dml),
            Statement::Copy { .. } => Some(Class::Dql),
            Statement::Explain { analyze, options, statement, .. } => {
                let runs = *analyze
                    || options.iter().flatten().any(|option| {
                        let off = option.arg.as_ref().is_some_and(|arg| {
                            ["off", "false", "0"].contains(&arg.to_string().to_lowercase().as_str())
                        });
                        option.name.value.eq_ignore_ascii_case("analyze") && !off
                    });
                if !runs {
                    return Some(Class::Other);
                }
                match statement.as_ref() {
                    Statement::CreateTable(_) | Statement::CreateView(_) => Some(Class::Ddl),
                    // EXPLAIN does not nest.
                    Statement::Explain { .. } => None,
                    inner => self.class(inner),
                }
            }
            _ => None,
        }
    }

    fn add(&mut self, schema: Option<&Ident>, name: &Ident, access: Access) {
        self.tables.insert(TableName { schema: schema.map(fold), name: fold(name), access });
    }

    fn relation(&mut self, name: &ObjectName, access: Access) {
        let mut parts = name.0.iter().rev().map(ObjectNamePart::as_ident);
        if let Some(Some(name)) = parts.next() {
            let schema = parts.next().flatten();
            self.add(schema, name, access);
        }
    }

    fn write(&mut self, name: &ObjectName) {
        self.relation(name, Access::Write);
        self.passed.insert(name);
    }

    fn write_factor(&mut self, factor: &TableFactor) {
        if let TableFactor::Table { name, args: None, .. } = factor {
            self.write(name);
        }
    }

    fn is_cte(&self, name: &ObjectName) -> bool {
        let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return false };
        let name = fold(name);
        self.scopes.iter().any(|scope| scope.visible.contains(&name))
    }

    fn target(&mut self, statement: &Statement) {
        match statement {
            Statement::Insert(insert) => {
                self.changes_rows = true;
                if let TableObject::TableName(name) = &insert.table {
                    self.write(name);
                }
            }
            Statement::Update(update) => {
                self.changes_rows = true;
                self.write_factor(&update.table.relation);
            }
            Statement::Delete(delete) => {
                self.changes_rows = true;
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) =
                    &delete.from;
                for table in from {
                    self.write_factor(&table.relation);
                }
            }
            Statement::Merge(merge) => {
                self.changes_rows = true;
                self.write_factor(&merge.table);
            }
            Statement::Truncate(truncate) => {
                for target in &truncate.table_names {
                    self.write(&target.name);
                }
            }
            Statement::Copy { source: CopySource::Table { table_name, .. }, to, .. } => {
                let access = if *to { Access::Read } else { Access::Write };
                self.relation(table_name, access);
            }
            _ => self.defined(statement),
        }
    }

    fn defined(&mut self, statement: &Statement) {
        match statement {
            Statement::CreateTable(table) => {
                self.write(&table.name);
                table.partition_of.iter().for_each(|parent| self.write(parent));
            }
            Statement::CreateView(view) => self.write(&view.name),
            Statement::AlterTable(table) => self.write(&table.name),
            Statement::AlterView { name, .. } => self.write(name),
            Statement::CreateIndex(index) => self.write(&index.table_name),
            Statement::CreateTrigger(trigger) => self.write(&trigger.table_name),
            Statement::DropTrigger(trigger) => {
                trigger.table_name.iter().for_each(|table| self.write(table));
            }
            Statement::CreatePolicy(policy) => self.write(&policy.table_name),
            Statement::AlterPolicy(policy) => self.write(&policy.table_name),
            Statement::DropPolicy(policy) => self.write(&policy.table_name),
            Statement::Comment { object_type: CommentObject::Table, object_name, .. } => {
                self.write(object_name);
            }
            Statement::Drop {
                object_type: ObjectType::Table | ObjectType::View | ObjectType::MaterializedView,
                names,
                ..
            } => names.iter().for_each(|name| self.write(name)),
            _ => {}
        }
    }
}

impl Visitor for Finder {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        self.target(statement);
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let mut scope = Scope::default();
        if let Some(with) = &query.with {
            let ctes = with.cte_tables.iter();
            if with.recursive {
                scope.visible = ctes.map(|cte| fold(&cte.alias.name)).collect();
            } else {
                // The last is taken first.
                scope.pending =
                    ctes.rev().map(|cte| (&raw const *cte.query, fold(&cte.alias.name))).collect();
            }
        }
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.scopes.pop();
        if let Some(scope) = self.scopes.last_mut()
            && let Some((_, name)) = scope.pending.pop_if(|(cte, _)| std::ptr::eq(*cte, query))
        {
            scope.visible.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for target in select.into.iter().flat_map(|into| &into.targets) {
            self.creates = true;
            match target {
                Expr::Identifier(name) => self.add(None, name, Access::Write),
                Expr::CompoundIdentifier(parts) => {
                    if let [.., schema, name] = parts.as_slice() {
                        self.add(Some(schema), name, Access::Write);
                    }
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        // A call in FROM looks like a table with arguments.
        if let TableFactor::Table { name, args: Some(_), .. } = factor {
            self.passed.insert(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        if !self.passed.contains(&(&raw const *name)) && !self.is_cte(name) {
            self.relation(name, Access::Read);
        }
        ControlFlow::Continue(())
    }
}
