//! One part of the entries, under one lock.
//!
//! Entries lie dense in a vector, so that a few can be looked at by chance, and a table leads from key to
//! place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashTable;

use crate::index::{mix, shrink};
use crate::sketch::Sketch;
use crate::{Answer, Entry, Key};

/// About what it takes to read an answer from disk, and so what its bytes in memory save. Less than any query takes, so
/// that the disk is preferred to the origin.
const READ: Duration = Duration::from_micros(50);

/// What lookups came to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    /// Of them, those whose bytes came from disk.
    pub(crate) disk_hits: u64,
    pub(crate) misses: u64,
    pub(crate) fenced: u64,
    pub(crate) behind: u64,
    pub(crate) off: u64,
}

pub(crate) struct Slot<L> {
    pub(crate) key: Key,
    pub(crate) entry: Arc<Entry<L>>,
    /// Halved once a period.
    hits: u32,
    period: u32,
}

impl<L> Slot<L> {
    fn age(&mut self, period: u32) {
        self.hits = self.hits.checked_shr(period.wrapping_sub(self.period)).unwrap_or(0);
        self.period = period;
    }

    /// How often it is asked for, as far as benefits go.
    fn frequency(&self) -> u32 {
        self.hits.saturating_add(1)
    }
}

/// A way to make room.
#[derive(Clone, Copy)]
pub(crate) struct Relief {
    pub(crate) key: Key,
    /// Seconds of the origin's work that it is expected to cost, a byte.
    pub(crate) loss: f64,
    /// What it gives.
    pub(crate) bytes: usize,
    /// The entry stays, and its bytes are on disk only.
    pub(crate) spills: bool,
}

pub(crate) struct Shard<L> {
    pub(crate) slots: Vec<Slot<L>>,
    places: HashTable<u32>,
    pub(crate) sketch: Sketch,
    pub(crate) counts: Counts,
}

impl<L> Shard<L> {
    pub(crate) fn new(sketch_bytes: usize) -> Self {
        Self {
            slots: Vec::new(),
            places: HashTable::new(),
            sketch: Sketch::new(sketch_bytes),
            counts: Counts::default(),
        }
    }

    /// What its tables take, apart from entries.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<L>>()
            + self.places.allocation_size()
            + self.sketch.bytes()
    }

    pub(crate) fn place(&self, key: Key) -> Option<usize> {
        let at = |place: &u32| self.slots[*place as usize].key == key;
        self.places.find(mix(key), at).map(|place| *place as usize)
    }

    pub(crate) fn hit(&mut self, place: usize) -> Arc<Entry<L>> {
        self.counts.hits += 1;
        let slot = &mut self.slots[place];
        if slot.period != self.sketch.period {
            slot.age(self.sketch.period);
        }
        slot.hits = slot.hits.saturating_add(1);
        Arc::clone(&slot.entry)
    }

    pub(crate) fn miss(&mut self, key: Key) {
        self.counts.misses += 1;
        self.sketch.add(mix(key));
    }

    /// Puts in an entry that is not there.
    pub(crate) fn insert(&mut self, key: Key, entry: Arc<Entry<L>>) {
        // Bounded by memory: 2^32 entries of one shard take far more than there is.
        let place = self.slots.len() as u32;
        // An entry that comes back after a change is as much asked for as before.
        let hits = self.sketch.count(mix(key)).saturating_sub(1);
        self.slots.push(Slot { key, entry, hits, period: self.sketch.period });
        let Self { slots, places, .. } = self;
        places.insert_unique(mix(key), place, |place| mix(slots[*place as usize].key));
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Arc<Entry<L>>> {
        let Self { slots, places, sketch, .. } = self;
        let found = places.find_entry(mix(key), |place| slots[*place as usize].key == key).ok()?;
        let (place, _) = found.remove();
        let mut removed = slots.swap_remove(place as usize);
        if let Some(moved) = slots.get(place as usize)
            && let Some(known) = places.find_mut(mix(moved.key), |at| *at == slots.len() as u32)
        {
            *known = place;
        }
        shrink(places, |place| mix(slots[*place as usize].key));
        if slots.capacity() > 16 && slots.len() < slots.capacity() / 4 {
            slots.shrink_to(slots.len() * 2);
        }
        removed.age(sketch.period);
        // Remembered for when it is asked for again.
        (0..removed.hits.min(15)).for_each(|_| sketch.add(mix(key)));
        Some(removed.entry)
    }

    /// Takes out everything.
    pub(crate) fn drain(&mut self) -> Vec<Slot<L>> {
        self.places = HashTable::new();
        std::mem::take(&mut self.slots)
    }

    /// A hit whose bytes came from disk: what it would save a byte if they stayed in memory.
    pub(crate) fn hit_on_disk(&mut self, place: usize, answer: &Answer) -> f64 {
        self.hit(place);
        self.counts.disk_hits += 1;
        let slot = &self.slots[place];
        benefit_of_memory(&slot.entry, answer, slot.frequency())
    }

    /// The way to make room by an entry that costs least a byte. Expired ones cost nothing.
    pub(crate) fn relief(&mut self, place: usize, may_spill: bool, now: Instant) -> Relief {
        let slot = &mut self.slots[place];
        slot.age(self.sketch.period);
        let entry = &slot.entry;
        let dropped = Relief {
            key: slot.key,
            loss: if entry.has_expired(now) { 0.0 } else { benefit(entry, slot.frequency()) },
            bytes: entry.footprint(),
            spills: false,
        };
        let Some(answer) = entry.answer().filter(|_| may_spill && entry.durable.is_noted()) else {
            return dropped;
        };
        let loss = benefit_of_memory(entry, answer, slot.frequency());
        if loss >= dropped.loss {
            return dropped;
        }
        Relief { loss, bytes: answer.footprint(), spills: true, ..dropped }
    }

    /// What it costs a byte of the disk to drop an entry that is there only.
    pub(crate) fn loss_on_disk(&mut self, place: usize, now: Instant) -> Option<f64> {
        let slot = &mut self.slots[place];
        slot.age(self.sketch.period);
        let bytes = slot.entry.bytes_on_disk()?;
        let is_over = slot.entry.has_expired(now);
        let saved = f64::from(slot.frequency()) * seconds(slot.entry.cost);
        Some(if is_over { 0.0 } else { saved / bytes.max(1) as f64 })
    }

    /// What an entry saves a byte that is not there yet, as often as it was asked for: of the bytes that it takes in the
    /// end, if its answer may go to disk.
    pub(crate) fn promise(&self, key: Key, entry: &Entry<L>, may_spill: bool) -> f64 {
        let benefit = benefit(entry, self.sketch.count(mix(key)).max(1));
        let answer = entry.answer().filter(|_| may_spill).map_or(0, Answer::footprint);
        let bytes = entry.footprint() as f64;
        benefit * bytes / (bytes - answer as f64)
    }
}

/// What keeping an entry saves the origin a byte: the benefit of GreedyDual-Size-Frequency.
///
/// Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs
/// HPL-98-69R1, 1998: frequency x cost / size. The paper ages by inflation of what comes later; here frequency
/// itself is halved now and then, so that it compares with the sketch's.
fn benefit<L>(entry: &Entry<L>, frequency: u32) -> f64 {
    f64::from(frequency) * seconds(entry.cost) / entry.footprint() as f64
}

/// The same of its bytes alone, of an entry that stays with its bytes on disk.
fn benefit_of_memory<L>(entry: &Entry<L>, answer: &Answer, frequency: u32) -> f64 {
    let saved = seconds(entry.cost.min(READ));
    f64::from(frequency) * saved / answer.footprint() as f64
}

fn seconds(cost: Duration) -> f64 {
    cost.as_secs_f64().max(1e-6)
}
