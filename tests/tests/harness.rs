//! The harness keeps its own promises.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::Cluster;

/// The data directory of a cluster and the process that serves it.
async fn server_of(cluster: &Cluster) -> Result<(PathBuf, String)> {
    let database = cluster.database("whose").await?;
    let row = database.connect().await?.query_one("SHOW data_directory", &[]).await?;
    let data = PathBuf::from(row.get::<_, String>(0));
    let pid = fs::read_to_string(data.join("postmaster.pid"))?;
    Ok((data, pid.lines().next().context("an empty postmaster.pid")?.to_owned()))
}

fn is_running(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[tokio::test]
async fn a_commit_survives_a_crash_and_a_restart() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    database.connect().await?.batch_execute("CREATE TABLE t AS SELECT 42 AS answer").await?;

    cluster.stop_immediately();
    ensure!(database.connect().await.is_err(), "a stopped server answers");
    cluster.restart().await?;

    let (answer, _, succeeded) = database.psql("SELECT answer FROM t")?;
    ensure!(succeeded && answer == "42\n", "{answer}");
    ensure!(cluster.log().contains("SELECT answer FROM t"), "the log is not at hand");
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_of_a_cluster() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (data, pid) = server_of(&cluster).await?;
    ensure!(is_running(&pid) && data.exists());

    drop(cluster);

    ensure!(!is_running(&pid), "Postgres is still running");
    ensure!(!data.exists(), "{} is still there", data.display());
    Ok(())
}

#[tokio::test]
async fn a_server_dies_with_its_test() -> Result<()> {
    let mut test = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_test_that_never_ends", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(test.stdout.take().context("no output")?);
    let told = output.lines().map_while(Result::ok).find_map(|line| {
        line.split_once("serves ").map(|(pid, data)| (pid.to_owned(), data.to_owned()))
    });
    let (pid, data) = told.context("the other test did not start a server")?;
    let pid = pid.split_whitespace().last().context("no process")?.to_owned();
    ensure!(is_running(&pid));

    test.kill()?;
    test.wait()?;

    let deadline = Instant::now() + Duration::from_secs(20);
    while is_running(&pid) {
        ensure!(Instant::now() < deadline, "Postgres outlives its test");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fs::remove_dir_all(Path::new(&data).parent().context("no folder")?)?;
    Ok(())
}

/// The other half of `a_server_dies_with_its_test`, which starts and kills it.
#[tokio::test]
#[ignore = "never ends by itself"]
async fn a_test_that_never_ends() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (data, pid) = server_of(&cluster).await?;
    // Past the test's own capture of output, and whole, since nothing flushes it later.
    let mut out = std::io::stdout();
    std::io::Write::write_all(&mut out, format!("\n{pid} serves {}\n", data.display()).as_bytes())?;
    std::io::Write::flush(&mut out)?;
    std::future::pending().await
}
