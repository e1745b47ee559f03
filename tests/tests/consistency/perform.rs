//! Runs transactions and queries, and writes down what came of them.

use anyhow::Result;

use crate::client::{Client, Reply, STYLES, Statement, Style};
use crate::history::{Read, Write};
use crate::jobs::{Effect, End, Job};
use crate::query::{Answer, Query};
use crate::random::Random;
use crate::world::{Path, World};

/// A client with its number in the history.
pub(crate) struct Actor<'a> {
    pub(crate) world: &'a World,
    pub(crate) path: Path,
    pub(crate) client: Client,
    pub(crate) session: usize,
    pub(crate) random: Random,
}

impl<'a> Actor<'a> {
    pub(crate) async fn new(
        world: &'a World,
        path: Path,
        role: &str,
        random: Random,
    ) -> Result<Self> {
        let client = world.connect(path, role).await?;
        Ok(Self { world, path, client, session: world.session(), random })
    }

    fn style(&mut self) -> Style {
        *self.random.one_of(&STYLES)
    }

    /// Its number, if the proxy could know of its writes.
    fn writer(&self) -> Option<usize> {
        (self.path == Path::Through).then_some(self.session)
    }

    /// Runs a transaction.
    pub(crate) async fn write(&mut self, job: &Job) -> Result<()> {
        let style = match job.steps.iter().any(|step| step.statement.text.contains("; ")) {
            true => Style::Simple,
            false => self.style(),
        };
        let mut write = Write { session: self.writer(), ..Write::default() };
        if job.end == End::Alone {
            write.sent = self.world.now();
        } else {
            self.client.simple("BEGIN").await?;
        }
        if !self.steps(job, style, &mut write).await? {
            if job.end != End::Alone {
                self.client.simple("ROLLBACK").await?;
            }
            return Ok(());
        }
        match job.end {
            End::Alone => write.acknowledged = Some(self.world.now()),
            End::Rollback => {
                self.client.simple("ROLLBACK").await?;
                return Ok(());
            }
            End::Commit => {
                write.sent = self.world.now();
                let style = self.style();
                let reply = self.client.run(style, &Statement::new("COMMIT", &[])).await?;
                write.acknowledged = (reply.tag == "COMMIT").then(|| self.world.now());
                self.judge("COMMIT", &reply);
            }
            End::Prepared => {
                let name = self.world.version();
                let reply = self.client.simple(&format!("PREPARE TRANSACTION 'g{name}'")).await?;
                if reply.tag != "PREPARE TRANSACTION" {
                    self.judge("PREPARE TRANSACTION", &reply);
                    return Ok(());
                }
                write.sent = self.world.now();
                let reply = self.client.simple(&format!("COMMIT PREPARED 'g{name}'")).await?;
                write.acknowledged = reply.error.is_none().then(|| self.world.now());
                self.judge("COMMIT PREPARED", &reply);
            }
        }
        if !write.versions.is_empty() || !write.removed.is_empty() {
            self.world.note_write(write);
        }
        Ok(())
    }

    /// Runs the statements of a transaction; false if one has failed.
    async fn steps(&mut self, job: &Job, style: Style, write: &mut Write) -> Result<bool> {
        let (mut count, mut kept) = (0, None);
        for step in &job.steps {
            let reply = self.client.run(style, &step.statement).await?;
            if reply.error.is_some() {
                self.judge(&step.statement.text, &reply);
                return Ok(false);
            }
            if step.effect != Effect::Sees {
                count = match step.effect {
                    Effect::Returns => reply.rows[0][0].parse()?,
                    _ => reply.count(),
                };
            }
            match step.effect {
                Effect::Rows | Effect::Returns if count > 0 => {
                    write.versions.push(step.version);
                    write.is_certain = true;
                }
                Effect::Rows | Effect::Returns => {}
                Effect::Deletes(table) => {
                    for row in &reply.rows {
                        let row = row.iter().map(|value| value.parse());
                        write.removed.push((table, row.collect::<Result<_, _>>()?));
                    }
                    write.is_certain |= !write.removed.is_empty();
                }
                Effect::Unknown if step.version != 0 => write.versions.push(step.version),
                Effect::Unknown => kept = Some((write.versions.len(), write.removed.len())),
                Effect::RollsBack => {
                    if let Some((versions, removed)) = kept.take() {
                        write.versions.truncate(versions);
                        write.removed.truncate(removed);
                        write.is_certain = versions + removed > 0;
                    }
                }
                Effect::Sees if count == 0 => {}
                Effect::Sees => {
                    let version = step.version.to_string();
                    if !reply.rows.iter().any(|row| row.last() == Some(&version)) {
                        let fault = format!(
                            "session {} wrote version {version} and was answered {:?} in the same transaction",
                            self.session, reply.rows
                        );
                        self.world.note_fault(fault);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Notes an error that Postgres would not have given.
    fn judge(&self, text: &str, reply: &Reply) {
        let Some((code, message)) = &reply.error else { return };
        let is_usual = match code.as_str() {
            // Deadlocks, serialization, locks that took too long.
            "40001" | "40P01" | "55P03" => true,
            // Its SELECT comes and goes.
            "42501" => message.ends_with("secrets"),
            "0A000" => message.contains("cached plan must not change result type"),
            code => code.starts_with("23"),
        };
        if !is_usual {
            let session = self.session;
            self.world.note_fault(format!("session {session}: {text}: {code} {message}"));
        }
    }

    /// Writes down what a query was answered.
    fn note(&self, query: &Query, sent: u64, reply: &Reply, after: &[i64]) -> Result<()> {
        let answer = match reply.code() {
            None => reply.answer()?,
            Some("42501") if matches!(query, Query::Secret(_)) => Answer::Denied,
            Some(_) => {
                self.judge(&query.text(), reply);
                return Ok(());
            }
        };
        self.world.note_read(Read {
            session: self.session,
            sent,
            answered: self.world.now(),
            query: query.clone(),
            answer,
            after: after.to_vec(),
        });
        Ok(())
    }

    /// Runs a query; gives what it was answered.
    pub(crate) async fn read(&mut self, query: &Query) -> Result<Reply> {
        let style = self.style();
        let sent = self.world.now();
        let reply = self.client.run(style, &Statement::from(query)).await?;
        self.note(query, sent, &reply, &[])?;
        Ok(reply)
    }

    /// Runs queries in one transaction.
    pub(crate) async fn read_in_block(&mut self, queries: &[Query]) -> Result<()> {
        let snapshots =
            [("BEGIN", false), ("START TRANSACTION", false), ("BEGIN READ ONLY", false)];
        let one = [("BEGIN ISOLATION LEVEL REPEATABLE READ", true)];
        // Changes of the schema and TRUNCATE are seen whatever the snapshot (PostgreSQL manual, 13.6).
        let may_be_old = queries.iter().all(Query::is_of_snapshot);
        let begin = match may_be_old && self.random.percent(20) {
            true => one[0],
            false => *self.random.one_of(&snapshots),
        };
        let style = self.style();
        self.client.run(style, &Statement::new(begin.0, &[])).await?;
        let mut first = None;
        for query in queries {
            let now = self.world.now();
            let sent = if begin.1 { *first.get_or_insert(now) } else { now };
            let style = self.style();
            let reply = self.client.run(style, &Statement::from(query)).await?;
            self.note(query, sent, &reply, &[])?;
            if reply.status == b'E' {
                break;
            }
        }
        self.client.simple(if self.random.percent(80) { "COMMIT" } else { "ROLLBACK" }).await?;
        Ok(())
    }

    /// Sends queries without waiting for answers, after a change if one is given.
    pub(crate) async fn pipeline(&mut self, change: Option<&Job>, queries: &[Query]) -> Result<()> {
        let style = self.style();
        let change = change.map(|job| &job.steps[0]);
        let mut statements: Vec<Statement> =
            change.map(|step| step.statement.clone()).into_iter().collect();
        statements.extend(queries.iter().map(Statement::from));
        let sent = self.world.now();
        self.client.send(style, &statements).await?;
        let (mut after, mut failed) = (Vec::new(), Vec::new());
        if let Some(step) = change {
            let reply = self.client.reply().await?;
            if reply.error.is_some() {
                self.judge(&step.statement.text, &reply);
                failed.push(step.statement.clone());
            } else if reply.count() > 0 {
                after.push(step.version);
                self.world.note_write(Write {
                    session: self.writer(),
                    sent,
                    acknowledged: Some(self.world.now()),
                    versions: after.clone(),
                    is_certain: true,
                    ..Write::default()
                });
            }
        }
        for query in queries {
            let reply = self.client.reply().await?;
            self.note(query, sent, &reply, &after)?;
            if reply.error.is_some() {
                failed.push(query.into());
            }
        }
        for statement in failed {
            self.client.forget(&statement).await?;
        }
        Ok(())
    }
}
