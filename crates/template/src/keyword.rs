//! Lives here: the keywords that decide anything, and how PostgreSQL folds a name.
//! Does not live here: what follows from a keyword.

use crate::lexer::{Kind, Token};

macro_rules! keywords {
    ($($name:ident $text:literal,)*) => {
        /// A keyword that a template, a class or an effect depends on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Keyword { $($name,)* }

        #[allow(non_upper_case_globals)] // named like the keywords, so that the macro can find them
        mod bytes { $(pub(super) const $name: &[u8] = $text.as_bytes();)* }

        fn lookup(lower: &[u8]) -> Option<Keyword> {
            match lower { $(bytes::$name => Some(Keyword::$name),)* _ => None }
        }

        impl Keyword {
            /// In lower case.
            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

keywords! {
    Abort "abort", All "all", Alter "alter", Analyze "analyze", And "and", Any "any",
    Array "array", As "as", Asc "asc", Atomic "atomic", Authorization "authorization", Begin "begin",
    Between "between", By "by", Call "call", Case "case", Catalog "catalog",
    Characteristics "characteristics", Checkpoint "checkpoint", Close "close",
    Cluster "cluster", Comment "comment", Commit "commit", Constraints "constraints",
    Copy "copy", Create "create", Current "current", Database "database",
    Deallocate "deallocate", Declare "declare", Default "default", Delete "delete",
    Desc "desc", Discard "discard", Distinct "distinct", Do "do", Drop "drop", Else "else",
    End "end", Except "except", Execute "execute", Exists "exists", Explain "explain",
    Fetch "fetch", Filter "filter", For "for", From "from", Function "function",
    Global "global", Grant "grant", Group "group", Having "having", Hold "hold",
    Ilike "ilike", Import "import", In "in", Insert "insert", Intersect "intersect",
    Into "into", Is "is", Join "join", Key "key", Lateral "lateral", Like "like",
    Limit "limit", Listen "listen", Load "load", Local "local", Lock "lock", Merge "merge",
    Move "move", Names "names", Not "not", Notify "notify", Null "null", Offset "offset",
    On "on", Option "option", Or "or", Order "order", Over "over", Password "password", Prepare "prepare",
    Procedure "procedure", Reassign "reassign", Refresh "refresh", Reindex "reindex",
    Release "release", Replace "replace", Reset "reset", Returning "returning",
    Revoke "revoke", Role "role", Rollback "rollback", Routine "routine", Row "row",
    Savepoint "savepoint", Schema "schema", Security "security", Select "select",
    Session "session", Set "set", Show "show", Similar "similar", AnyOf "some", Start "start",
    System "system", Table "table", Tablespace "tablespace", Temp "temp",
    Temporary "temporary", Then "then", Time "time", To "to", Transaction "transaction",
    Truncate "truncate", Union "union", Unlisten "unlisten", Update "update", User "user",
    Using "using", Vacuum "vacuum", Values "values", Wait "wait", When "when", Where "where",
    With "with", Xml "xml", Zone "zone",
}

const LONGEST: usize = 15;

impl Keyword {
    /// The keyword that `token` is, if any. Quoted identifiers are none.
    pub(crate) fn of(token: &Token<'_>) -> Option<Self> {
        if token.kind != Kind::Word || token.text.len() > LONGEST {
            return None;
        }
        let mut lower = [0; LONGEST];
        let lower = &mut lower[..token.text.len()];
        lower.copy_from_slice(token.text);
        lower.make_ascii_lowercase();
        lookup(lower)
    }

    /// Whether it can stand before an opening bracket or a sign only as a keyword, never as the
    /// name of a function or column.
    pub(crate) fn is_reserved(self) -> bool {
        use Keyword::*;
        matches!(
            self,
            All | And
                | Any
                | Array
                | As
                | Asc
                | Between
                | By
                | Case
                | Default
                | Desc
                | Distinct
                | Else
                | Except
                | Exists
                | Filter
                | For
                | From
                | Group
                | Having
                | Ilike
                | In
                | Intersect
                | Into
                | Is
                | Join
                | Lateral
                | Like
                | Limit
                | Not
                | Offset
                | On
                | Or
                | Order
                | Over
                | Returning
                | Row
                | Select
                | Similar
                | AnyOf
                | Table
                | Then
                | To
                | Union
                | Using
                | Values
                | When
                | Where
                | With
        )
    }
}

/// The longest name PostgreSQL keeps, in bytes.
const LONGEST_NAME: usize = 63;

/// `name` cut as PostgreSQL cuts a name that is too long.
pub(crate) fn cut_name(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    name
}

/// The name that a `Word`, `Quoted` or `UnicodeQuoted` token writes, folded as PostgreSQL does and
/// not cut. `None` for other tokens and for escapes that PostgreSQL refuses.
///
/// For `UnicodeQuoted` the escape character is the backslash: a `UESCAPE` after it is not seen here.
pub(crate) fn name_of(token: &Token<'_>) -> Option<String> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let unquote =
        |text: &[u8], prefix: usize| lossy(&text[prefix + 1..text.len() - 1]).replace("\"\"", "\"");
    match token.kind {
        Kind::Word => Some(lossy(token.text).to_ascii_lowercase()),
        Kind::Quoted => Some(unquote(token.text, 0)),
        Kind::UnicodeQuoted => unescape(&unquote(token.text, 2)),
        _ => None,
    }
}

/// Replaces `\0041`, `\+000041` and `\\`.
fn unescape(text: &str) -> Option<String> {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        units.extend(rest[..at].encode_utf16());
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('\\') {
            units.push(u16::from(b'\\'));
            rest = after;
            continue;
        }
        let (digits, after) = match rest.strip_prefix('+') {
            Some(long) => (long.get(..6)?, long.get(6..)?),
            None => (rest.get(..4)?, rest.get(4..)?),
        };
        let code = u32::from_str_radix(digits, 16).ok()?;
        match u16::try_from(code) {
            // Two of these may be the halves of one character.
            Ok(unit) => units.push(unit),
            Err(_) => units.extend_from_slice(char::from_u32(code)?.encode_utf16(&mut [0; 2])),
        }
        rest = after;
    }
    units.extend(rest.encode_utf16());
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::Lexer;

    fn name(text: &str) -> Option<String> {
        name_of(&Lexer::new(text.as_bytes()).next().expect("a token"))
    }

    #[test]
    fn names_fold_as_postgresql_folds_them() {
        for (written, read) in [
            ("Orders", Some("orders")),
            ("\"Or\"\"ders\"", Some("Or\"ders")),
            (r#"U&"d\0061t\+000061""#, Some("data")),
            (r#"U&"\\""#, Some("\\")),
            (r#"U&"\D83D\DE00""#, Some("😀")),
            (r#"U&"\00""#, None),
            (r#"U&"\zzzz""#, None),
            (r#"U&"\D83D""#, None),
            ("'x'", None),
        ] {
            assert_eq!(name(written).as_deref(), read, "{written}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut_name("é".repeat(40)), "é".repeat(31));
        assert_eq!(cut_name("a".repeat(64)).len(), 63);
    }

    #[test]
    fn keywords_are_found_in_any_case_and_never_quoted() {
        let keyword = |text: &str| Keyword::of(&Lexer::new(text.as_bytes()).next().expect("one"));
        assert_eq!(keyword("SeLect"), Some(Keyword::Select));
        assert_eq!(keyword("characteristics"), Some(Keyword::Characteristics));
        assert_eq!(keyword("\"select\""), None);
        assert_eq!(keyword("selects"), None);
    }
}
