//! Entries whose bytes are on disk.
//!
//! All that decides whether an entry counts stays in memory, so what drops entries treats all alike. To make room, the
//! bytes of an entry that a file has for good leave memory, and in its place comes one that says how long they are. Who
//! wants them is given that entry as a ticket, reads, and asks again: the same checks as of any lookup, and the ticket
//! still has to be what is stored. It is held meanwhile, so no other can have its address.
//!
//! The books are changed under the ledger's lock only, as everywhere. A hit whose bytes are in memory needs none of this.

use std::sync::Arc;
use std::time::Instant;

use crate::ledger::Ledger;
use crate::observer::Removal;
use crate::store::Lookup;
use crate::{Answer, Entry, Key, Reader, Store};

/// How many entries on disk are looked at to find one to drop.
const SAMPLE: usize = 16;

impl<L: Send + Sync> Store<L> {
    /// Whether the bytes of entries that the file has may leave memory. If not any more, those that did are dropped.
    pub fn set_spills(&self, spills: bool) -> usize {
        let mut ledger = self.ledger();
        ledger.spills = spills;
        if spills || ledger.on_disk == 0 {
            return 0;
        }
        let keys = self.find(|entry| entry.bytes_on_disk().is_some());
        self.remove_all(&mut ledger, keys, Removal::Lost)
    }

    /// As [`Store::lookup`], for who has read the bytes of the entry that was given as [`Lookup::OnDisk`]: a hit if it
    /// still counts, now that they are there.
    pub fn lookup_read(
        &self,
        key: Key,
        ticket: &Arc<Entry<L>>,
        answer: Answer,
        reader: Reader<'_>,
    ) -> Lookup<L> {
        if self.settings.faults.judge_before_read {
            self.lock(self.shard(key)).counts.disk_hits += 1;
            *reader.seen = ticket.position.max(*reader.seen);
            return Lookup::Hit(Arc::new(ticket.with_answer(answer)));
        }
        let (mut shard, place) = match self.admit(key, &reader) {
            Ok(found) => found,
            Err(why) => return why,
        };
        let entry = &shard.slots[place].entry;
        if !Arc::ptr_eq(entry, ticket) {
            // Somebody else has brought it back, or another took its place.
            if entry.answer().is_none() {
                return Lookup::OnDisk(Arc::clone(entry));
            }
            *reader.seen = entry.position.max(*reader.seen);
            return Lookup::Hit(shard.hit(place));
        }
        *reader.seen = entry.position.max(*reader.seen);
        let promise = shard.hit_on_disk(place, &answer);
        drop(shard);
        let entry = Arc::new(ticket.with_answer(answer));
        self.promote(key, ticket, &entry, promise, reader.now);
        Lookup::Hit(entry)
    }

    /// What an entry has on disk can't be read: drops it, if it is still this one.
    pub fn lose(&self, key: Key, ticket: &Arc<Entry<L>>) -> bool {
        let mut ledger = self.ledger();
        self.is_stored(key, ticket) && self.remove(&mut ledger, key, Removal::Lost)
    }

    /// Drops entries that are on disk only, those that save least first, until so many bytes are free there. Gives
    /// their keys.
    pub fn shed(&self, bytes: usize, now: Instant) -> Vec<Key> {
        let (mut keys, mut freed) = (Vec::new(), 0);
        while freed < bytes {
            // For each anew, as others wait for it.
            let mut ledger = self.ledger();
            if ledger.on_disk == 0 {
                break;
            }
            let Some(victim) = self.least_on_disk(&mut ledger, now) else { break };
            let before = ledger.disk_bytes;
            self.remove(&mut ledger, victim, Removal::Evicted);
            freed += (before - ledger.disk_bytes).max(1);
            keys.push(victim);
        }
        keys
    }

    /// Those of these entries that are stored, and durable, leave memory: for tests.
    #[doc(hidden)]
    pub fn spill_now(&self, keys: impl IntoIterator<Item = Key>) {
        let mut ledger = self.ledger();
        for key in keys {
            let is_durable = {
                let shard = self.lock(self.shard(key));
                shard.place(key).is_some_and(|place| shard.slots[place].entry.durable.is_noted())
            };
            if ledger.spills && is_durable {
                self.spill(&mut ledger, key);
            }
        }
    }

    /// The bytes of an entry leave memory, if they are there.
    pub(crate) fn spill(&self, ledger: &mut Ledger, key: Key) {
        let mut shard = self.lock(self.shard(key));
        let Some(place) = shard.place(key) else { return };
        let entry = &mut shard.slots[place].entry;
        if entry.answer().is_none() {
            return;
        }
        ledger.take(entry);
        *entry = Arc::new(entry.without_answer());
        ledger.add(entry);
        ledger.spilled += 1;
    }

    /// Puts an entry with its bytes in the place of the one without, if there is room or what must go saves less.
    fn promote(
        &self,
        key: Key,
        ticket: &Arc<Entry<L>>,
        entry: &Arc<Entry<L>>,
        promise: f64,
        now: Instant,
    ) {
        let mut ledger = self.ledger();
        if self.settings.disk_only || !self.is_stored(key, ticket) {
            return;
        }
        let more = entry.footprint() - ticket.footprint();
        // What saves as much has the better right: else two would change places for ever.
        if self.make_room(&mut ledger, more, promise.next_down(), Some(key), now).is_err() {
            return;
        }
        let mut shard = self.lock(self.shard(key));
        if let Some(place) = shard.place(key) {
            ledger.take(ticket);
            ledger.add(entry);
            ledger.promoted += 1;
            shard.slots[place].entry = Arc::clone(entry);
        }
    }

    /// Whether this very entry is stored. It stays so while the ledger is held.
    fn is_stored(&self, key: Key, entry: &Arc<Entry<L>>) -> bool {
        let shard = self.lock(self.shard(key));
        shard.place(key).is_some_and(|place| Arc::ptr_eq(&shard.slots[place].entry, entry))
    }

    /// Of a few entries that are on disk only, the one that saves least.
    fn least_on_disk(&self, ledger: &mut Ledger, now: Instant) -> Option<Key> {
        let (before, after) = self.shards.split_at(ledger.random(self.shards.len()));
        let (mut least, mut looked) = (None, 0);
        for shard in after.iter().chain(before) {
            let mut shard = self.lock(shard);
            let count = shard.slots.len();
            let first = ledger.random(count);
            for place in (first..count).chain(0..first) {
                let Some(loss) = shard.loss_on_disk(place, now) else { continue };
                if least.is_none_or(|(_, lowest)| loss < lowest) {
                    least = Some((shard.slots[place].key, loss));
                }
                looked += 1;
                if looked >= SAMPLE {
                    break;
                }
            }
            if looked >= SAMPLE {
                break;
            }
        }
        least.map(|(key, _)| key)
    }
}
