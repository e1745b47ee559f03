//! One part of the entries, under one lock.
//!
//! Entries lie dense in a vector, so that a few can be looked at by chance, and a table leads from key to
//! place.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::index::{mix, shrink};
use crate::sketch::Sketch;
use crate::{Entry, Key};

/// What lookups came to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
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

    /// What keeping the entry in a place saves the origin: the benefit of GreedyDual-Size-Frequency.
    pub(crate) fn benefit(&mut self, place: usize) -> f64 {
        let slot = &mut self.slots[place];
        slot.age(self.sketch.period);
        benefit(&slot.entry, slot.hits.saturating_add(1))
    }

    /// The same of an entry that is not there yet, as often as it was asked for.
    pub(crate) fn promise(&self, key: Key, entry: &Entry<L>) -> f64 {
        benefit(entry, self.sketch.count(mix(key)).max(1))
    }
}

/// Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs
/// HPL-98-69R1, 1998: frequency x cost / size. The paper ages by inflation of what comes later; here frequency
/// itself is halved now and then, so that it compares with the sketch's.
fn benefit<L>(entry: &Entry<L>, frequency: u32) -> f64 {
    let cost = entry.cost.as_secs_f64().max(1e-6);
    f64::from(frequency) * cost / entry.footprint() as f64
}
