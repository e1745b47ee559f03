//! How far a channel is: all that changes together.

use std::time::Duration;

use integratedb_events::{EventId, Keys};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Transaction};

use super::super::error::ChannelsError;
use crate::replication::Lsn;

/// An id from its three columns.
pub(super) fn event_id(epoch: i32, lsn: PgLsn, index: i64) -> EventId {
    EventId {
        epoch: u32::try_from(epoch).unwrap_or_default(),
        lsn: Lsn(lsn.into()),
        index: u32::try_from(index).unwrap_or(u32::MAX),
    }
}

/// The three columns of an id.
pub(super) fn columns(id: EventId) -> (i32, PgLsn, i64) {
    // Epochs are raised by one at a time.
    (i32::try_from(id.epoch).unwrap_or(i32::MAX), PgLsn::from(id.lsn.0), i64::from(id.index))
}

/// An event that is kept until it can be delivered.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Kept {
    pub(in super::super) id: EventId,
    pub(in super::super) keys: Keys,
    pub(in super::super) commit_micros: i64,
    pub(in super::super) event: String,
    /// Under which id it was sent; none if it was not yet.
    pub(in super::super) delivery: Option<String>,
    /// How often that failed.
    pub(in super::super) failures: u32,
    /// How long it is until the next attempt.
    pub(in super::super) wait: Option<Duration>,
    pub(in super::super) error: Option<String>,
}

/// An event that is given up.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Dead {
    pub(in super::super) id: EventId,
    pub(in super::super) keys: Keys,
    pub(in super::super) commit_micros: i64,
    pub(in super::super) event: String,
    pub(in super::super) attempts: u32,
    pub(in super::super) error: String,
}

/// What is counted, since it was last written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Figures {
    pub(in super::super) attempts: u64,
    pub(in super::super) failures: u64,
    pub(in super::super) delivered: u64,
    /// For how long nothing has gone well.
    pub(in super::super) failing_for: Option<Duration>,
    pub(in super::super) last_error: Option<String>,
    /// How long it is until what failed is tried again.
    pub(in super::super) next_attempt: Option<Duration>,
}

/// What is to be written at once.
#[derive(Debug, Default)]
pub(in super::super) struct Progress {
    pub(in super::super) cursor: EventId,
    /// New ones, and those that were tried again.
    pub(in super::super) keep: Vec<Kept>,
    /// Kept ones that are not kept any more.
    pub(in super::super) done: Vec<EventId>,
    pub(in super::super) dead: Vec<Dead>,
    pub(in super::super) figures: Figures,
    /// Why the channel is given up.
    pub(in super::super) disable: Option<String>,
}

/// Where a channel is when somebody begins to deliver.
#[derive(Debug)]
pub(in super::super) struct Stored {
    /// Proves that nobody has begun since.
    pub(in super::super) lease: i64,
    pub(in super::super) cursor: EventId,
    pub(in super::super) failing_for: Option<Duration>,
    /// Those that were tried first, then in the order of their ids.
    pub(in super::super) kept: Vec<Kept>,
    /// Those after the cursor that were given up.
    pub(in super::super) dead: Vec<EventId>,
}

const BEGIN: &str = "UPDATE integratedb.channel_state SET lease = lease + 1 WHERE channel_id = $1
    RETURNING lease, epoch, lsn, index, extract(epoch FROM now() - failing_since)::double precision";

const KEPT: &str = "SELECT epoch, lsn, index, keys, commit_micros, event, delivery, attempts,
        extract(epoch FROM next_attempt_at - now())::double precision, error
    FROM integratedb.channel_delivery WHERE channel_id = $1
    ORDER BY delivery IS NULL, epoch, lsn, index";

const DEAD: &str = "SELECT epoch, lsn, index FROM integratedb.dead_letter
    WHERE channel_id = $1 AND (epoch, lsn, index) > ($2, $3, $4)";

/// Takes a channel over from whoever delivered before.
pub(in super::super) async fn begin(
    client: &Client,
    channel: i64,
) -> Result<Stored, ChannelsError> {
    let row = client.query_opt(BEGIN, &[&channel]).await?;
    let row = row.ok_or_else(|| ChannelsError::NoChannel(channel.to_string()))?;
    let cursor = event_id(row.get(1), row.get(2), row.get(3));
    let (epoch, lsn, index) = columns(cursor);
    let dead = client.query(DEAD, &[&channel, &epoch, &lsn, &index]).await?;
    let dead = dead.iter().map(|row| event_id(row.get(0), row.get(1), row.get(2))).collect();
    let rows = client.query(KEPT, &[&channel]).await?;
    let kept = |row: &tokio_postgres::Row| Kept {
        id: event_id(row.get(0), row.get(1), row.get(2)),
        // What can't be read belongs to everybody's order.
        keys: read_keys(row.get(3)).unwrap_or(Keys::All),
        commit_micros: row.get(4),
        event: row.get(5),
        delivery: row.get(6),
        failures: u32::try_from(row.get::<_, i32>(7)).unwrap_or_default(),
        wait: duration(row.get(8)),
        error: row.get(9),
    };
    Ok(Stored {
        lease: row.get(0),
        cursor,
        failing_for: duration(row.get(4)),
        kept: rows.iter().map(kept).collect(),
        dead,
    })
}

fn duration(seconds: Option<f64>) -> Option<Duration> {
    seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

// What a crash of the server undoes is repeated: it need not be waited for.
const RELAXED: &str = "SET LOCAL synchronous_commit = off";

const ADVANCE: &str = "UPDATE integratedb.channel_state SET
        epoch = $3, lsn = $4, index = $5,
        attempts = attempts + $6, failures = failures + $7, delivered = delivered + $8,
        failing_since = now() - make_interval(secs => $9), last_error = coalesce($10, last_error),
        next_attempt_at = now() + make_interval(secs => $11),
        last_delivered_at = CASE WHEN $8 > 0 THEN now() ELSE last_delivered_at END
    WHERE channel_id = $1 AND lease = $2";

const KEEP: &str = "INSERT INTO integratedb.channel_delivery
        (channel_id, epoch, lsn, index, keys, commit_micros, event, delivery, attempts, next_attempt_at, error)
    SELECT $1, k.epoch, k.lsn, k.index, k.keys, k.commit_micros, k.event, k.delivery, k.attempts,
           now() + make_interval(secs => k.wait), k.error
    FROM unnest($2::int[], $3::pg_lsn[], $4::bigint[], $5::bytea[], $6::bigint[], $7::text[], $8::text[], $9::int[],
                $10::double precision[], $11::text[])
        AS k (epoch, lsn, index, keys, commit_micros, event, delivery, attempts, wait, error)
    ON CONFLICT (channel_id, epoch, lsn, index) DO UPDATE SET
        delivery = excluded.delivery, attempts = excluded.attempts, next_attempt_at = excluded.next_attempt_at,
        error = excluded.error";

const DONE: &str = "DELETE FROM integratedb.channel_delivery d
    USING unnest($2::int[], $3::pg_lsn[], $4::bigint[]) AS gone (epoch, lsn, index)
    WHERE d.channel_id = $1 AND (d.epoch, d.lsn, d.index) = (gone.epoch, gone.lsn, gone.index)";

const BURY: &str = "INSERT INTO integratedb.dead_letter
        (channel_id, epoch, lsn, index, keys, commit_micros, event, attempts, error)
    SELECT $1, * FROM unnest($2::int[], $3::pg_lsn[], $4::bigint[], $5::bytea[], $6::bigint[], $7::text[], $8::int[],
                             $9::text[])
    ON CONFLICT DO NOTHING";

const DISABLE: &str =
    "UPDATE integratedb.channel SET disabled_because = $2, updated_at = now() WHERE id = $1";

impl Progress {
    /// Writes it; false, and nothing is written, if somebody else delivers by now, or the channel is gone.
    pub(in super::super) async fn write(
        &self,
        client: &mut Client,
        channel: i64,
        lease: i64,
    ) -> Result<bool, ChannelsError> {
        let tx = client.transaction().await?;
        tx.batch_execute(RELAXED).await?;
        let figures = &self.figures;
        let (epoch, lsn, index) = columns(self.cursor);
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        let advanced = tx
            .execute(
                ADVANCE,
                &[
                    &channel,
                    &lease,
                    &epoch,
                    &lsn,
                    &index,
                    &count(figures.attempts),
                    &count(figures.failures),
                    &count(figures.delivered),
                    &seconds(figures.failing_for),
                    &figures.last_error,
                    &seconds(figures.next_attempt),
                ],
            )
            .await?;
        if advanced == 0 {
            return Ok(false);
        }
        self.write_events(&tx, channel).await?;
        if let Some(why) = &self.disable {
            tx.execute(DISABLE, &[&channel, why]).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn write_events(&self, tx: &Transaction<'_>, channel: i64) -> Result<(), ChannelsError> {
        if !self.done.is_empty() {
            let (epochs, lsns, indexes) = columns_of(self.done.iter().copied());
            tx.execute(DONE, &[&channel, &epochs, &lsns, &indexes]).await?;
        }
        if !self.keep.is_empty() {
            let (epochs, lsns, indexes) = columns_of(self.keep.iter().map(|kept| kept.id));
            let keys: Vec<_> = self.keep.iter().map(|kept| write_keys(kept.keys)).collect();
            let micros: Vec<_> = self.keep.iter().map(|kept| kept.commit_micros).collect();
            let events: Vec<_> = self.keep.iter().map(|kept| kept.event.as_str()).collect();
            let deliveries: Vec<_> =
                self.keep.iter().map(|kept| kept.delivery.as_deref()).collect();
            let attempts: Vec<_> = self.keep.iter().map(|kept| number(kept.failures)).collect();
            let waits: Vec<_> =
                self.keep.iter().map(|kept| kept.wait.map(|wait| wait.as_secs_f64())).collect();
            let errors: Vec<_> = self.keep.iter().map(|kept| kept.error.as_deref()).collect();
            tx.execute(
                KEEP,
                &[
                    &channel,
                    &epochs,
                    &lsns,
                    &indexes,
                    &keys,
                    &micros,
                    &events,
                    &deliveries,
                    &attempts,
                    &waits,
                    &errors,
                ],
            )
            .await?;
        }
        if !self.dead.is_empty() {
            let (epochs, lsns, indexes) = columns_of(self.dead.iter().map(|dead| dead.id));
            let keys: Vec<_> = self.dead.iter().map(|dead| write_keys(dead.keys)).collect();
            let micros: Vec<_> = self.dead.iter().map(|dead| dead.commit_micros).collect();
            let events: Vec<_> = self.dead.iter().map(|dead| dead.event.as_str()).collect();
            let attempts: Vec<_> = self.dead.iter().map(|dead| number(dead.attempts)).collect();
            let errors: Vec<_> = self.dead.iter().map(|dead| dead.error.as_str()).collect();
            tx.execute(
                BURY,
                &[&channel, &epochs, &lsns, &indexes, &keys, &micros, &events, &attempts, &errors],
            )
            .await?;
        }
        Ok(())
    }
}

const FAIL: &str = "UPDATE integratedb.channel_state
    SET last_error = $2, failing_since = coalesce(failing_since, now()), failures = failures + 1 WHERE channel_id = $1";

/// Notes why a channel could not begin.
pub(in super::super) async fn fail(
    client: &Client,
    channel: i64,
    error: &str,
) -> Result<(), ChannelsError> {
    client.execute(FAIL, &[&channel, &error]).await?;
    Ok(())
}

fn columns_of(ids: impl Iterator<Item = EventId>) -> (Vec<i32>, Vec<PgLsn>, Vec<i64>) {
    let mut all = (Vec::new(), Vec::new(), Vec::new());
    for (epoch, lsn, index) in ids.map(columns) {
        all.0.push(epoch);
        all.1.push(lsn);
        all.2.push(index);
    }
    all
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn write_keys(keys: Keys) -> Vec<u8> {
    match keys {
        Keys::All => vec![0],
        Keys::Table(relation) => [&[1][..], &relation.to_be_bytes()].concat(),
        Keys::Row(relation, key) => {
            [&[2][..], &relation.to_be_bytes(), &key.to_be_bytes()].concat()
        }
        Keys::Rows(relation, new, old) => {
            [&[3][..], &relation.to_be_bytes(), &new.to_be_bytes(), &old.to_be_bytes()].concat()
        }
    }
}

fn read_keys(bytes: &[u8]) -> Option<Keys> {
    let (kind, rest) = bytes.split_first()?;
    if *kind == 0 {
        return Some(Keys::All);
    }
    let (relation, rest) = rest.split_first_chunk()?;
    let relation = u32::from_be_bytes(*relation);
    let key = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    match kind {
        1 => Some(Keys::Table(relation)),
        2 => Some(Keys::Row(relation, key(rest)?)),
        3 => Some(Keys::Rows(relation, key(rest)?, key(rest.get(8..)?)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_they_are_written() {
        for keys in
            [Keys::All, Keys::Table(7), Keys::Row(7, u64::MAX), Keys::Rows(u32::MAX, 1, 1 << 63)]
        {
            assert_eq!(read_keys(&write_keys(keys)), Some(keys));
        }
        for damaged in
            [&[][..], &[1, 2], &[4, 0, 0, 0, 0], &[3, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]]
        {
            assert_eq!(read_keys(damaged), None);
        }
    }
}
