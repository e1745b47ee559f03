//! The proxy's figures in Prometheus's text format.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::cache::Cache;
use super::observe::{BOUNDS, Figures};
use super::registry::Registry;
use crate::cache::{DiskFigures, Following};
use crate::replication::Status;

/// Appends the figures of all caches: their clients and connections, and calls, errors, bytes and latency by
/// template. What a label names is an id of the template, whose text is in REST: labels should be short.
pub(crate) fn render(registry: &Registry, text: &mut String) {
    // Writing to a String can't fail.
    let _ = write_all(registry, text);
}

fn write_all(registry: &Registry, out: &mut String) -> std::fmt::Result {
    let caches = registry.caches();
    head(out, "integratedb_proxy_clients", "gauge", "Clients connected to the proxy.")?;
    writeln!(out, "integratedb_proxy_clients {}", registry.clients())?;
    head(out, "integratedb_proxy_cache_clients", "gauge", "Clients in a session of a cache.")?;
    for cache in &caches {
        writeln!(
            out,
            "integratedb_proxy_cache_clients{{cache=\"{}\"}} {}",
            cache.id(),
            cache.clients()
        )?;
    }
    head(
        out,
        "integratedb_proxy_connections",
        "gauge",
        "Pooled connections to origins by what they do.",
    )?;
    for cache in &caches {
        for (user, database, figures) in cache.figures() {
            let (user, database) = (escape(&user), escape(&database));
            for (state, count) in [("idle", figures.idle), ("used", figures.used)] {
                writeln!(
                    out,
                    "integratedb_proxy_connections{{cache=\"{}\",user=\"{user}\",database=\"{database}\",\
                     state=\"{state}\"}} {count}",
                    cache.id()
                )?;
            }
        }
    }
    let help =
        "Sessions that keep a connection between transactions because of what they have done.";
    head(out, "integratedb_proxy_pinned", "gauge", help)?;
    for cache in &caches {
        writeln!(out, "integratedb_proxy_pinned{{cache=\"{}\"}} {}", cache.id(), cache.pinned())?;
    }
    let help = "Texts and names of prepared statements that clients have, and the proxy keeps.";
    head(out, "integratedb_proxy_statement_bytes", "gauge", help)?;
    for cache in &caches {
        let taken = cache.statements().room().taken();
        writeln!(out, "integratedb_proxy_statement_bytes{{cache=\"{}\"}} {taken}", cache.id())?;
    }
    head(
        out,
        "integratedb_proxy_waiting",
        "gauge",
        "Clients that wait for a connection to an origin.",
    )?;
    for cache in &caches {
        let waiting: usize = cache.figures().iter().map(|(_, _, figures)| figures.waiting).sum();
        writeln!(out, "integratedb_proxy_waiting{{cache=\"{}\"}} {waiting}", cache.id())?;
    }
    type Count = fn(&Figures) -> u64;
    let counts: [(&str, &str, Count); 3] = [
        ("integratedb_query_calls_total", "Queries answered.", |f| f.calls.load(Relaxed)),
        ("integratedb_query_errors_total", "Queries that failed.", |f| f.errors.load(Relaxed)),
        ("integratedb_query_bytes_total", "Bytes of answers.", |f| f.bytes.load(Relaxed)),
    ];
    for (name, help, count) in counts {
        head(out, name, "counter", help)?;
        for cache in &caches {
            for template in cache.queries().all() {
                let class = template.class().as_str();
                let value = count(&template.figures);
                writeln!(
                    out,
                    "{name}{{cache=\"{}\",template=\"{:016x}\",class=\"{class}\"}} {value}",
                    cache.id(),
                    template.id
                )?;
            }
        }
    }
    let name = "integratedb_query_seconds";
    head(out, name, "histogram", "From a query to the end of its answer.")?;
    for cache in &caches {
        for template in cache.queries().all() {
            let labels = format!("cache=\"{}\",template=\"{:016x}\"", cache.id(), template.id);
            write_times(out, name, &labels, &template.figures)?;
        }
    }
    write_kept(&caches, out)
}

/// A histogram of one set of labels.
fn write_times(out: &mut String, name: &str, labels: &str, figures: &Figures) -> std::fmt::Result {
    let mut sum = 0;
    for (bucket, bound) in figures.buckets.iter().zip(BOUNDS) {
        sum += bucket.load(Relaxed);
        writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {sum}", bound as f64 / 1e6)?;
    }
    sum += figures.buckets[BOUNDS.len()].load(Relaxed);
    writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {sum}")?;
    writeln!(out, "{name}_sum{{{labels}}} {}", figures.micros.load(Relaxed) as f64 / 1e6)?;
    writeln!(out, "{name}_count{{{labels}}} {sum}")
}

/// What caches keep, altogether and by template.
fn write_kept(caches: &[Arc<Cache>], out: &mut String) -> std::fmt::Result {
    let following: Vec<_> =
        caches.iter().filter_map(|cache| Some((cache, cache.following()?))).collect();
    type Count = fn(&integratedb_cache::Figures) -> u64;
    let counts: [(&str, &str, &str, Count); 12] = [
        ("entries", "gauge", "Answers kept.", |f| f.entries as u64),
        ("bytes", "gauge", "Memory they take.", |f| f.bytes as u64),
        ("fences", "gauge", "Writes not known to have arrived.", |f| f.fences as u64),
        ("hits_total", "counter", "Answers given from the cache.", |f| f.hits),
        ("misses_total", "counter", "Looked for and not found.", |f| f.misses),
        ("fenced_total", "counter", "Not given because of a write.", |f| f.fenced),
        ("behind_total", "counter", "Not given, or later: the session had seen more.", |f| {
            f.behind
        }),
        ("off_total", "counter", "Not given because the reader was late.", |f| f.off),
        ("stored_total", "counter", "Answers stored.", |f| f.stored),
        ("refused_total", "counter", "Answers fetched and not stored.", |f| f.refused.iter().sum()),
        ("evicted_total", "counter", "Dropped to make room.", |f| f.evicted),
        ("invalidated_total", "counter", "Dropped by a change.", |f| {
            f.invalidated_by_row + f.invalidated_by_table + f.invalidated_by_schema
        }),
    ];
    let figures: Vec<_> = following
        .iter()
        .map(|(cache, following)| (cache.id(), following.engine().store().figures()))
        .collect();
    for (name, kind, help, count) in counts {
        head(out, &format!("integratedb_cache_{name}"), kind, help)?;
        for (id, figures) in &figures {
            writeln!(out, "integratedb_cache_{name}{{cache=\"{id}\"}} {}", count(figures))?;
        }
    }
    write_disks(&following, out)?;
    let name = "integratedb_cache_query_hits_total";
    head(out, name, "counter", "Answers given from the cache, by template.")?;
    for (cache, _) in &following {
        for template in cache.queries().all() {
            let hits = template.cached.hits.load(Relaxed);
            if hits > 0 {
                let (id, template) = (cache.id(), template.id);
                writeln!(out, "{name}{{cache=\"{id}\",template=\"{template:016x}\"}} {hits}")?;
            }
        }
    }
    Ok(())
}

/// How the readers of caches are, by the caches' ids.
pub(crate) fn readers(registry: &Registry) -> Vec<(String, Status)> {
    let status = |cache: &Arc<Cache>| Some((cache.id().to_string(), cache.following()?.status()?));
    registry.caches().iter().filter_map(status).collect()
}

/// What is on disk, and how reading it goes.
fn write_disks(following: &[(&Arc<Cache>, &Arc<Following>)], out: &mut String) -> std::fmt::Result {
    let disks: Vec<_> = following
        .iter()
        .filter_map(|(cache, following)| {
            let engine = following.engine();
            Some((cache.id(), engine.disk()?, engine.store().figures()))
        })
        .collect();
    if disks.is_empty() {
        return Ok(());
    }
    type Count = fn(&DiskFigures, &integratedb_cache::Figures) -> u64;
    let counts: [(&str, &str, &str, Count); 13] = [
        ("off", "gauge", "1 if the file can't be used.", |f, _| u64::from(f.off.is_some())),
        ("entries", "gauge", "Answers in the file.", |f, _| f.entries),
        ("bytes", "gauge", "What the file takes.", |f, _| f.file_bytes),
        ("restored", "gauge", "Answers brought back when the process began.", |f, _| f.restored),
        ("passed_over_total", "counter", "Answers that found no room in the file.", |f, _| {
            f.passed_over
        }),
        ("writes_total", "counter", "Transactions of the file.", |f, _| f.writes),
        ("only", "gauge", "Answers that are on disk only.", |_, f| f.on_disk as u64),
        ("only_bytes", "gauge", "How long these are.", |_, f| f.disk_bytes as u64),
        ("hits_total", "counter", "Answers given from disk.", |_, f| f.disk_hits),
        ("spilled_total", "counter", "Answers that left memory to make room.", |_, f| f.spilled),
        ("promoted_total", "counter", "Answers that came back to memory.", |_, f| f.promoted),
        ("lost_total", "counter", "Answers that could not be read.", |_, f| f.lost),
        ("late_total", "counter", "Answers that were not read in time.", |f, _| f.late),
    ];
    for (name, kind, help, count) in counts {
        head(out, &format!("integratedb_cache_disk_{name}"), kind, help)?;
        for (id, disk, kept) in &disks {
            let value = count(&disk.figures(), kept);
            writeln!(out, "integratedb_cache_disk_{name}{{cache=\"{id}\"}} {value}")?;
        }
    }
    let name = "integratedb_cache_disk_read_seconds";
    head(out, name, "histogram", "From asking the disk for an answer to its end.")?;
    for (id, disk, _) in &disks {
        write_times(out, name, &format!("cache=\"{id}\""), disk.reads())?;
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
