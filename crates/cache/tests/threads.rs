//! Several threads at once, as in the proxy: no session reads older than what was acknowledged or applied.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use integratedb_cache::{
    Answer, ColumnId, Dependency, Entry, Figures, FillResult, Flights, Joined, Key, Lookup, Lsn,
    Observer, Outcome, Reader, Removal, Rows, Scope, Settings, Snapshot, Store, TableId, Touched,
    TouchedTable, Value, Xid,
};

const TABLE: TableId = TableId(1);
const ID: ColumnId = ColumnId(1);
const ROWS: usize = 16;

/// Each row holds the xid that wrote it last. Transactions are visible when they commit, in order.
struct Origin {
    rows: [u64; ROWS],
    next: u64,
}

impl Origin {
    fn snapshot(&self) -> Snapshot {
        Snapshot { xmin: Xid(self.next), xmax: Xid(self.next), in_progress: [].into() }
    }
}

/// A file that has at once what is stored.
#[derive(Clone, Default)]
struct File(Arc<Mutex<HashMap<u128, Answer>>>);

impl Observer<()> for File {
    fn stored(&self, key: Key, entry: &Arc<Entry<()>>) {
        let answer = entry.answer().expect("as it was filled").clone();
        self.0.lock().expect("no panic").insert(key.0, answer);
        entry.durable.note();
    }

    fn removed(&self, key: Key, _: &Entry<()>, _: Removal) {
        self.0.lock().expect("no panic").remove(&{ key.0 });
    }
}

fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 20) as usize
}

#[test]
fn threads_never_read_backwards() {
    let now = Instant::now();
    let file = File::default();
    let store: Arc<Store<()>> = Arc::new(Store::observed(
        Settings { max_age: Duration::from_secs(3600), ..Settings::new(9, 40_000) },
        now,
        Box::new(file.clone()),
    ));
    store.set_spills(true);
    let origin = Mutex::new(Origin { rows: [0; ROWS], next: 10 });
    store.publish(&[TABLE], &origin.lock().expect("new").snapshot());
    store.resume();
    store.fresh(now);
    let acknowledged: [AtomicU64; ROWS] = Default::default();
    let (log, commits) = channel::<(usize, u64)>();
    let (over, hits, flights) = (AtomicBool::new(false), AtomicU64::new(0), Flights::new());
    std::thread::scope(|threads| {
        let (store, origin, acknowledged, over, hits) =
            (&store, &origin, &acknowledged, &over, &hits);
        threads.spawn(move || {
            for (row, xid) in commits {
                store.apply(&Touched {
                    xid: Xid(xid),
                    commit: Lsn(xid),
                    tables: vec![TouchedTable {
                        table: TABLE,
                        rows: Rows::Some(vec![vec![(ID, Value::Int(row as i64))]]),
                    }],
                    schema: false,
                    everything: false,
                });
                store.advance(Lsn(xid));
            }
        });
        threads.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                store.spill_now((1..=ROWS as u128).map(Key));
                for _ in 0..500 {
                    std::hint::spin_loop();
                }
            }
        });
        for seed in 1..3_u64 {
            let log = log.clone();
            threads.spawn(move || {
                let mut state = seed * 7919;
                while !over.load(Ordering::Relaxed) {
                    let row = random(&mut state) % ROWS;
                    let xid = {
                        let mut origin = origin.lock().expect("no panic");
                        let xid = origin.next;
                        origin.next += 1;
                        origin.rows[row] = xid;
                        log.send((row, xid)).expect("the reader lives as long");
                        xid
                    };
                    let fence = store.fence(&[Scope::Row {
                        table: TABLE,
                        columns: vec![(ID, Value::Int(row as i64))],
                    }]);
                    acknowledged[row].fetch_max(xid, Ordering::SeqCst);
                    store.settle(fence, Lsn(xid));
                    for _ in 0..random(&mut state) % 2000 {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        drop(log);
        let readers: Vec<_> = (3..6_u64)
            .map(|seed| {
                let (flights, file) = (Arc::clone(&flights), file.clone());
                threads.spawn(move || {
                    let (mut state, mut seen, mut last) = (seed * 104_729, Lsn(0), [0; ROWS]);
                    let mut turns = 0_u32;
                    // On a slow machine it takes longer until enough of all has happened.
                    while !turns.is_multiple_of(64)
                        || now.elapsed() < Duration::from_secs(2)
                        || (!has_happened(&store.figures(), hits.load(Ordering::Relaxed))
                            && now.elapsed() < Duration::from_secs(60))
                    {
                        turns += 1;
                        let row = random(&mut state) % ROWS;
                        let key = Key(row as u128 + 1);
                        let floor = acknowledged[row].load(Ordering::SeqCst).max(last[row]);
                        let reader = Reader { seen: &mut seen, now };
                        let mut looked = store.lookup(key, reader);
                        if let Lookup::OnDisk(ticket) = &looked {
                            // It may be of another entry by now, or not there.
                            let answer = file.0.lock().expect("no panic").get(&{ key.0 }).cloned();
                            if let Some(answer) = answer {
                                let reader = Reader { seen: &mut seen, now };
                                looked = store.lookup_read(key, ticket, answer, reader);
                            }
                        }
                        let read = if let Lookup::Hit(entry) = looked {
                            hits.fetch_add(1, Ordering::Relaxed);
                            let bytes = entry
                                .answer()
                                .expect("a hit")
                                .rows()
                                .try_into()
                                .expect("eight bytes");
                            u64::from_le_bytes(bytes)
                        } else {
                            let _flight = match flights.join(key) {
                                Joined::Lead(leader) => Some(leader),
                                Joined::Follow(_) => None,
                            };
                            let ticket = store.begin();
                            let snapshot = origin.lock().expect("no panic").snapshot();
                            let read = origin.lock().expect("no panic").rows[row];
                            let position = Lsn(origin.lock().expect("no panic").next - 1);
                            seen = seen.max(position);
                            let _: Outcome = store.finish(
                                ticket,
                                key,
                                FillResult {
                                    answer: Answer::new(b"", &read.to_le_bytes()),
                                    dependencies: vec![Dependency {
                                        table: TABLE,
                                        pins: Some((ID, Value::Int(row as i64))),
                                    }],
                                    understood: snapshot.clone(),
                                    snapshot,
                                    position,
                                    cost: Duration::from_micros(50),
                                    label: Arc::new(()),
                                    until: None,
                                    seen_by_replication: true,
                                },
                                now,
                            );
                            read
                        };
                        assert!(read >= floor, "row {row}: {read} after {floor}");
                        last[row] = read;
                    }
                })
            })
            .collect();
        let ended: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    store.audit().expect("exact");
    assert!(flights.is_empty());
    let figures = store.figures();
    assert!(has_happened(&figures, hits.load(Ordering::Relaxed)), "{figures:?}");
}

/// Whether all that threads could disturb each other in has happened often enough to show something.
fn has_happened(figures: &Figures, hits: u64) -> bool {
    hits > 1000 && figures.disk_hits > 100 && figures.spilled > 100 && figures.promoted > 100
}
