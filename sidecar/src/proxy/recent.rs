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
        let (seen, is_new) = queries.look(text);
        // Who sends a text again is served by its hash. And a template that is not parsed yet may have found no room in the
        // parser's line: then the next text has to bring it there.
        if is_new
            && !seen.depends_on_values
            && seen.template.analysis().is_some()
            && let Some(frame) = Frame::of(text)
        {
            self.texts.retain(|(_, seen)| !seen.template.is_forgotten());
            self.keep(frame, Arc::clone(&seen), text.len());
        }
        seen
    }

    /// Where there is no room, each has its place, as far as its template and its length tell it from others: so of many in
    /// turn some are found all the same.
    fn keep(&mut self, frame: Frame, seen: Arc<Seen>, length: usize) {
        if self.texts.len() < MOST {
            self.texts.push((frame, seen));
        } else {
            let place = (seen.template.id as usize).wrapping_add(length) % MOST;
            self.texts[place] = (frame, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::{Duration, Instant};

    use super::*;

    /// Sees this text, and has it parsed.
    fn see(recent: &mut Recent, queries: &Queries, text: &str) -> Arc<Seen> {
        crate::proxy::parser::start().expect("a thread can be started");
        let seen = recent.see(queries, text.as_bytes());
        let deadline = Instant::now() + Duration::from_secs(20);
        while seen.template.analysis().is_none() {
            assert!(Instant::now() < deadline, "the parser does not answer");
            std::thread::yield_now();
        }
        seen
    }

    #[test]
    fn what_differs_in_values_is_looked_into_no_more_once_it_is_parsed() {
        let queries = Queries::new(100, [1; 16]);
        let mut recent = Recent::default();
        see(&mut recent, &queries, "SELECT * FROM t WHERE id = 1");
        let second = see(&mut recent, &queries, "SELECT * FROM t WHERE id = 2");
        let third = see(&mut recent, &queries, "SELECT * FROM t WHERE id = 3");
        assert!(Arc::ptr_eq(&second, &third));
        let other = see(&mut recent, &queries, "SELECT * FROM t WHERE id = 'x'");
        assert!(!Arc::ptr_eq(&third, &other) && Arc::ptr_eq(&third.template, &other.template));
    }

    #[test]
    fn what_depends_on_its_values_is_looked_into_each_time() {
        let queries = Queries::new(100, [1; 16]);
        let mut recent = Recent::default();
        let settings = ["a.b", "c.d", "e.f"].map(|name| {
            let text = format!("SELECT set_config('{name}', 'x', false)");
            see(&mut recent, &queries, &text).settings.names.clone()
        });
        assert_eq!(settings, ["a.b", "c.d", "e.f"].map(|name| vec![name.to_owned()]));
    }

    #[test]
    fn there_is_room_for_a_few() {
        let queries = Queries::new(100, [1; 16]);
        let mut recent = Recent::default();
        for text in 0..40 {
            let run = |recent: &mut Recent, id: i32| {
                see(recent, &queries, &format!("SELECT a{text} FROM t WHERE id = {id}"))
            };
            run(&mut recent, 1);
            let seen = run(&mut recent, 2);
            assert!(Arc::ptr_eq(&seen, &run(&mut recent, 3)));
        }
        assert_eq!(recent.texts.len(), MOST);
    }

    #[test]
    fn what_is_counted_is_counted_where_it_is_shown() {
        let queries = Queries::new(4, [1; 16]);
        let mut recent = Recent::default();
        let mut run = |id: i32| {
            let text = format!("SELECT * FROM t WHERE id = {id}");
            let seen = see(&mut recent, &queries, &text);
            seen.template.figures.note(Duration::from_micros(1), 0, false);
        };
        (0..3).for_each(&mut run);
        (0..20).for_each(|other| drop(queries.see(format!("SELECT a{other}").as_bytes())));
        run(3);
        let calls: u64 = queries.all().iter().map(|one| one.figures.calls.load(Relaxed)).sum();
        assert_eq!(calls, 4);
    }
}
