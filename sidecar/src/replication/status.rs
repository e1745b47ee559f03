//! What people see of a reader: a status, metrics, and an alarm when it turns bad.

use std::fmt::Write;
use std::time::Duration;

use integratedb_wire::Lsn;

use super::settings::ReaderSettings;

/// What a reader does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has no connection, and tries to get one.
    #[default]
    Connecting,
    /// It delivers, and is within its bounds.
    Streaming,
    /// It delivers, but is further behind than its bounds allow.
    Suspended,
}

impl State {
    /// Its name in REST and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Suspended => "suspended",
        }
    }
}

/// How a reader is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub state: State,
    /// The slot it follows, or followed last.
    pub slot: String,
    /// All that committed before is delivered.
    pub applied: Lsn,
    /// What the origin was told it may forget.
    pub confirmed: Lsn,
    /// Bytes of WAL that the origin had written at the last probe and that are not delivered.
    pub lag_bytes: u64,
    /// How long ago all was delivered for certain; none if it never was in this connection.
    pub lag: Option<Duration>,
    /// Changes delivered, and transactions.
    pub changes: u64,
    /// Transactions delivered.
    pub transactions: u64,
    /// Why there is no connection, or why the last one ended.
    pub last_error: Option<String>,
    /// Connections after the first.
    pub reconnects: u64,
    /// How often transactions may have been missed.
    pub lost: u64,
    /// A slot that has to be there can't be followed any more: why.
    pub slot_lost: Option<String>,
    /// pg_replication_slots.wal_status: reserved, extended, unreserved or lost.
    pub wal_status: Option<String>,
    /// Bytes that may still be written before the slot can be lost; none if nothing bounds it.
    pub safe_wal_size: Option<i64>,
    /// The slot is permanent and max_slot_wal_keep_size is -1: while the reader is away, the origin's disk fills.
    pub wal_is_unbounded: bool,
}

impl Status {
    /// The state of a connection that stands.
    pub(super) fn judge(&self, settings: &ReaderSettings, since_start: Duration) -> State {
        let late = self.lag.unwrap_or(since_start) > settings.lag_time;
        if late || self.lag_bytes > settings.lag_bytes {
            State::Suspended
        } else {
            State::Streaming
        }
    }
}

/// Says each turn to the bad once, and each turn to the good.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    state: Option<State>,
    wal_status: Option<String>,
    last_error: Option<String>,
    unbounded: bool,
}

impl Alarms {
    pub(super) fn look(&mut self, name: &str, status: &Status) {
        if self.last_error != status.last_error && status.state == State::Connecting {
            if let Some(why) = &status.last_error {
                tracing::warn!(reader = name, "the reader has no connection: {why}");
            }
            self.last_error.clone_from(&status.last_error);
        }
        if self.state != Some(status.state) {
            let (bytes, slot) = (status.lag_bytes, status.slot.as_str());
            match status.state {
                State::Suspended => {
                    let seconds = status.lag.map(|lag| lag.as_secs());
                    tracing::warn!(
                        reader = name,
                        slot,
                        bytes,
                        seconds,
                        "the reader is too far behind"
                    );
                }
                State::Streaming => {
                    tracing::info!(reader = name, slot, "the reader follows the origin");
                    self.last_error = None;
                }
                State::Connecting => {}
            }
            self.state = Some(status.state);
        }
        if self.wal_status != status.wal_status {
            let is_bad = matches!(status.wal_status.as_deref(), Some("unreserved" | "lost"));
            if is_bad {
                tracing::warn!(
                    reader = name,
                    slot = status.slot,
                    wal_status = status.wal_status,
                    "the slot holds more WAL than max_slot_wal_keep_size allows, and will be lost"
                );
            }
            self.wal_status.clone_from(&status.wal_status);
        }
        if self.unbounded != status.wal_is_unbounded {
            if status.wal_is_unbounded {
                tracing::warn!(
                    reader = name,
                    slot = status.slot,
                    "max_slot_wal_keep_size is -1: while the reader is away, its slot fills the origin's disk"
                );
            }
            self.unbounded = status.wal_is_unbounded;
        }
    }
}

/// Appends the figures of readers, each with the name of its origin, in Prometheus's text format.
#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
pub fn render(readers: &[(String, Status)], out: &mut String) {
    type Figure = fn(&Status) -> Option<f64>;
    let figures: [(&str, &str, &str, Figure); 9] = [
        ("lag_bytes", "gauge", "WAL not delivered yet.", |s| Some(s.lag_bytes as f64)),
        ("lag_seconds", "gauge", "Since all was delivered for certain.", |s| {
            s.lag.map(|lag| lag.as_secs_f64())
        }),
        ("applied_bytes", "gauge", "Position up to which all is delivered.", |s| {
            Some(s.applied.0 as f64)
        }),
        ("confirmed_bytes", "gauge", "Position that the origin may forget up to.", |s| {
            Some(s.confirmed.0 as f64)
        }),
        ("safe_wal_bytes", "gauge", "WAL until the slot can be lost.", |s| {
            s.safe_wal_size.map(|size| size as f64)
        }),
        ("changes_total", "counter", "Changes delivered.", |s| Some(s.changes as f64)),
        ("transactions_total", "counter", "Transactions delivered.", |s| {
            Some(s.transactions as f64)
        }),
        ("reconnects_total", "counter", "Connections after the first.", |s| {
            Some(s.reconnects as f64)
        }),
        ("lost_total", "counter", "Times that transactions may have been missed.", |s| {
            Some(s.lost as f64)
        }),
    ];
    // Writing to a String can't fail.
    for (name, kind, help, figure) in figures {
        let name = format!("integratedb_replication_{name}");
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (reader, status) in readers {
            if let Some(value) = figure(status) {
                let _ = writeln!(out, "{name}{{origin=\"{}\"}} {value}", escape(reader));
            }
        }
    }
    let name = "integratedb_replication_state";
    let _ = writeln!(out, "# HELP {name} What the reader does.\n# TYPE {name} gauge");
    for (reader, status) in readers {
        for state in [State::Connecting, State::Streaming, State::Suspended] {
            let (is_it, state_name) = (u8::from(status.state == state), state.as_str());
            let reader = escape(reader);
            let _ = writeln!(out, "{name}{{origin=\"{reader}\",state=\"{state_name}\"}} {is_it}");
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::Slot;
    use crate::secret::Secret;

    #[test]
    fn a_reader_beyond_a_bound_is_suspended() {
        let settings =
            ReaderSettings::new("x", Secret::new(String::new()), Slot::Temporary("x".to_owned()));
        let judge = |lag_bytes, lag: Option<u64>, since| {
            let status =
                Status { lag_bytes, lag: lag.map(Duration::from_secs), ..Status::default() };
            status.judge(&settings, Duration::from_secs(since))
        };
        assert_eq!(judge(0, Some(0), 100), State::Streaming);
        assert_eq!(judge(0, None, 1), State::Streaming);
        assert_eq!(judge(0, None, 100), State::Suspended);
        assert_eq!(judge(0, Some(11), 100), State::Suspended);
        assert_eq!(judge(1 << 40, Some(0), 100), State::Suspended);
    }

    #[test]
    fn figures_that_are_not_known_are_left_out() {
        let mut text = String::new();
        render(&[("a\"b".to_owned(), Status { lost: 2, ..Status::default() })], &mut text);
        assert!(
            text.contains("integratedb_replication_lost_total{origin=\"a\\\"b\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("state=\"connecting\"} 1\n"), "{text}");
        assert!(!text.contains("lag_seconds{"), "{text}");
    }
}
