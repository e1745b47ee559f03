//! What a session has set, carried from one connection to the next.
//!
//! After a transaction that may have changed settings, the origin is asked what they are now: it alone knows what
//! was rolled back. Before another connection is used, what it lacks is set there. A setting that only a function's
//! body changes is not noticed, as with any pool.

use std::collections::BTreeSet;

use integratedb_wire::{Target, write};

use crate::proxy::backend::{Backend, OpenError};
use crate::proxy::params::Params;
use crate::proxy::settings::CacheSettings;
use crate::text_array;

/// What has been set in a session, by name and value.
///
/// pg_settings does not show settings that no module has declared, nor the role: those are asked for by name.
const CAPTURE: &[u8] = b"SELECT name, setting FROM pg_catalog.pg_settings \
    WHERE source = 'session' AND context <> 'internal' AND name NOT IN \
    ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable') \
    UNION ALL \
    SELECT name, pg_catalog.current_setting(name, true) FROM pg_catalog.unnest($1::text[]) AS name";

const SET: &[u8] = b"SELECT pg_catalog.set_config($1, $2, false)";

/// The settings that a transaction may have changed.
#[derive(Default)]
pub(super) struct Touched {
    is_any: bool,
    names: BTreeSet<String>,
}

impl Touched {
    pub(super) fn note(&mut self, settings: &integratedb_template::Settings) {
        self.is_any = true;
        self.names.extend(settings.names.iter().cloned());
    }

    pub(super) fn reset_all(&mut self) {
        self.is_any = true;
    }

    pub(super) const fn is_any(&self) -> bool {
        self.is_any
    }
}

/// Whether pg_settings does not show it.
fn is_hidden(name: &str) -> bool {
    name.contains('.') || name == "role"
}

/// Asks what is set now, of what pg_settings shows and of what is known to have been set `before` or `touched`.
pub(super) async fn capture(
    link: &mut Backend,
    before: &Params,
    touched: &Touched,
) -> Result<Params, OpenError> {
    let known = before.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    let hidden: BTreeSet<String> =
        known.chain(touched.names.iter().cloned()).filter(|name| is_hidden(name)).collect();
    let list = text_array::of_texts(&hidden);
    let mut batch = Vec::new();
    write::frontend::parse(&mut batch, b"", CAPTURE, &[])?;
    write::frontend::bind_text(&mut batch, b"", b"", &[Some(list.as_bytes())])?;
    write::frontend::execute(&mut batch, b"", 0)?;
    write::frontend::sync(&mut batch);
    link.prepared.set_unnamed(None);
    let answer = link.run(&batch).await?;
    if let Some(error) = answer.error {
        return Err(error);
    }
    let mut settings = Params::default();
    for row in &answer.rows {
        if let [Some(name), Some(value)] = row.as_slice()
            && !(name == b"role" && value == b"none")
        {
            settings.set(name, value);
        }
    }
    link.settings = settings.clone();
    Ok(settings)
}

/// Sets on a connection what a session has set. Gives the origin's message when it refuses; then nothing has
/// changed.
pub(super) async fn restore(
    link: &mut Backend,
    wanted: &Params,
) -> Result<Option<String>, OpenError> {
    if link.settings.same(wanted) {
        return Ok(None);
    }
    // A setting may need the rights of the role that logged in, or those of the one that is set.
    let refusal = restore_in_order(link, wanted, false).await?;
    if refusal.is_none() || wanted.get(b"role").is_none() {
        return Ok(refusal);
    }
    restore_in_order(link, wanted, true).await
}

async fn restore_in_order(
    link: &mut Backend,
    wanted: &Params,
    role_first: bool,
) -> Result<Option<String>, OpenError> {
    let mut batch = Vec::new();
    let has_other_role = link.settings.get(b"role") != wanted.get(b"role");
    // What follows may need the rights of the role that logged in.
    if has_other_role && link.settings.get(b"role").is_some() {
        statement(&mut batch, b"RESET ROLE")?;
    }
    for (name, _) in link.settings.iter() {
        if wanted.get(name).is_none() && name != b"role" {
            statement(&mut batch, &[b"RESET ", identifier(name).as_slice()].concat())?;
        }
    }
    write::frontend::parse(&mut batch, b"", SET, &[])?;
    let role = wanted.get(b"role").filter(|_| has_other_role).map(|role| (&b"role"[..], role));
    let (first, last) = if role_first { (role, None) } else { (None, role) };
    let others = wanted.beyond(&link.settings).filter(|(name, _)| name != b"role");
    for (name, value) in first.into_iter().chain(others).chain(last) {
        write::frontend::bind_text(&mut batch, b"", b"", &[Some(name), Some(value)])?;
        write::frontend::execute(&mut batch, b"", 0)?;
    }
    // The client has no such statement.
    write::frontend::close(&mut batch, Target::Statement, b"")?;
    write::frontend::sync(&mut batch);
    link.prepared.set_unnamed(None);
    let answer = link.run(&batch).await?;
    match answer.error {
        Some(OpenError::Refused { message, .. }) => return Ok(Some(message)),
        Some(other) => return Err(other),
        None => {}
    }
    link.settings = wanted.clone();
    Ok(None)
}

fn statement(batch: &mut Vec<u8>, text: &[u8]) -> Result<(), integratedb_wire::Error> {
    write::frontend::parse(batch, b"", text, &[])?;
    write::frontend::bind_text(batch, b"", b"", &[])?;
    write::frontend::execute(batch, b"", 0)
}

/// The name of a setting as SQL has it: each part in quotes.
fn identifier(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'.').map(|part| {
        let mut quoted = vec![b'"'];
        for byte in part {
            quoted.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
        }
        quoted.push(b'"');
        quoted
    });
    parts.collect::<Vec<_>>().join(&b'.')
}

/// Makes a connection as new, by the cache's reset query. False when that failed, or nothing is known of it then.
pub(super) async fn reset(link: &mut Backend, settings: &CacheSettings) -> bool {
    let text = settings.server_reset_query.as_bytes();
    if text.trim_ascii().is_empty() {
        return false;
    }
    let mut batch = Vec::new();
    if write::frontend::query(&mut batch, text).is_err() {
        return false;
    }
    match link.run(&batch).await {
        Ok(answer) if answer.error.is_none() => {}
        _ => return false,
    }
    // What the reset query left, by whatever name, would be in the way of what the next client prepares. The
    // statement without a name no SQL takes away: the next client could run it.
    batch.clear();
    let forget = write::frontend::parse(&mut batch, b"", b"DEALLOCATE ALL", &[])
        .and_then(|()| write::frontend::bind_text(&mut batch, b"", b"", &[]))
        .and_then(|()| write::frontend::execute(&mut batch, b"", 0))
        .and_then(|()| write::frontend::close(&mut batch, Target::Statement, b""));
    write::frontend::sync(&mut batch);
    if forget.is_err() || !matches!(link.run(&batch).await, Ok(answer) if answer.error.is_none()) {
        return false;
    }
    link.prepared.clear();
    link.settings = Params::default();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_settings_are_quoted_part_by_part() {
        assert_eq!(identifier(b"work_mem"), b"\"work_mem\"");
        assert_eq!(identifier(b"my.\"odd\" one"), b"\"my\".\"\"\"odd\"\" one\"");
    }
}
