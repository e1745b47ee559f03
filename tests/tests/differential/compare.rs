//! Two streams of answers side by side: whether they are the same, and where they part.

use std::fmt::Write;

use integratedb_wire::tag::backend as tag;
use integratedb_wire::{Backend, ErrorField, frame};

use crate::raw::Heard;
use crate::steps::Ending;

/// What may differ, by the way the proxy is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The client logs in to the origin and has a connection of its own.
    Pass,
    /// The client logs in to the proxy and borrows a connection for its session.
    Session,
    /// The client borrows a connection for a transaction.
    Transaction,
    /// As [`Self::Pass`], and answers are kept.
    PassCached,
    /// As [`Self::Transaction`], and answers are kept.
    TransactionCached,
    /// As [`Self::PassCached`], and they are given from disk.
    PassOnDisk,
    /// As [`Self::TransactionCached`], and they are given from disk.
    TransactionOnDisk,
}

impl Mode {
    /// The cache that is used in this way.
    pub(crate) const fn cache(self) -> &'static str {
        match self {
            Self::Pass | Self::PassCached | Self::PassOnDisk => "pass",
            Self::Session => "session",
            Self::Transaction | Self::TransactionCached | Self::TransactionOnDisk => "transaction",
        }
    }

    /// Whether the client has a connection of its own.
    pub(crate) const fn is_own(self) -> bool {
        matches!(self, Self::Pass | Self::PassCached | Self::PassOnDisk)
    }

    /// Whether connections change hands between transactions.
    pub(crate) const fn shares(self) -> bool {
        matches!(self, Self::Transaction | Self::TransactionCached | Self::TransactionOnDisk)
    }

    /// Whether answers are kept.
    pub(crate) const fn keeps(self) -> bool {
        matches!(self, Self::PassCached | Self::TransactionCached) || self.is_on_disk()
    }

    /// Whether they are given from disk.
    pub(crate) const fn is_on_disk(self) -> bool {
        matches!(self, Self::PassOnDisk | Self::TransactionOnDisk)
    }
}

/// Errors that the proxy finds itself where it gives statements its own names: one that does not exist, and one
/// that does already; and what a server says in a failed transaction, be it to a Bind or to the Parse that the proxy
/// puts before it. A server says where in its source it found them.
const OWN_ERRORS: [&[u8]; 3] = [b"26000", b"42P05", b"25P02"];

const BIND_ERROR: &[u8] = b"bind message supplies";

const NAME: &[u8] = b"application_name\0";

/// How the answers differ; `None` when they do not.
pub(crate) fn difference(
    mode: Mode,
    ending: Ending,
    direct: &Heard,
    proxied: &Heard,
) -> Option<String> {
    if direct.hangs || proxied.hangs {
        let mut text =
            format!("no end: directly {}, through the proxy {}", direct.hangs, proxied.hangs);
        let show = |heard: &Heard| last(&messages(&heard.rest, mode), 12);
        let _ = write!(text, "\n{}\nagainst\n{}", show(direct), show(proxied));
        return Some(text);
    }
    if mode.is_own() {
        let logins = [direct, proxied].map(|heard| messages(&heard.login, mode));
        if logins[0] != logins[1] {
            return Some(parting("the login", &logins[0], &logins[1]));
        }
    }
    let expected = messages(&direct.rest, mode);
    let mut got = messages(&proxied.rest, mode);
    if proxied.rest.windows(12).any(|bytes| bytes == b"integratedb_") {
        return Some(parting("a name that the proxy gave", &expected, &got));
    }
    if !mode.is_own() && ending.is_garbage() && expected != got {
        // The proxy ends it itself, in its own words.
        let farewell = got.pop();
        let is_fatal = farewell.is_some_and(|message| message.is_fatal());
        if is_fatal && expected.starts_with(&got) {
            return None;
        }
        return Some(parting("the answers before it was garbage", &expected, &got));
    }
    (expected != got).then(|| parting("the answers", &expected, &got))
}

/// A message, without what is not the same on two servers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    tag: u8,
    body: Vec<u8>,
}

impl Message {
    fn of(frame: frame::Frame<'_>, mode: Mode) -> Self {
        let mut body = frame.body.to_vec();
        match Backend::read(frame) {
            Ok(Backend::BackendKeyData { .. }) => body.clear(),
            Ok(Backend::Notification { .. }) => body[..4].fill(0),
            Ok(Backend::Error(fields))
                if mode.shares()
                    && fields
                        .get(ErrorField::CODE)
                        .is_some_and(|code| OWN_ERRORS.contains(&code)) =>
            {
                let kept = [ErrorField::SEVERITY, ErrorField::CODE, ErrorField::MESSAGE];
                body = kept.map(|field| fields.get(field).unwrap_or_default()).join(&0);
            }
            // Two names for one text are one statement at the origin, whose error may be told by either.
            Ok(Backend::Error(fields))
                if mode.shares()
                    && fields
                        .get(ErrorField::MESSAGE)
                        .is_some_and(|m| m.starts_with(BIND_ERROR)) =>
            {
                for name in [&b"\"s1\""[..], b"\"s2\""] {
                    if let Some(at) = body.windows(name.len()).position(|part| part == name) {
                        body[at..at + name.len()].fill(b'*');
                    }
                }
            }
            _ => {}
        }
        Self { tag: frame.tag, body }
    }

    fn is_fatal(&self) -> bool {
        self.tag == tag::ERROR && self.body.starts_with(b"SFATAL\0")
    }
}

fn messages(mut bytes: &[u8], mode: Mode) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Ok(Some(frame)) = frame::whole(bytes, usize::MAX) {
        // A borrowed connection was not opened with the name that the client gave at its login, so RESET, which
        // goes back to that, ends elsewhere.
        let is_name = frame.tag == tag::PARAMETER_STATUS && frame.body.starts_with(NAME);
        if !is_name || mode.is_own() {
            messages.push(Message::of(frame, mode));
        }
        bytes = &bytes[frame.total()..];
    }
    if !bytes.is_empty() {
        messages.push(Message { tag: b'?', body: bytes.to_vec() });
    }
    messages
}

/// The first message that differs, and its neighbours.
fn parting(what: &str, expected: &[Message], got: &[Message]) -> String {
    let at = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let around = |all: &[Message]| {
        let from = at.saturating_sub(4);
        let mut text = String::new();
        for (n, message) in all.iter().enumerate().skip(from).take(9) {
            let _ = writeln!(text, "{} {n}: {}", if n == at { ">" } else { " " }, show(message));
        }
        if all.len() <= at {
            let _ = writeln!(text, "> {}: the end", all.len());
        }
        text
    };
    format!(
        "{what} differ at message {at} (of {} and {}); directly:\n{}through the proxy:\n{}",
        expected.len(),
        got.len(),
        around(expected),
        around(got)
    )
}

fn last(messages: &[Message], most: usize) -> String {
    let from = messages.len().saturating_sub(most);
    messages[from..]
        .iter()
        .map(|message| format!("  {}", show(message)))
        .collect::<Vec<_>>()
        .join("\n")
}

fn show(message: &Message) -> String {
    let start = &message.body[..message.body.len().min(160)];
    format!("{} {} {}", char::from(message.tag), message.body.len(), start.escape_ascii())
}
