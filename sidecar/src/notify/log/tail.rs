//! The end of the log, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use integratedb_events::{EventId, Segment};

/// The last segments, without a gap between them.
#[derive(Debug)]
pub(super) struct Tail {
    segments: VecDeque<Arc<Segment>>,
    bytes: usize,
    most: usize,
    /// Every change after this one is here.
    since: EventId,
}

impl Tail {
    pub(super) fn new(most: usize) -> Self {
        Self { segments: VecDeque::new(), bytes: 0, most, since: EventId::default() }
    }

    /// Begins anew after this change.
    pub(super) fn reset(&mut self, since: EventId) {
        self.segments.clear();
        self.bytes = 0;
        self.since = since;
    }

    pub(super) fn push(&mut self, segment: Arc<Segment>) {
        self.bytes += segment.size();
        self.segments.push_back(segment);
        while self.bytes > self.most
            && let Some(first) = self.segments.pop_front()
        {
            self.bytes -= first.size();
            self.since = first.last().unwrap_or(self.since);
        }
    }

    /// The segment with the first change after this one; `None` if it is not here.
    pub(super) fn after(&self, id: EventId) -> Option<Arc<Segment>> {
        if id < self.since {
            return None;
        }
        let at =
            self.segments.partition_point(|segment| segment.last().is_some_and(|last| last <= id));
        self.segments.get(at).cloned()
    }
}

#[cfg(test)]
mod tests {
    use integratedb_events::{Head, Op, SegmentBuilder};

    use super::*;
    use crate::replication::Lsn;

    fn id(lsn: u64) -> EventId {
        EventId { epoch: 1, lsn: Lsn(lsn), index: 0 }
    }

    fn segment(lsns: std::ops::Range<u64>) -> Arc<Segment> {
        let mut builder = SegmentBuilder::new(1);
        for lsn in lsns {
            let head = Head { id: id(lsn), op: Op::Gap, commit_micros: 0, xid: 0, target: None };
            builder.push_gap(head, "a reason");
        }
        Arc::new(builder.finish())
    }

    #[test]
    fn what_is_here_is_found_by_what_came_before() {
        let mut tail = Tail::new(1 << 20);
        tail.reset(id(1));
        assert!(tail.after(id(1)).is_none());
        tail.push(segment(2..5));
        tail.push(segment(5..9));
        let first = |after| {
            tail.after(id(after)).and_then(|segment| segment.after(id(after)).next().map(|c| c.id))
        };
        assert_eq!(first(0), None, "there may have been others before");
        assert_eq!(
            (first(1), first(3), first(4), first(8)),
            (Some(id(2)), Some(id(4)), Some(id(5)), None)
        );
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        // Later numbers take more bytes.
        let one = segment(400..500).size();
        let mut tail = Tail::new(one * 2);
        for at in 0..5 {
            tail.push(segment(at * 100..at * 100 + 100));
        }
        assert!(tail.after(id(150)).is_none() && tail.after(id(299)).is_some());
        assert!(tail.bytes <= one * 2 + 64);
    }
}
