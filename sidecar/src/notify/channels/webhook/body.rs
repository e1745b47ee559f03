//! What a request has in it, and its id.

use std::io::Write;
use std::time::{Duration, SystemTime};

use integratedb_events::EventId;
use sha2::{Digest, Sha256};

use super::super::source::Event;

/// The id of a delivery: of one event its own. Of several it tells which they are, so that other events never come
/// under an id that was seen before.
pub(super) fn delivery_id(ids: &[EventId]) -> Option<String> {
    let first = ids.first()?;
    if ids.len() == 1 {
        return Some(first.to_string());
    }
    let mut hasher = Sha256::new();
    for id in ids {
        hasher.update(format!("{id} "));
    }
    Some(format!("{first}+{}-{}", ids.len(), hex::encode(&hasher.finalize()[..8])))
}

/// The body of a request.
pub(super) fn body(events: &[&Event]) -> Vec<u8> {
    let size: usize = events.iter().map(|event| event.json.len() + 1).sum();
    let mut body = Vec::with_capacity(size + 128);
    let micros = events.first().map_or(0, |event| event.commit_micros);
    let time =
        SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default());
    // Writing to memory can't fail.
    let _ = write!(
        body,
        r#"{{"type":"integratedb.events","timestamp":"{}","data":{{"events":["#,
        humantime::format_rfc3339_micros(time)
    );
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event.json.as_bytes());
    }
    body.extend_from_slice(b"]}}");
    body
}

#[cfg(test)]
mod tests {
    use integratedb_wire::Lsn;

    use super::*;

    #[test]
    fn groups_of_other_events_have_other_ids() {
        let id = |lsn| EventId { epoch: 1, lsn: Lsn(lsn), index: 0 };
        let name = |lsns: &[u64]| delivery_id(&lsns.iter().copied().map(id).collect::<Vec<_>>());
        assert_eq!(name(&[1]), Some(id(1).to_string()));
        assert!(name(&[1, 2]) != name(&[1, 3]) && name(&[1, 2]) == name(&[1, 2]));
        assert_eq!(name(&[]), None);
    }
}
