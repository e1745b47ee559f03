//! What a session finds, in memory or on disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use integratedb_cache::{Entry, Key, Lookup, Lsn, Reader};

use super::disk::{ReadAnswer, Reading};
use super::engine::{Engine, Label};
use super::settings::Consistency;

/// What there is for a session.
pub(crate) enum Found {
    /// Its answer.
    Hit(Arc<Entry<Label>>),
    /// Its answer is on disk.
    OnDisk(Arc<Entry<Label>>),
    /// The session has seen more than is applied. The origin took so long for the answer.
    Behind(Duration),
    /// What the session has seen is not known, so it may have nothing now.
    Unplaced,
    /// Nothing that it may have.
    Nothing,
}

impl Engine {
    /// The answer with this key for a session that has seen this position.
    #[inline]
    pub(crate) fn lookup(&self, key: Key, seen: Option<&mut Lsn>, now: Instant) -> Found {
        self.look(seen, now, |reader| self.store().lookup(key, reader))
    }

    /// The same for a session that has read from disk what it was told is there.
    pub(crate) fn lookup_read(
        &self,
        key: Key,
        read: ReadAnswer,
        seen: Option<&mut Lsn>,
        now: Instant,
    ) -> Found {
        let ReadAnswer { entry, answer } = read;
        self.look(seen, now, |reader| self.store().lookup_read(key, &entry, answer, reader))
    }

    #[inline]
    fn look(
        &self,
        seen: Option<&mut Lsn>,
        now: Instant,
        look: impl FnOnce(Reader<'_>) -> Lookup<Label>,
    ) -> Found {
        let (mut nothing, mut anything) = (Lsn(0), Lsn(u64::MAX));
        let is_placed = seen.is_some();
        let seen = match (self.settings().consistency, seen) {
            (Consistency::Bounded(_), _) => &mut nothing,
            (_, Some(seen)) => seen,
            (_, None) => &mut anything,
        };
        match look(Reader { seen, now }) {
            Lookup::Hit(entry) => Found::Hit(entry),
            Lookup::OnDisk(entry) => Found::OnDisk(entry),
            Lookup::Behind(cost) if is_placed => Found::Behind(cost),
            Lookup::Behind(_) => Found::Unplaced,
            _ => Found::Nothing,
        }
    }

    /// Asks the disk for what is there; `None` if it would not come soon.
    pub(crate) fn read(&self, key: Key, entry: Arc<Entry<Label>>) -> Option<Reading> {
        self.disk()?.read(key, entry)
    }

    /// Bytes that are written to disk before their time, so that memory can give them up.
    pub(super) fn disk_writes_at(&self) -> usize {
        if self.gives_from_disk_only() { 0 } else { self.settings().max_bytes / 8 }
    }

    /// Whether memory gives up all that is on disk.
    pub(super) fn gives_from_disk_only(&self) -> bool {
        self.settings().disk.as_ref().is_some_and(|disk| disk.only)
    }

    /// Whether the origin is asked before anything is given from here.
    pub(crate) fn revalidates(&self) -> bool {
        self.settings().consistency == Consistency::Revalidate
    }

    /// Counts an answer that was given from here.
    pub(crate) fn note_hit(&self, entry: &Entry<Label>) {
        let template = &entry.label.template;
        template.cached.hit(entry.cost);
        let bytes = entry.answer().map_or(0, |answer| answer.all().len());
        template.figures.note(Duration::ZERO, bytes as u64, false);
    }
}
