//! A Postgres of one's own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

const DEADLINE: Duration = Duration::from_secs(20);

/// What `scripts/setup.sh` left in `.run/env`.
struct Environment {
    bin: PathBuf,
    clusters: PathBuf,
    major: String,
    /// Whom to run Postgres as, when we are root.
    runner: Option<(u32, u32)>,
}

impl Environment {
    fn read() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = fs::read_to_string(root.join(".run/env"))
            .context("there is no .run/env: run `make setup ext` first")?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
                .with_context(|| format!("{name} is missing in .run/env"))
        };
        // SAFETY: geteuid has no preconditions and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        let runner = if is_root { Some(account(&value("RUN_AS")?)?) } else { None };
        Ok(Self {
            bin: value("PG_BIN")?.into(),
            clusters: value("CLUSTERS")?.into(),
            major: value("PG_MAJOR")?,
            runner,
        })
    }

    /// A command that runs as the account for Postgres, and dies with the thread that starts it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.stdin(Stdio::null()).current_dir("/").env("LC_ALL", "C.UTF-8");
        if let Some((uid, gid)) = self.runner {
            command.uid(uid).gid(gid);
        }
        // SAFETY: between fork and exec only prctl is called, which is a plain system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGQUIT);
                Ok(())
            });
        }
        command
    }

    /// A data directory fresh from initdb, made once for all tests and then only copied.
    fn template(&self) -> Result<PathBuf> {
        // A data directory only fits the major version that made it.
        let template = self.clusters.join(format!("template-{}", self.major));
        let lock = File::create(template.with_extension("lock"))?;
        lock.lock()?;
        if !template.join("ready").exists() {
            let _ = fs::remove_dir_all(&template);
            let output = self
                .command("initdb")
                .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"])
                .arg(&template)
                .output()?;
            ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
            // Everybody but the superuser proves who they are, as in earnest.
            fs::write(
                template.join("pg_hba.conf"),
                "host all postgres 127.0.0.1/32 trust\n\
                 host replication postgres 127.0.0.1/32 trust\n\
                 host all all 127.0.0.1/32 scram-sha-256\n",
            )?;
            fs::write(template.join("ready"), "")?;
        }
        Ok(template)
    }
}

/// uid and gid of an account.
fn account(name: &str) -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))
        .with_context(|| format!("there is no account {name}"))?;
    let mut number = || fields.next().and_then(|f| f.parse().ok());
    number();
    match (number(), number()) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => bail!("the account {name} can't be read"),
    }
}

/// A running Postgres that is gone when this value is.
pub struct Cluster {
    environment: Environment,
    directory: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Cluster {
    /// Starts a server with the settings of `pg_test.conf`.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with further settings.
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let environment = Environment::read()?;
        let template = environment.template()?;
        let directory =
            tempfile::Builder::new().prefix("test-").tempdir_in(&environment.clusters)?;
        if let Some((uid, gid)) = environment.runner {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid))?;
        }
        let data = directory.path().join("data");
        let copied = Command::new("cp").arg("-a").arg(&template).arg(&data).status()?;
        ensure!(copied.success(), "the template cluster could not be copied");
        let fragment = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pg_test.conf");
        let mut conf = fs::read_to_string(fragment)?;
        conf.push_str("unix_socket_directories = ''\n");
        for (name, value) in settings {
            conf.push_str(&format!("{name} = '{value}'\n"));
        }
        fs::write(data.join("postgresql.auto.conf"), conf)?;
        let mut cluster = Self { environment, directory, port: 0, server: None };
        cluster.launch().await?;
        Ok(cluster)
    }

    /// Has the server offer TLS with this certificate and key, in PEM, from its next start on.
    pub async fn use_tls(&mut self, certificate: &str, key: &str) -> Result<()> {
        let data = self.directory.path().join("data");
        fs::write(data.join("server.crt"), certificate)?;
        let file = data.join("server.key");
        fs::write(&file, key)?;
        // Postgres refuses a key that others could read.
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        if let Some((uid, gid)) = self.environment.runner {
            std::os::unix::fs::chown(&file, Some(uid), Some(gid))?;
        }
        let conf = data.join("postgresql.auto.conf");
        let text = fs::read_to_string(&conf)?;
        fs::write(conf, format!("{text}ssl = on\n"))?;
        self.restart().await
    }

    /// Starts the server on a free port. Another process may take the port first; then another one is tried.
    async fn launch(&mut self) -> Result<()> {
        for _ in 0..5 {
            if self.port == 0 {
                self.port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            }
            let log = File::options().create(true).append(true).open(self.log_path())?;
            let server = self
                .environment
                .command("postgres")
                .arg("-D")
                .arg(self.directory.path().join("data"))
                .args(["-p", &self.port.to_string()])
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?;
            self.server = Some(server);
            if self.wait_until_ready().await? {
                return Ok(());
            }
            self.port = 0;
        }
        bail!("Postgres does not start: {}", self.log())
    }

    /// False when the server ended instead. Whoever took the port first may be another test's Postgres, and
    /// would answer just as well; so the one that answers is asked whose data it serves.
    async fn wait_until_ready(&mut self) -> Result<bool> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Ok(client) = connect(&self.url("postgres")).await
                && let Ok(row) = client.query_one("SHOW data_directory", &[]).await
                && self.directory.path().join("data") == Path::new(row.get::<_, &str>(0))
            {
                return Ok(true);
            }
            if self.server.as_mut().is_none_or(|s| !matches!(s.try_wait(), Ok(None))) {
                return Ok(false);
            }
            ensure!(Instant::now() < deadline, "Postgres does not get ready: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Makes a database with the extension in it.
    pub async fn database(&self, name: &str) -> Result<Database> {
        let admin = connect(&self.url("postgres")).await?;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let database = Database {
            name: name.to_owned(),
            port: self.port,
            psql: self.environment.bin.join("psql"),
        };
        database.connect().await?.batch_execute("CREATE EXTENSION integratedb").await?;
        Ok(database)
    }

    /// The superuser's URL of a database of this cluster.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Ends the server as a crash would: no checkpoint, every connection cut.
    pub fn stop_immediately(&mut self) {
        if let Some(mut server) = self.server.take() {
            if let Ok(pid) = i32::try_from(server.id()) {
                // SAFETY: the process is our child and not reaped yet, so the number is still its own.
                unsafe { libc::kill(pid, libc::SIGQUIT) };
            }
            let _ = server.wait();
        }
    }

    /// Ends the server in order, as "fast" does. Its walsenders wait until who follows them has all, which may be in
    /// this process.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        // SAFETY: the process is our child and not reaped yet, so the number is still its own.
        unsafe { libc::kill(i32::try_from(server.id())?, libc::SIGINT) };
        let deadline = Instant::now() + DEADLINE;
        while server.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.server = Some(server);
                bail!("Postgres does not stop: {}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Starts the server again on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop_immediately();
        self.launch().await
    }

    /// Ends every walsender, as an administrator would; gives how many there were.
    pub async fn kill_walsenders(&self) -> Result<i64> {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication";
        Ok(connect(&self.url("postgres")).await?.query_one(sql, &[]).await?.get(0))
    }

    /// A standby that follows this server, with a copy of its data as it is now.
    pub async fn standby(&self) -> Result<Self> {
        let environment = Environment::read()?;
        let directory =
            tempfile::Builder::new().prefix("test-").tempdir_in(&environment.clusters)?;
        if let Some((uid, gid)) = environment.runner {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid))?;
        }
        let output = environment
            .command("pg_basebackup")
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()])
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D"])
            .arg(directory.path().join("data"))
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut cluster = Self { environment, directory, port: 0, server: None };
        cluster.launch().await?;
        Ok(cluster)
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// A program of this Postgres, such as `pg_dump`.
    pub fn program(&self, name: &str) -> Command {
        client_program(&self.environment.bin.join(name))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_immediately();
    }
}

/// A database of a cluster.
pub struct Database {
    name: String,
    port: u16,
    psql: PathBuf,
}

impl Database {
    /// The superuser's URL.
    pub fn url(&self) -> String {
        self.url_as("postgres", "")
    }

    /// The URL for a role.
    pub fn url_as(&self, role: &str, password: &str) -> String {
        format!(
            "postgres://{role}:{password}@127.0.0.1:{}/{}?sslmode=disable",
            self.port, self.name
        )
    }

    /// Where its server listens.
    pub fn address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The URL for a role, at another address than the server's: a proxy's.
    pub fn url_through(&self, address: std::net::SocketAddr, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@{address}/{}?sslmode=disable", self.name)
    }

    /// A superuser's connection.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.url()).await
    }

    /// A role's connection.
    pub async fn connect_as(&self, role: &str, password: &str) -> Result<Client> {
        connect(&self.url_as(role, password)).await
    }

    /// Runs SQL by psql, as a person would; gives standard output, standard error and whether it succeeded.
    pub fn psql(&self, sql: &str) -> Result<(String, String, bool)> {
        let output = client_program(&self.psql)
            .args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At", "-c", sql, &self.url()])
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr), output.status.success()))
    }
}

/// A client program of the private Postgres, such as `psql`, for whichever server.
pub(crate) fn postgres_program(name: &str) -> Result<Command> {
    Ok(client_program(&Environment::read()?.bin.join(name)))
}

/// A client program that connects where it is told, whatever the caller's own PGHOST or PGSERVICE says.
fn client_program(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// A connection without TLS.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_has_the_port_already_is_not_taken_for_ours() -> Result<()> {
        let first = Cluster::start().await?;
        let mut second = Cluster::start().await?;
        second.stop_immediately();
        second.port = first.port;
        second.launch().await?;
        assert_ne!(second.port, first.port);
        Ok(())
    }
}
