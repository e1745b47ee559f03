//! How a fill becomes an entry, and how room is made for it.

use std::sync::Arc;
use std::time::Instant;

use crate::dependency::normal;
use crate::fill::{FillResult, FillTicket, Outcome, Refusal};
use crate::ledger::Ledger;
use crate::observer::Removal;
use crate::shard::{Relief, Slot};
use crate::{Body, Durable, Entry, Key, Pin, Snapshot, Store};

/// How many entries are looked at to find one to evict. Sampling a few gives most of what an exact order does:
/// Psounis and Prabhakar, "Efficient Randomized Web-Cache Replacement Schemes Using Samples From Past Eviction
/// Times", IEEE/ACM Transactions on Networking 10(4), 2002.
const SAMPLE: usize = 16;
/// The same, as long as no bytes are found that could go to disk: where most have gone there, few are left to go.
const SAMPLE_TO_SPILL: usize = 4 * SAMPLE;
/// Of one shard: in a small cache a shard holds few.
const SAMPLE_OF_SHARD: usize = 4;

impl<L: Send + Sync> Store<L> {
    /// Before a fill asks the origin for anything.
    pub fn begin(&self) -> FillTicket {
        // The position first: it is that of a fault, and may be too old, not too new.
        let applied = self.position.applied();
        let ledger = self.ledger();
        let sequence = ledger.journal.sequence;
        FillTicket { sequence, flushes: self.position.flushes(), applied }
    }

    /// Stores what a fill brought, if it is certain to be right.
    pub fn finish(
        &self,
        ticket: FillTicket,
        key: Key,
        fill: FillResult<L>,
        now: Instant,
    ) -> Outcome {
        let entry = Entry {
            pins: self.digester.pins(&fill.dependencies),
            body: Body::Memory(fill.answer),
            durable: Durable::default(),
            read_at: fill.snapshot,
            position: fill.position,
            label: fill.label,
            cost: fill.cost,
            until: fill.until,
            seen_by_replication: fill.seen_by_replication,
        };
        let mut ledger = self.ledger();
        let judged = self.judge(&mut ledger, &ticket, &entry, &fill.understood);
        self.settle_in(&mut ledger, key, entry, judged, now)
    }

    /// Puts back what was stored before, with its bytes or without, by a cache with the same secret, if it is suspended and nothing was
    /// applied since it was made or flushed.
    ///
    /// The caller vouches for two things. The slot that was followed then is the one that is followed now, so every
    /// transaction that the entry does not see and that touches it was applied to the entry, or will be before
    /// the cache is resumed and known to be fresh. And what those dropped is not put back.
    ///
    /// That its tables are covered is not asked. They were for its snapshot when it was stored, and it is the slot
    /// that covers them, not the process: one that left the publication since is told of in the log, in its turn.
    /// New fills need more, since what was applied before is in no journal: publish the tables with a snapshot of now.
    pub fn restore(&self, key: Key, mut entry: Entry<L>, now: Instant) -> Outcome {
        entry.pins = normal(entry.pins.into_vec());
        let mut ledger = self.ledger();
        let judged = if self.is_suspended() && !ledger.has_applied {
            self.judge_itself(&entry)
        } else {
            Err(Refusal::TooLate)
        };
        self.settle_in(&mut ledger, key, entry, judged, now)
    }

    /// Notes a snapshot just taken at the origin. Fills do so themselves; one now and then keeps a cache that is
    /// written to but not read from knowing what newer snapshots see.
    pub fn receive(&self, ticket: &FillTicket, snapshot: &Snapshot) {
        let mut ledger = self.ledger();
        if ticket.flushes == self.position.flushes() {
            ledger.journal.receive(snapshot);
        }
    }

    /// Whether what was told from this snapshot is as the schema is, as far as is processed (I6).
    pub fn understands(&self, snapshot: &Snapshot) -> bool {
        self.ledger().journal.understands(snapshot)
    }

    fn judge(
        &self,
        ledger: &mut Ledger,
        ticket: &FillTicket,
        entry: &Entry<L>,
        understood: &Snapshot,
    ) -> Result<(), Refusal> {
        // A snapshot from before a flush may be another origin's: it must not be received.
        if ticket.flushes != self.position.flushes() {
            return Err(Refusal::Flushed);
        }
        ledger.journal.receive(&entry.read_at);
        if ticket.sequence < ledger.purged_at {
            return Err(Refusal::Purged);
        }
        self.judge_bounds(ledger, entry)?;
        if !entry.seen_by_replication && ledger.is_disturbed(&entry.pins, ticket.sequence) {
            return Err(Refusal::Disturbed);
        }
        let Entry { pins, read_at, .. } = entry;
        ledger.journal.admits(ticket, pins, read_at, understood, self.settings.faults)
    }

    fn judge_bounds(&self, ledger: &Ledger, entry: &Entry<L>) -> Result<(), Refusal> {
        // Who wrote a table before it was published is not decoded. All those have numbers below the `xmax` of
        // a snapshot taken after the publication had committed, and have ended if that is not above `xmin`.
        let covers = |pin: &Pin| {
            ledger.covered.get(&pin.table).is_some_and(|from| entry.read_at.xmin >= *from)
        };
        if entry.seen_by_replication && !entry.pins.iter().all(covers) {
            return Err(Refusal::NotCovered);
        }
        self.judge_itself(entry)
    }

    fn judge_itself(&self, entry: &Entry<L>) -> Result<(), Refusal> {
        if !entry.seen_by_replication && entry.until.is_none() {
            return Err(Refusal::Unlimited);
        }
        if entry.footprint() + overhead(entry) > self.settings.max_entry_bytes {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    fn settle_in(
        &self,
        ledger: &mut Ledger,
        key: Key,
        entry: Entry<L>,
        judged: Result<(), Refusal>,
        now: Instant,
    ) -> Outcome {
        let stored = judged.and_then(|()| {
            self.remove(ledger, key, Removal::Replaced);
            let spills = ledger.spills && entry.seen_by_replication;
            let promise = self.lock(self.shard(key)).promise(key, &entry, spills);
            let more = entry.footprint() + overhead(&entry);
            self.make_room(ledger, more, promise, None, now)
        });
        if let Err(why) = stored {
            ledger.refused[why as usize] += 1;
            return Outcome::Refused(why);
        }
        self.insert(ledger, key, Arc::new(entry));
        // Its place in the tables may have made them grow.
        while ledger.bytes() > self.settings.max_bytes {
            let Some(relief) = self.least(ledger, &[], None, now) else { break };
            self.relieve(ledger, relief);
        }
        Outcome::Stored
    }

    /// Makes room for so many bytes more that save `promise` each, if what must go saves no more.
    pub(crate) fn make_room(
        &self,
        ledger: &mut Ledger,
        more: usize,
        promise: f64,
        spared: Option<Key>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let mut missing = (ledger.bytes() + more).saturating_sub(self.settings.max_bytes);
        let mut chosen: Vec<Relief> = Vec::new();
        while missing > 0 {
            let Some(relief) = self.least(ledger, &chosen, spared, now) else { break };
            if relief.loss > promise {
                return Err(Refusal::NotWorthIt);
            }
            chosen.push(relief);
            missing = missing.saturating_sub(relief.bytes);
        }
        for relief in chosen {
            self.relieve(ledger, relief);
        }
        Ok(())
    }

    fn relieve(&self, ledger: &mut Ledger, relief: Relief) {
        match relief.spills {
            true => self.spill(ledger, relief.key),
            false => drop(self.remove(ledger, relief.key, Removal::Evicted)),
        }
    }

    /// Of a few entries, the way to make room that costs least.
    fn least(
        &self,
        ledger: &mut Ledger,
        but: &[Relief],
        spared: Option<Key>,
        now: Instant,
    ) -> Option<Relief> {
        let first = ledger.random(self.shards.len());
        let (before, after) = self.shards.split_at(first);
        let mut least: Option<Relief> = None;
        let mut looked = 0;
        for shard in after.iter().chain(before) {
            let mut shard = self.lock(shard);
            let count = shard.slots.len();
            for _ in 0..SAMPLE_OF_SHARD.min(count) {
                let relief = shard.relief(ledger.random(count), ledger.spills, now);
                let is_taken =
                    spared == Some(relief.key) || but.iter().any(|chosen| chosen.key == relief.key);
                if !is_taken && least.is_none_or(|least| relief.loss < least.loss) {
                    least = Some(relief);
                }
                looked += 1;
            }
            let found = least.map(|least| least.spills || !ledger.spills);
            if found.is_some_and(|found| looked >= if found { SAMPLE } else { SAMPLE_TO_SPILL }) {
                break;
            }
        }
        least
    }

    fn insert(&self, ledger: &mut Ledger, key: Key, entry: Arc<Entry<L>>) {
        ledger.index.add(key, &entry.pins);
        ledger.add(&entry);
        ledger.stored += 1;
        {
            let mut shard = self.lock(self.shard(key));
            ledger.shard_bytes -= shard.bytes();
            shard.insert(key, Arc::clone(&entry));
            ledger.shard_bytes += shard.bytes();
        }
        self.observer.stored(key, &entry);
    }

    /// Takes an entry out, if it is in.
    pub(crate) fn remove(&self, ledger: &mut Ledger, key: Key, why: Removal) -> bool {
        let removed = {
            let mut shard = self.lock(self.shard(key));
            ledger.shard_bytes -= shard.bytes();
            let removed = shard.remove(key);
            ledger.shard_bytes += shard.bytes();
            removed
        };
        let Some(entry) = removed else { return false };
        ledger.index.take(key, &entry.pins);
        ledger.take(&entry);
        ledger.removed[why as usize] += 1;
        self.observer.removed(key, &entry, why);
        true
    }
}

/// About what an entry adds to tables. What it really adds is counted when it is in.
fn overhead<L>(entry: &Entry<L>) -> usize {
    size_of::<Slot<L>>() + 8 + 48 * entry.pins.len()
}
