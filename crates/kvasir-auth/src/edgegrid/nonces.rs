//! Which nonces were used, so that no signed request works twice.
//!
//! The memory lives in the process. After a restart, and on another node, a request that was seen
//! can be sent once more until its timestamp leaves the window.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use kvasir_kv::UnixMillis;
use sha2::{Digest, Sha256};

/// Whether a nonce was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It was, and is remembered now.
    New,
    /// It was used before.
    Seen,
    /// The client has used as many as can be remembered; this one is not.
    Full,
}

/// Remembers the nonces of each client token for a while.
#[derive(Debug)]
pub struct Nonces {
    kept_ms: i64,
    per_client_max: usize,
    clients: Mutex<HashMap<String, Used>>,
}

/// A nonce is kept as a hash: they are of any length.
type Digest128 = [u8; 16];

#[derive(Debug, Default)]
struct Used {
    known: HashSet<Digest128>,
    /// In order of time, with the moment from which they may be forgotten.
    oldest_first: VecDeque<(UnixMillis, Digest128)>,
}

impl Used {
    fn forget_before(&mut self, now: UnixMillis) {
        while let Some((until, nonce)) = self.oldest_first.front() {
            if *until > now {
                break;
            }
            self.known.remove(nonce);
            self.oldest_first.pop_front();
        }
    }
}

impl Nonces {
    /// Remembers each nonce for `kept`, and at most `per_client_max` of one client.
    pub fn new(kept: Duration, per_client_max: usize) -> Nonces {
        let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX / 4);
        Nonces {
            kept_ms: kept_ms.min(i64::MAX / 4),
            per_client_max,
            clients: Mutex::default(),
        }
    }

    /// Remembers a nonce unless it is known. To be called only for good signatures.
    pub fn admit(&self, client_token: &str, nonce: &str, now: UnixMillis) -> Novelty {
        let hash = Sha256::digest(nonce.as_bytes());
        let mut nonce = Digest128::default();
        nonce.copy_from_slice(&hash[..16]);

        let mut clients = self.clients.lock().expect("no panic while nonces are held");
        if !clients.contains_key(client_token) {
            // A new client is rare: the moment to forget those that are gone.
            clients.retain(|_, used| {
                used.forget_before(now);
                !used.known.is_empty()
            });
            clients.insert(client_token.to_owned(), Used::default());
        }
        let used = clients
            .get_mut(client_token)
            .expect("it was inserted if it was not there");
        used.forget_before(now);
        if used.known.contains(&nonce) {
            return Novelty::Seen;
        }
        if used.known.len() >= self.per_client_max {
            return Novelty::Full;
        }
        used.known.insert(nonce);
        let until = UnixMillis(now.0.saturating_add(self.kept_ms));
        used.oldest_first.push_back((until, nonce));
        Novelty::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_new_again_only_after_its_time() {
        let nonces = Nonces::new(Duration::from_secs(65), 10);
        let at = |seconds: i64| UnixMillis(1_000_000 + seconds * 1000);
        assert_eq!(nonces.admit("c", "n", at(0)), Novelty::New);
        assert_eq!(nonces.admit("c", "n", at(0)), Novelty::Seen);
        assert_eq!(
            nonces.admit("d", "n", at(0)),
            Novelty::New,
            "each client has its own"
        );
        assert_eq!(nonces.admit("c", "n", at(64)), Novelty::Seen);
        assert_eq!(nonces.admit("c", "n", at(65)), Novelty::New);
    }

    #[test]
    fn a_full_memory_takes_no_more_until_some_are_old() {
        let nonces = Nonces::new(Duration::from_secs(65), 3);
        let at = |seconds: i64| UnixMillis(seconds * 1000);
        for n in 0..3 {
            assert_eq!(nonces.admit("c", &n.to_string(), at(n)), Novelty::New);
        }
        assert_eq!(nonces.admit("c", "3", at(10)), Novelty::Full);
        assert_eq!(
            nonces.admit("c", "0", at(10)),
            Novelty::Seen,
            "never forgotten early"
        );
        assert_eq!(nonces.admit("d", "3", at(10)), Novelty::New, "others go on");
        assert_eq!(nonces.admit("c", "3", at(65)), Novelty::New);
    }

    #[test]
    fn clients_that_went_quiet_cost_no_memory() {
        let nonces = Nonces::new(Duration::from_secs(65), 3);
        for n in 0..100 {
            nonces.admit(&n.to_string(), "n", UnixMillis(n * 100_000));
        }
        assert_eq!(nonces.clients.lock().unwrap().len(), 1);
    }
}
