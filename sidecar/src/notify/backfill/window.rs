//! What is decided about the rows of a chunk, from data to data.

use std::collections::HashMap;

use integratedb_cache::{Snapshot, Xid, widen};

/// Bytes of keys that one window remembers.
const MOST_BYTES: usize = 16 << 20;

/// Transactions that are remembered until they are known to be visible.
const MOST_RECENT: usize = 1 << 16;

/// What tells a row of a table from the others: the values of its key's columns as their types write them, each after
/// its length in four bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::notify) struct Key(Box<[u8]>);

impl Key {
    /// From the values in the order of the key; `None` if one of them is not known.
    pub(super) fn of<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> Option<Self> {
        let mut bytes = Vec::new();
        for value in values {
            let value = value?;
            // A message of the protocol has 31 bits for it.
            bytes.extend_from_slice(&(value.len() as u32).to_ne_bytes());
            bytes.extend_from_slice(value);
        }
        Some(Self(bytes.into()))
    }

    /// The values.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut rest = &*self.0;
        std::iter::from_fn(|| {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (text, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
            rest = after;
            Some(String::from_utf8_lossy(text).into_owned())
        })
        .collect()
    }
}

/// Which rows of a table changed since the low mark, as the stream tells it.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// By key: whether the stream left out a large value that did not change.
    touched: HashMap<Key, bool>,
    bytes: usize,
    is_emptied: bool,
    is_lost: bool,
}

/// What becomes of a chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// The rows that are told, by their places.
    pub(super) kept: Vec<usize>,
    /// The keys of rows that have to be read again.
    pub(super) left: Vec<Key>,
}

impl Window {
    /// A row changed.
    pub(super) fn touch(&mut self, key: &Key, is_partial: bool) {
        if self.is_lost || self.is_emptied {
            return;
        }
        if let Some(known) = self.touched.get_mut(key) {
            *known |= is_partial;
            return;
        }
        self.bytes += key.0.len() + size_of::<(Key, bool)>();
        if self.bytes > MOST_BYTES {
            return self.lose();
        }
        self.touched.insert(key.clone(), is_partial);
    }

    /// The table was emptied: whatever is in it since then, the stream tells in full.
    pub(super) fn empty(&mut self) {
        self.touched = HashMap::new();
        self.is_emptied = true;
    }

    /// What changed can't be told: the chunk is to be read again.
    pub(super) fn lose(&mut self) {
        self.touched = HashMap::new();
        self.is_lost = true;
    }

    /// What becomes of rows with these keys, and of those that were asked for by key and may not be there; `None` if
    /// they are to be read again.
    pub(super) fn settle<'a>(
        &self,
        rows: impl Iterator<Item = &'a Key>,
        asked: &[Key],
    ) -> Option<Settled> {
        if self.is_lost {
            return None;
        }
        let mut settled = Settled::default();
        if self.is_emptied {
            return Some(settled);
        }
        let is_left = |key: &&Key| self.touched.get(*key) == Some(&true);
        settled.left.extend(asked.iter().filter(is_left).cloned());
        for (place, key) in rows.enumerate() {
            match self.touched.get(key) {
                None => settled.kept.push(place),
                Some(true) if !asked.contains(key) => settled.left.push(key.clone()),
                Some(_) => {}
            }
        }
        Some(settled)
    }
}

/// The transactions that the writer has processed and that may not be visible yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The lower 32 bits of their ids.
    xids: Vec<u32>,
    /// Raised whenever some that were processed are not, or not any more, remembered.
    generation: u64,
}

impl Recent {
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Nothing is known of what was processed before.
    pub(super) fn forget(&mut self) {
        self.xids.clear();
        self.generation += 1;
    }

    /// One was processed.
    pub(super) fn note(&mut self, xid: u32) {
        if self.xids.len() >= MOST_RECENT {
            self.forget();
        }
        self.xids.push(xid);
    }

    /// All that are remembered.
    pub(super) fn all(&self) -> Vec<u32> {
        self.xids.clone()
    }

    /// A snapshot was taken: of the same server, a later one sees all that it sees.
    pub(super) fn seen(&mut self, snapshot: &Snapshot) {
        self.xids.retain(|xid| !sees(snapshot, *xid));
    }
}

fn sees(snapshot: &Snapshot, xid: u32) -> bool {
    snapshot.sees(widen(xid, snapshot.xmax))
}

/// Whether a snapshot sees all of these transactions, each of which has committed.
pub(super) fn sees_all(snapshot: &Snapshot, xids: &[u32]) -> bool {
    xids.iter().all(|xid| sees(snapshot, *xid))
}

/// Whether one of those that hold a lock began before.
pub(super) fn is_older(holder: u32, floor: Xid) -> bool {
    widen(holder, floor) < floor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::of([Some(text.as_bytes())].into_iter()).expect("a value")
    }

    #[test]
    fn a_key_is_its_values_and_where_they_end() {
        let of = |values: &[&str]| Key::of(values.iter().map(|v| Some(v.as_bytes())));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["ab", "", "ü"]).expect("values").texts(), ["ab", "", "ü"]);
        assert_eq!(Key::of([None].into_iter()), None);
    }

    #[test]
    fn a_row_that_changed_is_dropped_and_read_again_if_the_stream_left_something_out() {
        let mut window = Window::default();
        window.touch(&key("1"), false);
        window.touch(&key("2"), false);
        window.touch(&key("2"), true);
        window.touch(&key("9"), true);
        let rows = ["1", "2", "3"].map(key);
        let settled = window.settle(rows.iter(), &[]).expect("it is known");
        assert_eq!(settled, Settled { kept: vec![2], left: vec![key("2")] });
        let asked = [key("2"), key("9")];
        let settled = window.settle(rows.iter(), &asked).expect("it is known");
        assert_eq!(settled, Settled { kept: vec![2], left: asked.to_vec() });
    }

    #[test]
    fn of_a_table_that_was_emptied_no_row_is_told() {
        let mut window = Window::default();
        window.empty();
        window.touch(&key("1"), true);
        assert_eq!(window.settle([key("1")].iter(), &[]), Some(Settled::default()));
    }

    #[test]
    fn more_keys_than_are_remembered_cost_another_look() {
        let mut window = Window::default();
        for n in 0..=16 {
            window.touch(&key(&n.to_string().repeat(1 << 20)), false);
        }
        assert_eq!(window.settle([].iter(), &[]), None);
        assert_eq!(window.touched.capacity(), 0);
    }

    #[test]
    fn transactions_are_remembered_until_a_snapshot_sees_them() {
        let snapshot: Snapshot = "4294967300:4294967310:4294967305".parse().expect("a snapshot");
        let mut recent = Recent::default();
        [u32::MAX, 3, 9, 14].into_iter().for_each(|xid| recent.note(xid));
        assert!(!sees_all(&snapshot, &recent.all()) && sees_all(&snapshot, &[u32::MAX, 3]));
        recent.seen(&snapshot);
        assert_eq!(recent.all(), [9, 14]);
        let before = recent.generation();
        (0..MOST_RECENT as u32).for_each(|xid| recent.note(xid));
        assert!(recent.generation() > before && recent.all().len() <= MOST_RECENT);
        assert!(is_older(9, Xid(4_294_967_310)) && !is_older(14, Xid(4_294_967_310)));
    }
}
