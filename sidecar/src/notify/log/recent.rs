//! What was read from the database of late, for others who are as far back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use integratedb_events::{EventId, Segment};

/// Segments by what they follow on.
#[derive(Debug)]
pub(super) struct Recent {
    /// A segment has every change after its key, up to its last.
    segments: BTreeMap<EventId, Arc<Segment>>,
    /// Their keys, the oldest first.
    order: VecDeque<EventId>,
    bytes: usize,
    most: usize,
}

impl Recent {
    pub(super) fn new(most: usize) -> Self {
        Self { segments: BTreeMap::new(), order: VecDeque::new(), bytes: 0, most }
    }

    /// Segments that follow on one another, the first on this change.
    pub(super) fn put(&mut self, mut after: EventId, segments: Vec<Arc<Segment>>) {
        for segment in segments {
            let Some(last) = segment.last() else { continue };
            self.bytes += segment.size();
            match self.segments.insert(after, segment) {
                Some(former) => self.bytes -= former.size(),
                None => self.order.push_back(after),
            }
            after = last;
        }
        while self.bytes > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.segments.remove(&oldest).map_or(0, |segment| segment.size());
        }
    }

    /// The segment with the first change after this one, if it is here.
    pub(super) fn after(&self, id: EventId) -> Option<Arc<Segment>> {
        let (_, segment) = self.segments.range(..=id).next_back()?;
        segment.last().is_some_and(|last| last > id).then(|| Arc::clone(segment))
    }
}
