//! The two connections to an origin, to the same server and a primary.

use std::sync::Arc;
use std::time::Duration;

use integratedb_wire::{Lsn, write};

use super::error::ReplicationError;
use super::settings::ReaderSettings;
use crate::db;
use crate::proxy::backend::{Backend, Login, OpenError};
use crate::proxy::origin::Origin;
use crate::proxy::password::Password;

/// Where and as whom to connect.
pub(super) struct Target {
    origin: Arc<Origin>,
    user: String,
    password: Option<Vec<u8>>,
    database: String,
    application: String,
}

/// The connections, and what the server says of itself.
pub(super) struct Link {
    /// The walsender; nothing is streamed yet.
    pub(super) stream: Backend,
    pub(super) sql: Backend,
    pub(super) system_id: String,
    pub(super) timeline: u32,
    /// How far its WAL is flushed.
    pub(super) flushed: Lsn,
}

impl Target {
    pub(super) fn read(settings: &ReaderSettings) -> Result<Self, ReplicationError> {
        let unusable = |why: String| ReplicationError::Settings(why);
        let (config, tls) =
            db::parse_url(&settings.url).map_err(|error| unusable(error.to_string()))?;
        let origin = Origin::of(&config, &tls, settings.patience, settings.reach.as_ref())
            .map_err(unusable)?;
        let user = config
            .get_user()
            .ok_or_else(|| unusable("the URL of the origin names no user".to_owned()))?;
        Ok(Self {
            origin: Arc::new(origin),
            user: user.to_owned(),
            password: config.get_password().map(<[u8]>::to_vec),
            database: config.get_dbname().unwrap_or(user).to_owned(),
            application: format!("integratedb replication {}", settings.name),
        })
    }

    /// Connects to the first host that is a primary.
    pub(super) async fn connect(&self) -> Result<Link, ReplicationError> {
        let mut first = None;
        for host in 0..self.origin.hosts() {
            match self.connect_to(host).await {
                Ok(link) => return Ok(link),
                // What is wrong with a primary matters more than that another host is none.
                Err(error) if !matches!(error, ReplicationError::Recovery(_)) => {
                    first.get_or_insert(error);
                }
                Err(_) => {}
            }
        }
        Err(first.unwrap_or_else(|| ReplicationError::Recovery(self.origin.describe())))
    }

    async fn connect_to(&self, host: usize) -> Result<Link, ReplicationError> {
        // A statement that takes too long is given up before the connection is.
        let limit = (self.origin.timeout() * 3 / 4).as_millis().to_string();
        let ours: [(&[u8], &[u8]); 4] = [
            (b"statement_timeout", limit.as_bytes()),
            (b"lock_timeout", b"2s"),
            (b"synchronous_commit", b"local"),
            (b"default_transaction_read_only", b"off"),
        ];
        let mut sql = self.open(host, &ours).await?;
        if sql.params.get(b"in_hot_standby") == Some(b"on") {
            return Err(ReplicationError::Recovery(self.origin.name(host)));
        }
        // Values are to be written in one way, whatever is set for the role or the database.
        let mut stream = self
            .open(
                host,
                &[
                    (b"replication", b"database"),
                    (b"datestyle", b"ISO, YMD"),
                    (b"intervalstyle", b"postgres"),
                    (b"timezone", b"UTC"),
                    (b"bytea_output", b"hex"),
                    (b"extra_float_digits", b"3"),
                    (b"statement_timeout", b"0"),
                ],
            )
            .await?;
        let started =
            "SELECT extract(epoch FROM pg_postmaster_start_time()), current_setting('port')";
        let (ours, theirs) = (
            query(&mut sql, "who is there", started).await?,
            query(&mut stream, "who is there", started).await?,
        );
        if ours != theirs {
            return Err(ReplicationError::TwoServers(self.origin.name(host)));
        }
        let rows = query(&mut stream, "identify the system", "IDENTIFY_SYSTEM").await?;
        let field = |at: usize| text(&rows, 0, at).unwrap_or_default();
        let unreadable = || ReplicationError::Malformed("the answer to IDENTIFY_SYSTEM".to_owned());
        let (system_id, timeline, flushed) = (
            field(0).to_owned(),
            field(1).parse().map_err(|_| unreadable())?,
            field(2).parse().map_err(|_| unreadable())?,
        );
        Ok(Link { stream, sql, system_id, timeline, flushed })
    }

    async fn open(
        &self,
        host: usize,
        settings: &[(&[u8], &[u8])],
    ) -> Result<Backend, ReplicationError> {
        let always: [(&[u8], &[u8]); 4] = [
            (b"user", self.user.as_bytes()),
            (b"database", self.database.as_bytes()),
            (b"application_name", self.application.as_bytes()),
            (b"client_encoding", b"UTF8"),
        ];
        let startup: Vec<_> =
            always.iter().chain(settings).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        let password =
            self.password.as_deref().map(|password| Password { user: &self.user, password });
        let login = Login { startup: &startup, keys: None, password };
        let limit = self.origin.timeout();
        let attempt = Backend::open_at(&self.origin, host, &login);
        let opened = tokio::time::timeout(limit, attempt).await;
        opened.unwrap_or(Err(OpenError::Timeout(limit.as_secs()))).map_err(|error| {
            let host = self.origin.name(host);
            match error {
                OpenError::ReadOnly => ReplicationError::Recovery(host),
                OpenError::Refused { code, message, .. } => {
                    ReplicationError::Connect { host, code: Some(code), why: message }
                }
                other => ReplicationError::Connect { host, code: None, why: other.to_string() },
            }
        })
    }
}

pub(super) type Table = Vec<Vec<Option<Vec<u8>>>>;

/// Runs one command, for at most as long as a login may take.
pub(super) async fn query(
    backend: &mut Backend,
    what: &'static str,
    text: &str,
) -> Result<Table, ReplicationError> {
    answer(what, backend.run(&message(text)?).await)
}

/// Runs one command that may take longer.
pub(super) async fn query_long(
    backend: &mut Backend,
    what: &'static str,
    text: &str,
    patience: Duration,
) -> Result<Table, ReplicationError> {
    let batch = message(text)?;
    let run = tokio::time::timeout(patience, backend.run_patiently(&batch));
    answer(what, run.await.map_err(|_| ReplicationError::Timeout { what, patience })?)
}

pub(super) fn message(text: &str) -> Result<Vec<u8>, ReplicationError> {
    let mut batch = Vec::new();
    write::frontend::query(&mut batch, text.as_bytes())?;
    Ok(batch)
}

fn answer(
    what: &'static str,
    answer: Result<crate::proxy::backend::Answer, OpenError>,
) -> Result<Table, ReplicationError> {
    match answer {
        Ok(answer) => match answer.error {
            None => Ok(answer.rows),
            Some(error) => Err(ReplicationError::asked(what, error)),
        },
        Err(error) => Err(ReplicationError::asked(what, error)),
    }
}

/// A field of an answer; none if it is NULL or not there.
pub(super) fn text(rows: &Table, row: usize, column: usize) -> Option<&str> {
    std::str::from_utf8(rows.get(row)?.get(column)?.as_deref()?).ok()
}

/// Asks whether we may call a function of the extension: `t`, `f`, or NULL when it is not there. By the catalog, since
/// who may not use the schema gets an error even from to_regprocedure.
pub(super) fn may_call(function: &str) -> String {
    format!(
        "SELECT (SELECT has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')
                 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                 WHERE n.nspname = 'integratedb' AND p.proname = {} LIMIT 1)",
        literal(function)
    )
}

/// A name or text in single quotes.
pub(crate) fn literal(text: &str) -> String {
    // A backslash counts only in a string that says so, and then in every server.
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// A name in double quotes.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(literal(r"it's\"), r"E'it''s\\'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
