//! Figures of sync, in Prometheus's text format.

use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;

use super::figures::SyncFigures;
use super::status::follower_lag;
use crate::db::{DbError, Pool};
use crate::telemetry;

/// What there is to do, by whether it is a fetch or a push, and from what kind of source or to what kind of target.
const WORK: &str = "
    SELECT work, kind, count(*) FILTER (WHERE due_at <= now()), count(*) FILTER (WHERE NOT success),
           coalesce(extract(epoch FROM now() - min(due_at) FILTER (WHERE due_at <= now())), 0)::float8
    FROM (SELECT 'fetch' AS work, CASE WHEN tenant_id < 0 THEN 'table' ELSE 'http' END AS kind, due_at, success
          FROM integratedb.sync_update WHERE due_at IS NOT NULL
          UNION ALL
          SELECT 'push', i.kind, s.due_at, s.success
          FROM integratedb.sync_integration i JOIN integratedb.sync_state s ON s.integration_id = i.id
          WHERE i.state = 'active' AND s.due_at IS NOT NULL) w
    GROUP BY work, kind ORDER BY work, kind";

/// Appends what this sidecar has done, and what there is to do for all.
pub(crate) async fn render(figures: &SyncFigures, pool: &Pool, out: &mut String) {
    render_done(figures, out);
    match asked(pool).await {
        Ok((work, lag)) => render_due(&work, lag, out),
        Err(error) => tracing::debug!(%error, "there are no figures of what is due now"),
    }
}

fn render_done(figures: &SyncFigures, out: &mut String) {
    let outcomes = |names: [&str; 3], counts: &[std::sync::atomic::AtomicU64; 3]| {
        let values = names.into_iter().zip(counts);
        values
            .map(|(name, count)| (format!("outcome=\"{name}\""), count.load(Relaxed)))
            .collect::<Vec<_>>()
    };
    let fetches = outcomes(["data", "gone", "failed"], &figures.fetched);
    family(out, "fetches_total", "counter", "Fetches of this sidecar that have ended.", fetches);
    let pushes = outcomes(["data", "deletion", "failed"], &figures.pushed);
    family(out, "pushes_total", "counter", "Pushes of this sidecar that have ended.", pushes);
    let (fetching, pushing) = figures.under_way();
    let running = [("fetch", fetching), ("push", pushing)];
    let running = running.map(|(work, count)| (format!("work=\"{work}\""), count));
    family(out, "in_flight", "gauge", "What this sidecar is doing at present.", running);
}

/// What there is to do of one kind.
struct Due {
    labels: String,
    due: i64,
    failing: i64,
    oldest_seconds: f64,
}

async fn asked(pool: &Pool) -> Result<(Vec<Due>, Option<f64>), DbError> {
    let client = pool.get().await?;
    let rows = client.query(WORK, &[]).await?;
    let due = |row: &tokio_postgres::Row| Due {
        // Kinds are names of ours.
        labels: format!("work=\"{}\",kind=\"{}\"", row.get::<_, &str>(0), row.get::<_, &str>(1)),
        due: row.get(2),
        failing: row.get(3),
        oldest_seconds: row.get(4),
    };
    Ok((rows.iter().map(due).collect(), follower_lag(&client).await?))
}

fn render_due(work: &[Due], lag: Option<f64>, out: &mut String) {
    fn of<'a, T: Display + 'a>(
        work: &'a [Due],
        figure: fn(&Due) -> T,
    ) -> impl Iterator<Item = (String, T)> + 'a {
        work.iter().map(move |due| (due.labels.clone(), figure(due)))
    }
    family(
        out,
        "due",
        "gauge",
        "What could be begun now, for all sidecars.",
        of(work, |due| due.due),
    );
    let oldest = of(work, |due| due.oldest_seconds);
    family(out, "oldest_due_seconds", "gauge", "How long the oldest of it has been due.", oldest);
    let failing = of(work, |due| due.failing);
    family(out, "failing", "gauge", "What failed at its last attempt and is tried again.", failing);
    let lag = lag.map(|lag| (String::new(), lag));
    family(out, "follower_lag_seconds", "gauge", "Since the oldest change not followed.", lag);
}

fn family<T: Display>(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, T)>,
) {
    telemetry::family(out, &format!("integratedb_sync_{name}"), kind, help, values);
}
