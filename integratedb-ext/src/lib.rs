//! The contract inside Postgres: claims, migration control and grants.
//!
//! The objects are plain SQL in `sql/`; the judgement is the crate `integratedb-claims`. Between them this
//! library reads the catalog and the stored claims, and writes what came out. See ARCHITECTURE.md.

mod contract;
mod describe;
mod messages;
mod notifications;
mod privileges;
mod reading;
mod rows;
mod session;
mod settings;
mod snapshot;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

/// The schema of all of the extension's objects but the three functions with the original's names.
#[pg_schema]
mod integratedb {}

extension_sql_file!("../../sql/10_tables.sql", name = "tables", requires = [integratedb]);
extension_sql_file!("../../sql/20_views.sql", name = "views", requires = ["tables"]);
extension_sql_file!(
    "../../sql/30_functions.sql",
    name = "functions",
    requires = [
        "views",
        contract::contract_unmet,
        contract::contract_validate,
        contract::contract_sync,
        contract::contract_put,
        contract::contract_drop,
        notifications::contract_subscriptions,
        settings::enforcement,
        settings::refusal_sqlstate,
    ]
);
extension_sql_file!(
    "../../sql/40_stakeholders.sql",
    name = "stakeholders",
    requires = ["functions"]
);
extension_sql_file!(
    "../../sql/50_enforcement.sql",
    name = "enforcement",
    requires = ["stakeholders"]
);
extension_sql_file!(
    "../../sql/60_publication.sql",
    name = "publication",
    requires = ["enforcement"]
);
extension_sql_file!("../../sql/70_messages.sql", name = "messages", requires = ["publication"]);
extension_sql_file!(
    "../../sql/80_reading.sql",
    name = "reading",
    requires = ["messages", reading::read_as]
);
extension_sql_file!("../../sql/90_privileges.sql", name = "privileges", finalize);

/// Called by Postgres when the library is loaded into a backend.
#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    messages::install();
}
