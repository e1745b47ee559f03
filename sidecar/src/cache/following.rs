//! A cache's engine together with what keeps it in step with its origin.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::budget::Claim;
use super::disk::Disk;
use super::engine::Engine;
use super::keeper::Keeper;
use super::settings::{CachingSettings, SlotKind};
use super::sink::CacheSink;
use crate::proxy::CacheId;
use crate::proxy::observe::Queries;
use crate::replication::{Reader, ReaderSettings, Slot, Status};

/// An engine, and the tasks that serve it; they end when this does.
pub(crate) struct Following {
    engine: Arc<Engine>,
    reader: Option<Reader>,
    /// What it was started with.
    source: String,
    /// Its part of what several may take together.
    claim: Mutex<Option<Claim>>,
    end: CancellationToken,
}

/// What stands for settings, secrets included.
fn source(settings: &CachingSettings, origin: &str) -> String {
    use sha2::Digest;
    let url = settings.url.expose_secret();
    let digest = hex::encode(sha2::Sha256::digest(url.as_bytes()));
    format!("{settings:?} {origin} {digest}")
}

impl Following {
    /// Begins to follow the database that the settings name. `key` makes hashes, and is the disk's if there is one. It takes
    /// the place of `before`, which is then to end. Errors say which setting is wrong.
    pub(crate) fn start(
        id: &CacheId,
        settings: &CachingSettings,
        origin: &str,
        key: [u8; 16],
        disk: Option<Disk>,
        queries: &Arc<Queries>,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let (_, url) = crate::tls::Tls::take_from(settings.url.expose_secret())
            .map_err(|error| format!("caching.url: {error}"))?;
        let parsed = tokio_postgres::Config::from_str(&url)
            .map_err(|error| format!("caching.url: {error}"))?;
        let database = parsed.get_dbname().ok_or("caching.url names no database")?.to_owned();
        let given_up = before.map_or(0, Self::claimed);
        let claim =
            settings.budget.as_ref().map(|budget| budget.claim(settings.max_bytes, given_up));
        let claim = claim.transpose().map_err(|why| format!("caching.max_bytes {why}"))?;
        let (tasks, requests) = unbounded_channel();
        let (database, asked) = (database.into_bytes(), tasks.clone());
        let engine = Arc::new(Engine::new(settings.clone(), database, key, asked, disk));
        let end = CancellationToken::new();
        let reader = match settings.replication {
            false => None,
            true => {
                let name = settings.slot_name.clone().unwrap_or_else(|| slot_name(id));
                let slot = match settings.slot {
                    SlotKind::Temporary => Slot::Temporary(name.clone()),
                    SlotKind::Permanent => Slot::Permanent(name.clone()),
                };
                let mut wanted = ReaderSettings::new(id.as_str(), settings.url.clone(), slot);
                wanted.reach = settings.reach.clone();
                wanted.lag_time = settings.max_lag();
                wanted.probe_interval = settings.probe_interval();
                let sink = CacheSink::new(Arc::clone(&engine), tasks, name);
                let (loaded, waited) = tokio::sync::oneshot::channel();
                // However the loading ends, it has.
                let ready = async { drop(waited.await) };
                let reader = Reader::start_after(ready, wanted, vec![Box::new(sink)], end.clone());
                let reader = reader.map_err(|error| format!("caching: {error}"))?;
                if let Some(disk) = engine.disk() {
                    disk.start(Arc::clone(&engine), Arc::clone(queries), loaded);
                }
                Some(reader)
            }
        };
        let sql = reader.as_ref().map(Reader::sql);
        let keeper = Keeper::new(Arc::clone(&engine), sql, settings.url.clone());
        tokio::spawn(keeper.run(requests, end.clone()));
        let source = source(settings, origin);
        Ok(Self { engine, reader, source, claim: Mutex::new(claim), end })
    }

    /// The bytes that it has of what several may take together.
    pub(crate) fn claimed(&self) -> usize {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        claim.as_ref().map_or(0, Claim::bytes)
    }

    /// Another one takes its place, or none: it reads, keeps and gives nothing any more, whoever still holds it.
    pub(crate) fn end(&self) {
        self.end.cancel();
        // First, so that what is dropped now stays on disk for the next one.
        self.close_disk();
        self.engine.retire();
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets go of the disk, for who comes next.
    pub(crate) fn close_disk(&self) {
        if let Some(disk) = self.engine.disk() {
            disk.close();
        }
    }

    /// Whether it was started with these settings for this origin.
    pub(crate) fn is_same(&self, settings: &CachingSettings, origin: &str) -> bool {
        self.source == source(settings, origin)
    }

    pub(crate) const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// How the reader is, if there is one.
    pub(crate) fn status(&self) -> Option<Status> {
        self.reader.as_ref().map(Reader::status)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.end();
    }
}

/// A name for a slot: letters in lower case, digits and underscores only.
fn slot_name(id: &CacheId) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    // Slots have names of 63 bytes at most, and a temporary one gets something behind it.
    format!("integratedb_{}", id.as_str().chars().map(fit).take(40).collect::<String>())
}
