//! The commands of the binary.

mod check;
mod claims;
mod output;
mod serve;
mod statements;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::secret::Secret;

/// Many applications, one Postgres: who depends on which data, and whether a migration would break them.
#[derive(Parser)]
#[command(name = "integratedb", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the REST API.
    #[command(after_help = serve::HELP)]
    Serve(serve::Flags),
    /// Try migrations and tell which claims they would break; nothing is kept.
    ///
    /// The files run in one transaction that is always rolled back. It takes the same locks as the migration
    /// itself, so run it against a copy, or in a quiet hour; --lock-timeout keeps it from queueing.
    #[command(
        after_help = "Exit code: 0 nothing breaks, 1 a claim would break, 2 it could not be checked.\n\n\
        Example: integratedb check migrations/042_drop_name.sql --database postgres://localhost/shop"
    )]
    Check(check::Flags),
    /// Show what a stakeholder claims.
    Claims {
        /// The stakeholder's name.
        stakeholder: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show who claims a table or column.
    #[command(
        after_help = "Example: integratedb who-uses public.orders.note --database postgres://localhost/shop"
    )]
    WhoUses {
        /// schema.table or schema.table.column; names with other characters in double quotes.
        path: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print what a stakeholder is told, a line an event, as it comes.
    #[command(after_help = tail::HELP)]
    Tail(tail::Flags),
}

/// Flags of the commands that ask a database.
#[derive(Args)]
struct Common {
    /// The database, as a libpq URL or key/value string. A password may also come from PGPASSWORD.
    #[arg(
        long,
        short,
        env = "INTEGRATEDB_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database: String,
    /// How to print.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Common {
    fn url(&self) -> Secret<String> {
        Secret::new(self.database.clone())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// A configuration file, for commands that take one.
#[derive(Args)]
struct ConfigFile {
    /// A TOML file with any of the settings below by their long names.
    #[arg(long, short, env = "INTEGRATEDB_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Cli {
    /// Runs the command to its end.
    pub fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return failed(&error.into()),
        };
        let result = runtime.block_on(async {
            match self.command {
                Command::Serve(flags) => serve::serve(flags).await,
                Command::Check(flags) => check::check(flags).await,
                Command::Claims { stakeholder, common } => {
                    claims::claims(&stakeholder, &common).await
                }
                Command::WhoUses { path, common } => claims::who_uses(&path, &common).await,
                Command::Tail(flags) => tail::tail(flags).await,
            }
        });
        result.unwrap_or_else(|error| failed(&error))
    }
}

/// Tells an error; its exit code is the same for every command.
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(2)
}
