//! The settings `integratedb.*`.

use std::ffi::CString;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::prelude::*;

/// What happens at COMMIT of a transaction that ran DDL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
enum Enforcement {
    /// Nothing; a migration validates itself.
    #[name = c"off"]
    Off,
    /// A broken claim is a WARNING.
    #[name = c"warn"]
    Warn,
    /// A broken claim refuses the COMMIT.
    #[name = c"strict"]
    Strict,
}

static ENFORCEMENT: GucSetting<Enforcement> = GucSetting::<Enforcement>::new(Enforcement::Warn);
static SQLSTATE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"IDB01"));

/// Makes the settings known to this backend.
pub(crate) fn define() {
    // Only a superuser may weaken it: the roles that run migrations are the ones it speaks to.
    GucRegistry::define_enum_guc(
        c"integratedb.enforcement",
        c"Validates claims at COMMIT of every transaction that ran DDL.",
        c"off: never; warn: a broken claim is a WARNING; strict: it refuses the COMMIT.",
        &ENFORCEMENT,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"integratedb.refusal_sqlstate",
        c"The SQLSTATE of a refused migration.",
        c"IDB01 by default; P0001 for tools written for the first IntegrateDB.",
        &SQLSTATE,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// `off`, `warn` or `strict`. A function rather than `current_setting`, because calling it loads the library
/// and so makes the setting known.
#[pg_extern(schema = "integratedb", stable)]
pub(crate) fn enforcement() -> &'static str {
    match ENFORCEMENT.get() {
        Enforcement::Off => "off",
        Enforcement::Warn => "warn",
        Enforcement::Strict => "strict",
    }
}

/// The SQLSTATE to refuse a migration with; the default where the setting is not one.
#[pg_extern(schema = "integratedb", stable)]
pub(crate) fn refusal_sqlstate() -> String {
    SQLSTATE
        .get()
        .and_then(|code| code.into_string().ok())
        .filter(|code| is_error_sqlstate(code))
        .unwrap_or_else(|| "IDB01".to_owned())
}

/// Five digits or capital letters, and not of a class that means success or a warning.
fn is_error_sqlstate(code: &str) -> bool {
    code.len() == 5
        && code.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && !["00", "01", "02"].iter().any(|class| code.starts_with(class))
}
