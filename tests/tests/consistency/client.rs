//! A client that runs statements in every way that the protocol has.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use integratedb_wire::tag::backend as tag;
use integratedb_wire::{Backend, ErrorField, Target, frame, write};
use support::RawClient;

use crate::query::{Answer, Query};

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A Query, with the values in the text.
    Simple,
    /// Parse without a name, and all the rest in one go.
    Unnamed,
    /// Parsed once under a name.
    Prepared,
    /// Parsed each time under another name.
    Renamed,
}

pub(crate) const STYLES: [Style; 4] =
    [Style::Simple, Style::Unnamed, Style::Prepared, Style::Renamed];

/// A statement: a text with `$1`, `$2`, … and the values for these.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) values: Vec<String>,
}

impl Statement {
    pub(crate) fn new(text: impl Into<String>, values: &[i64]) -> Self {
        Self { text: text.into(), values: values.iter().map(i64::to_string).collect() }
    }

    /// With the values in the text.
    fn inlined(&self) -> String {
        // From the last on, so that $1 is not taken for the start of $10.
        let numbered = self.values.iter().enumerate().rev();
        numbered.fold(self.text.clone(), |text, (at, value)| {
            let is_number = value.parse::<i64>().is_ok();
            let literal = if is_number { value.clone() } else { format!("'{value}'") };
            text.replace(&format!("${}", at + 1), &literal)
        })
    }
}

impl From<&Query> for Statement {
    fn from(query: &Query) -> Self {
        Self { text: query.text(), values: query.values() }
    }
}

/// What a statement was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) tag: String,
    /// SQLSTATE and message.
    pub(crate) error: Option<(String, String)>,
    /// Of the transaction: `I`, `T` or `E`.
    pub(crate) status: u8,
}

impl Reply {
    /// How many rows were changed, as the tag says.
    pub(crate) fn count(&self) -> u64 {
        self.tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn code(&self) -> Option<&str> {
        self.error.as_ref().map(|(code, _)| code.as_str())
    }

    /// The rows as numbers.
    pub(crate) fn answer(&self) -> Result<Answer> {
        let number = |value: &String| value.parse().with_context(|| format!("no number: {value}"));
        let rows = self.rows.iter().map(|row| row.iter().map(number).collect());
        Ok(Answer::rows(rows.collect::<Result<_>>()?))
    }
}

/// A client's session.
pub(crate) struct Client {
    raw: RawClient,
    prepared: HashSet<String>,
    names: u64,
}

impl Client {
    pub(crate) fn new(raw: RawClient) -> Self {
        Self { raw, prepared: HashSet::new(), names: 0 }
    }

    /// Sends statements in one go, each to be answered by itself.
    pub(crate) async fn send(&mut self, style: Style, statements: &[Statement]) -> Result<()> {
        let mut bytes = Vec::new();
        for statement in statements {
            self.encode(&mut bytes, style, statement)?;
        }
        self.raw.send(&bytes).await
    }

    /// Runs one statement.
    pub(crate) async fn run(&mut self, style: Style, statement: &Statement) -> Result<Reply> {
        self.send(style, std::slice::from_ref(statement)).await?;
        let reply = self.reply().await?;
        if reply.error.is_some() {
            self.forget(statement).await?;
        }
        Ok(reply)
    }

    /// Runs a text as it is.
    pub(crate) async fn simple(&mut self, text: &str) -> Result<Reply> {
        self.run(Style::Simple, &Statement::new(text, &[])).await
    }

    fn encode(&mut self, bytes: &mut Vec<u8>, style: Style, statement: &Statement) -> Result<()> {
        use write::frontend as put;
        let text = statement.text.as_bytes();
        let name = match style {
            Style::Simple => return Ok(put::query(bytes, statement.inlined().as_bytes())?),
            Style::Unnamed => String::new(),
            Style::Prepared => name_of(&statement.text),
            Style::Renamed => {
                self.names += 1;
                format!("r{}", self.names)
            }
        };
        if style != Style::Prepared || self.prepared.insert(name.clone()) {
            put::parse(bytes, name.as_bytes(), text, &[])?;
        }
        let values: Vec<_> = statement.values.iter().map(|value| Some(value.as_bytes())).collect();
        put::bind_text(bytes, b"", name.as_bytes(), &values)?;
        put::describe(bytes, Target::Portal, b"")?;
        put::execute(bytes, b"", 0)?;
        put::sync(bytes);
        Ok(())
    }

    /// Takes a statement's name away: it may be there or not, and mean what is no longer so.
    pub(crate) async fn forget(&mut self, statement: &Statement) -> Result<()> {
        let name = name_of(&statement.text);
        if self.prepared.remove(&name) {
            let mut bytes = Vec::new();
            write::frontend::close(&mut bytes, Target::Statement, name.as_bytes())?;
            write::frontend::sync(&mut bytes);
            self.raw.send(&bytes).await?;
            self.reply().await?;
        }
        Ok(())
    }

    /// The next answer, to its end.
    pub(crate) async fn reply(&mut self) -> Result<Reply> {
        let mut reply = Reply::default();
        loop {
            let message = self.raw.read().await?.context("the connection is closed")?;
            if message.tag == tag::PARAMETER_STATUS || message.tag == tag::NOTICE {
                continue;
            }
            match Backend::read(frame::Frame { tag: message.tag, body: &message.body })? {
                Backend::DataRow(columns) => {
                    let text = |value: Option<&[u8]>| {
                        value.map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned())
                    };
                    reply.rows.push(columns.iter().map(text).collect());
                }
                Backend::CommandComplete(tag) => {
                    reply.tag = String::from_utf8_lossy(tag).into_owned();
                }
                Backend::Error(fields) => {
                    let field = |wanted| {
                        String::from_utf8_lossy(fields.get(wanted).unwrap_or_default()).into_owned()
                    };
                    reply.error = Some((field(ErrorField::CODE), field(ErrorField::MESSAGE)));
                }
                Backend::Ready(_) => {
                    reply.status = message.body.first().copied().unwrap_or_default();
                    return Ok(reply);
                }
                Backend::Authentication(_) => bail!("an answer to no question"),
                _ => {}
            }
        }
    }
}

/// The name that a text is prepared under.
fn name_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}
