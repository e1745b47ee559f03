//! A Redis of one's own.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::until;

/// A running Redis, which keeps nothing on disk. It is gone when this value is.
pub struct RedisServer {
    port: u16,
    password: Option<String>,
    server: Option<Child>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one on a free port.
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// Starts one that asks for a password.
    pub async fn start_with(password: Option<&str>) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let password = password.map(str::to_owned);
        let mut redis = Self { port, password, server: None, folder: tempfile::tempdir()? };
        redis.restart().await?;
        Ok(redis)
    }

    /// Kills it, as the kernel would: all that it had is gone.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Starts it again, empty, on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no"]).arg("--dir").arg(self.folder.path());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: between fork and exec only prctl is called, which is a plain system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let server =
            command.spawn().context("redis-server is missing: run `make drivers` first")?;
        self.server = Some(server);
        until("Redis answers", async || {
            let Ok(mut connection) = self.connect().await else { return Ok(false) };
            Ok(redis::cmd("PING").exec_async(&mut connection).await.is_ok())
        })
        .await?;
        let is_running = self.server.as_mut().is_some_and(|s| matches!(s.try_wait(), Ok(None)));
        ensure!(is_running, "somebody else's Redis has its port");
        Ok(())
    }

    /// Its URL, with the password.
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}@"));
        format!("redis://{}127.0.0.1:{}/0", password.unwrap_or_default(), self.port)
    }

    /// A connection.
    pub async fn connect(&self) -> Result<MultiplexedConnection> {
        // A test has deadlines of its own.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let client = redis::Client::open(self.url())?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// How many entries a stream has.
    pub async fn length(&self, key: &str) -> Result<usize> {
        Ok(redis::cmd("XLEN").arg(key).query_async(&mut self.connect().await?).await?)
    }

    /// The entries of a stream: their ids with the events in them.
    pub async fn stream(&self, key: &str) -> Result<Vec<(String, serde_json::Value)>> {
        let mut ask = redis::cmd("XRANGE");
        ask.arg(key).arg("-").arg("+");
        let entries: Vec<(String, Vec<String>)> =
            ask.query_async(&mut self.connect().await?).await?;
        let read = |(id, fields): (String, Vec<String>)| {
            let [id_name, event_id, event_name, event] = &fields[..] else {
                anyhow::bail!("{fields:?}");
            };
            ensure!(id_name == "id" && event_name == "event", "{fields:?}");
            let event: serde_json::Value = serde_json::from_str(event)?;
            ensure!(event["id"] == event_id.as_str(), "{event_id} {event}");
            Ok((id, event))
        };
        entries.into_iter().map(read).collect()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
