//! Figures of notifications, in Prometheus's text format.

use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;

use super::sockets::{Kind, SocketFigures, Sockets};
use super::{Notifications, Role};
use crate::db::{DbError, Pool};
use crate::telemetry;

/// Channels beyond which none is told of: each has labels of its own.
const MOST: i64 = 200;

const CHANNELS: &str = "
    SELECT s.name, c.name, c.kind, c.is_paused OR c.disabled_because IS NOT NULL,
           t.attempts, t.failures, t.delivered,
           (SELECT count(*) FROM integratedb.dead_letter d WHERE d.channel_id = c.id),
           (SELECT count(*) FROM integratedb.channel_delivery w WHERE w.channel_id = c.id),
           coalesce(extract(epoch FROM now() - (
               SELECT l.stored_at FROM integratedb.event_log l
               WHERE (l.epoch, l.last_lsn, l.last_index) > (t.epoch, t.lsn, t.index)
               ORDER BY l.epoch, l.last_lsn, l.last_index LIMIT 1)), 0)::float8
    FROM integratedb.channel c
    JOIN integratedb.channel_state t ON t.channel_id = c.id
    JOIN integratedb.stakeholder s ON s.id = c.stakeholder_id
    WHERE c.kind <> 'SOCKET'
    ORDER BY c.id LIMIT $1";

/// Appends the figures of a sidecar's log and sockets, and where it leads those of all channels.
pub(crate) async fn render(notifications: &Notifications, sockets: &Sockets, out: &mut String) {
    render_log(notifications, out);
    render_sockets(sockets, out);
    if matches!(*notifications.role().borrow(), Role::Leads | Role::Idle) {
        match channels(notifications.pool()).await {
            Ok(channels) => render_channels(&channels, out),
            Err(error) => tracing::debug!(%error, "there are no figures of channels now"),
        }
    }
}

fn render_log(notifications: &Notifications, out: &mut String) {
    let role = *notifications.role().borrow();
    let one = |value| [(String::new(), value)];
    let leads = u64::from(role == Role::Leads);
    family(out, "leads", "gauge", "Whether this sidecar reads and delivers.", one(leads));
    let figures = notifications.log().figures();
    let (changes, segments) = (figures.changes.load(Relaxed), figures.segments.load(Relaxed));
    family(out, "changes_total", "counter", "Changes stored.", one(changes));
    family(out, "segments_total", "counter", "Segments of changes stored.", one(segments));
    let gaps = figures.gaps.load(Relaxed);
    family(out, "gaps_total", "counter", "Times that changes may have been missed.", one(gaps));
    let pruned = figures.pruned.load(Relaxed);
    family(out, "pruned_total", "counter", "Changes that are not kept any more.", one(pruned));
    let head = notifications.log().head().lsn.0;
    family(out, "head_bytes", "gauge", "Position of the last change stored.", one(head));
}

fn render_sockets(sockets: &Sockets, out: &mut String) {
    let of = |figure: fn(&SocketFigures) -> u64| {
        Kind::ALL.map(|kind| (format!("kind=\"{}\"", kind.as_str()), figure(sockets.figures(kind))))
    };
    let open = of(|figures| figures.open.load(Relaxed) as u64);
    family(out, "sockets", "gauge", "Sockets that are open.", open);
    let opened = of(|figures| figures.opened.load(Relaxed));
    family(out, "sockets_opened_total", "counter", "Sockets opened.", opened);
    let events = of(|figures| figures.events.load(Relaxed));
    family(out, "socket_events_total", "counter", "Events sent to sockets.", events);
    let gaps = of(|figures| figures.gaps.load(Relaxed));
    family(out, "socket_gaps_total", "counter", "Gaps told to sockets.", gaps);
}

/// A durable channel as it is stored.
struct Channel {
    labels: String,
    is_stopped: bool,
    attempts: i64,
    failures: i64,
    delivered: i64,
    dead_letters: i64,
    waiting: i64,
    lag_seconds: f64,
}

async fn channels(pool: &Pool) -> Result<Vec<Channel>, DbError> {
    let rows = pool.get().await?.query(CHANNELS, &[&MOST]).await?;
    let channel = |row: tokio_postgres::Row| {
        // Names are letters, digits, dots, dashes and underscores.
        let (stakeholder, name, kind): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        Channel {
            labels: format!("stakeholder=\"{stakeholder}\",channel=\"{name}\",type=\"{kind}\""),
            is_stopped: row.get(3),
            attempts: row.get(4),
            failures: row.get(5),
            delivered: row.get(6),
            dead_letters: row.get(7),
            waiting: row.get(8),
            lag_seconds: row.get(9),
        }
    };
    Ok(rows.into_iter().map(channel).collect())
}

fn render_channels(channels: &[Channel], out: &mut String) {
    fn of<'a, T: Display + 'a>(
        channels: &'a [Channel],
        figure: fn(&Channel) -> T,
    ) -> impl Iterator<Item = (String, T)> + 'a {
        channels.iter().map(move |channel| (channel.labels.clone(), figure(channel)))
    }
    let lag = of(channels, |channel| channel.lag_seconds);
    family(out, "channel_lag_seconds", "gauge", "Since the oldest change not taken care of.", lag);
    let stopped = of(channels, |channel| u8::from(channel.is_stopped));
    family(out, "channel_stopped", "gauge", "Whether it is paused or given up.", stopped);
    let waiting = of(channels, |channel| channel.waiting);
    family(out, "channel_waiting", "gauge", "Events that failed or wait behind one.", waiting);
    let dead = of(channels, |channel| channel.dead_letters);
    family(out, "channel_dead_letters", "gauge", "Events that were given up.", dead);
    let attempts = of(channels, |channel| channel.attempts);
    family(out, "channel_attempts_total", "counter", "Requests or writes.", attempts);
    let failures = of(channels, |channel| channel.failures);
    family(out, "channel_failures_total", "counter", "Of these, those that failed.", failures);
    let delivered = of(channels, |channel| channel.delivered);
    family(out, "channel_events_total", "counter", "Events that were taken.", delivered);
}

fn family<T: Display>(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, T)>,
) {
    telemetry::family(out, &format!("integratedb_notify_{name}"), kind, help, values);
}
