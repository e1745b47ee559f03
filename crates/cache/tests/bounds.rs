//! Bounds of memory, what is worth keeping, and books that stay exact. And, on request, what a hit costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use integratedb_cache::{
    Answer, ColumnId, Dependency, Entry, FillResult, Key, Lookup, Lsn, Observer, Outcome, Reader,
    Refusal, Removal, Row, Rows, Settings, Snapshot, Store, TableId, Touched, TouchedTable, Value,
    Xid,
};

/// What this process holds, so that what the cache says it takes can be compared with what it does.
struct Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);
/// One test at a time, as they share the count.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as asked for.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TABLE: TableId = TableId(1);
const ID: ColumnId = ColumnId(1);

thread_local!(static LABEL: Arc<u32> = Arc::new(7));

fn key(number: u64) -> Key {
    // As a caller's hash: no pattern left.
    let high = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let low = (high ^ high >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    Key(u128::from(high) << 64 | u128::from(low ^ low >> 32))
}

fn snapshot(xid: u64) -> Snapshot {
    Snapshot { xmin: Xid(xid), xmax: Xid(xid), in_progress: [].into() }
}

fn store(settings: Settings, now: Instant) -> Store<u32> {
    served(Store::new(settings, now), now)
}

fn served(store: Store<u32>, now: Instant) -> Store<u32> {
    store.publish(&[TABLE], &snapshot(5));
    store.resume();
    store.fresh(now);
    store
}

fn fill(number: u64, bytes: usize, cost: u64) -> FillResult<u32> {
    FillResult {
        answer: Answer::new(b"", &vec![b'x'; bytes]),
        dependencies: vec![Dependency {
            table: TABLE,
            pins: Some((ID, Value::Int(number as i64))),
        }],
        snapshot: snapshot(10),
        understood: snapshot(10),
        position: Lsn(0),
        cost: Duration::from_micros(cost),
        label: LABEL.with(Arc::clone),
        until: None,
        seen_by_replication: true,
    }
}

fn look(store: &Store<u32>, number: u64, now: Instant) -> bool {
    matches!(store.lookup(key(number), Reader { seen: &mut Lsn(0), now }), Lookup::Hit(_))
}

/// As a session does: looks, and fills what is missing.
fn ask(store: &Store<u32>, number: u64, bytes: usize, cost: u64, now: Instant) -> bool {
    let hit = look(store, number, now);
    if !hit {
        let _: Outcome = store.finish(store.begin(), key(number), fill(number, bytes, cost), now);
    }
    hit
}

fn ask_all(store: &Store<u32>, numbers: std::ops::Range<u64>, bytes: usize, now: Instant) {
    for number in numbers {
        ask(store, number, bytes, 100, now);
    }
}

fn touch(store: &Store<u32>, xid: u64, rows: Rows) -> usize {
    store.apply(&Touched {
        xid: Xid(xid),
        commit: Lsn(xid),
        tables: vec![TouchedTable { table: TABLE, rows }],
        schema: false,
        everything: false,
    })
}

#[test]
fn memory_holds_under_ten_times_too_many_keys() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (now, bound) = (Instant::now(), 4 << 20);
    let before = HELD.load(Ordering::Relaxed);
    let store = store(Settings::new(3, bound), now);
    let mut most = 0;
    for number in 0..100_000 {
        ask(&store, number, 100 + (number % 7 * 50) as usize, 100, now);
        if number % 1000 == 0 {
            let figures = store.figures();
            assert!(figures.bytes <= bound, "{figures:?}");
            most = most.max(HELD.load(Ordering::Relaxed) - before);
        }
    }
    let figures = store.figures();
    assert!(figures.entries > 4000 && figures.evicted > 50_000, "{figures:?}");
    let held = HELD.load(Ordering::Relaxed) - before;
    // Beside the bound: the journal, the observer and other small things.
    assert!(most <= bound as isize + 64_000, "held {most} of {bound}");
    assert!((held - figures.bytes as isize).abs() < 64_000, "held {held}, told {}", figures.bytes);
    store.audit().expect("exact");
    assert_eq!(store.purge_all(), figures.entries);
    store.audit().expect("exact");
    let held = HELD.load(Ordering::Relaxed) - before;
    assert!(held < 100_000, "{held} held by an empty cache");
}

/// What is durable at once, so that it may leave memory.
struct AtOnce(Arc<AtomicIsize>);

impl Observer<u32> for AtOnce {
    fn stored(&self, _: Key, entry: &Arc<Entry<u32>>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        entry.durable.note();
    }

    fn removed(&self, _: Key, _: &Entry<u32>, _: Removal) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn memory_holds_where_ten_times_as_much_is_on_disk() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (now, bound, keys, length) = (Instant::now(), 4 << 20, 10_000, 4_000);
    let before = HELD.load(Ordering::Relaxed);
    let in_file = Arc::new(AtomicIsize::new(0));
    let follows = Box::new(AtOnce(Arc::clone(&in_file)));
    let store = served(Store::observed(Settings::new(3, bound), now, follows), now);
    store.set_spills(true);
    let mut most = 0;
    let mut given = [0, 0];
    for number in 0..4 * keys {
        // Half of the questions are about a hundredth of the keys.
        let number = if number % 2 == 0 { number / 2 % (keys / 100) } else { number / 2 % keys };
        match store.lookup(key(number), Reader { seen: &mut Lsn(0), now }) {
            Lookup::Hit(_) => given[0] += 1,
            Lookup::OnDisk(ticket) => {
                let answer = Answer::new(b"", &vec![b'x'; length]);
                let reader = Reader { seen: &mut Lsn(0), now };
                let read = store.lookup_read(key(number), &ticket, answer, reader);
                assert!(matches!(read, Lookup::Hit(entry) if entry.answer().is_some()));
                given[1] += 1;
            }
            _ => {
                let filled = fill(number, length, 1000);
                let _: Outcome = store.finish(store.begin(), key(number), filled, now);
            }
        }
        if number % 100 == 0 {
            let figures = store.figures();
            assert!(figures.bytes <= bound, "{figures:?}");
            most = most.max(HELD.load(Ordering::Relaxed) - before);
        }
    }
    store.audit().expect("exact");
    let figures = store.figures();
    assert!(most <= bound as isize + 64_000, "held {most} of {bound}");
    // 40 MB in 4: almost nothing is lost, and the hot ones are in memory.
    assert!(figures.entries > 9_900 && figures.evicted < 500, "{figures:?}");
    assert_eq!(in_file.load(Ordering::Relaxed), figures.entries as isize);
    assert_eq!(figures.disk_bytes, figures.on_disk * length);
    assert!(given[0] > 10_000 && given[1] > 5_000, "{given:?} {figures:?}");
    // Room on disk takes those that save least, and no more than are wanted.
    for number in 0..keys / 100 {
        for _ in 0..20 {
            look(&store, number, now);
        }
    }
    let before_shed = store.figures().entries;
    let shed = store.shed(1_000_000, now);
    assert_eq!(shed.len(), 250);
    assert_eq!(store.figures().entries, before_shed - 250);
    let hot: Vec<Key> = (0..keys / 100).map(key).collect();
    assert!(!shed.iter().any(|key| hot.contains(key)), "a hot one went");
    // What is on disk is dropped as anything else, and all of it if the disk fails.
    assert_eq!(touch(&store, 20, Rows::Some(vec![vec![(ID, Value::Int(5))]])), 1);
    let (left, on_disk) = (store.figures().entries, store.figures().on_disk);
    assert_eq!(store.set_spills(false), on_disk);
    assert_eq!(store.figures().entries, left - on_disk);
    store.audit().expect("exact");
    assert_eq!(store.purge_all(), left - on_disk);
    assert_eq!(in_file.load(Ordering::Relaxed), 0);
}

#[test]
fn what_finds_the_disk_gives_way_when_it_fills_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (now, bound) = (Instant::now(), 256 << 10);
    let in_file = Arc::new(AtomicIsize::new(0));
    let follows = Box::new(AtOnce(Arc::clone(&in_file)));
    let store = served(Store::observed(Settings::new(3, bound), now, follows), now);
    store.set_spills(true);
    for number in 0..20_000 {
        let _: Outcome = store.finish(store.begin(), key(number), fill(number, 500, 5000), now);
        assert!(store.figures().bytes <= bound);
    }
    let figures = store.figures();
    assert!(figures.on_disk > 400 && figures.evicted > 10_000, "{figures:?}");
    assert_eq!(in_file.load(Ordering::Relaxed), figures.entries as isize);
    store.audit().expect("exact");
}

#[test]
fn a_scan_does_not_empty_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let store = store(Settings::new(3, 1 << 20), now);
    for _ in 0..10 {
        ask_all(&store, 0..500, 200, now);
    }
    for number in 0..100_000_u64 {
        ask(&store, 1000 + number, 200, 100, now);
        // The hot ones stay hot meanwhile, at a tenth of the rate: between two askings come 5000 others, twice
        // as many as fit, so that least-recently-used would keep none.
        if number % 10 == 0 {
            ask(&store, number / 10 % 500, 200, 100, now);
        }
    }
    let kept = (0..500).filter(|number| look(&store, *number, now)).count();
    assert!(kept > 400, "{kept} of 500 hot entries survived");
}

#[test]
fn what_is_hot_now_takes_the_place_of_what_was() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let store = store(Settings::new(3, 256 << 10), now);
    for _ in 0..100 {
        ask_all(&store, 0..600, 200, now);
    }
    for _ in 0..100 {
        ask_all(&store, 1000..1400, 200, now);
    }
    let kept = (1000..1400).filter(|number| look(&store, *number, now)).count();
    assert!(kept > 300, "{kept} of 400 are in");
}

#[test]
fn the_costly_stays_and_the_cheap_goes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let store = store(Settings::new(3, 256 << 10), now);
    for number in 0..20_000 {
        ask(&store, number, 200, if number % 100 == 0 { 100_000 } else { 100 }, now);
    }
    let kept = (0..200).filter(|number| look(&store, number * 100, now)).count();
    assert!(kept > 190, "{kept} of 200 costly ones are in");
}

#[test]
fn an_entry_too_large_is_refused() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let store = store(Settings::new(3, 1 << 20), now);
    let large = store.finish(store.begin(), key(1), fill(1, 20_000, 1), now);
    assert_eq!(large, Outcome::Refused(Refusal::TooLarge));
    assert_eq!(store.figures().refused(Refusal::TooLarge), 1);
}

#[test]
fn the_journal_is_bounded_over_all_tables() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let store = store(Settings { journal_bytes: 100_000, ..Settings::new(3, 1 << 20) }, now);
    for xid in 10..5000 {
        let rows: Vec<Row> =
            (0..xid as i64 % 80).map(|number| vec![(ID, Value::Int(number))]).collect();
        store.apply(&Touched {
            xid: Xid(xid),
            commit: Lsn(xid),
            tables: vec![TouchedTable { table: TableId(xid as u32 % 50), rows: Rows::Some(rows) }],
            schema: false,
            everything: false,
        });
        assert!(store.figures().journal_bytes <= 100_000);
    }
}

#[test]
fn a_change_drops_the_entries_of_its_rows_and_no_others() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let store = store(Settings::new(3, 8 << 20), now);
    ask_all(&store, 0..1000, 100, now);
    let rows = |numbers: &[i64]| {
        Rows::Some(numbers.iter().map(|number| vec![(ID, Value::Int(*number))]).collect())
    };
    assert_eq!(touch(&store, 20, rows(&[5, 6, 5000])), 2);
    assert!(!look(&store, 5, now) && look(&store, 7, now));
    assert_eq!(touch(&store, 9, rows(&[7])), 0, "what an entry sees drops it not");
    assert_eq!(touch(&store, 21, Rows::Some(vec![])), 0);
    assert_eq!(touch(&store, 22, rows(&[7])), 1);
    assert_eq!(touch(&store, 23, Rows::All), 997);
    let figures = store.figures();
    assert_eq!((figures.invalidated_by_row, figures.invalidated_by_table), (3, 997));
    store.audit().expect("exact");
}

#[test]
#[ignore = "a measurement: cargo test --release -p integratedb-cache --test bounds -- --ignored --nocapture"]
fn what_a_hit_costs() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    for entries in [1_000, 10_000, 100_000, 1_000_000] {
        let before = HELD.load(Ordering::Relaxed);
        let store = store(Settings::new(3, 4 << 30), now);
        let empty = HELD.load(Ordering::Relaxed);
        let answer = 100;
        let began = Instant::now();
        for number in 0..entries {
            let filled = fill(number, answer, 100);
            let _: Outcome = store.finish(store.begin(), key(number), filled, now);
        }
        let stored = began.elapsed() / entries as u32;
        let held = (HELD.load(Ordering::Relaxed) - empty) as u64 / entries - answer as u64;
        let told = store.figures().bytes as u64;
        let (mut number, rounds) = (1, 4_000_000_u32);
        let began = Instant::now();
        for _ in 0..rounds {
            number = (number * 48_271 + 11) % entries;
            assert!(look(&store, number, now));
        }
        let hit = began.elapsed() / rounds;
        let fence = store.fence(&[integratedb_cache::Scope::Table(TableId(9))]);
        let began = Instant::now();
        for _ in 0..rounds {
            number = (number * 48_271 + 11) % entries;
            assert!(look(&store, number, now));
        }
        let fenced = began.elapsed() / rounds;
        store.settle(fence, Lsn(0));
        let began = Instant::now();
        let touched = 1000.min(entries as i64);
        for row in 0..touched {
            assert_eq!(touch(&store, 20, Rows::Some(vec![vec![(ID, Value::Int(row))]])), 1);
        }
        let applied = began.elapsed() / touched as u32;
        eprintln!(
            "{entries} entries: hit {hit:?}, with a fence {fenced:?}, store {stored:?}, apply a row \
             {applied:?}, {held} bytes an entry beside its answer (told in all {told}, empty {})",
            empty - before
        );
    }
}
