//! Sidecars that work on one database, are killed at random and come back, and lose sight of the database now and then.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{Database, Network, Process};
use tokio::sync::watch;

/// How many there are.
const SIDECARS: usize = 3;

/// For so long a sidecar does not see the database. Locks last for six seconds here, so what it has fetched or pushed before
/// is done by another meanwhile, and when it sees again it has nothing to say.
const BLIND: Duration = Duration::from_millis(7500);

/// The sidecars, which are gone when this is.
pub(crate) struct Killed {
    sidecars: Vec<Sidecar>,
    config: PathBuf,
    api: Arc<Mutex<Vec<Option<SocketAddr>>>>,
    random: StdRng,
    /// How often one was killed.
    pub(crate) kills: u32,
    /// How often one saw nothing of the database.
    pub(crate) blinds: u32,
}

struct Sidecar {
    process: Option<Process>,
    network: Network,
    url: String,
}

impl Killed {
    /// Starts them all.
    pub(crate) async fn start(config: &Path, database: &Database, seed: u64) -> Result<Self> {
        let mut sidecars = Vec::new();
        for _ in 0..SIDECARS {
            let network = Network::to(database.address()).await?;
            let url = database.url_through(network.address(), "postgres", "");
            sidecars.push(Sidecar { process: None, network, url });
        }
        let (config, api) = (config.to_owned(), Arc::new(Mutex::new(vec![None; SIDECARS])));
        let random = StdRng::seed_from_u64(seed);
        let mut all = Self { sidecars, config, api, random, kills: 0, blinds: 0 };
        for which in 0..SIDECARS {
            all.revive(which).await?;
        }
        Ok(all)
    }

    /// Where those listen that live.
    pub(crate) fn api(&self) -> Arc<Mutex<Vec<Option<SocketAddr>>>> {
        Arc::clone(&self.api)
    }

    /// Where one listens that lives.
    pub(crate) fn one(&self) -> Result<SocketAddr> {
        let api = self.api.lock().unwrap_or_else(PoisonError::into_inner);
        api.iter().flatten().next().copied().context("all are dead")
    }

    async fn revive(&mut self, which: usize) -> Result<()> {
        let sidecar = &mut self.sidecars[which];
        let process = Process::start(&self.config, &sidecar.url, None).await?;
        self.set(which, Some(process.api()));
        self.sidecars[which].process = Some(process);
        Ok(())
    }

    fn set(&self, which: usize, api: Option<SocketAddr>) {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)[which] = api;
    }

    /// Does its worst until it is told to stop: one at a time is blind, and the others are killed in no order. Then all live
    /// and see.
    pub(crate) async fn rage(mut self, mut stop: watch::Receiver<bool>) -> Result<Self> {
        let (mut blind, mut until) = (0, Instant::now());
        while !*stop.borrow() {
            if Instant::now() >= until {
                self.sidecars[blind].network.heal();
                blind = self.random.random_range(0..SIDECARS);
                self.sidecars[blind].network.stall();
                self.blinds += 1;
                until = Instant::now() + BLIND;
            }
            let wait = Duration::from_millis(self.random.random_range(500..2000));
            if tokio::time::timeout(wait, stop.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
            let which = (blind + self.random.random_range(1..SIDECARS)) % SIDECARS;
            self.kills += 1;
            self.set(which, None);
            let process = self.sidecars[which].process.take().context("it is not there")?;
            process.kill()?;
            self.revive(which).await?;
        }
        self.sidecars[blind].network.heal();
        Ok(self)
    }
}
