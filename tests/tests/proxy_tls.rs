//! TLS on either side of the proxy, and how clients prove who they are over it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::Config;
use integratedb_sidecar::proxy::{PoolMode, TlsSettings};
use integratedb_sidecar::replication::{Slot, Status};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use support::{Cluster, Database, Follower, Sidecar, cache, cache_id};
use tempfile::TempDir;

/// Somebody who signs certificates.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate with its issuer's name for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "a test's authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("root.pem"), issuer.pem())?;
        Ok(Self { issuer, directory })
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// Certificate and key for a name or address, in PEM.
    fn sign(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// The same in files, as the proxy takes them.
    fn settings(&self, name: &str) -> Result<TlsSettings> {
        let (certificate, key) = self.sign(name)?;
        let settings = TlsSettings {
            certificate: self.directory.path().join("server.pem"),
            key: self.directory.path().join("server.key"),
            required: false,
            client_ca: None,
        };
        std::fs::write(&settings.certificate, certificate)?;
        std::fs::write(&settings.key, key)?;
        Ok(settings)
    }
}

struct Setup {
    cluster: Cluster,
    database: Database,
    authority: Authority,
}

impl Setup {
    /// A server that offers TLS for 127.0.0.1.
    async fn new() -> Result<Self> {
        let authority = Authority::new()?;
        let mut cluster = Cluster::start().await?;
        let (certificate, key) = authority.sign("127.0.0.1")?;
        cluster.use_tls(&certificate, &key).await?;
        let database = cluster.database("shop").await?;
        let role = "CREATE ROLE app LOGIN PASSWORD 'secret'";
        database.connect().await?.batch_execute(role).await?;
        Ok(Self { cluster, database, authority })
    }

    /// A proxy with TLS for clients and this for the origin.
    async fn proxy(&self, origin_tls: &str, adjust: impl FnOnce(&mut Config)) -> Result<Sidecar> {
        let tls = self.authority.settings("127.0.0.1")?;
        let url = self.database.url().replace("sslmode=disable", origin_tls);
        let mut caches = vec![("pass", cache(&url, None)?)];
        for (name, mode) in [("session", PoolMode::Session), ("transaction", PoolMode::Transaction)]
        {
            caches.push((name, cache(&url, Some(mode))?));
        }
        Sidecar::start_with(&self.database.url(), |config| {
            config.caches =
                caches.into_iter().map(|(name, cache)| (cache_id(name), cache)).collect();
            config.proxy.tls = Some(tls);
            adjust(config);
        })
        .await
    }

    fn verified(&self) -> String {
        verify("verify-full", &self.authority.root())
    }

    /// Runs SQL by psql through a cache; gives what it printed, or its error.
    fn psql(
        &self,
        sidecar: &Sidecar,
        cache: &str,
        options: &str,
        sql: &str,
    ) -> Result<Result<String, String>> {
        let url = self.database.url_through(sidecar.proxy(), "app", "secret");
        let url = url.replace("sslmode=disable", &format!("application_name={cache}&{options}"));
        let output = self
            .cluster
            .program("psql")
            .args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-Atq", "-c", sql, &url])
            .env("PGCONNECT_TIMEOUT", "10")
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        })
    }
}

fn verify(mode: &str, root: &Path) -> String {
    format!("sslmode={mode}&sslrootcert={}", root.display())
}

const IS_TLS: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_are_encrypted_verified_and_bound() -> Result<()> {
    let setup = Setup::new().await?;
    let sidecar = setup.proxy(&setup.verified(), |_| {}).await?;
    for cache in ["session", "transaction"] {
        let options = format!("{}&channel_binding=require", setup.verified());
        let answer = setup.psql(&sidecar, cache, &options, IS_TLS)?;
        assert_eq!(answer.as_deref(), Ok("t"));
        let big = "SELECT length(string_agg(x, '')) FROM (SELECT repeat('x', 1000) x FROM generate_series(1, 5000)) t; \
                   SELECT repeat('x', 3000000)";
        let answer = setup.psql(&sidecar, cache, &options, big)?.map_err(anyhow::Error::msg)?;
        assert_eq!(answer.len(), 7 + 1 + 3_000_000);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_passes_through_where_scram_allows_it() -> Result<()> {
    let setup = Setup::new().await?;
    let (plain, secure) = ("sslmode=disable", setup.verified());
    let to_plain = setup.proxy("sslmode=disable", |_| {}).await?;
    let to_tls = setup.proxy(&secure, |_| {}).await?;
    assert_eq!(setup.psql(&to_plain, "pass", plain, IS_TLS)?.as_deref(), Ok("f"));
    assert_eq!(setup.psql(&to_plain, "pass", &secure, IS_TLS)?.as_deref(), Ok("f"));
    assert_eq!(setup.psql(&to_tls, "pass", plain, IS_TLS)?.as_deref(), Ok("t"));
    let told = setup.psql(&to_tls, "pass", &secure, IS_TLS)?.expect_err("libpq could bind");
    assert!(told.contains("can't be passed through when TLS is used on both sides"), "{told}");
    assert!(told.contains("channel_binding=disable"), "{told}");
    let unbound = format!("{secure}&channel_binding=disable");
    assert_eq!(setup.psql(&to_tls, "pass", &unbound, IS_TLS)?.as_deref(), Ok("t"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_is_verified_as_sslmode_says() -> Result<()> {
    let setup = Setup::new().await?;
    let stranger = Authority::new()?;
    let root = setup.authority.root();
    let mut wrong_name = Setup::new().await?;
    let (certificate, key) = wrong_name.authority.sign("elsewhere.example")?;
    wrong_name.cluster.use_tls(&certificate, &key).await?;
    let other_root = wrong_name.authority.root();
    let client = "sslmode=disable";
    for (setup, origin_tls, works) in [
        (&setup, "sslmode=require".to_owned(), true),
        (&setup, "sslmode=prefer".to_owned(), true),
        (&setup, verify("require", &stranger.root()), false),
        (&setup, verify("verify-ca", &stranger.root()), false),
        (&setup, verify("verify-full", &root), true),
        (&wrong_name, verify("verify-ca", &other_root), true),
        (&wrong_name, verify("require", &other_root), true),
        (&wrong_name, verify("verify-full", &other_root), false),
    ] {
        let sidecar = setup.proxy(&origin_tls, |_| {}).await?;
        let answer = setup.psql(&sidecar, "pass", client, IS_TLS)?;
        match answer {
            Ok(answer) => ensure!(works && answer == "t", "{origin_tls} let in"),
            Err(told) => {
                ensure!(
                    !works && told.contains("the proxy can't connect to the origin"),
                    "{origin_tls}: {told}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_tls_is_refused_where_it_is_required() -> Result<()> {
    let setup = Setup::new().await?;
    let require = |config: &mut Config| {
        if let Some(tls) = &mut config.proxy.tls {
            tls.required = true;
        }
    };
    let sidecar = setup.proxy("sslmode=disable", require).await?;
    let told = setup.psql(&sidecar, "pass", "sslmode=disable", IS_TLS)?.expect_err("not encrypted");
    assert!(told.contains("takes only connections with TLS"), "{told}");
    assert!(setup.psql(&sidecar, "pass", "sslmode=require", IS_TLS)?.is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_dropping_anybody() -> Result<()> {
    let setup = Setup::new().await?;
    let mut sidecar = setup.proxy("sslmode=disable", |_| {}).await?;
    assert!(setup.psql(&sidecar, "pass", &setup.verified(), "SELECT 1")?.is_ok());
    let url = setup.database.url_through(sidecar.proxy(), "app", "secret");
    let (client, connection) =
        tokio_postgres::connect(&format!("{url}&application_name=session"), tokio_postgres::NoTls)
            .await?;
    tokio::spawn(connection);

    let next = Authority::new()?;
    let files = next.settings("127.0.0.1")?;
    sidecar.reload(|config| config.proxy.tls = Some(files)).await?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while setup.psql(&sidecar, "pass", &verify("verify-full", &next.root()), "SELECT 1")?.is_err() {
        ensure!(std::time::Instant::now() < deadline, "the new certificate is never used");
    }
    assert!(setup.psql(&sidecar, "pass", &setup.verified(), "SELECT 1")?.is_err());
    client.batch_execute("SELECT 1").await.context("the client from before")?;

    // One that can't be used changes nothing.
    sidecar
        .reload(|config| {
            if let Some(tls) = &mut config.proxy.tls {
                tls.key = "/nowhere".into();
            }
        })
        .await?;
    client.batch_execute("SELECT 1").await?;
    assert!(
        setup.psql(&sidecar, "pass", &verify("verify-full", &next.root()), "SELECT 1")?.is_ok()
    );
    Ok(())
}

#[tokio::test]
async fn a_reader_of_replication_proves_itself_over_tls() -> Result<()> {
    let setup = Setup::new().await?;
    setup
        .database
        .connect()
        .await?
        .batch_execute("ALTER ROLE app REPLICATION; CREATE PUBLICATION integratedb")
        .await?;
    let address = setup.database.address();
    let url = |password: &str, root: &Path| {
        format!(
            "postgres://app:{password}@{address}/shop?sslmode=verify-full&sslrootcert={}",
            root.display()
        )
    };
    let slot = || Slot::Temporary("tls".to_owned());
    let follower = Follower::start(&url("secret", &setup.authority.root()), slot())?;
    follower.catch_up().await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(follower.reader.sql().query(sql).await?, [[Some("t".to_owned())]]);
    follower.stop().await;

    let says = |text: &'static str| {
        move |status: &Status| status.last_error.as_ref().is_some_and(|e| e.contains(text))
    };
    let wrong = Follower::start(&url("wrong", &setup.authority.root()), slot())?;
    wrong.status("wrong password", says("password authentication failed")).await?;
    let stranger = Authority::new()?;
    let wrong = Follower::start(&url("secret", &stranger.root()), slot())?;
    wrong.status("wrong authority", says("certificate")).await?;
    Ok(())
}
