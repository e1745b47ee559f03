//! What each part promises, one promise a test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use integratedb_cache::{
    Answer, Dependency, Durable, Entry, FillResult, Key, Lookup, Lsn, Observer, Outcome, Reader,
    Refusal, Removal, Rows, Scope, Settings, Snapshot, Store, TableId, Touched, TouchedTable, Xid,
};

const SEEN: TableId = TableId(1);
const FOREIGN: TableId = TableId(2);
const KEY: Key = Key(1);

fn snapshot(xid: u64) -> Snapshot {
    Snapshot { xmin: Xid(xid), xmax: Xid(xid), in_progress: [].into() }
}

struct Cache {
    store: Store<&'static str>,
    now: Instant,
}

fn cache() -> Cache {
    observed(Box::new(()))
}

fn observed(observer: Box<dyn Observer<&'static str>>) -> Cache {
    let now = Instant::now();
    let store = Store::observed(Settings::new(1, 1 << 20), now, observer);
    store.publish(&[SEEN], &snapshot(5));
    store.resume();
    store.fresh(now);
    Cache { store, now }
}

impl Cache {
    fn fill(&self, table: TableId) -> FillResult<&'static str> {
        let is_seen = table == SEEN;
        FillResult {
            answer: Answer::new(b"T", b"DC"),
            dependencies: vec![Dependency { table, pins: None }],
            snapshot: snapshot(10),
            understood: snapshot(10),
            position: Lsn(0),
            cost: Duration::from_millis(1),
            label: Arc::new("template"),
            until: (!is_seen).then(|| self.now + Duration::from_secs(10)),
            seen_by_replication: is_seen,
        }
    }

    fn store(&self, table: TableId) -> Outcome {
        self.store.finish(self.store.begin(), KEY, self.fill(table), self.now)
    }

    fn look_at(&self, seconds: u64) -> Lookup<&'static str> {
        let now = self.now + Duration::from_secs(seconds);
        self.store.lookup(KEY, Reader { seen: &mut Lsn(0), now })
    }

    fn look(&self) -> Lookup<&'static str> {
        self.look_at(0)
    }

    fn touch(&self, table: TableId, xid: u64) -> usize {
        self.store.apply(&Touched {
            xid: Xid(xid),
            commit: Lsn(xid),
            tables: vec![TouchedTable { table, rows: Rows::All }],
            schema: false,
            everything: false,
        })
    }
}

#[test]
fn a_hit_gives_the_bytes_and_raises_what_the_session_has_seen() {
    let cache = cache();
    let filled = FillResult { position: Lsn(77), ..cache.fill(SEEN) };
    assert_eq!(cache.store.finish(cache.store.begin(), KEY, filled, cache.now), Outcome::Stored);
    let mut seen = Lsn(0);
    let Lookup::Hit(entry) = cache.store.lookup(KEY, Reader { seen: &mut seen, now: cache.now })
    else {
        panic!("it was stored");
    };
    let answer = entry.answer().expect("a hit");
    assert_eq!((answer.description(), answer.rows()), (&b"T"[..], &b"DC"[..]));
    assert_eq!((answer.all(), *entry.label, seen), (&b"TDC"[..], "template", Lsn(77)));
    let again = cache.store.lookup(KEY, Reader { seen: &mut seen, now: cache.now });
    assert!(matches!(again, Lookup::Behind(_)));
    cache.store.advance(Lsn(77));
    let again = cache.store.lookup(KEY, Reader { seen: &mut seen, now: cache.now });
    assert!(matches!(again, Lookup::Hit(_)));
}

#[test]
fn nothing_that_replication_must_see_is_served_without_it() {
    let cache = cache();
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    cache.store.suspend("the reader is down");
    assert!(matches!(cache.look(), Lookup::Off("the reader is down")));
    cache.store.resume();
    assert!(matches!(cache.look_at(1), Lookup::Off(_)), "what came meanwhile may not be applied");
    cache.store.fresh(cache.now);
    assert!(matches!(cache.look_at(5), Lookup::Hit(_)));
    assert!(matches!(cache.look_at(6), Lookup::Off("replication is late")));
    cache.store.fresh(cache.now + Duration::from_secs(4));
    assert!(matches!(cache.look_at(6), Lookup::Hit(_)));
    cache.store.unpublish(&[SEEN]);
    assert!(matches!(cache.look(), Lookup::Miss));
    assert_eq!(cache.store(SEEN), Outcome::Refused(Refusal::NotCovered));
}

#[test]
fn what_replication_does_not_see_lives_for_its_time() {
    let cache = cache();
    let unlimited = FillResult { until: None, ..cache.fill(FOREIGN) };
    let outcome = cache.store.finish(cache.store.begin(), KEY, unlimited, cache.now);
    assert_eq!(outcome, Outcome::Refused(Refusal::Unlimited));
    assert_eq!(cache.store(FOREIGN), Outcome::Stored);
    cache.store.suspend("there is none");
    assert!(matches!(cache.look_at(9), Lookup::Hit(_)));
    assert!(matches!(cache.look_at(10), Lookup::Miss));
    assert_eq!(cache.touch(FOREIGN, 20), 1, "if replication sees it after all");
}

#[test]
fn a_write_through_the_proxy_drops_what_replication_does_not_see() {
    let cache = cache();
    let under_way = cache.store.begin();
    assert_eq!(cache.store(FOREIGN), Outcome::Stored);
    let fence = cache.store.fence(&[Scope::Table(FOREIGN)]);
    assert!(matches!(cache.look(), Lookup::Fenced));
    cache.store.settle(fence, Lsn(100));
    assert!(matches!(cache.look(), Lookup::Miss), "replication will not drop it");
    let late = cache.store.finish(under_way, KEY, cache.fill(FOREIGN), cache.now);
    assert_eq!(late, Outcome::Refused(Refusal::Disturbed));
    assert_eq!(cache.store(FOREIGN), Outcome::Stored);
    assert!(matches!(cache.look(), Lookup::Hit(_)), "though the reader is not there yet");
}

#[test]
fn a_fence_stands_until_the_reader_is_past_it() {
    let cache = cache();
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    let first = cache.store.fence(&[Scope::Table(SEEN)]);
    let other = cache.store.fence(&[Scope::Table(FOREIGN)]);
    cache.store.settle(first, Lsn(50));
    cache.store.advance(Lsn(49));
    assert!(matches!(cache.look(), Lookup::Fenced));
    cache.store.advance(Lsn(50));
    assert!(matches!(cache.look(), Lookup::Hit(_)));
    let mark = cache.store.fence_mark();
    let late = cache.store.fence(&[Scope::Everything]);
    cache.store.settle_before(mark, Lsn(50));
    assert_eq!(
        cache.store.figures().fences,
        1,
        "{other:?} fell, {late:?} was raised after the mark"
    );
    assert!(matches!(cache.look(), Lookup::Fenced));
}

#[test]
fn fences_that_nobody_lets_fall_are_bounded() {
    let cache = cache();
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    for number in 0..5000 {
        let fence = cache.store.fence(&[Scope::Table(FOREIGN)]);
        cache.store.settle(fence, Lsn(100 + number));
    }
    assert!(cache.store.figures().fences <= 1024);
    assert!(matches!(cache.look(), Lookup::Fenced), "they became one around everything");
    cache.store.advance(Lsn(5099));
    assert!(matches!(cache.look(), Lookup::Hit(_)));
}

#[test]
fn a_purge_is_for_fills_under_way_too() {
    let cache = cache();
    let under_way = cache.store.begin();
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    assert_eq!(cache.store.purge_where(|label| *label == "another"), 0);
    assert_eq!(cache.store.purge_where(|label| *label == "template"), 1);
    let late = cache.store.finish(under_way, KEY, cache.fill(SEEN), cache.now);
    assert_eq!(late, Outcome::Refused(Refusal::Purged));
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    assert_eq!(cache.store.purge_table(FOREIGN), 0);
    let Lookup::Hit(entry) = cache.look() else { panic!("it was stored") };
    assert_eq!(cache.store.drop_label(&Arc::new("template")), 0, "another label of the same name");
    assert_eq!(cache.store.drop_label(&entry.label), 1);
    assert_eq!(cache.store.figures().purged, 2);
}

#[test]
fn a_flush_is_for_good() {
    let cache = cache();
    let under_way = cache.store.begin();
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    cache.store.advance(Lsn(500));
    assert_eq!(cache.store.flush("the slot was lost"), 1);
    cache.store.resume();
    assert_eq!(cache.store.off(cache.now), Some("replication is late"), "not known to be fresh");
    cache.store.publish(&[SEEN], &snapshot(5));
    let late = cache.store.finish(under_way, KEY, cache.fill(SEEN), cache.now);
    assert_eq!(late, Outcome::Refused(Refusal::Flushed));
    assert_eq!(cache.store.applied(), Lsn(0));
    cache.store.audit().expect("exact");
}

#[test]
fn a_description_counts_if_it_saw_the_schema() {
    let cache = cache();
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    let change = Touched {
        xid: Xid(12),
        commit: Lsn(12),
        tables: Vec::new(),
        schema: true,
        everything: false,
    };
    assert_eq!(cache.store.apply(&change), 1);
    assert!(!cache.store.understands(&snapshot(12)) && cache.store.understands(&snapshot(13)));
    let filled = FillResult { snapshot: snapshot(13), ..cache.fill(SEEN) };
    let outcome = cache.store.finish(cache.store.begin(), KEY, filled, cache.now);
    assert_eq!(outcome, Outcome::Refused(Refusal::Schema));
}

/// What is durable at once.
struct Durably;

impl Observer<&'static str> for Durably {
    fn stored(&self, _: Key, entry: &Arc<Entry<&'static str>>) {
        entry.durable.note();
    }

    fn removed(&self, _: Key, _: &Entry<&'static str>, _: Removal) {}
}

impl Cache {
    /// With an entry whose bytes are on disk only, and the ticket of who looked for it.
    fn spilled() -> (Self, Arc<Entry<&'static str>>) {
        let cache = observed(Box::new(Durably));
        cache.store.set_spills(true);
        assert_eq!(cache.store(SEEN), Outcome::Stored);
        let ticket = cache.spill();
        (cache, ticket)
    }

    fn spill(&self) -> Arc<Entry<&'static str>> {
        self.store.spill_now([KEY]);
        let Lookup::OnDisk(ticket) = self.look() else { panic!("it is on disk") };
        ticket
    }

    fn look_read(&self, ticket: &Arc<Entry<&'static str>>, seen: &mut Lsn) -> Lookup<&'static str> {
        let reader = Reader { seen, now: self.now };
        self.store.lookup_read(KEY, ticket, Answer::new(b"T", b"DC"), reader)
    }
}

#[test]
fn what_was_read_from_disk_is_judged_anew() {
    // Nothing has changed.
    let (cache, ticket) = Cache::spilled();
    assert!(ticket.is_described() && ticket.answer().is_none());
    let figures = cache.store.figures();
    assert_eq!((figures.on_disk, figures.disk_bytes, figures.answer_bytes), (1, 3, 0));
    let Lookup::Hit(entry) = cache.look_read(&ticket, &mut Lsn(0)) else { panic!("a hit") };
    assert_eq!(entry.answer().expect("a hit").all(), b"TDC");
    // It is back in memory, also for who has read it as well, or could not.
    assert!(matches!(cache.look(), Lookup::Hit(_)));
    assert!(matches!(cache.look_read(&ticket, &mut Lsn(0)), Lookup::Hit(_)));
    assert!(!cache.store.lose(KEY, &ticket), "what is in memory needs no disk");
    let figures = cache.store.figures();
    assert_eq!((figures.hits, figures.disk_hits, figures.on_disk, figures.promoted), (3, 1, 0, 1));
    // A fence.
    let ticket = cache.spill();
    let fence = cache.store.fence(&[Scope::Table(SEEN)]);
    assert!(matches!(cache.look_read(&ticket, &mut Lsn(0)), Lookup::Fenced));
    cache.store.settle(fence, Lsn(0));
    // What the session has seen; the reader is down; a change.
    assert!(matches!(cache.look_read(&ticket, &mut Lsn(9)), Lookup::Behind(_)));
    cache.store.suspend("the reader is down");
    assert!(matches!(cache.look_read(&ticket, &mut Lsn(0)), Lookup::Off(_)));
    cache.store.resume();
    cache.store.fresh(cache.now);
    assert_eq!(cache.touch(SEEN, 11), 1);
    assert!(matches!(cache.look_read(&ticket, &mut Lsn(0)), Lookup::Miss));
    cache.store.audit().expect("exact");
}

#[test]
fn a_ticket_is_of_one_entry() {
    let (cache, ticket) = Cache::spilled();
    // The same question again, and on disk too: what was read is of the former.
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    let another = cache.spill();
    let looked = cache.look_read(&ticket, &mut Lsn(0));
    assert!(matches!(looked, Lookup::OnDisk(entry) if Arc::ptr_eq(&entry, &another)));
    assert!(!cache.store.lose(KEY, &ticket) && cache.store.lose(KEY, &another));
    assert!(matches!(cache.look(), Lookup::Miss));
    assert_eq!(cache.store.figures().lost, 1);
    // Without a file nothing is on disk only, and nothing goes there.
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    cache.spill();
    assert_eq!(cache.store.set_spills(false), 1);
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    cache.store.spill_now([KEY]);
    assert!(matches!(cache.look(), Lookup::Hit(_)));
    cache.store.audit().expect("exact");
}

#[test]
fn restored_entries_come_before_anything_is_applied() {
    let cache = cache();
    assert_eq!(cache.store(SEEN), Outcome::Stored);
    let Lookup::Hit(entry) = cache.look() else { panic!("it was stored") };
    let entry = || Entry {
        body: entry.body.clone(),
        durable: Durable::default(),
        read_at: entry.read_at.clone(),
        position: entry.position,
        pins: entry.pins.clone(),
        label: Arc::clone(&entry.label),
        cost: entry.cost,
        until: entry.until,
        seen_by_replication: entry.seen_by_replication,
    };
    let outcome = cache.store.restore(KEY, entry(), cache.now);
    assert_eq!(outcome, Outcome::Refused(Refusal::TooLate), "not suspended");
    cache.store.flush("started anew");
    // No table is covered yet: the entry was when it was stored, and its slot still sees to it.
    assert_eq!(cache.store.restore(KEY, entry(), cache.now), Outcome::Stored);
    cache.touch(FOREIGN, 11);
    let outcome = cache.store.restore(Key(2), entry(), cache.now);
    assert_eq!(outcome, Outcome::Refused(Refusal::TooLate));
    cache.store.resume();
    cache.store.fresh(cache.now);
    assert!(matches!(cache.look(), Lookup::Hit(_)));
    assert_eq!(cache.touch(SEEN, 12), 1);
}

#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Observer<&'static str> for Notes {
    fn stored(&self, key: Key, _: &Arc<Entry<&'static str>>) {
        self.0.lock().expect("no panic").push(format!("stored {}", { key.0 }));
    }

    fn removed(&self, key: Key, _: &Entry<&'static str>, why: Removal) {
        self.0.lock().expect("no panic").push(format!("{why:?} {}", { key.0 }));
    }
}

#[test]
fn an_observer_hears_all_in_order() {
    let notes = Notes::default();
    let cache = observed(Box::new(notes.clone()));
    for _ in 0..2 {
        assert_eq!(cache.store(SEEN), Outcome::Stored);
    }
    cache.touch(SEEN, 20);
    let late = FillResult { snapshot: snapshot(21), ..cache.fill(SEEN) };
    assert_eq!(cache.store.finish(cache.store.begin(), KEY, late, cache.now), Outcome::Stored);
    cache.store.purge_all();
    let heard = notes.0.lock().expect("no panic").join(", ");
    assert_eq!(heard, "stored 1, Replaced 1, stored 1, Table 1, stored 1, Purged 1");
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_a_position_is_woken_once_it_is_applied() {
    let cache = cache();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let (mut near, mut far) = (cache.store.reached(Lsn(10)), cache.store.reached(Lsn(20)));
    let mut gone = cache.store.reached(Lsn(10));
    assert!(near.poll(&mut context).is_pending() && far.poll(&mut context).is_pending());
    assert!(gone.poll(&mut context).is_pending());
    drop(gone);
    cache.store.advance(Lsn(9));
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    cache.store.advance(Lsn(10));
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(near.poll(&mut context).is_ready() && far.poll(&mut context).is_pending());
    cache.store.flush("nothing to wait for");
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    assert_eq!(far.poll(&mut context), Poll::Ready(()));
}

#[test]
fn a_fill_from_before_the_snapshot_that_dates_what_is_forgotten_is_refused() {
    let now = Instant::now();
    let settings = Settings { journal_per_table: 1, ..Settings::new(1, 1 << 20) };
    let cache = Cache { store: Store::new(settings, now), now };
    cache.store.publish(&[SEEN], &snapshot(5));
    let under_way = cache.store.begin();
    cache.store.receive(&cache.store.begin(), &snapshot(22));
    cache.touch(SEEN, 20);
    cache.touch(SEEN, 21);
    // 20 is forgotten. The snapshot that came in sees it, this one does not.
    let read_at = "20:22:20".parse().expect("a snapshot");
    let late = FillResult { snapshot: read_at, ..cache.fill(SEEN) };
    let outcome = cache.store.finish(under_way, KEY, late, now);
    assert_eq!(outcome, Outcome::Refused(Refusal::Forgotten));
    let newer = FillResult { snapshot: snapshot(22), ..cache.fill(SEEN) };
    assert_eq!(cache.store.finish(cache.store.begin(), KEY, newer, now), Outcome::Stored);
}
