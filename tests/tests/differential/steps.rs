//! Random streams of messages: what a client might do, and what none should.

use std::fmt;

use integratedb_wire::tag::{backend, frontend as tag};
use integratedb_wire::{Target, write};
use proptest::prelude::*;
use proptest::sample::select;

use crate::compare::Mode;
use crate::raw::Op;
use crate::texts::{
    BETWEEN, QUERIES, READ_STATEMENTS, READS, STATEMENTS, STATEMENTS_BETWEEN, Statement, UNSHARED,
};

/// A session from its login to its end.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) steps: Vec<Step>,
    pub(crate) ending: Ending,
    /// Sizes of the pieces that it is written in, over and over.
    pub(crate) pieces: Vec<usize>,
}

/// Something a client does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Query(&'static str),
    /// A text of this many bytes.
    LongQuery(usize),
    /// The same to be prepared, and run.
    LongParse(&'static str, usize),
    /// A row with one value of this many bytes, and another after it.
    LongRow(usize),
    Parse(&'static str, Statement),
    Bind(&'static str, &'static str, Values),
    Describe(Target, &'static str),
    Execute(&'static str, i32),
    Close(Target, &'static str),
    Flush,
    Sync,
    /// What most clients do for one statement: Parse, Bind, Describe, Execute up to a number of rows.
    Extended(&'static str, Statement, i32),
    /// The same as a unit of its own, up to Sync, as drivers do.
    Unit(Unit),
    /// Parse, Describe and Sync.
    Prepare(&'static str, Statement),
    /// An existing statement, by its name.
    Again(&'static str, Values),
    CopyIn(CopyIn),
    Call(u32, Values),
    /// Data of a COPY that nobody asked for.
    StrayData,
    StrayDone,
    StrayFail,
    /// Waits for all answers, as a client does that has nothing else to do.
    Wait,
    /// One that is answered by one ReadyForQuery, which is waited for, and nothing else is under way.
    Alone(Box<Step>),
}

/// Data that goes in.
#[derive(Clone, Debug)]
pub(crate) struct CopyIn {
    pub(crate) extended: bool,
    /// The client waits to be asked for the data.
    pub(crate) waits: bool,
    /// Sync is sent with Execute, before the data, as libpq does.
    pub(crate) early_sync: bool,
    /// Sync and Flush amid the data, which a server ignores there.
    pub(crate) sync_between: bool,
    pub(crate) data: Vec<&'static str>,
    pub(crate) fails: bool,
}

/// What runs one statement, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    name: &'static str,
    /// Else it was before, if the client is right.
    is_parsed: bool,
    describes: bool,
    closes: bool,
    /// Results in binary.
    is_binary: bool,
    statement: Statement,
}

/// Parameters and their formats.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    formats: Vec<i16>,
    values: Vec<Option<Value>>,
    results: Vec<i16>,
}

/// A parameter.
#[derive(Clone)]
struct Value(Vec<u8>);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0..=20 => write!(f, "\"{}\"", self.0.escape_ascii()),
            length => write!(f, "{length} times {}", self.0[0]),
        }
    }
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All is answered, then Terminate.
    Polite,
    /// Sync and Terminate right after what was sent before.
    Hasty,
    /// Terminate in the middle of a batch that has no end.
    Unfinished,
    /// Terminate while the server waits for data.
    AmidCopy,
    /// Another message while the server waits for data.
    QueryAmidCopy,
    /// The origin ends the session.
    Terminated,
    /// No Terminate.
    HalfClosed,
    /// A message that has not all come when the client closes.
    CutOff,
    UnknownType,
    ShortLength,
    /// A message that can't be read.
    Malformed(u8),
}

impl Ending {
    /// Whether the protocol does not allow it.
    pub(crate) const fn is_garbage(self) -> bool {
        matches!(
            self,
            Self::UnknownType | Self::ShortLength | Self::Malformed(_) | Self::QueryAmidCopy
        )
    }
}

const NAMES: &[&str] = &["", "s1", "s2", "never"];
const PORTALS: &[&str] = &["", "p1", "nowhere"];
const COPY: &str = "COPY items (id, name) FROM STDIN";

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 4 => Just("s1"), 2 => Just("s2"), 1 => select(NAMES)]
}

fn portal() -> impl Strategy<Value = &'static str> {
    prop_oneof![5 => Just(""), 3 => Just("p1"), 1 => select(PORTALS)]
}

fn target() -> impl Strategy<Value = (Target, &'static str)> {
    prop_oneof![
        name().prop_map(|name| (Target::Statement, name)),
        portal().prop_map(|name| (Target::Portal, name)),
    ]
}

fn rows() -> impl Strategy<Value = i32> {
    select(&[0, 0, 0, 1, 3, 100, -1][..])
}

fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        2 => Just(None),
        6 => select(&["1", "2", "30", "abc", "", "\\x00", "ä"][..]).prop_map(|t| Some(t.into())),
        2 => select(&[1_i32, 7, -1][..]).prop_map(|n| Some(n.to_be_bytes().to_vec())),
        1 => (60_000..70_000_usize).prop_map(|length| Some(vec![b'v'; length])),
        1 => Just(Some(vec![0xff, 0, 0xfe])),
    ]
    .prop_map(|bytes| bytes.map(Value))
}

fn values() -> impl Strategy<Value = Values> {
    let formats = || {
        prop_oneof![
            4 => Just(vec![]),
            2 => Just(vec![0]),
            2 => Just(vec![1]),
            1 => Just(vec![0, 1]),
            1 => Just(vec![7]),
        ]
    };
    (formats(), prop::collection::vec(value(), 0..3), formats())
        .prop_map(|(formats, values, results)| Values { formats, values, results })
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![Just(65_536), 65_500..65_600_usize, 8_000..200_000_usize]
}

fn copy_in(mode: Mode) -> impl Strategy<Value = CopyIn> {
    let data = select(
        &["101\ta\n", "102\tb\n10", "3\tc\n", "1\ttwice\n", "x\tno number\n", "", "\\.\n", "104"][..],
    );
    (any::<[bool; 4]>(), prop::collection::vec(data, 0..4), prop::bool::weighted(0.2)).prop_map(
        move |([extended, waits, early_sync, sync_between], data, fails)| CopyIn {
            extended,
            waits,
            early_sync,
            // If the data is wrong, only the server knows whether it was before the Sync, and so whether it answers;
            // a proxy that gives answers of its own can't tell any more where they belong.
            sync_between: sync_between && !mode.shares(),
            data,
            fails,
        },
    )
}

fn step(mode: Mode) -> impl Strategy<Value = Step> {
    let statements = || {
        let are_shared = mode.shares();
        let all = STATEMENTS.iter().filter(|(text, ..)| !are_shared || !UNSHARED.contains(text));
        select(all.copied().collect::<Vec<_>>())
    };
    let copied = prop_oneof![Just(Step::StrayData), Just(Step::StrayDone), Just(Step::StrayFail)];
    prop_oneof![
        20 => select(QUERIES).prop_map(Step::Query),
        // Around the sizes where the proxy begins to pass messages on in pieces.
        1 => lengths().prop_map(Step::LongQuery),
        1 => (name(), lengths()).prop_map(|(name, length)| Step::LongParse(name, length)),
        1 => prop_oneof![65_500..65_600_usize, 16_300..16_500_usize, 8_000..300_000_usize]
            .prop_map(Step::LongRow),
        4 => (name(), statements()).prop_map(|(name, text)| Step::Parse(name, text)),
        3 => (portal(), name(), values()).prop_map(|(p, s, v)| Step::Bind(p, s, v)),
        3 => target().prop_map(|(target, name)| Step::Describe(target, name)),
        3 => (portal(), rows()).prop_map(|(portal, rows)| Step::Execute(portal, rows)),
        3 => target().prop_map(|(target, name)| Step::Close(target, name)),
        1 => Just(Step::Flush),
        5 => Just(Step::Sync),
        12 => (name(), statements(), rows()).prop_map(|(n, s, r)| Step::Extended(n, s, r)),
        4 => (name(), values()).prop_map(|(name, values)| Step::Again(name, values)),
        4 => copy_in(mode).prop_map(Step::CopyIn),
        2 => (select(&[177, 2089, 870, 99_999_999_u32][..]), values())
            .prop_map(|(function, values)| Step::Call(function, values)),
        1 => copied,
        10 => Just(Step::Wait),
    ]
}

/// What is answered from what is kept, and what comes between such answers.
fn reading_step() -> impl Strategy<Value = Step> {
    let statement = || prop_oneof![4 => select(READ_STATEMENTS), 1 => select(STATEMENTS_BETWEEN)];
    let unit = (name(), any::<[bool; 2]>(), any::<[bool; 2]>(), statement()).prop_map(
        |(name, [is_parsed, describes], [closes, is_binary], statement)| {
            Step::Unit(Unit { name, is_parsed, describes, closes, is_binary, statement })
        },
    );
    let step = prop_oneof![
        6 => select(READS).prop_map(Step::Query),
        2 => select(BETWEEN).prop_map(Step::Query),
        6 => unit,
        1 => (name(), statement()).prop_map(|(name, text)| Step::Prepare(name, text)),
    ];
    // Nothing is answered from what is kept while another answer is owed.
    (step, prop::bool::weighted(0.9)).prop_map(|(step, is_alone)| match is_alone {
        true => Step::Alone(Box::new(step)),
        false => step,
    })
}

fn any_step(mode: Mode) -> BoxedStrategy<Step> {
    match mode.keeps() {
        true => prop_oneof![1 => step(mode), 7 => reading_step()].boxed(),
        false => step(mode).boxed(),
    }
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        30 => Just(Ending::Polite),
        30 => Just(Ending::Hasty),
        3 => Just(Ending::Unfinished),
        2 => Just(Ending::AmidCopy),
        2 => Just(Ending::QueryAmidCopy),
        2 => Just(Ending::Terminated),
        2 => Just(Ending::HalfClosed),
        2 => Just(Ending::CutOff),
        2 => Just(Ending::UnknownType),
        2 => Just(Ending::ShortLength),
        2 => select(&b"PBDECQf"[..]).prop_map(Ending::Malformed),
    ]
}

/// A stream of up to so many steps.
pub(crate) fn stream(most: usize, mode: Mode) -> impl Strategy<Value = Stream> {
    let pieces = prop_oneof![
        3 => Just(vec![usize::MAX]),
        1 => Just(vec![1]),
        2 => prop::collection::vec(1..40_usize, 1..6),
        2 => prop::collection::vec(1..20_000_usize, 1..6),
    ];
    (prop::collection::vec(any_step(mode), 0..most), ending(), pieces).prop_map(
        |(steps, ending, pieces)| {
            // One byte at a time takes long where there are many.
            let is_long = steps.iter().any(|step| match step {
                Step::LongQuery(_) | Step::LongParse(..) => true,
                Step::Bind(_, _, values) | Step::Again(_, values) | Step::Call(_, values) => {
                    values.values.iter().flatten().any(|value| value.0.len() > 1000)
                }
                _ => false,
            });
            let pieces = if is_long {
                pieces.iter().map(|n| n.saturating_mul(500)).collect()
            } else {
                pieces
            };
            Stream { steps, ending, pieces }
        },
    )
}

impl Stream {
    /// What is done on the connection.
    pub(crate) fn ops(&self) -> Vec<Op> {
        let mut ops = Ops::default();
        for step in &self.steps {
            ops.step(step);
        }
        ops.end(self.ending);
        ops.cut();
        ops.done
    }
}

#[derive(Default)]
struct Ops {
    done: Vec<Op>,
    bytes: Vec<u8>,
    /// Nothing is under way.
    is_settled: bool,
}

/// What only a text with a zero byte could break.
const WRITABLE: &str = "names and texts are short and hold no zero byte";

impl Ops {
    fn cut(&mut self) {
        if !self.bytes.is_empty() {
            self.done.push(Op::Send(std::mem::take(&mut self.bytes)));
        }
    }

    fn then(&mut self, op: Op) {
        self.cut();
        self.done.push(op);
    }

    fn query(&mut self, text: &str) {
        write::frontend::query(&mut self.bytes, text.as_bytes()).expect(WRITABLE);
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        write::header(&mut self.bytes, tag, body.len()).expect(WRITABLE);
        self.bytes.extend(body);
    }

    fn parse(&mut self, name: &str, (text, types, _): Statement) {
        let types: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
        write::frontend::parse(&mut self.bytes, name.as_bytes(), text.as_bytes(), &types)
            .expect(WRITABLE);
    }

    fn bind(&mut self, portal: &str, name: &str, values: &Values) {
        let mut rest = values.encode();
        rest.extend(formats(&values.results));
        write::frontend::bind_head(&mut self.bytes, portal.as_bytes(), name.as_bytes(), rest.len())
            .expect(WRITABLE);
        self.bytes.extend(rest);
    }

    fn describe(&mut self, target: Target, name: &str) {
        write::frontend::describe(&mut self.bytes, target, name.as_bytes()).expect(WRITABLE);
    }

    fn execute(&mut self, portal: &str, rows: i32) {
        write::frontend::execute(&mut self.bytes, portal.as_bytes(), rows).expect(WRITABLE);
    }

    fn step(&mut self, step: &Step) {
        let was_settled = std::mem::take(&mut self.is_settled);
        let buffer = &mut self.bytes;
        match step {
            Step::Query(text) => self.query(text),
            Step::LongQuery(length) => self.query(&long(*length)),
            Step::LongParse(name, length) => {
                write::frontend::parse(buffer, name.as_bytes(), long(*length).as_bytes(), &[])
                    .expect(WRITABLE);
                write::frontend::bind_text(buffer, b"", name.as_bytes(), &[]).expect(WRITABLE);
                self.execute("", 0);
            }
            Step::LongRow(length) => {
                self.query(&format!("SELECT repeat('r', {length}); SELECT 'after'"));
            }
            Step::Parse(name, statement) => self.parse(name, *statement),
            Step::Bind(portal, name, values) => self.bind(portal, name, values),
            Step::Describe(target, name) => self.describe(*target, name),
            Step::Execute(portal, rows) => self.execute(portal, *rows),
            Step::Close(target, name) => {
                write::frontend::close(buffer, *target, name.as_bytes()).expect(WRITABLE);
            }
            Step::Flush => write::frontend::flush(buffer),
            Step::Sync => write::frontend::sync(buffer),
            Step::Extended(name, statement, rows) => {
                let values: Vec<_> = statement.2.iter().map(|v| v.map(str::as_bytes)).collect();
                self.parse(name, *statement);
                write::frontend::bind_text(&mut self.bytes, b"", name.as_bytes(), &values)
                    .expect(WRITABLE);
                self.describe(Target::Portal, "");
                self.execute("", *rows);
            }
            Step::Unit(unit) => self.unit(unit),
            Step::Prepare(name, statement) => {
                self.parse(name, *statement);
                self.describe(Target::Statement, name);
                write::frontend::sync(&mut self.bytes);
            }
            Step::Again(name, values) => {
                self.bind("p1", name, values);
                self.execute("p1", 2);
                self.execute("p1", 0);
                write::frontend::sync(&mut self.bytes);
            }
            Step::CopyIn(copy) => self.copy_in(copy),
            Step::Call(function, values) => {
                let mut body = function.to_be_bytes().to_vec();
                body.extend(values.encode());
                body.extend(values.results.first().unwrap_or(&0).to_be_bytes());
                self.message(tag::FUNCTION_CALL, &body);
            }
            Step::StrayData => self.message(tag::COPY_DATA, b"7\tx\n"),
            Step::StrayDone => self.message(tag::COPY_DONE, b""),
            Step::StrayFail => self.message(tag::COPY_FAIL, b"why not\0"),
            Step::Wait => {
                self.then(Op::Settle);
                self.is_settled = true;
            }
            Step::Alone(step) => {
                if !was_settled {
                    self.then(Op::Settle);
                }
                self.step(step);
                self.then(Op::Await(&[backend::READY]));
                self.is_settled = true;
            }
        }
    }

    fn unit(&mut self, unit: &Unit) {
        let Unit { name, is_parsed, describes, closes, is_binary, statement } = *unit;
        if is_parsed {
            self.parse(name, statement);
        }
        let values = statement.2.iter().map(|v| v.map(|v| Value(v.into()))).collect();
        let results = vec![i16::from(is_binary)];
        self.bind("", name, &Values { formats: Vec::new(), values, results });
        if describes {
            self.describe(Target::Portal, "");
        }
        self.execute("", 0);
        if closes {
            write::frontend::close(&mut self.bytes, Target::Portal, b"").expect(WRITABLE);
        }
        write::frontend::sync(&mut self.bytes);
    }

    fn copy_in(&mut self, copy: &CopyIn) {
        // What is not COPY data ends a session that takes it in, so nothing else may come in between.
        self.then(Op::Settle);
        if copy.extended {
            self.parse("", (COPY, &[], &[]));
            write::frontend::bind_text(&mut self.bytes, b"", b"", &[]).expect(WRITABLE);
            self.describe(Target::Portal, "");
            self.execute("", 0);
            if copy.early_sync {
                write::frontend::sync(&mut self.bytes);
            }
        } else {
            self.query(&format!("{COPY}; SELECT 'after'"));
        }
        if copy.waits && (!copy.extended || copy.early_sync) {
            self.then(Op::Await(&[backend::COPY_IN, backend::READY]));
        }
        for (at, data) in copy.data.iter().enumerate() {
            self.message(tag::COPY_DATA, data.as_bytes());
            if copy.sync_between && at == 0 {
                write::frontend::flush(&mut self.bytes);
                write::frontend::sync(&mut self.bytes);
            }
        }
        if copy.fails {
            self.message(tag::COPY_FAIL, b"changed my mind\0");
        } else {
            self.message(tag::COPY_DONE, b"");
        }
        if copy.extended {
            write::frontend::sync(&mut self.bytes);
        }
    }

    /// For when the server refused what would have ended the session, as it does in a transaction that failed.
    /// Nothing is sent after what ends one: a connection closed with bytes unread is reset, and answers are lost.
    fn end_if_open(&mut self) {
        self.then(Op::Await(&[backend::READY]));
        write::frontend::terminate(&mut self.bytes);
    }

    fn end(&mut self, ending: Ending) {
        if ending != Ending::Hasty {
            self.then(Op::Settle);
        }
        match ending {
            Ending::Polite => write::frontend::terminate(&mut self.bytes),
            Ending::Hasty => {
                write::frontend::sync(&mut self.bytes);
                write::frontend::terminate(&mut self.bytes);
            }
            Ending::Unfinished => {
                self.parse("", STATEMENTS[0]);
                write::frontend::terminate(&mut self.bytes);
            }
            Ending::AmidCopy => {
                self.query(COPY);
                self.message(tag::COPY_DATA, b"105\tx\n");
                write::frontend::terminate(&mut self.bytes);
            }
            Ending::QueryAmidCopy => {
                self.query(COPY);
                self.then(Op::Await(&[backend::COPY_IN, backend::READY]));
                self.query("SELECT 1");
                self.end_if_open();
            }
            Ending::Terminated => {
                self.query("SELECT pg_terminate_backend(pg_backend_pid())");
                self.end_if_open();
            }
            Ending::HalfClosed => self.then(Op::CloseWriting),
            Ending::CutOff => {
                self.bytes.extend([tag::QUERY, 0, 0, 0, 100, b'S', b'E']);
                self.then(Op::CloseWriting);
            }
            Ending::UnknownType => self.message(b'~', b"what"),
            Ending::ShortLength => self.bytes.extend([tag::QUERY, 0, 0, 0, 3]),
            Ending::Malformed(tag) => {
                self.message(tag, &[b'S', 0xff, 0xff]);
                write::frontend::sync(&mut self.bytes);
                write::frontend::terminate(&mut self.bytes);
            }
        }
    }
}

impl Values {
    /// Formats and values, as Bind and FunctionCall have them.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = formats(&self.formats);
        bytes.extend(i16::try_from(self.values.len()).expect("a few").to_be_bytes());
        for value in &self.values {
            let length = value.as_ref().map_or(-1, |v| i32::try_from(v.0.len()).expect("short"));
            bytes.extend(length.to_be_bytes());
            bytes.extend(value.iter().flat_map(|value| &value.0));
        }
        bytes
    }
}

/// A query of this many bytes, with the zero byte that ends it in a message.
fn long(length: usize) -> String {
    let around = "SELECT length('')\0".len();
    format!("SELECT length('{}')", "q".repeat(length.saturating_sub(around)))
}

fn formats(codes: &[i16]) -> Vec<u8> {
    let count = i16::try_from(codes.len()).expect("a few");
    std::iter::once(&count).chain(codes).flat_map(|code| code.to_be_bytes()).collect()
}
