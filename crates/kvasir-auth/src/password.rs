//! Password hashes: argon2id in PHC format, made and checked on threads of their own.
//!
//! One hash costs [`MEMORY_KIB`] of memory and tens of milliseconds of one core, so only a few run
//! at once and only so many may wait; who comes after that is turned away instead of queueing
//! without end. The threads step back behind everything else that wants the cores ([`NICENESS`]).
//! Each dialect keeps its hashes where its other data is; nothing here stores any.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::SaltString;
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Memory of one hash, in KiB. 19 MiB with two passes is the least that OWASP's password storage
/// advice gives for argon2id.
pub const MEMORY_KIB: u32 = 19 * 1024;

/// Passes over the memory.
pub const PASSES: u32 = 2;

/// Lanes. One, so that a hash takes one core and the bound on hashes is a bound on cores.
pub const LANES: u32 = 1;

/// Most memory, in KiB, that a stored hash may ask for. Hashes also come in by import; one that
/// names more was not made for logging in.
pub const MEMORY_KIB_CEILING: u32 = 256 * 1024;

/// Most passes that a stored hash may ask for.
pub const PASSES_CEILING: u32 = 16;

/// Longest password, in bytes. Longer ones are no passwords but work.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Most hashes that wait for their turn. At 30 ms each on two cores that is a second.
pub const WAITING_MAX: usize = 64;

/// How far the threads step back, in steps of `nice(2)`. With 15 a thread gets about a thirtieth of
/// what others get while all cores are busy, and a whole core while one is free. With 5 reads in a
/// storm of logins kept 0.71 of their rate, with 15 they keep 0.85, and logins four fifths of theirs.
pub const NICENESS: i32 = 15;

const SALT_BYTES: usize = 16;

/// Why a password was neither hashed nor checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Too many others wait. The same request may succeed in a second.
    #[error("too many passwords are being checked")]
    Busy,
    /// The password is over [`PASSWORD_BYTES_MAX`].
    #[error("the password is {actual} bytes, over the limit of {PASSWORD_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        actual: usize,
    },
    /// The operating system gave no random bytes, or no memory was left.
    #[error("no password could be hashed: {0}")]
    Failed(String),
}

/// What checking a password told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the password.
    Right,
    /// It is the password, but the hash was made with other parameters than today's: store a new one.
    RightButWeak,
    /// It is not the password, or the stored hash is none of ours.
    Wrong,
}

impl Verdict {
    /// Whether it is the password.
    pub fn is_right(self) -> bool {
        self != Verdict::Wrong
    }
}

/// Makes and checks hashes. Clones share the bounds.
#[derive(Clone, Debug)]
pub struct Passwords(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    threads: Threads,
}

/// The blocking threads of a runtime that runs nothing else. They start when they are first needed
/// and end after idle seconds.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn new(at_once: usize) -> std::io::Result<Threads> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .thread_name("kvasir-password")
            .max_blocking_threads(at_once)
            .on_thread_start(step_back)
            .build()?;
        Ok(Threads(Some(runtime)))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("only taken when dropped")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for a hash that nobody wants any more would block whoever drops this.
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of the calling thread; Linux keeps it for each thread of its own.
fn step_back() {
    // Without it hashes are as urgent as everything else, which is no reason to refuse logins.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::warn!(%error, "the threads of password hashes keep their priority");
    }
}

impl Default for Passwords {
    /// As many hashes at once as the machine has cores, at most four.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Passwords::new(cores.min(4))
    }
}

impl Passwords {
    /// At most `at_once` hashes run at the same time; at least one.
    ///
    /// # Panics
    ///
    /// If the operating system refuses the handles of a runtime, as it would at any start.
    pub fn new(at_once: usize) -> Passwords {
        let at_once = at_once.max(1);
        Passwords(Arc::new(Bounds {
            turns: Arc::new(Semaphore::new(at_once)),
            waiting: AtomicUsize::new(0),
            threads: Threads::new(at_once).expect("a runtime without drivers needs no handles"),
        }))
    }

    /// The PHC text of a new hash with a random salt.
    ///
    /// # Errors
    ///
    /// [`PasswordError`].
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let password = bounded(password)?;
        self.run(move || hash(&password)).await?
    }

    /// Whether `password` is the one behind the PHC text `stored`.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Busy`]. A password over the limit is just wrong.
    pub async fn verify(&self, stored: &str, password: &str) -> Result<Verdict, PasswordError> {
        let Ok(password) = bounded(password) else {
            return Ok(Verdict::Wrong);
        };
        let stored = stored.to_owned();
        self.run(move || verify(&stored, &password)).await
    }

    /// Runs other password work, such as a hash of an imported kind, under the same bounds.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Busy`], or [`PasswordError::Failed`] if the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = Place::take(&self.0).ok_or(PasswordError::Busy)?;
        let turn = self.0.turns.clone().acquire_owned().await;
        drop(place);
        let turn = turn.expect("the semaphore is never closed");
        let done = self.0.threads.runtime().spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await
            .map_err(|error| PasswordError::Failed(error.to_string()))
    }
}

/// A place among those that wait.
struct Place<'a>(&'a Bounds);

impl Place<'_> {
    fn take(bounds: &Bounds) -> Option<Place<'_>> {
        let before = bounds.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(bounds);
        (before < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn bounded(password: &str) -> Result<Zeroizing<String>, PasswordError> {
    match password.len() {
        actual if actual > PASSWORD_BYTES_MAX => Err(PasswordError::TooLong { actual }),
        _ => Ok(Zeroizing::new(password.to_owned())),
    }
}

fn engine() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &str) -> Result<String, PasswordError> {
    let failed = |error: &dyn std::fmt::Display| PasswordError::Failed(error.to_string());
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| failed(&error))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| failed(&error))?;
    let hash = engine().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| failed(&error))?.to_string())
}

fn verify(stored: &str, password: &str) -> Verdict {
    let Ok(parsed) = PasswordHash::new(stored) else {
        return Verdict::Wrong;
    };
    let Ok(params) = Params::try_from(&parsed) else {
        return Verdict::Wrong;
    };
    if params.m_cost() > MEMORY_KIB_CEILING || params.t_cost() > PASSES_CEILING {
        return Verdict::Wrong;
    }
    if engine()
        .verify_password(password.as_bytes(), &parsed)
        .is_err()
    {
        return Verdict::Wrong;
    }
    let is_todays = parsed.algorithm == Algorithm::Argon2id.ident()
        && (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES);
    if is_todays {
        Verdict::Right
    } else {
        Verdict::RightButWeak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_password_is_told_from_a_wrong_one() {
        let passwords = Passwords::new(1);
        let stored = passwords.hash("密码 1").await.unwrap();

        assert!(
            stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );
        assert_eq!(
            passwords.verify(&stored, "密码 1").await,
            Ok(Verdict::Right)
        );
        assert_eq!(
            passwords.verify(&stored, "密码 2").await,
            Ok(Verdict::Wrong)
        );
        assert_ne!(stored, passwords.hash("密码 1").await.unwrap(), "salted");
    }

    #[tokio::test]
    async fn a_hash_with_weaker_parameters_asks_for_a_new_one() {
        let weak = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(64, 1, 1, None).unwrap(),
        );
        let salt = SaltString::encode_b64(&[7; SALT_BYTES]).unwrap();
        let stored = weak.hash_password(b"pw", &salt).unwrap().to_string();

        let passwords = Passwords::new(1);
        let verdict = passwords.verify(&stored, "pw").await;
        assert_eq!(verdict, Ok(Verdict::RightButWeak));
        assert_eq!(passwords.verify(&stored, "no").await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_stored_hash_cannot_ask_for_endless_work() {
        let stored = "$argon2id$v=19$m=4194304,t=99,p=1$c2FsdHNhbHRzYWx0$\
                      aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";
        let passwords = Passwords::new(1);
        assert_eq!(passwords.verify(stored, "pw").await, Ok(Verdict::Wrong));
        assert_eq!(passwords.verify("rubbish", "pw").await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_password_at_the_limit_is_hashed_and_a_longer_one_is_not() {
        let passwords = Passwords::new(1);
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        assert!(passwords.hash(&longest).await.is_ok());
        assert_eq!(
            passwords.hash(&format!("{longest}x")).await,
            Err(PasswordError::TooLong {
                actual: PASSWORD_BYTES_MAX + 1
            })
        );
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn hashes_are_made_on_threads_that_step_back() {
        let passwords = Passwords::new(1);
        let own = rustix::process::getpriority_process(None).unwrap();
        let theirs = passwords.run(|| rustix::process::getpriority_process(None));
        assert_eq!(theirs.await, Ok(Ok((own + NICENESS).min(19))));
        let after = rustix::process::getpriority_process(None).unwrap();
        assert_eq!(after, own, "other threads keep their priority");
    }

    #[tokio::test]
    async fn who_comes_after_too_many_is_turned_away() {
        let passwords = Passwords::new(1);
        let turn = passwords.0.turns.clone().acquire_owned().await.unwrap();
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Place::take(&passwords.0).expect("there is room"))
            .collect();

        assert_eq!(passwords.run(|| ()).await, Err(PasswordError::Busy));
        drop(waiting);
        drop(turn);
        assert_eq!(passwords.run(|| ()).await, Ok(()));
    }
}
