//! What passes through a cache, by template: how often, how long, how much, and whether it failed.
//!
//! A text is looked into once: its hash leads to what is known of it from then on. Hashes are keyed and of 128
//! bits, so that no two texts share one by chance or intent; the text itself is not kept, only its template, in
//! which `?` stands for every constant. Parsing, which is slow, happens on another thread (`parser`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use integratedb_template::{Analysis, Class, Effects, Outline, Shape};
use siphasher::sip128::SipHasher13;

use super::parser::Line;
use crate::cache::CacheFigures;

/// Upper bounds of the latency histogram's buckets, in microseconds; one more bucket is for what is above.
pub(crate) const BOUNDS: [u64; 18] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 60_000_000,
];

/// Texts that are remembered by their hash, at most twice as many.
const REMEMBERED: usize = 20_000;

/// What a text was found to be.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) template: Arc<Template>,
    pub(crate) class: Class,
    pub(crate) effects: Effects,
    pub(crate) settings: integratedb_template::Settings,
    /// Stands for the text.
    pub(crate) hash: u128,
    pub(crate) control: Control,
    pub(crate) harm: Harm,
    /// Whether the above may be otherwise for a text with other constants.
    pub(crate) depends_on_values: bool,
    outline: OnceLock<Outline>,
}

/// Whether a text is nothing but the begin or end of a transaction block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    None,
    /// One that leaves the isolation as it is, or says READ COMMITTED.
    Begin,
    Commit,
    Rollback,
}

/// What a text may do that a cache has to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    None,
    /// It may change what the session is.
    Session,
    /// One query: it may call functions that write.
    Reads,
    /// One statement that changes rows.
    Rows,
    Anything,
}

/// A query with its constants replaced, and its figures.
#[derive(Debug)]
pub(crate) struct Template {
    /// Stands for it in REST and metrics; the same in every process.
    pub(crate) id: u64,
    pub(crate) text: Box<str>,
    class: Class,
    analysis: OnceLock<Analysis>,
    pub(crate) figures: Figures,
    /// What the cache makes of it.
    pub(crate) cached: CacheFigures,
    /// Seconds since 1970.
    last_seen: AtomicU64,
    /// The calls there were when it was last looked at.
    known_calls: AtomicU64,
    /// It had to go, and its figures with it to those of the others.
    is_forgotten: AtomicBool,
}

/// Counts and sums.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) calls: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) micros: AtomicU64,
    pub(crate) most_micros: AtomicU64,
    pub(crate) buckets: [AtomicU64; BOUNDS.len() + 1],
}

impl Figures {
    /// Notes one run: how long it took, the bytes of its answer, and whether that was an error.
    pub(crate) fn note(&self, took: Duration, bytes: u64, failed: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Relaxed);
        if failed {
            self.errors.fetch_add(1, Relaxed);
        }
        self.bytes.fetch_add(bytes, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        if micros > self.most_micros.load(Relaxed) {
            self.most_micros.fetch_max(micros, Relaxed);
        }
        self.buckets[BOUNDS.partition_point(|bound| *bound < micros)].fetch_add(1, Relaxed);
    }

    /// How long the origin takes: hits count as nothing.
    pub(crate) fn mean(&self, hits: u64) -> Duration {
        let calls = self.calls.load(Relaxed).saturating_sub(hits).max(1);
        Duration::from_micros(self.micros.load(Relaxed) / calls)
    }

    fn add(&self, other: &Self) {
        let move_over = |to: &AtomicU64, from: &AtomicU64| {
            to.fetch_add(from.load(Relaxed), Relaxed);
        };
        move_over(&self.calls, &other.calls);
        move_over(&self.errors, &other.errors);
        move_over(&self.bytes, &other.bytes);
        move_over(&self.micros, &other.micros);
        self.most_micros.fetch_max(other.most_micros.load(Relaxed), Relaxed);
        self.buckets.iter().zip(&other.buckets).for_each(|(to, from)| move_over(to, from));
    }

    /// The time within which this part of the runs was done, in microseconds: the bound of the bucket that it
    /// falls into, or the longest time seen where that is less.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() as f64 * part).ceil() as u64;
        let mut sum = 0;
        let most = self.most_micros.load(Relaxed);
        for (count, bound) in counts.iter().zip(BOUNDS) {
            sum += count;
            if sum >= wanted {
                return bound.min(most);
            }
        }
        most
    }
}

impl Template {
    pub(super) fn new(text: &str, class: Class) -> Self {
        let id = u128::from(SipHasher13::new().hash(text.as_bytes())) as u64;
        Self {
            id,
            text: text.into(),
            class,
            analysis: OnceLock::new(),
            figures: Figures::default(),
            cached: CacheFigures::default(),
            last_seen: AtomicU64::new(now()),
            known_calls: AtomicU64::new(0),
            is_forgotten: AtomicBool::new(false),
        }
    }

    /// Whether it is among the templates no more: what is counted here is not shown.
    pub(super) fn is_forgotten(&self) -> bool {
        self.is_forgotten.load(Relaxed)
    }

    /// Takes what the parser found.
    pub(super) fn learn(&self, analysis: Analysis) {
        // What it found before counts.
        let _ = self.analysis.set(analysis);
    }

    /// What the parser found; `None` until it has looked.
    pub(crate) fn analysis(&self) -> Option<&Analysis> {
        self.analysis.get()
    }

    /// What it does, as well as is known by now.
    pub(crate) fn class(&self) -> Class {
        self.analysis.get().filter(|analysis| analysis.parsed).map_or(self.class, |a| a.class)
    }

    /// When it was last used, in seconds since 1970; at most a moment before [`Queries::sweep`].
    pub(crate) fn last_seen(&self) -> u64 {
        self.last_seen.load(Relaxed)
    }
}

impl Control {
    /// Of a text's template.
    fn of(template: &str) -> Self {
        let mut words = template.split([' ', ',']).filter(|word| !word.is_empty());
        let control = match words.next() {
            Some("begin") => Self::Begin,
            Some("start") if words.next() == Some("transaction") => Self::Begin,
            Some("commit" | "end") => Self::Commit,
            Some("rollback" | "abort") => Self::Rollback,
            _ => return Self::None,
        };
        let rest: Vec<&str> =
            words.skip_while(|word| matches!(*word, "work" | "transaction")).collect();
        let mut rest = &rest[..];
        while control == Self::Begin && !rest.is_empty() {
            rest = match rest {
                ["isolation", "level", "read", "committed", rest @ ..]
                | ["read", "only" | "write", rest @ ..] => rest,
                _ => return Self::None,
            };
        }
        if rest.is_empty() { control } else { Self::None }
    }
}

impl Harm {
    fn of(shape: &Shape) -> Self {
        let touches = Effects::SETTINGS.union(Effects::DISCARD).union(Effects::TEMP);
        let changes_session = shape.effects.intersects(touches);
        let is_one = |verbs: &[&str]| {
            shape.statements == 1 && shape.verbs.as_slice().iter().all(|verb| verbs.contains(verb))
        };
        // What another session has prepared becomes visible.
        if shape.verbs.as_slice().contains(&"commit") && shape.template.contains("prepared") {
            return Self::Anything;
        }
        match shape.class {
            Class::Dql if !changes_session && is_one(&["select", "with", "values", "table"]) => {
                Self::Reads
            }
            Class::Dml if is_one(&["insert", "update", "delete", "merge", "with"]) => Self::Rows,
            Class::Other | Class::Dql
                if shape.verbs.as_slice().iter().all(|verb| HARMLESS.contains(verb))
                    && shape.statements as usize <= integratedb_template::Verbs::MOST =>
            {
                if changes_session {
                    Self::Session
                } else {
                    Self::None
                }
            }
            _ => Self::Anything,
        }
    }
}

/// Verbs of statements that write no rows and call no functions of users.
const HARMLESS: [&str; 19] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "set",
    "reset",
    "show",
    "listen",
    "unlisten",
    "notify",
    "discard",
    "close",
    "fetch",
    "move",
    "deallocate",
];

impl Seen {
    /// Its text without its constants. `text` is the whole of what was seen.
    pub(crate) fn outline(&self, text: &[u8]) -> &Outline {
        self.outline.get_or_init(|| Outline::of(text))
    }

    /// The same, if it was asked for before.
    pub(crate) fn known_outline(&self) -> Option<&Outline> {
        self.outline.get()
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Arc<Self> {
        Queries::new(1, [1; 16]).see(b"SELECT 1")
    }
}

/// The templates of one cache.
pub(crate) struct Queries {
    key: [u8; 16],
    memory: Mutex<Memory>,
    templates: Mutex<HashMap<Box<str>, Arc<Template>>>,
    most: usize,
    /// What was seen in templates that had to go, and in texts too long to look into.
    others: Arc<Seen>,
    /// What is to be parsed.
    line: Arc<Line>,
}

/// Two generations: when the younger is full it becomes the older, and the older is forgotten.
#[derive(Default)]
struct Memory {
    young: HashMap<u128, Arc<Seen>>,
    old: HashMap<u128, Arc<Seen>>,
}

impl Queries {
    /// Keeps the figures of at most `most` templates, and tells texts apart by hashes made with `key`.
    pub(crate) fn new(most: usize, key: [u8; 16]) -> Self {
        let others = Seen {
            template: Arc::new(Template::new("(others)", Class::Other)),
            class: Class::Other,
            effects: Effects::default(),
            settings: integratedb_template::Settings::default(),
            hash: 0,
            control: Control::None,
            harm: Harm::Anything,
            depends_on_values: true,
            outline: OnceLock::new(),
        };
        Self {
            key,
            memory: Mutex::default(),
            templates: Mutex::default(),
            most: most.max(1),
            others: Arc::new(others),
            line: Arc::default(),
        }
    }

    /// What is known of a text that is too long to look into.
    pub(crate) const fn others(&self) -> &Arc<Seen> {
        &self.others
    }

    /// What is known of a text; found out now if it is new.
    pub(crate) fn see(&self, text: &[u8]) -> Arc<Seen> {
        self.look(text).0
    }

    /// The same, and whether it is new.
    pub(super) fn look(&self, text: &[u8]) -> (Arc<Seen>, bool) {
        let hash = u128::from(SipHasher13::new_with_key(&self.key).hash(text));
        let mut memory = lock(&self.memory);
        if let Some(seen) = memory.young.get(&hash) {
            return (Arc::clone(seen), false);
        }
        let seen = memory.old.remove(&hash);
        drop(memory);
        let is_new = seen.is_none();
        let seen = seen.unwrap_or_else(|| Arc::new(self.look_into(text, hash)));
        let mut forgotten = HashMap::new();
        let mut memory = lock(&self.memory);
        if memory.young.len() >= REMEMBERED {
            let young = std::mem::take(&mut memory.young);
            forgotten = std::mem::replace(&mut memory.old, young);
        }
        memory.young.insert(hash, Arc::clone(&seen));
        drop(memory);
        // All others would wait until thousands are freed.
        drop(forgotten);
        (seen, is_new)
    }

    fn look_into(&self, text: &[u8], hash: u128) -> Seen {
        let shape = Shape::of(text);
        let template = self.template(&shape.template, shape.class);
        template.last_seen.store(now(), Relaxed);
        if template.analysis.get().is_none() {
            let text = String::from_utf8_lossy(text).into_owned();
            self.line.push(Arc::clone(&template), text);
        }
        Seen {
            template,
            class: shape.class,
            effects: shape.effects,
            hash,
            control: Control::of(&shape.template),
            harm: Harm::of(&shape),
            depends_on_values: shape.depends_on_values(),
            settings: shape.settings,
            outline: OnceLock::new(),
        }
    }

    /// The template with this text, which another process has seen in a query.
    pub(crate) fn recall(&self, text: &str) -> Arc<Template> {
        let template = self.template(text, Class::Dql);
        template.last_seen.store(now(), Relaxed);
        template
    }

    fn template(&self, text: &str, class: Class) -> Arc<Template> {
        let mut templates = lock(&self.templates);
        if let Some(template) = templates.get(text) {
            return Arc::clone(template);
        }
        let forgotten = (templates.len() >= self.most).then(|| self.forget_oldest(&mut templates));
        let template = Arc::new(Template::new(text, class));
        templates.insert(template.text.clone(), Arc::clone(&template));
        drop(templates);
        drop(forgotten);
        template
    }

    /// Makes room: an eighth of the templates, those not met for longest, are counted with the others. Gives what leads to
    /// templates that are gone: much to free, and not while others wait.
    fn forget_oldest(&self, templates: &mut HashMap<Box<str>, Arc<Template>>) -> Memory {
        let mut ages: Vec<u64> = templates.values().map(|template| template.last_seen()).collect();
        ages.sort_unstable();
        let limit = ages[ages.len() / 8];
        let mut room = (ages.len() / 8).max(1);
        templates.retain(|_, template| {
            let goes = room > 0 && template.last_seen() <= limit;
            if goes {
                room -= 1;
                template.is_forgotten.store(true, Relaxed);
                self.others.template.figures.add(&template.figures);
            }
            !goes
        });
        std::mem::take(&mut *lock(&self.memory))
    }

    /// Notes which templates were used since the last time.
    pub(crate) fn sweep(&self) {
        let now = now();
        for template in lock(&self.templates).values() {
            let calls = template.figures.calls.load(Relaxed);
            if template.known_calls.swap(calls, Relaxed) != calls {
                template.last_seen.store(now, Relaxed);
            }
        }
    }

    /// All templates, and the others together where there are some.
    pub(crate) fn all(&self) -> Vec<Arc<Template>> {
        let mut all: Vec<_> = lock(&self.templates).values().cloned().collect();
        if self.others.template.figures.calls.load(Relaxed) > 0 {
            all.push(Arc::clone(&self.others.template));
        }
        all
    }
}

/// Notes that a query is done.
pub(crate) fn note(watch: &super::flow::Watch, now: Instant, bytes: u64, failed: bool) {
    if let Some(seen) = &watch.seen {
        seen.template.figures.note(now.saturating_duration_since(watch.started), bytes, failed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_constants_count_together() {
        let queries = Queries::new(10, [1; 16]);
        let a = queries.see(b"SELECT * FROM t WHERE id = 1");
        let b = queries.see(b"select * from t where id = 'secret'");
        assert!(Arc::ptr_eq(&a.template, &b.template));
        a.template.figures.note(Duration::from_micros(30), 5, false);
        b.template.figures.note(Duration::from_micros(3000), 5, true);
        let figures = &queries.all()[0].figures;
        assert_eq!((figures.calls.load(Relaxed), figures.errors.load(Relaxed)), (2, 1));
        assert_eq!((figures.quantile(0.5), figures.quantile(0.99)), (50, 3000));
    }

    #[test]
    fn what_begins_and_ends_a_block_is_told() {
        let control = |text: &str| Queries::new(9, [1; 16]).see(text.as_bytes()).control;
        for text in [
            "BEGIN",
            "begin;",
            "BEGIN WORK",
            "START TRANSACTION READ ONLY",
            "begin isolation level read committed, read write",
        ] {
            assert_eq!(control(text), Control::Begin, "{text}");
        }
        for text in [
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "BEGIN; SELECT 1",
            "START",
            "SELECT 1",
            "COMMIT PREPARED 'x'",
            "ROLLBACK TO s",
            "COMMIT AND CHAIN",
            "BEGIN DEFERRABLE",
        ] {
            assert_eq!(control(text), Control::None, "{text}");
        }
        assert_eq!(control("COMMIT WORK"), Control::Commit);
        assert_eq!(control("end"), Control::Commit);
        assert_eq!(control("ABORT"), Control::Rollback);
    }

    #[test]
    fn what_a_text_may_do_is_told() {
        let harm = |text: &str| Queries::new(9, [1; 16]).see(text.as_bytes()).harm;
        for (text, expected) in [
            ("SELECT * FROM t", Harm::Reads),
            ("WITH x AS (SELECT 1) SELECT * FROM x", Harm::Reads),
            ("UPDATE t SET a = 1", Harm::Rows),
            ("WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x", Harm::Rows),
            ("SET search_path = a", Harm::Session),
            ("SELECT set_config('a.b', 'c', false)", Harm::Anything),
            ("DISCARD ALL", Harm::Session),
            ("BEGIN", Harm::None),
            ("SELECT 1; SELECT 2", Harm::Anything),
            ("COPY t FROM STDIN", Harm::Anything),
            ("TRUNCATE t", Harm::Anything),
            ("EXPLAIN ANALYZE DELETE FROM t", Harm::Anything),
            ("DO 'BEGIN END'", Harm::Anything),
            ("EXECUTE x", Harm::Anything),
            ("COMMIT PREPARED 'x'", Harm::Anything),
            ("COMMIT AND CHAIN", Harm::None),
            ("CREATE TABLE t ()", Harm::Anything),
            ("SELECT 1 INTO TEMP x", Harm::Anything),
        ] {
            assert_eq!(harm(text), expected, "{text}");
        }
    }

    #[test]
    fn memory_is_bounded_and_counts_are_kept() {
        let queries = Queries::new(16, [1; 16]);
        for i in 0..200 {
            let seen = queries.see(format!("SELECT a{i}").as_bytes());
            seen.template.figures.note(Duration::from_micros(1), 0, false);
        }
        let all = queries.all();
        assert!(all.len() <= 17);
        assert_eq!(all.iter().map(|t| t.figures.calls.load(Relaxed)).sum::<u64>(), 200);
    }

    #[test]
    fn tables_are_found_in_time() {
        crate::proxy::parser::start().expect("a thread can be started");
        let queries = Queries::new(16, [1; 16]);
        let seen = queries.see(b"SELECT * FROM shop.items WHERE id = 1");
        let deadline = Instant::now() + Duration::from_secs(20);
        while seen.template.analysis().is_none() {
            assert!(Instant::now() < deadline, "the parser does not answer");
            std::thread::yield_now();
        }
        let analysis = seen.template.analysis().expect("waited for");
        assert_eq!(analysis.tables.len(), 1);
    }
}
