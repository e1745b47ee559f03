//! When a type named in a spec is the type of a column.
//!
//! A spec may use the name in `information_schema.columns.data_type`, the name `format_type` gives
//! (`text[]`, `public.mood`), or an alias that PostgreSQL itself accepts (manual table 8.1).

use std::borrow::Cow;

use crate::catalog::ColumnType;

/// Aliases and the names PostgreSQL shows for them.
const ALIASES: &[(&str, &str)] = &[
    ("int", "integer"),
    ("int4", "integer"),
    ("serial", "integer"),
    ("serial4", "integer"),
    ("int2", "smallint"),
    ("smallserial", "smallint"),
    ("serial2", "smallint"),
    ("int8", "bigint"),
    ("bigserial", "bigint"),
    ("serial8", "bigint"),
    ("bool", "boolean"),
    ("float4", "real"),
    ("float", "double precision"),
    ("float8", "double precision"),
    ("decimal", "numeric"),
    ("varchar", "character varying"),
    ("char varying", "character varying"),
    ("char", "character"),
    ("bpchar", "character"),
    ("varbit", "bit varying"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("time", "time without time zone"),
    ("timetz", "time with time zone"),
];

/// Whether `claimed` names the type `actual`.
pub fn matches(claimed: &str, actual: &ColumnType) -> bool {
    if claimed == actual.formatted || claimed == actual.data_type {
        return true;
    }
    let canonical = canonical(claimed);
    canonical == actual.formatted
        || canonical.eq_ignore_ascii_case(&actual.data_type)
        // A user's own type may be named without its schema, as SQL would with the search path.
        || (actual.formatted.contains('.') && claimed == actual.bare)
}

/// Lower case, single spaces, aliases resolved, any number of array dimensions written as one.
fn canonical(name: &str) -> Cow<'_, str> {
    if name.contains('"') {
        return Cow::Borrowed(name);
    }
    let folded = name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let mut element = folded.as_str();
    while let Some(shorter) = element.strip_suffix("[]") {
        element = shorter.trim_end();
    }
    let is_array = element.len() != folded.len();
    let resolved =
        ALIASES.iter().find(|(alias, _)| *alias == element).map_or(element, |(_, name)| name);
    Cow::Owned(if is_array { format!("{resolved}[]") } else { resolved.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column_type(formatted: &str, data_type: &str, bare: &str) -> ColumnType {
        ColumnType { formatted: formatted.into(), data_type: data_type.into(), bare: bare.into() }
    }

    #[test]
    fn aliases_name_the_type_postgres_shows() {
        let bigint = column_type("bigint", "bigint", "int8");
        assert!(matches("bigint", &bigint) && matches("INT8", &bigint));
        assert!(!matches("int", &bigint));
        let timestamptz = column_type("timestamp with time zone", "timestamp with time zone", "x");
        assert!(matches("timestamptz", &timestamptz) && !matches("timestamp", &timestamptz));
    }

    #[test]
    fn arrays_and_user_types_have_a_loose_and_an_exact_name() {
        let array = column_type("integer[]", "ARRAY", "_int4");
        assert!(
            matches("ARRAY", &array) && matches("int[]", &array) && matches("int4[][]", &array)
        );
        assert!(!matches("text[]", &array));
        let mood = column_type("public.mood", "USER-DEFINED", "mood");
        assert!(matches("USER-DEFINED", &mood) && matches("mood", &mood));
        assert!(matches("public.mood", &mood) && !matches("app.mood", &mood));
    }
}
