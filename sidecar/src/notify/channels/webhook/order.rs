//! Which events may be sent: those before which nothing of the same key is left.
//!
//! An event of a row waits for earlier ones of the row, and of the whole table; one of a whole table waits for all
//! earlier ones of it. Events are sent in groups. Several of one key may go in one group, in their order; but two groups
//! that have a key in common are never on their way at once. What failed keeps its place until it is finished.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use integratedb_events::Keys;

/// An event's number: later ones have higher ones.
pub(super) type Number = u64;

/// A group's number, from 1.
pub(super) type Group = u64;

/// The events that are not finished.
#[derive(Debug, Default)]
pub(super) struct Order {
    next: Number,
    keys: BTreeMap<Number, Keys>,
    rows: HashMap<(u32, u64), Row>,
    tables: HashMap<u32, Table>,
    /// Those that wait for nothing but to be sent.
    ready: BTreeSet<Number>,
}

/// The order of a row.
#[derive(Debug, Default)]
struct Row {
    /// The group that is on its way, or to be tried again, with so many events; 0 if there is none.
    group: Group,
    held: usize,
    waiting: VecDeque<Number>,
}

/// The order of a table.
#[derive(Debug, Default)]
struct Table {
    /// Events of its rows that are not finished.
    rows: BTreeSet<Number>,
    /// Events of the whole of it that are not finished.
    whole: VecDeque<Number>,
}

/// The rows of these keys.
fn rows(keys: Keys) -> impl Iterator<Item = (u32, u64)> {
    let (first, second) = match keys {
        Keys::Row(table, row) => (Some((table, row)), None),
        Keys::Rows(table, new, old) => (Some((table, new)), Some((table, old))),
        Keys::Table(_) | Keys::All => (None, None),
    };
    first.into_iter().chain(second)
}

impl Order {
    /// Those that wait for nothing, the first first.
    pub(super) const fn ready(&self) -> &BTreeSet<Number> {
        &self.ready
    }

    /// Adds an event after all others.
    pub(super) fn push(&mut self, keys: Keys) -> Number {
        let number = self.next;
        self.next += 1;
        self.keys.insert(number, keys);
        match keys {
            Keys::Row(table, _) | Keys::Rows(table, ..) => {
                self.tables.entry(table).or_default().rows.insert(number);
                for row in rows(keys) {
                    self.rows.entry(row).or_default().waiting.push_back(number);
                }
            }
            Keys::Table(table) => self.tables.entry(table).or_default().whole.push_back(number),
            // What is of no key waits for none.
            Keys::All => {}
        }
        if self.is_free(number, keys, 0) {
            self.ready.insert(number);
        }
        number
    }

    /// Takes events for a group: the first that are free, at most `most`, as long as they fit.
    pub(super) fn take(
        &mut self,
        group: Group,
        most: usize,
        mut fits: impl FnMut(Number) -> bool,
    ) -> Vec<Number> {
        let mut taken = Vec::new();
        // Those that are free once what was taken for this group counts as sent.
        let mut next = BTreeSet::new();
        while taken.len() < most {
            let first = self.ready.first().into_iter().chain(next.first()).min().copied();
            let Some(number) = first.filter(|number| fits(*number)) else { break };
            self.ready.remove(&number);
            next.remove(&number);
            taken.push(number);
            next.extend(self.hold(number, group));
        }
        taken
    }

    /// Has a group hold these, which it has held before, whatever else would come first.
    pub(super) fn retake(&mut self, group: Group, numbers: &[Number]) {
        for number in numbers {
            self.ready.remove(number);
            self.hold(*number, group);
        }
    }

    /// Gives those that the group may take too from now on.
    fn hold(&mut self, number: Number, group: Group) -> Vec<Number> {
        let Some(keys) = self.keys.get(&number).copied() else { return Vec::new() };
        let mut next = Vec::new();
        for key in rows(keys) {
            let Some(row) = self.rows.get_mut(&key) else { continue };
            row.waiting.retain(|waiting| *waiting != number);
            row.group = group;
            row.held += 1;
            next.extend(row.waiting.front().copied());
        }
        next.retain(|next| {
            self.keys.get(next).is_some_and(|keys| self.is_free(*next, *keys, group))
        });
        next
    }

    /// Whether nothing is before it but what this group holds.
    fn is_free(&self, number: Number, keys: Keys, group: Group) -> bool {
        let is_first = |key: (u32, u64)| {
            self.rows.get(&key).is_some_and(|row| {
                row.waiting.front() == Some(&number) && (row.group == 0 || row.group == group)
            })
        };
        match keys {
            Keys::All => true,
            Keys::Table(table) => self.tables.get(&table).is_some_and(|table| {
                table.whole.front() == Some(&number)
                    && table.rows.first().is_none_or(|row| *row > number)
            }),
            Keys::Row(table, _) | Keys::Rows(table, ..) => {
                let waits_for_whole = self
                    .tables
                    .get(&table)
                    .and_then(|table| table.whole.front())
                    .is_some_and(|whole| *whole < number);
                !waits_for_whole && rows(keys).all(is_first)
            }
        }
    }

    /// An event was taken or given up: those that waited for it alone are ready.
    pub(super) fn finish(&mut self, number: Number) {
        let Some(keys) = self.keys.remove(&number) else { return };
        self.ready.remove(&number);
        let mut candidates = Vec::new();
        for key in rows(keys) {
            let Some(row) = self.rows.get_mut(&key) else { continue };
            row.held = row.held.saturating_sub(1);
            if row.held == 0 {
                row.group = 0;
                candidates.extend(row.waiting.front().copied());
                if row.waiting.is_empty() {
                    self.rows.remove(&key);
                }
            }
        }
        if let Keys::Table(oid) | Keys::Row(oid, _) | Keys::Rows(oid, ..) = keys
            && let Some(table) = self.tables.get_mut(&oid)
        {
            if matches!(keys, Keys::Table(_)) {
                table.whole.retain(|whole| *whole != number);
                let end = table.whole.front().copied().unwrap_or(Number::MAX);
                candidates.extend(table.rows.range(..end));
            } else {
                table.rows.remove(&number);
            }
            candidates.extend(table.whole.front());
            if table.rows.is_empty() && table.whole.is_empty() {
                self.tables.remove(&oid);
            }
        }
        for candidate in candidates {
            if self.keys.get(&candidate).is_some_and(|keys| self.is_free(candidate, *keys, 0)) {
                self.ready.insert(candidate);
            }
        }
    }

    /// Those that wait for `failed` ones, directly or behind others, in their order.
    pub(super) fn behind(&self, failed: &HashSet<Number>) -> Vec<Number> {
        Chain::default().others(self.keys.iter(), |number| failed.contains(number))
    }

    /// Those that are not finished and that one of `later` waits for, directly or behind others; the last first.
    pub(super) fn before(&self, later: &BTreeSet<Number>) -> Vec<Number> {
        let Some(last) = later.last() else { return Vec::new() };
        Chain::default().others(self.keys.range(..=last).rev(), |number| later.contains(number))
    }
}

/// The keys of events of which each waits for another, or is waited for.
#[derive(Default)]
struct Chain {
    rows: HashSet<(u32, u64)>,
    /// Of which there are rows in it.
    tables: HashSet<u32>,
    /// Of which all is in it.
    whole: HashSet<u32>,
}

impl Chain {
    /// Goes through events, and gives those that one of the chain meets and that are not its own from the start.
    fn others<'a>(
        mut self,
        events: impl Iterator<Item = (&'a Number, &'a Keys)>,
        is_own: impl Fn(&Number) -> bool,
    ) -> Vec<Number> {
        let mut others = Vec::new();
        for (number, keys) in events {
            let is_own = is_own(number);
            if is_own || self.meets(*keys) {
                self.add(*keys);
                others.extend((!is_own).then_some(*number));
            }
        }
        others
    }

    /// Whether one of these can't be sent at the same time.
    fn meets(&self, keys: Keys) -> bool {
        match keys {
            Keys::All => false,
            Keys::Table(table) => self.tables.contains(&table) || self.whole.contains(&table),
            Keys::Row(table, _) | Keys::Rows(table, ..) => {
                self.whole.contains(&table) || rows(keys).any(|row| self.rows.contains(&row))
            }
        }
    }

    fn add(&mut self, keys: Keys) {
        match keys {
            Keys::All => {}
            Keys::Table(table) => drop(self.whole.insert(table)),
            Keys::Row(table, _) | Keys::Rows(table, ..) => {
                self.tables.insert(table);
                self.rows.extend(rows(keys));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(keys: &[Keys]) -> Order {
        let mut order = Order::default();
        for keys in keys {
            order.push(*keys);
        }
        order
    }

    fn take(order: &mut Order, group: Group, most: usize) -> Vec<Number> {
        order.take(group, most, |_| true)
    }

    const A: Keys = Keys::Row(1, 10);
    const B: Keys = Keys::Row(1, 11);
    const MOVED: Keys = Keys::Rows(1, 10, 11);

    #[test]
    fn what_is_on_its_way_holds_its_key_and_no_other() {
        let mut order = order(&[A, A, B, B]);
        assert_eq!((take(&mut order, 1, 1), take(&mut order, 2, 1)), (vec![0], vec![2]));
        assert!(take(&mut order, 3, 1).is_empty());
        order.finish(2);
        assert_eq!(take(&mut order, 3, 9), [3]);
        order.finish(0);
        assert_eq!(take(&mut order, 4, 9), [1]);
        for number in [1, 3] {
            order.finish(number);
        }
        assert!(order.keys.is_empty() && order.rows.is_empty() && order.tables.is_empty());
    }

    #[test]
    fn events_of_one_key_go_together_in_their_order() {
        let mut order = order(&[A, B, A, MOVED, A, Keys::Row(2, 10)]);
        assert_eq!(take(&mut order, 1, 5), [0, 1, 2, 3, 4]);
        assert_eq!(take(&mut order, 2, 5), [5]);
        order.push(B);
        for number in [0, 1, 2] {
            order.finish(number);
        }
        assert!(take(&mut order, 3, 5).is_empty(), "its key is still held");
        order.finish(3);
        assert_eq!(take(&mut order, 3, 5), [6]);
        order.push(A);
        assert!(take(&mut order, 4, 5).is_empty());
        order.finish(4);
        assert_eq!(take(&mut order, 4, 5), [7]);
    }

    #[test]
    fn a_row_with_another_key_waits_for_both() {
        let mut order = order(&[A, B, MOVED, B]);
        assert_eq!((take(&mut order, 1, 1), take(&mut order, 2, 1)), (vec![0], vec![1]));
        order.finish(0);
        assert!(take(&mut order, 3, 9).is_empty());
        order.finish(1);
        assert_eq!(take(&mut order, 3, 1), [2]);
        assert!(take(&mut order, 4, 1).is_empty());
        order.finish(2);
        assert_eq!(take(&mut order, 4, 1), [3]);
    }

    #[test]
    fn an_emptied_table_comes_after_its_rows_and_before_the_next() {
        let table = Keys::Table(1);
        let mut order = order(&[A, table, B, Keys::Row(2, 1), Keys::All, table]);
        assert_eq!(take(&mut order, 1, 9), [0, 3, 4]);
        order.finish(0);
        assert_eq!(take(&mut order, 2, 9), [1]);
        order.finish(1);
        assert_eq!(take(&mut order, 3, 9), [2]);
        order.finish(2);
        assert_eq!(take(&mut order, 4, 9), [5]);
    }

    #[test]
    fn what_waits_for_a_failed_one_is_known() {
        let table = Keys::Table(1);
        let mut order = order(&[A, B, A, MOVED, B, Keys::Row(2, 1), table, Keys::Row(1, 12)]);
        assert_eq!(take(&mut order, 1, 1), [0]);
        assert_eq!(order.behind(&HashSet::from([0])), [2, 3, 4, 6, 7]);
        assert!(order.behind(&HashSet::new()).is_empty());
        order.retake(2, &[1]);
        assert!(order.behind(&HashSet::from([1])).starts_with(&[3]));
    }

    #[test]
    fn what_one_waits_for_is_known() {
        let table = Keys::Table(1);
        let order = order(&[A, B, MOVED, table, A, Keys::Row(2, 1), B, Keys::Table(2)]);
        let before = |number| order.before(&BTreeSet::from([number]));
        assert_eq!((before(1), before(2)), (vec![], vec![1, 0]));
        assert_eq!((before(3), before(6)), (vec![2, 1, 0], vec![3, 2, 1, 0]));
        assert_eq!(before(7), [5]);
        assert_eq!(order.before(&BTreeSet::from([2, 7])), [5, 1, 0]);
    }

    #[test]
    fn what_does_not_fit_waits() {
        let mut order = order(&[A, B, A]);
        let taken = order.take(1, 9, |number| number < 2);
        assert_eq!(taken, [0, 1]);
        assert!(take(&mut order, 2, 9).is_empty());
        order.finish(0);
        assert_eq!(take(&mut order, 2, 9), [2]);
    }
}
