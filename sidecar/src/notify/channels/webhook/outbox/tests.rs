use integratedb_wire::Lsn;
use serde_json::json;

use super::super::super::config::{ChannelConfig, Settings};
use super::*;

fn id(lsn: u64) -> EventId {
    EventId { epoch: 1, lsn: Lsn(lsn), index: 0 }
}

/// The event at a position, of a row.
fn event(lsn: u64, row: u64) -> Event {
    let keys = if row == 0 { Keys::All } else { Keys::Row(1, row) };
    let (before, json) = (id(lsn - 1), format!("{{\"n\":{lsn}}}"));
    Event { id: id(lsn), before, keys, relation: 1, commit_micros: 0, json }
}

fn outbox(max_events: usize, kept: Vec<Kept>, dead: Vec<EventId>) -> Outbox {
    let batch = json!({"max_events": max_events});
    let channel = json!({"type": "WEBHOOK", "url": "https://example.com", "batch": batch});
    match ChannelConfig::read(&channel).map(|channel| channel.typed) {
        Ok(Settings::Webhook(settings)) => Outbox::new(&settings, kept, dead, Instant::now()),
        _ => panic!("it is a webhook"),
    }
}

fn next(outbox: &mut Outbox) -> Option<(Group, String)> {
    let now = Instant::now();
    outbox.admit(now);
    outbox.next(now, false).map(|request| (request.group, request.id))
}

#[test]
fn the_cursor_is_before_the_first_that_is_neither_finished_nor_kept() {
    let mut outbox = outbox(1, Vec::new(), Vec::new());
    outbox.incoming.extend([event(1, 7), event(2, 8), event(3, 7), event(4, 9)]);
    let now = Instant::now();
    let groups: Vec<Group> =
        std::iter::from_fn(|| next(&mut outbox)).map(|(group, _)| group).collect();
    assert_eq!(groups.len(), 3, "the second of a row waits");
    assert_eq!(outbox.progress(id(9), now).cursor, id(0));
    outbox.taken(groups[1]);
    assert_eq!(outbox.progress(id(9), now).cursor, id(0));
    outbox.failed(groups[0], "no".to_owned(), Some(now + Duration::from_secs(9)), false);
    let progress = outbox.progress(id(9), now);
    assert_eq!(progress.cursor, id(3), "4 is on its way");
    let kept: Vec<_> = progress
        .keep
        .iter()
        .map(|kept| (kept.id, kept.failures, kept.delivery.is_some()))
        .collect();
    assert_eq!(kept, [(id(1), 1, true), (id(3), 0, false)]);
    outbox.taken(groups[2]);
    let progress = outbox.progress(id(9), now);
    assert_eq!((progress.cursor, progress.keep.len()), (id(9), 0));
    // The one that failed is given up, the other goes.
    assert_eq!(outbox.failed(groups[0], "no".to_owned(), None, false), 1);
    let (last, name) = next(&mut outbox).expect("it is free");
    assert_eq!(name, id(3).to_string());
    outbox.taken(last);
    let progress = outbox.progress(id(9), now);
    assert_eq!((progress.dead.len(), progress.done), (1, vec![id(1), id(3)]));
}

#[test]
fn what_is_kept_or_dead_is_not_taken_from_the_log_again() {
    let kept = Kept {
        id: id(2),
        keys: Keys::Row(1, 7),
        commit_micros: 0,
        event: "{}".to_owned(),
        delivery: Some(id(2).to_string()),
        failures: 1,
        wait: None,
        error: None,
    };
    let mut outbox = outbox(1, vec![kept], vec![id(3)]);
    outbox.incoming.extend([event(1, 8), event(2, 7), event(3, 7), event(4, 7)]);
    let ids: Vec<String> = std::iter::from_fn(|| next(&mut outbox)).map(|(_, id)| id).collect();
    assert_eq!(ids, [id(2).to_string(), id(1).to_string()], "4 waits behind 2");
    assert_eq!(outbox.taken(1), 1);
    assert_eq!(next(&mut outbox).map(|(_, name)| name), Some(id(4).to_string()));
}

#[test]
fn a_gap_goes_after_what_was_before_it_and_before_what_comes_after() {
    let mut outbox = outbox(10, Vec::new(), Vec::new());
    outbox.incoming.extend([event(1, 7), event(2, 0), event(3, 8)]);
    let (first, name) = next(&mut outbox).expect("the first");
    assert_eq!((name, next(&mut outbox)), (id(1).to_string(), None));
    outbox.failed(first, "no".to_owned(), Some(Instant::now() + Duration::from_secs(9)), false);
    let (gap, name) = next(&mut outbox).expect("the gap does not wait for what failed");
    assert_eq!((name, next(&mut outbox)), (id(2).to_string(), None));
    outbox.taken(gap);
    assert_eq!(next(&mut outbox).map(|(_, name)| name), Some(id(3).to_string()));
}

#[test]
fn what_is_kept_is_kept_with_all_it_waits_for() {
    let now = Instant::now();
    let mut outbox = outbox(1, Vec::new(), Vec::new());
    let emptied = Event { keys: Keys::Table(1), ..event(3, 1) };
    outbox.incoming.extend([event(1, 7), event(2, 8), emptied]);
    let groups: Vec<Group> =
        std::iter::from_fn(|| next(&mut outbox)).map(|(group, _)| group).collect();
    assert_eq!(groups.len(), 2, "the table waits for its rows");
    outbox.failed(groups[0], "no".to_owned(), Some(now + Duration::from_secs(9)), false);
    // The second is on its way. A process that comes after reads no more than what follows the cursor.
    let progress = outbox.progress(id(9), now);
    let kept: BTreeSet<EventId> = progress.keep.iter().map(|kept| kept.id).collect();
    assert_eq!(kept, BTreeSet::from([id(1), id(2), id(3)]));
    assert_eq!(progress.cursor, id(9));
}
