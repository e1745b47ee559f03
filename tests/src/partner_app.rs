//! The partner's applications of `docs/partners`, run as they are.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::drivers::installed;

/// A partner's application.
#[derive(Clone, Copy, Debug)]
pub enum PartnerApp {
    /// partner.py, with Authlib
    Python,
    /// partner.mjs, with openid-client
    Node,
}

/// What an application is told by its environment.
#[derive(Debug)]
pub struct PartnerSettings<'a> {
    /// The authorization server.
    pub issuer: &'a str,
    /// Who it is there.
    pub client_id: &'a str,
    /// Its secret.
    pub client_secret: &'a str,
    /// Where it waits for the browser.
    pub redirect_uri: &'a str,
    /// The database of its user.
    pub origin: &'a str,
}

/// A running application. It ends with this value, or with the thread that started it.
pub struct RunningPartner {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::UnboundedReceiver<String>,
    told: Vec<String>,
    _folder: TempDir,
}

impl PartnerApp {
    /// Starts it.
    pub fn start(self, settings: &PartnerSettings<'_>) -> Result<RunningPartner> {
        let folder = tempfile::tempdir()?;
        let mut command = self.command(&folder)?;
        command
            .env("ISSUER", settings.issuer)
            .env("CLIENT_ID", settings.client_id)
            .env("CLIENT_SECRET", settings.client_secret)
            .env("REDIRECT_URI", settings.redirect_uri)
            .env("ORIGIN", settings.origin)
            // A proxy from the environment could not reach these addresses.
            .env("NO_PROXY", "*")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: between fork and exec only prctl is called, which is a plain system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().context("it has no input")?;
        let stdout = BufReader::new(child.stdout.take().context("it has no output")?);
        let (send, lines) = mpsc::unbounded_channel();
        // Ends with the program.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(RunningPartner { child, stdin, lines, told: Vec::new(), _folder: folder })
    }

    fn command(self, folder: &TempDir) -> Result<Command> {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/partners");
        Ok(match self {
            Self::Python => {
                let mut command = Command::new(installed()?.join("python/bin/python"));
                command.arg("-B").arg(docs.join("partner.py"));
                command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
                command
            }
            Self::Node => {
                // A module is looked for beside what imports it.
                let program: PathBuf = folder.path().join("partner.mjs");
                std::fs::copy(docs.join("partner.mjs"), &program)?;
                let modules = installed()?.join("node/node_modules").canonicalize()?;
                std::os::unix::fs::symlink(modules, folder.path().join("node_modules"))?;
                let mut command = Command::new("node");
                command.arg(program).env_remove("NODE_OPTIONS");
                command
            }
        })
    }
}

impl RunningPartner {
    /// Waits until it tells this, and gives what it tells.
    pub async fn tells(&mut self, what: &str) -> Result<String> {
        loop {
            let line = self.lines.recv().await;
            let line =
                line.with_context(|| format!("it ended before {what:?}: {:?}", self.told))?;
            self.told.push(line.clone());
            if let Some(value) = line.strip_prefix(what).and_then(|rest| rest.strip_prefix(": ")) {
                return Ok(value.to_owned());
            }
        }
    }

    /// Presses Enter.
    pub fn press_enter(&mut self) -> Result<()> {
        Ok(self.stdin.write_all(b"\n")?)
    }

    /// Waits until it has ended in peace, and gives all that it told.
    pub async fn ends(mut self) -> Result<Vec<String>> {
        while let Some(line) = self.lines.recv().await {
            self.told.push(line);
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "{status} after {:?}", self.told);
        Ok(std::mem::take(&mut self.told))
    }
}

impl Drop for RunningPartner {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on, for another process to do so. Linux gives none of these to who asks for any, so nobody
/// gets it meanwhile.
pub fn free_address() -> Result<SocketAddr> {
    for _ in 0..100 {
        let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(10_000..32_000)));
        if std::net::TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no port is free")
}
