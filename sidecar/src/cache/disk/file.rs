//! The file: entries by key, and what it says of itself, changed together or not at all.
//!
//! It is one of redb's, which is a B-tree that is copied on write: after a crash it is as its last transaction left
//! it. What lies in a folder of its own beside a lock is surely ours to remove.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::head::{Head, Names};
use crate::seal::Sealer;

const ENTRIES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("entries");
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// Pages that redb keeps in memory. The entries that are asked for most are there already.
const PAGES: usize = 8 << 20;

/// Why there is no file, or no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("another process, or another cache, uses the folder")]
    InUse,
    #[error("{0}: {1}")]
    Folder(PathBuf, std::io::Error),
    #[error(transparent)]
    Store(#[from] redb::Error),
    #[error("a record is damaged, or was written with another key or without one")]
    Damaged,
    #[error("it was written by another version")]
    Version,
    #[error("what reads and writes it failed")]
    Panicked,
}

/// The right to use a folder.
pub(super) struct Folder {
    path: PathBuf,
    _lock: fs::File,
}

impl Folder {
    pub(super) fn take(path: &Path) -> Result<Self, FileError> {
        let failed = |error| FileError::Folder(path.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FileError::InUse),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn file(&self) -> PathBuf {
        self.path.join("cache.redb")
    }

    /// Removes the file, if it can be.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(self.file())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.file().display(), "the file can't be removed");
        }
    }
}

/// What changes in one transaction.
pub(super) struct Changes<'a, R, S> {
    /// What was written before is void.
    pub(super) clear: bool,
    /// Keys that lead to nothing now.
    pub(super) removed: R,
    /// Keys with what they lead to now.
    pub(super) stored: S,
    pub(super) head: &'a Head,
    /// If they changed.
    pub(super) names: Option<&'a Names>,
}

/// The entries of an open file, for who reads some of them.
pub(super) struct Records {
    database: Arc<Database>,
    sealer: Arc<Sealer>,
}

impl Records {
    /// What was written last for a key, if anything was.
    pub(super) fn read(&self, key: u128) -> Result<Option<Vec<u8>>, FileError> {
        guarded(|| {
            let reading = self.database.begin_read().map_err(redb::Error::from)?;
            let table = match reading.open_table(ENTRIES) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                other => other.map_err(redb::Error::from)?,
            };
            let Some(value) = table.get(key).map_err(redb::Error::from)? else { return Ok(None) };
            let plain = self.sealer.open(&key.to_le_bytes(), value.value());
            plain.map(Some).ok_or(FileError::Damaged)
        })
    }
}

/// An open file.
pub(super) struct File {
    database: Arc<Database>,
    folder: Arc<Folder>,
    sealer: Arc<Sealer>,
    /// What its entries take.
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// What they may take.
    budget: u64,
    /// Entries that found no room.
    pub(super) passed_over: u64,
    is_new: bool,
}

impl File {
    /// Opens the file of a folder, or makes one.
    pub(super) fn open(
        folder: Arc<Folder>,
        sealer: Arc<Sealer>,
        max_bytes: u64,
    ) -> Result<Self, FileError> {
        let opened = guarded(|| {
            let path = folder.file();
            let failed = |error| FileError::Folder(path.clone(), error);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(&path).map_err(failed)?;
            let mut builder = Database::builder();
            // Each page's checksum is looked at: damage is found now, and not taken for a tree.
            builder.set_cache_size(PAGES).set_check_integrity_on_open(true);
            let mut database = builder.create(&path).map_err(redb::Error::from)?;
            if fs::metadata(&path).map_err(failed)?.len() > max_bytes {
                database.compact().map_err(redb::Error::from)?;
            }
            Ok(database)
        });
        Ok(Self {
            database: Arc::new(opened?),
            folder,
            sealer,
            bytes: 0,
            entries: 0,
            budget: max_bytes / 2,
            passed_over: 0,
            is_new: true,
        })
    }

    /// Closes and removes it.
    pub(super) fn destroy(self) {
        let Self { database, folder, .. } = self;
        // redb may look at a file once more as it closes it.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        folder.remove();
    }

    /// A new one in its place.
    pub(super) fn renew(self) -> Result<Self, FileError> {
        let (folder, sealer) = (Arc::clone(&self.folder), Arc::clone(&self.sealer));
        let max_bytes = self.budget * 2;
        self.destroy();
        Self::open(folder, sealer, max_bytes)
    }

    /// For who reads beside.
    pub(super) fn records(&self) -> Records {
        Records { database: Arc::clone(&self.database), sealer: Arc::clone(&self.sealer) }
    }

    /// About what its entries take, before they were looked at.
    pub(super) fn stored_bytes(&self) -> Result<u64, FileError> {
        guarded(|| {
            let reading = self.database.begin_read().map_err(redb::Error::from)?;
            match reading.open_table(ENTRIES) {
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
                Err(error) => Err(redb::Error::from(error).into()),
                Ok(table) => Ok(table.stats().map_err(redb::Error::from)?.stored_bytes()),
            }
        })
    }

    /// What its entries take is about to be free.
    pub(super) const fn forget(&mut self) {
        (self.entries, self.bytes) = (0, 0);
    }

    /// How much room it lacks for so much more.
    pub(super) const fn lacks(&self, more: u64) -> u64 {
        (self.bytes + more).saturating_sub(self.budget)
    }

    /// What it says of itself. A new file says nothing.
    pub(super) fn about(&mut self) -> Result<Option<(Head, Names)>, FileError> {
        let about = guarded(|| {
            let reading = self.database.begin_read().map_err(redb::Error::from)?;
            let table = match reading.open_table(ABOUT) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                other => other.map_err(redb::Error::from)?,
            };
            let part = |name: &str| {
                let value = table.get(name).map_err(redb::Error::from)?;
                let value = value.ok_or(FileError::Damaged)?;
                self.sealer.open(name.as_bytes(), value.value()).ok_or(FileError::Damaged)
            };
            let head = serde_json::from_slice(&part("head")?).map_err(|_| FileError::Version)?;
            let names = serde_json::from_slice(&part("names")?).map_err(|_| FileError::Version)?;
            Ok(Some((head, names)))
        })?;
        self.is_new = about.is_none();
        Ok(about)
    }

    /// Whether it says nothing of itself yet.
    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Calls with each entry, and takes out those that are of no use: whose call gives false.
    pub(super) fn load(
        &mut self,
        mut take: impl FnMut(u128, &[u8]) -> Result<bool, FileError>,
    ) -> Result<Vec<u128>, FileError> {
        let (sealer, database) = (&self.sealer, &self.database);
        let (useless, entries, bytes) = guarded(|| {
            let (mut useless, mut count, mut bytes) = (Vec::new(), 0, 0);
            let reading = database.begin_read().map_err(redb::Error::from)?;
            let table = match reading.open_table(ENTRIES) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok((useless, 0, 0)),
                other => other.map_err(redb::Error::from)?,
            };
            for entry in table.iter().map_err(redb::Error::from)? {
                let (key, value) = entry.map_err(redb::Error::from)?;
                let (key, value) = (key.value(), value.value());
                count += 1;
                bytes += value.len() as u64;
                let plain = sealer.open(&key.to_le_bytes(), value).ok_or(FileError::Damaged)?;
                if !take(key, &plain)? {
                    useless.push(key);
                }
            }
            Ok((useless, count, bytes))
        })?;
        (self.entries, self.bytes) = (entries, bytes);
        Ok(useless)
    }

    /// Writes; when it returns, it is durable. Gives the keys whose entries found no room.
    pub(super) fn write(
        &mut self,
        changes: Changes<'_, impl Iterator<Item = u128>, impl Iterator<Item = (u128, Vec<u8>)>>,
    ) -> Result<HashSet<u128>, FileError> {
        let Self { database, sealer, budget, .. } = &*self;
        let (mut entries, mut bytes) = (self.entries, self.bytes);
        let mut passed_over = HashSet::new();
        guarded(|| {
            // As durable as it can be unless told otherwise: it has reached the disk when `commit` returns.
            let writing = database.begin_write().map_err(redb::Error::from)?;
            if changes.clear {
                writing.delete_table(ENTRIES).map_err(redb::Error::from)?;
                (entries, bytes) = (0, 0);
            }
            {
                let mut table = writing.open_table(ENTRIES).map_err(redb::Error::from)?;
                let removed = changes.removed.map(|key| (key, None));
                let stored = changes.stored.map(|(key, value)| (key, Some(value)));
                // Those first that make room.
                for (key, value) in removed.chain(stored) {
                    // What was there is out of date, also where there is no room for what comes.
                    if let Some(old) = table.remove(key).map_err(redb::Error::from)? {
                        entries -= 1;
                        bytes -= old.value().len() as u64;
                    }
                    let Some(value) = value else { continue };
                    let sealed = sealer.seal(&key.to_le_bytes(), &value);
                    if bytes + sealed.len() as u64 > *budget {
                        passed_over.insert(key);
                        continue;
                    }
                    table.insert(key, sealed.as_slice()).map_err(redb::Error::from)?;
                    entries += 1;
                    bytes += sealed.len() as u64;
                }
            }
            {
                let mut table = writing.open_table(ABOUT).map_err(redb::Error::from)?;
                let mut put = |name: &str, json: Vec<u8>| {
                    let sealed = sealer.seal(name.as_bytes(), &json);
                    table.insert(name, sealed.as_slice()).map(drop).map_err(redb::Error::from)
                };
                put("head", serde_json::to_vec(changes.head).expect("texts and numbers"))?;
                if let Some(names) = changes.names {
                    put("names", serde_json::to_vec(names).expect("texts and numbers"))?;
                }
            }
            Ok(writing.commit().map_err(redb::Error::from)?)
        })?;
        (self.entries, self.bytes) = (entries, bytes);
        self.passed_over += passed_over.len() as u64;
        self.is_new = false;
        Ok(passed_over)
    }

    /// What the file takes.
    pub(super) fn size(&self) -> u64 {
        fs::metadata(self.folder.file()).map_or(0, |about| about.len())
    }
}

/// redb looks at its own pages by assertions here and there; a file that is not as it should be must not end us.
fn guarded<T>(work: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(FileError::Panicked))
}
