//! The sidecar as a process, for what only a process can go through: to be killed, and to come back.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{binary, free_address, http, until};

/// A running `integratedb serve`. It dies with this, or with the thread that started it.
pub struct Process {
    child: Child,
    api: SocketAddr,
    proxy: SocketAddr,
    http: reqwest::Client,
}

impl Process {
    /// Starts it with this configuration file, and waits until it answers. `largest`: of its files, in kilobytes; a
    /// write beyond fails as on a full disk.
    pub async fn start(config: &Path, database_url: &str, largest: Option<u64>) -> Result<Self> {
        let (api, proxy) = (free_address()?, free_address()?);
        let mut command = match largest {
            None => Command::new(binary()?),
            Some(largest) => {
                let mut shell = Command::new("sh");
                // The shell's unit is 512 bytes. What is beyond the limit is an error only if the signal is ignored.
                let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", largest * 2);
                shell.args(["-c", &script, "sh"]).arg(binary()?);
                shell
            }
        };
        command.arg("serve").arg("--config").arg(config).stdin(Stdio::null());
        command.args(["--listen", &api.to_string(), "--proxy-listen", &proxy.to_string()]);
        command.env("INTEGRATEDB_DATABASE_URL", database_url).env_remove("RUST_LOG");
        if std::env::var_os("SHOW_LOG").is_none() {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        // SAFETY: between fork and exec only prctl is called, which is a plain system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn()?;
        let http = http()?;
        let mut process = Self { child, api, proxy, http };
        until("the process answers", async || {
            let answer = process.http.get(format!("http://{api}/health/live")).send().await;
            Ok(answer.is_ok_and(|answer| answer.status() == 200))
        })
        .await?;
        ensure!(process.child.try_wait()?.is_none(), "it has ended");
        Ok(process)
    }

    /// Where its API listens.
    pub const fn api(&self) -> SocketAddr {
        self.api
    }

    /// POST to its API; gives the body of the answer.
    pub async fn post(&self, path: &str, body: Value, token: Option<&str>) -> Result<Value> {
        let mut request = self.http.post(format!("http://{}{path}", self.api)).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        Ok(request.send().await?.json().await?)
    }

    /// PUT
    pub async fn put(&self, path: &str, body: Value, token: &str) -> Result<Value> {
        let request = self.http.put(format!("http://{}{path}", self.api)).json(&body);
        Ok(request.bearer_auth(token).send().await?.json().await?)
    }

    /// Where its proxy listens.
    pub const fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// The sum of a metric over its labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text =
            self.http.get(format!("http://{}/metrics", self.api)).send().await?.text().await?;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let mut sum = None;
        for line in lines {
            let value = line.rsplit(' ').next().context("an empty line")?;
            *sum.get_or_insert(0.0) += value.parse::<f64>()?;
        }
        sum.with_context(|| format!("no metric {name}"))
    }

    /// The most memory it has had so far, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("no VmHWM")?.trim().parse::<u64>()? << 10)
    }

    fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = libc::pid_t::try_from(self.child.id())?;
        // SAFETY: a plain system call, for a child that nobody has waited for.
        ensure!(unsafe { libc::kill(pid, signal) } == 0, "it can't be told");
        Ok(())
    }

    /// Has it read its configuration again.
    pub fn reload(&self) -> Result<()> {
        self.signal(libc::SIGHUP)
    }

    /// As the kernel does when memory is short: nothing is finished.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// As one should.
    pub fn stop(mut self) -> Result<()> {
        self.signal(libc::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
