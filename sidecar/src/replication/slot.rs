//! Sees to it that there is a publication and a slot, and that following it misses nothing.

use integratedb_wire::Lsn;

use super::error::ReplicationError;
use super::link::{Link, identifier, literal, may_call, query, query_long, text};
use super::settings::{ReaderSettings, Slot};
use super::sink::Connected;
use super::sql;
use crate::proxy::random;

/// What a reader remembers of its connections.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The system and timeline last connected to.
    system: Option<(String, u32)>,
    /// The process that streamed last. After a broken network it may live on there for a while.
    pub(super) process: Option<u32>,
    /// The slot can't be used again, though it may be there.
    pub(super) renew: Option<String>,
    /// The publication last followed.
    publication: Option<String>,
    /// A slot was made that no sink was told of.
    pub(super) is_news: bool,
}

/// A slot to follow.
pub(super) struct Ready {
    pub(super) slot: String,
    pub(super) connected: Connected,
    /// Why transactions may be missing, if they may.
    pub(super) lost: Option<String>,
    pub(super) wal_is_unbounded: bool,
    /// Roles can't be looked at, which was said.
    pub(super) is_blind: bool,
}

/// What the server says before anything is done.
struct Facts {
    publication: Option<String>,
    unbounded: bool,
    /// The permanent slot, if it is there.
    existing: Option<Existing>,
}

struct Existing {
    confirmed: Option<Lsn>,
    wal_status: Option<String>,
    /// Which process follows it.
    active: Option<String>,
    is_ours: bool,
}

/// Sees to publication and slot. `delivered` is the position up to which all was delivered, if anything was.
pub(super) async fn prepare(
    link: &mut Link,
    settings: &ReaderSettings,
    memory: &mut Memory,
    delivered: Option<Lsn>,
) -> Result<Ready, ReplicationError> {
    let facts = facts(link, settings).await?;
    let mut lost = other_system(link, memory, delivered);
    let is_published = facts.publication.is_some();
    let publication = match facts.publication {
        Some(oid) => oid,
        None => publish(link, settings).await?,
    };
    let mut start = None;
    let slot = match &settings.slot {
        Slot::Temporary(prefix) => {
            if delivered.is_some() {
                let why = "the temporary slot was gone with its connection";
                lost = lost.or_else(|| Some(why.to_owned()));
            }
            format!("{prefix}_{}", hex::encode(random::bytes::<4>()))
        }
        Slot::Permanent(name) => {
            if let Some(existing) = facts.existing {
                if !existing.is_ours {
                    return Err(ReplicationError::Settings(format!(
                        "the slot {name} is of another database or output plugin: choose another name"
                    )));
                }
                release(link, &existing, memory).await?;
                let unusable = if !is_published {
                    // Changes of a time without publication can't be decoded by it.
                    Some("its publication was not there".to_owned())
                } else if memory.publication.as_ref().is_some_and(|last| *last != publication) {
                    Some("its publication was dropped and made again".to_owned())
                } else {
                    memory.renew.clone().or_else(|| existing.unusable(delivered))
                };
                match unusable {
                    Some(why) if settings.slot_must_exist => {
                        return Err(ReplicationError::SlotLost { slot: name.clone(), why });
                    }
                    Some(why) => {
                        drop_slot(link, name).await?;
                        lost = lost.or(Some(why));
                    }
                    None => start = existing.confirmed,
                }
            } else if settings.slot_must_exist {
                let why = "it is gone".to_owned();
                return Err(ReplicationError::SlotLost { slot: name.clone(), why });
            } else if delivered.is_some() {
                lost = lost.or_else(|| Some(format!("the slot {name} is gone")));
            }
            name.clone()
        }
    };
    memory.is_news |= start.is_none();
    let start = match start {
        // What was delivered by this process already is not sent again.
        Some(confirmed) => {
            delivered.filter(|_| lost.is_none()).map_or(confirmed, |d| d.max(confirmed))
        }
        None => create(link, settings, &slot).await?,
    };
    memory.renew = None;
    memory.system = Some((link.system_id.clone(), link.timeline));
    memory.publication = Some(publication.clone());
    memory.process = Some(link.stream.key.process);
    let snapshot = query(&mut link.sql, "take a snapshot", "SELECT pg_current_snapshot()").await?;
    let mut is_blind = false;
    let roles = sql::roles(&mut link.sql, settings, &mut is_blind).await?;
    let connected = Connected {
        slot_is_new: memory.is_news,
        timeline: link.timeline,
        system_id: link.system_id.clone(),
        start,
        flushed: link.flushed,
        snapshot: text(&snapshot, 0, 0).unwrap_or_default().to_owned(),
        publication,
        roles,
    };
    let wal_is_unbounded = facts.unbounded && matches!(settings.slot, Slot::Permanent(_));
    Ok(Ready { slot, connected, lost, wal_is_unbounded, is_blind })
}

impl Existing {
    /// Why following it would miss something.
    fn unusable(&self, delivered: Option<Lsn>) -> Option<String> {
        if self.wal_status.as_deref() == Some("lost") {
            return Some("it held more WAL than max_slot_wal_keep_size allows".to_owned());
        }
        match (self.confirmed, delivered) {
            (None, _) => Some("it was not finished".to_owned()),
            (Some(confirmed), Some(delivered)) if confirmed > delivered => {
                Some(format!("somebody else moved it to {confirmed}, past {delivered}"))
            }
            _ => None,
        }
    }
}

async fn facts(link: &mut Link, settings: &ReaderSettings) -> Result<Facts, ReplicationError> {
    let slot = match &settings.slot {
        Slot::Temporary(_) => String::new(),
        Slot::Permanent(name) => name.clone(),
    };
    let sql = format!(
        "SELECT current_setting('wal_level'),
                (SELECT p.oid FROM pg_publication p WHERE p.pubname = {}),
                (SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
                s.slot_name, s.confirmed_flush_lsn, s.wal_status, s.active_pid,
                s.plugin = 'pgoutput' AND s.database = current_database()
         FROM (SELECT) one LEFT JOIN pg_replication_slots s ON s.slot_name = {}",
        literal(&settings.publication),
        literal(&slot),
    );
    let rows = query(&mut link.sql, "look at the server", &sql).await?;
    let field = |at| text(&rows, 0, at);
    let wal_level = field(0).unwrap_or_default();
    if wal_level != "logical" {
        return Err(ReplicationError::WalLevel(wal_level.to_owned()));
    }
    Ok(Facts {
        publication: field(1).map(str::to_owned),
        unbounded: field(2) == Some("-1"),
        existing: field(3).map(|_| Existing {
            confirmed: field(4).and_then(|lsn| lsn.parse().ok()),
            wal_status: field(5).map(str::to_owned),
            active: field(6).map(str::to_owned),
            is_ours: field(7) == Some("t"),
        }),
    })
}

/// Why what was delivered does not tell how this server is.
fn other_system(link: &Link, memory: &Memory, delivered: Option<Lsn>) -> Option<String> {
    let (system, timeline) = memory.system.as_ref()?;
    if *system != link.system_id {
        return Some("the origin is another system than before".to_owned());
    }
    if *timeline != link.timeline {
        return Some(format!("the origin is on timeline {}, after {timeline}", link.timeline));
    }
    let delivered = delivered.filter(|delivered| *delivered > link.flushed)?;
    Some(format!(
        "the origin's WAL ends at {}, before {delivered}, which was delivered",
        link.flushed
    ))
}

/// Makes the publication; gives its oid.
async fn publish(link: &mut Link, settings: &ReaderSettings) -> Result<String, ReplicationError> {
    let what = "make the publication";
    let name = &settings.publication;
    let by_extension = name == "integratedb"
        && text(&query(&mut link.sql, what, &may_call("publish")).await?, 0, 0) == Some("t");
    let oid = format!("SELECT oid FROM pg_publication WHERE pubname = {}", literal(name));
    if by_extension {
        query(&mut link.sql, what, "SELECT * FROM integratedb.publish('{}')").await?;
        if let Some(oid) = text(&query(&mut link.sql, what, &oid).await?, 0, 0) {
            return Ok(oid.to_owned());
        }
    }
    let make = format!("CREATE PUBLICATION {}", identifier(name));
    match query(&mut link.sql, what, &make).await {
        // Somebody else just made it.
        Err(error) if error.code() == Some("42710") || error.code() == Some("23505") => {}
        other => drop(other?),
    }
    let rows = query(&mut link.sql, what, &oid).await?;
    let oid = text(&rows, 0, 0);
    oid.map(str::to_owned).ok_or_else(|| ReplicationError::PublicationDropped(name.clone()))
}

/// Ends the process of an earlier connection of ours that still follows the slot.
async fn release(
    link: &mut Link,
    existing: &Existing,
    memory: &Memory,
) -> Result<(), ReplicationError> {
    let ours = memory.process.map(|process| process.to_string());
    let same_system = memory.system.as_ref().is_some_and(|(system, _)| *system == link.system_id);
    if let (Some(active), true) = (&existing.active, existing.active == ours && same_system) {
        let what = "end our earlier connection";
        query(&mut link.sql, what, &format!("SELECT pg_terminate_backend({active}, 5000)")).await?;
    }
    Ok(())
}

async fn drop_slot(link: &mut Link, name: &str) -> Result<(), ReplicationError> {
    let sql = format!("SELECT pg_drop_replication_slot({})", literal(name));
    match query(&mut link.sql, "drop the lost slot", &sql).await {
        Err(error) if error.code() == Some("42704") => Ok(()),
        other => other.map(drop),
    }
}

/// Makes the slot; gives where its stream begins. This waits for every transaction that is writing now.
async fn create(
    link: &mut Link,
    settings: &ReaderSettings,
    slot: &str,
) -> Result<Lsn, ReplicationError> {
    let temporary = match settings.slot {
        Slot::Temporary(_) => "TEMPORARY ",
        Slot::Permanent(_) => "",
    };
    let command = format!(
        "CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput NOEXPORT_SNAPSHOT",
        identifier(slot)
    );
    let what = "make the slot";
    let rows = query_long(&mut link.stream, what, &command, settings.slot_patience).await?;
    let start = text(&rows, 0, 1).and_then(|lsn| lsn.parse().ok());
    start.ok_or_else(|| ReplicationError::Malformed("the position of a new slot".to_owned()))
}
