//! Schemathesis: sends what an OpenAPI document allows, and what it does not, and compares the answers with the document.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::drivers::{installed, run_with};

const DEADLINE: Duration = Duration::from_secs(300);

/// Sends what the document at this URL says, as whoever has the token. Errors with what is not as the document says.
pub async fn schemathesis(document: &str, token: &str) -> Result<String> {
    let mut command = Command::new(installed()?.join("python/bin/python"));
    // Its way of writing files where it runs is for people.
    let folder = tempfile::tempdir()?;
    command.current_dir(folder.path());
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/python/schemathesis.toml");
    command
        .args(["-B", "-m", "schemathesis.cli", "--config-file"])
        .arg(settings)
        .arg("run")
        .arg(document)
        .arg("--no-color");
    command.args(["--header", &format!("Authorization: Bearer {token}")]);
    command.env("PYTHONIOENCODING", "utf-8");
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    let ended = run_with(&mut command, Stdio::null(), DEADLINE).await?;
    ensure!(ended.status.success(), "{}: {}\n{}", ended.status, ended.stdout, ended.stderr);
    Ok(ended.stdout)
}
