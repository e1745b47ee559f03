//! One thread that parses texts for all caches of the process: parsing is slow, and caches may be thousands.
//!
//! The texts of each cache stand in a line of their own, and the lines are served in turn, one text each. So a cache whose
//! clients send many keeps no other waiting.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::observe::Template;

/// Texts of one cache that wait to be parsed.
const WAITING: usize = 256;

/// Takes lines in which somebody waits.
static PARSER: OnceLock<Sender<Arc<Line>>> = OnceLock::new();

/// Starts the thread, if no proxy of this process has. It lasts as long as the process.
pub(super) fn start() -> io::Result<()> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = lock(&STARTING);
    if PARSER.get().is_none() {
        let (parser, lines) = channel();
        let again = parser.clone();
        let serve = move || serve(&lines, &again);
        std::thread::Builder::new().name("parser".to_owned()).spawn(serve)?;
        PARSER.get_or_init(|| parser);
    }
    Ok(())
}

/// The texts of one cache.
#[derive(Default)]
pub(super) struct Line(Mutex<VecDeque<(Arc<Template>, String)>>);

impl Line {
    /// Has a text parsed, and its template told. When too many wait, the next text of this template is parsed.
    pub(super) fn push(self: &Arc<Self>, template: Arc<Template>, text: String) {
        let mut waiting = lock(&self.0);
        if waiting.len() >= WAITING {
            return;
        }
        waiting.push_back((template, text));
        // With more in it, the thread has it already, or puts it behind the others.
        if waiting.len() == 1
            && let Some(parser) = PARSER.get()
        {
            // The thread has the other end as long as the process lives.
            let _ = parser.send(Arc::clone(self));
        }
    }

    /// The text that goes next, and whether there are more.
    fn next(&self) -> (Option<(Arc<Template>, String)>, bool) {
        let mut waiting = lock(&self.0);
        (waiting.pop_front(), !waiting.is_empty())
    }
}

fn serve(lines: &Receiver<Arc<Line>>, again: &Sender<Arc<Line>>) {
    for line in lines {
        let (next, is_more) = line.next();
        if is_more {
            let _ = again.send(line);
        }
        // A text that the parser fails at is one that is not understood, and no reason to parse for nobody any more.
        let unknown = next.filter(|(template, _)| template.analysis().is_none());
        let parsed = unknown.map(|(template, text)| {
            catch_unwind(AssertUnwindSafe(|| template.learn(integratedb_template::analyze(&text))))
        });
        if parsed.is_some_and(|parsed| parsed.is_err()) {
            tracing::error!("the parser of queries has panicked; the query is not looked into");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use integratedb_template::Class;

    #[test]
    fn lines_are_served_in_turn() {
        let template = |text: &str| Arc::new(Template::new(text, Class::Dql));
        let (again, lines) = channel();
        let (long, short) = (Arc::new(Line::default()), Arc::new(Line::default()));
        let waiting: Vec<_> = (0..100).map(|at| template(&format!("SELECT a{at}"))).collect();
        lock(&long.0).extend(waiting.iter().map(|of| (Arc::clone(of), of.text.to_string())));
        let only = template("SELECT b");
        lock(&short.0).push_back((Arc::clone(&only), only.text.to_string()));
        again.send(Arc::clone(&long)).expect("the receiver is here");
        again.send(Arc::clone(&short)).expect("the receiver is here");
        std::thread::spawn(move || serve(&lines, &again));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while waiting[99].analysis().is_none() {
            assert!(std::time::Instant::now() < deadline, "the parser does not answer");
            assert!(waiting[20].analysis().is_none() || only.analysis().is_some());
            std::thread::yield_now();
        }
        assert!(only.analysis().is_some());
    }
}
