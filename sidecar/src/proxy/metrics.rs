//! The proxy's figures in Prometheus's text format.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::observe::{BOUNDS, Figures};
use super::registry::Registry;

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
            let mut sum = 0;
            let figures = &template.figures;
            for (bucket, bound) in figures.buckets.iter().zip(BOUNDS) {
                sum += bucket.load(Relaxed);
                writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {sum}", bound as f64 / 1e6)?;
            }
            sum += figures.buckets[BOUNDS.len()].load(Relaxed);
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {sum}")?;
            writeln!(out, "{name}_sum{{{labels}}} {}", figures.micros.load(Relaxed) as f64 / 1e6)?;
            writeln!(out, "{name}_count{{{labels}}} {sum}")?;
        }
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
