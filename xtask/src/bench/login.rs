//! Reads while a thousand people a second try to log in.
//!
//! The limits by address and email are out of the way, so that every login asks for a password hash:
//! what is measured is the bound on hashing alone. Almost all logins are then answered 429.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::Bench;
use super::load::{self, Call, Client, Protocol};

/// Logins per second (LIM-7 of the operator's contract).
const LOGINS_PER_SECOND: u64 = 1_000;

/// Connections of those who log in. As many as may wait for a hash are blocked, the others are
/// answered at once.
const LOGIN_CONNECTIONS: u64 = 200;

/// Connections of those who read.
const READERS: usize = 16;

/// Share of the quiet rate that reads must keep: not slowed by more than a third.
const GOAL: f64 = 0.67;

/// What the storm met.
#[derive(Default)]
struct Answers {
    checked: AtomicU64,
    turned_away: AtomicU64,
}

impl Bench {
    /// Reads with a login storm against reads without one.
    pub(super) async fn login_storm(&mut self) -> Result<()> {
        let name = format!("hot GET, {READERS} connections, in a login storm, against none");
        if !self.wants(&name) {
            return Ok(());
        }
        let data = self.data("login-storm");
        let open = "1000000000";
        let limits = [
            "--accounts.attempts_per_minute",
            open,
            "--accounts.failures_per_minute",
            open,
        ];
        let server = self.kvasir(&data, &limits)?;
        let put = json_call("PUT", "/kv/hot", r#"{"value":"hot"}"#);
        let mut client = Client::connect(server.addr, Protocol::Http1).await?;
        ensure!(client.exchange(&put).await? == 200);
        let get = Call::get("/kv/hot").repeated();
        let read = async |time| {
            load::run(
                server.addr,
                Protocol::Http1,
                READERS,
                time,
                Arc::clone(&get),
            )
            .await
        };
        let mut rounds = Vec::new();
        let answers = Arc::new(Answers::default());
        let mut stormy_seconds = 0.0;
        for _ in 0..self.args.rounds {
            let quiet = read(self.time()).await?;
            let storm = Storm::begin(server.addr, Arc::clone(&answers));
            let stormy = read(self.time()).await?;
            storm.end().await?;
            stormy_seconds += self.args.seconds;
            rounds.push((stormy, quiet));
        }
        self.report.compare(&name, Some(GOAL), &rounds);
        let per_second = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / stormy_seconds;
        let checked = per_second(&answers.checked);
        self.report
            .figure("logins checked in the storm", checked, "/s", None);
        let away = per_second(&answers.turned_away);
        self.report
            .figure("logins answered 429 in the storm", away, "/s", None);
        Ok(())
    }
}

fn json_call(method: &'static str, path: &str, body: impl Into<Bytes>) -> Call {
    Call {
        method,
        body: body.into(),
        ..Call::get(path)
    }
    .headers([("content-type", "application/json".to_owned())])
}

/// People who log in until they are told to stop.
struct Storm {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Result<()>>,
}

impl Storm {
    fn begin(addr: SocketAddr, answers: Arc<Answers>) -> Storm {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..LOGIN_CONNECTIONS {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            clients.spawn(async move {
                let every = Duration::from_millis(1000 * LOGIN_CONNECTIONS / LOGINS_PER_SECOND);
                let mut ticks = tokio::time::interval(every);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
                let body = format!(r#"{{"email":"u{number}@example.com","password":"wrong one"}}"#);
                let login = json_call("POST", "/login", body);
                let mut client = Client::connect(addr, Protocol::Http1).await?;
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let counted = match client.exchange(&login).await? {
                        401 => &answers.checked,
                        429 => &answers.turned_away,
                        other => anyhow::bail!("a login was answered {other}"),
                    };
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        Storm { stop, clients }
    }

    async fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client??;
        }
        Ok(())
    }
}
