//! Writes a batch of events, all or nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use integratedb_events::{EventId, Keys};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError, RedisResult, Value};

use super::super::source::Event;
use super::settings::{Mode, RedisSettings};

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How Redis says that an entry is there already, or that others came after it.
const NOT_ABOVE: &str = "equal or smaller than the target stream top item";

/// The id of an event's entry: `first-second`, which are 64 bits each. All of the event's id is in them, in its order.
/// The upper half of the first is the epoch; then follow the 64 bits of the position, and in the lower half of the second
/// the index.
pub(super) fn entry_id(id: EventId) -> (u64, u64) {
    let lsn = id.lsn.0;
    (u64::from(id.epoch) << 32 | lsn >> 32, lsn << 32 | u64::from(id.index))
}

/// Why a batch was not written.
#[derive(Debug)]
pub(super) struct WriteError(pub(super) String);

impl From<RedisError> for WriteError {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}

/// A connection, and what is known of its server.
pub(super) struct Writer {
    connection: MultiplexedConnection,
    mode: Mode,
    max_len: Option<u64>,
    /// Streams that were looked at.
    known: HashSet<String>,
}

impl Writer {
    pub(super) async fn connect(settings: &RedisSettings) -> Result<Self, WriteError> {
        let client = Client::open(settings.connection().map_err(WriteError)?)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let (mode, max_len) = (settings.mode, settings.max_len);
        Ok(Self { connection, mode, max_len, known: HashSet::new() })
    }

    /// Writes events, each to its keys. `head` is the end of the log.
    pub(super) async fn write(
        &mut self,
        events: &[Event],
        keys: &Keyed<'_>,
        head: EventId,
    ) -> Result<(), WriteError> {
        if self.mode == Mode::PubSub {
            let mut pipe = Pipeline::with_capacity(events.len());
            for event in events {
                for key in keys.of(event) {
                    pipe.cmd("PUBLISH").arg(key).arg(&event.json).ignore();
                }
            }
            return Ok(pipe.exec_async(&mut self.connection).await?);
        }
        let mut pipe = Pipeline::with_capacity(events.len());
        // Else one could be refused for a moment, as when memory is short, and the next be taken; and then the first
        // would count as written when both come again.
        pipe.atomic().ignore_errors();
        for event in events {
            let (first, second) = entry_id(event.id);
            for key in keys.of(event) {
                if !self.known.contains(key) {
                    self.look(key, head).await?;
                }
                let command = pipe.cmd("XADD").arg(key);
                if let Some(most) = self.max_len {
                    command.arg("MAXLEN").arg("~").arg(most);
                }
                command.arg(format!("{first}-{second}"));
                command.arg("id").arg(event.id.to_string()).arg("event").arg(&event.json);
            }
        }
        if pipe.is_empty() {
            return Ok(());
        }
        let results: Vec<RedisResult<Value>> = pipe.query_async(&mut self.connection).await?;
        for result in results {
            match result {
                Err(error) if !error.to_string().contains(NOT_ABOVE) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// What a stream has must be ours. An entry above all of the log is not: everything would count as written.
    async fn look(&mut self, key: &str, head: EventId) -> Result<(), WriteError> {
        let mut ask = redis::cmd("XINFO");
        ask.arg("STREAM").arg(key);
        let about: RedisResult<HashMap<String, Value>> =
            ask.query_async(&mut self.connection).await;
        let about = match about {
            Err(error) if error.to_string().contains("no such key") => HashMap::new(),
            other => other.map_err(|error| WriteError(format!("the stream {key}: {error}")))?,
        };
        if let Some(last) = about.get("last-generated-id") {
            let last: String =
                redis::from_redis_value_ref(last).map_err(|error| WriteError(error.to_string()))?;
            if read_id(&last).is_none_or(|last| last > entry_id(head)) {
                return Err(WriteError(format!(
                    "the stream {key} has the id {last}, which is above all of the log: somebody else writes to it, or \
                     it is of another database; delete it, or choose another key"
                )));
            }
        }
        self.known.insert(key.to_owned());
        Ok(())
    }
}

fn read_id(text: &str) -> Option<(u64, u64)> {
    let (first, second) = text.split_once('-')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// The keys of tables.
pub(super) struct Keyed<'a> {
    by_table: &'a HashMap<u32, String>,
    /// Each of them once, for what concerns all.
    all: &'a [String],
}

impl<'a> Keyed<'a> {
    pub(super) const fn new(by_table: &'a HashMap<u32, String>, all: &'a [String]) -> Self {
        Self { by_table, all }
    }

    fn of(&self, event: &Event) -> impl Iterator<Item = &'a String> {
        let (one, all) = match event.keys {
            Keys::All => (None, self.all),
            _ => (self.by_table.get(&event.relation), &[][..]),
        };
        one.into_iter().chain(all)
    }
}

#[cfg(test)]
mod tests {
    use integratedb_wire::Lsn;

    use super::*;

    #[test]
    fn entries_are_ordered_as_their_events_are() {
        let id = |epoch, lsn, index| EventId { epoch, lsn: Lsn(lsn), index };
        let mut ids = vec![
            id(1, 0, 1),
            id(1, 5, 0),
            id(1, 5, u32::MAX),
            id(1, 6, 0),
            id(1, 1 << 32, 0),
            id(1, (1 << 32) + 5, 7),
            id(1, u64::MAX, u32::MAX),
            id(2, 0, 0),
            id(u32::MAX, 1, 1),
        ];
        let entries: Vec<_> = ids.iter().copied().map(entry_id).collect();
        assert!(entries.is_sorted_by(|a, b| a < b), "{entries:?}");
        ids.dedup_by_key(|id| entry_id(*id));
        assert_eq!(ids.len(), entries.len());
        assert_eq!(entry_id(id(1, 0x16B_3748, 3)), (1 << 32, 0x16B_3748 << 32 | 3));
    }
}
