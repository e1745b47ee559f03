//! A certified OpenID provider (oidc-provider of npm), with the paths of Keycloak's client registration and of Zync's REST
//! contract before its own dynamic registration.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::drivers::node;
use crate::http;

/// A running provider. It is gone when this value is.
pub struct OpenIdProvider {
    child: Child,
    port: String,
    http: reqwest::Client,
}

impl OpenIdProvider {
    /// Who may register clients.
    pub const ID: &str = "sync:er";
    /// Its secret.
    pub const SECRET: &str = "p@ss /w?rd%";

    /// Starts it. `method`: how clients authenticate, `client_secret_post` or `client_secret_basic`.
    pub async fn start(method: &str) -> Result<Self> {
        let mut command = node("openid_provider.js")?;
        command.args([Self::ID, Self::SECRET, method]).stdin(Stdio::null()).stdout(Stdio::piped());
        if std::env::var_os("SHOW_LOG").is_none() {
            command.stderr(Stdio::null());
        }
        // SAFETY: between fork and exec only prctl is called, which is a plain system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("it has no output")?;
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = line.await??;
        let port = line.trim().strip_prefix("listening ").context("the provider does not start");
        Ok(Self { port: port?.to_owned(), child, http: http()? })
    }

    /// The endpoint of an integration, with its credentials.
    pub fn endpoint(&self) -> String {
        format!("http://sync%3Aer:p%40ss%20%2Fw%3Frd%25@127.0.0.1:{}/", self.port)
    }

    /// Whether a client may have a token with this secret.
    pub async fn knows(&self, id: &str, secret: &str) -> Result<bool> {
        let request = self.http.post(self.url("token")).basic_auth(id, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body("grant_type=client_credentials").send().await?;
        let status = answer.status();
        ensure!(status == 200 || status == 401, "{status}: {}", answer.text().await?);
        Ok(status == 200)
    }

    /// How many tokens were asked for by the one who registers.
    pub async fn tokens(&self) -> Result<i64> {
        let figures: Value = self.http.get(self.url("figures")).send().await?.json().await?;
        figures["tokens"].as_i64().context("no tokens")
    }

    /// Refuses all tokens that it has given.
    pub async fn revoke(&self) -> Result<()> {
        self.http.post(self.url("revoke")).send().await?.error_for_status()?;
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for OpenIdProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
