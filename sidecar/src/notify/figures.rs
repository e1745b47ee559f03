//! Figures of notifications, in Prometheus's text format.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;

use super::sockets::{Kind, SocketFigures, Sockets};

/// Appends the figures of a sidecar's sockets.
pub(crate) fn render(sockets: &Sockets, out: &mut String) {
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

/// Appends a metric with a value for each of its labels.
fn family<T: Display>(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, T)>,
) {
    // Writing to a String can't fail.
    let _ = writeln!(
        out,
        "# HELP integratedb_notify_{name} {help}\n# TYPE integratedb_notify_{name} {kind}"
    );
    for (labels, value) in values {
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "integratedb_notify_{name}{labels} {value}");
    }
}
