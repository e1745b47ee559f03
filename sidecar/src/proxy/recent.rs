//! The texts that a session has sent last: of one that differs in its values only, all is known that matters where no answers
//! are kept.
//!
//! Whoever writes constants into texts sends a new one each time. To look it up by its hash, to find nothing and to take it
//! apart would be a third of what the proxy does for such a query outside of the kernel. No constant is kept here either.

use std::sync::Arc;

use integratedb_template::Frame;

use super::observe::{Queries, Seen};

/// How many texts are kept. An application's transactions are made of a few.
const MOST: usize = 8;

/// Texts of one session; at most some 5 KiB.
#[derive(Default)]
pub(super) struct Recent {
    texts: Vec<(Frame, Arc<Seen>)>,
}

impl Recent {
    /// What is known of a text, or of one that differs in its values only. So its [hash](Seen::hash) may be that of another.
    pub(super) fn see(&mut self, queries: &Queries, text: &[u8]) -> Arc<Seen> {
        let is_it = |(frame, seen): &&(Frame, Arc<Seen>)| {
            frame.holds(text) && !seen.template.is_forgotten()
        };
        if let Some((_, seen)) = self.texts.iter().find(is_it) {
            return Arc::clone(seen);
        }
        let seen = queries.see(text);
        if !seen.depends_on_values
            && let Some(frame) = Frame::of(text)
        {
            self.keep(frame, Arc::clone(&seen));
        }
        seen
    }

    /// Where there is no room, each template has its place: so of many texts in turn some are found all the same.
    fn keep(&mut self, frame: Frame, seen: Arc<Seen>) {
        if self.texts.len() < MOST {
            self.texts.push((frame, seen));
        } else {
            let place = seen.template.id as usize % MOST;
            self.texts[place] = (frame, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_differs_in_values_is_looked_into_once() {
        let queries = Queries::new(100, [1; 16]);
        let mut recent = Recent::default();
        let first = recent.see(&queries, b"SELECT * FROM t WHERE id = 1");
        let second = recent.see(&queries, b"SELECT * FROM t WHERE id = 2");
        assert!(Arc::ptr_eq(&first, &second));
        let other = recent.see(&queries, b"SELECT * FROM t WHERE id = 'x'");
        assert!(!Arc::ptr_eq(&first, &other) && Arc::ptr_eq(&first.template, &other.template));
    }

    #[test]
    fn what_depends_on_its_values_is_looked_into_each_time() {
        let queries = Queries::new(100, [1; 16]);
        let mut recent = Recent::default();
        let first = recent.see(&queries, b"SELECT set_config('a.b', 'x', false)");
        let second = recent.see(&queries, b"SELECT set_config('c.d', 'x', false)");
        assert_ne!(first.settings, second.settings);
    }

    #[test]
    fn there_is_room_for_a_few() {
        let queries = Queries::new(100, [1; 16]);
        let mut recent = Recent::default();
        for text in 0..40 {
            let text = format!("SELECT a{text} FROM t WHERE id = 1");
            let seen = recent.see(&queries, text.as_bytes());
            assert!(Arc::ptr_eq(&seen, &recent.see(&queries, text.as_bytes())));
        }
        assert_eq!(recent.texts.len(), MOST);
    }

    #[test]
    fn what_is_counted_is_counted_where_it_is_shown() {
        let queries = Queries::new(4, [1; 16]);
        let mut recent = Recent::default();
        let run = |recent: &mut Recent| {
            let seen = recent.see(&queries, b"SELECT * FROM t WHERE id = 1");
            seen.template.figures.note(Duration::from_micros(1), 0, false);
        };
        run(&mut recent);
        (0..20).for_each(|other| drop(queries.see(format!("SELECT a{other}").as_bytes())));
        run(&mut recent);
        let all = queries.all();
        let calls: u64 = all.iter().map(|one| one.figures.calls.load(Relaxed)).sum();
        assert_eq!(calls, 2);
    }
}
