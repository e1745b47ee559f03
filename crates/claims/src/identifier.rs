//! Names of schemas, tables and columns, as a spec writes them.
//!
//! A bare name stands for itself, letter for letter: a spec is JSON, not SQL, so nothing is folded to
//! lower case. Any other name is put in double quotes, with a double quote inside doubled, as
//! PostgreSQL quotes identifiers (manual section 4.1.1).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name PostgreSQL keeps, in bytes (`NAMEDATALEN - 1`).
pub const MAX_BYTES: usize = 63;

/// The name of one schema, table or column: 1 to 63 bytes without a NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identifier(String);

/// Why a text is not an identifier or a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Nothing was written where a name was expected.
    #[error("a name is missing")]
    Empty,
    /// The name does not fit in PostgreSQL's 63 bytes.
    #[error("the name has {0} bytes, but PostgreSQL keeps at most 63")]
    TooLong(usize),
    /// A character that needs double quotes around the name.
    #[error("the name `{0}` has to be put in double quotes")]
    NeedsQuotes(String),
    /// A character that PostgreSQL's text can't hold.
    #[error("a name can't hold a NUL character")]
    Nul,
    /// A quoted name without its closing quote.
    #[error("the quoted name is not closed")]
    Unclosed,
    /// Something follows where the text should have ended.
    #[error("`{0}` follows where the name should have ended")]
    Trailing(String),
    /// A path without its schema.
    #[error("a path has the form schema_name.table_name")]
    NotAPath,
}

impl Identifier {
    /// Takes a name as it stands in the catalog.
    pub fn new(name: impl Into<String>) -> Result<Self, IdentifierError> {
        let name = name.into();
        match name.len() {
            0 => Err(IdentifierError::Empty),
            n if n > MAX_BYTES => Err(IdentifierError::TooLong(n)),
            _ if name.contains('\0') => Err(IdentifierError::Nul),
            _ => Ok(Self(name)),
        }
    }

    /// Reads a name as a spec writes it: bare, or in double quotes.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        let (name, rest) = take(text)?;
        if rest.is_empty() { Ok(name) } else { Err(IdentifierError::Trailing(rest.to_owned())) }
    }

    /// The name as the catalog has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    /// Writes the name as a spec would: bare where that is enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_bare(&self.0) {
            f.write_str(&self.0)
        } else {
            write!(f, "\"{}\"", self.0.replace('"', "\"\""))
        }
    }
}

/// The full name of a table, view, materialized view or foreign table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelationName {
    /// Its schema.
    pub schema: Identifier,
    /// Its name in that schema.
    pub table: Identifier,
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Reads `schema_name.table_name`; the table part is `None` for `schema_name.*`.
pub fn parse_path(text: &str) -> Result<(Identifier, Option<Identifier>), IdentifierError> {
    let (schema, rest) = take(text)?;
    let table = rest.strip_prefix('.').ok_or(IdentifierError::NotAPath)?;
    match table {
        "*" => Ok((schema, None)),
        _ => Ok((schema, Some(Identifier::parse(table)?))),
    }
}

/// Takes one name from the front of `text` and returns what follows it.
fn take(text: &str) -> Result<(Identifier, &str), IdentifierError> {
    if text.contains('\0') {
        return Err(IdentifierError::Nul);
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = quoted.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != '"' {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                return Ok((Identifier::new(name)?, &quoted[at + 1..]));
            }
        }
        return Err(IdentifierError::Unclosed);
    }
    let end = text.find('.').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err(IdentifierError::Empty);
    }
    if !is_bare(name) {
        return Err(IdentifierError::NeedsQuotes(name.to_owned()));
    }
    Ok((Identifier::new(name)?, rest))
}

/// Letters (of any script), digits, `_` and `$`, not starting with a digit or `$`.
fn is_bare(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
        && chars.all(|c| c == '_' || c == '$' || c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_kept_letter_for_letter() {
        assert_eq!(Identifier::parse("Foos").expect("bare").as_str(), "Foos");
    }

    #[test]
    fn a_quoted_path_may_hold_dots_and_quotes() {
        let (schema, table) = parse_path(r#""my.app"."we""ird""#).expect("quoted");
        let table = table.expect("a table");
        assert_eq!((schema.as_str(), table.as_str()), ("my.app", "we\"ird"));
        assert_eq!(RelationName { schema, table }.to_string(), r#""my.app"."we""ird""#);
    }

    #[test]
    fn a_star_names_every_table_and_a_quoted_star_names_one() {
        assert_eq!(parse_path("public.*").expect("star").1, None);
        let (_, table) = parse_path("public.\"*\"").expect("quoted star");
        assert_eq!(table.expect("a table").as_str(), "*");
    }

    #[test]
    fn what_is_not_a_path_says_why() {
        assert_eq!(parse_path("orders"), Err(IdentifierError::NotAPath));
        assert_eq!(parse_path("a.b.c"), Err(IdentifierError::Trailing(".c".into())));
        assert_eq!(parse_path("a."), Err(IdentifierError::Empty));
        assert_eq!(parse_path("\"a"), Err(IdentifierError::Unclosed));
        assert_eq!(parse_path("a.b c"), Err(IdentifierError::NeedsQuotes("b c".into())));
        assert_eq!(Identifier::parse(&"x".repeat(64)), Err(IdentifierError::TooLong(64)));
    }
}
