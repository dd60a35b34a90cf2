//! What the service manager that started the server hands over and wants to know.
//!
//! The protocol is systemd's: sockets come as open files from number 3 on (`LISTEN_FDS`), readiness and
//! signs of life go to a datagram socket (`NOTIFY_SOCKET`, `WATCHDOG_USEC`). Without these variables
//! nothing here does anything. Credentials (`CREDENTIALS_DIRECTORY`) are read by the configuration,
//! see [`crate::config::secrets`].

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use kvasir_kv::Store;
use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Sockets that the service manager has opened. One takes the place of each address that is
/// configured and the same.
#[derive(Debug, Default)]
pub struct Handed(Vec<(SocketAddr, TcpListener)>);

impl Handed {
    /// All of them. A second call finds none.
    ///
    /// # Errors
    ///
    /// If one is no TCP socket that listens.
    pub fn take() -> anyhow::Result<Handed> {
        let mut given = ListenFd::from_env();
        let mut handed = Vec::new();
        for index in 0..given.len() {
            let socket = given
                .take_tcp_listener(index)
                .context("the service manager handed over something that is no TCP socket")?;
            if let Some(socket) = socket {
                handed.push((socket.local_addr()?, socket));
            }
        }
        Ok(Handed(handed))
    }

    /// The socket that listens on `addr`, if there is one.
    pub fn claim(&mut self, addr: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|(own, _)| *own == addr)?;
        Some(self.0.swap_remove(place).1)
    }

    /// Checks that all of them were claimed: one that nobody accepts on would hang its clients.
    ///
    /// # Errors
    ///
    /// Names the address that is not configured.
    pub fn finish(self) -> anyhow::Result<()> {
        let left: Vec<String> = self.0.iter().map(|(addr, _)| addr.to_string()).collect();
        ensure!(
            left.is_empty(),
            "the service manager handed over sockets on {}, which no listener is configured for; \
             name them in server.listen or server.tls_listen",
            left.join(", ")
        );
        Ok(())
    }
}

/// Says that requests are answered from now on.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the server is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Sends signs of life for as long as it is polled, if the service manager waits for them. There is none
/// while the store answers nothing; that it answers with an error is an answer.
pub async fn watchdog(store: Arc<dyn Store>) {
    let Some(longest) = sd_notify::watchdog_enabled() else {
        return;
    };
    let pause = (longest / 3).max(Duration::from_millis(1));
    loop {
        if tokio::time::timeout(pause, store.ping()).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(pause).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot reach the service manager");
    }
}
