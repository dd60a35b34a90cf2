//! The users: records in the database, secrets beside them in the system keyspace.
//!
//! `("users", id)` there holds the password hash, the role and whether the user is disabled. Both
//! sides always change in one commit. `("accounts", "sessions", id, digest)` names a user's
//! sessions, so that they can be ended together.

use std::sync::Arc;

use kvasir_auth::Passwords;
use kvasir_auth::password::{PasswordError, Verdict};
use kvasir_kv::{
    AtomicWrite, Clock, Key, KeyRange, Keyspace, KeyspaceName, Mutation, Outcome, RangeRead,
    SnapshotRead, UnixMillis, Versionstamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::records::{self, Found, User};
use super::schema::normalised_email;
use crate::error::ApiError;

/// How long a one-time password reset is good, in milliseconds.
pub const RESET_MS: i64 = 60 * 60 * 1000;

/// Fewest characters of a password.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// Most characters of a password.
pub const PASSWORD_CHARS_MAX: usize = 256;

/// How often a change that met a concurrent one is tried again.
const TRIES_MAX: u32 = 8;

/// Most entries that leave with a user in one commit; beyond it deleting needs more commits.
const LEAVING_MAX: usize = 10_000;

/// What a user may do beyond having an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Own profile and orders.
    #[default]
    User,
    /// Products too.
    Admin,
}

/// What the system keyspace holds of a user.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// PHC text of the password.
    pub hash: String,
    /// The role.
    #[serde(default)]
    pub role: Role,
    /// Whether the user may not log in.
    #[serde(default)]
    pub disabled: bool,
}

/// Keeps the hash out of logs.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("role", &self.role)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// Both sides of a user, from one snapshot.
#[derive(Clone, Debug)]
pub struct Account {
    /// The record.
    pub user: Found<User>,
    /// The secrets.
    pub secrets: Found<Secrets>,
}

/// The users of one database. Cloning is cheap.
#[derive(Clone)]
pub struct Users(Arc<Inner>);

struct Inner {
    data: Keyspace,
    system: Keyspace,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    /// A hash to check passwords of unknown users against, so that they take as long as known ones.
    decoy: OnceCell<String>,
}

fn secrets_key(id: &str) -> Key {
    Key::from_strings(["users", id])
}

fn reset_key(digest: &str) -> Key {
    Key::from_strings(["accounts", "resets", digest])
}

pub(super) fn session_index_key(user: &str, digest: &str) -> Key {
    Key::from_strings(["accounts", "sessions", user, digest])
}

fn session_index(user: &str) -> KeyRange {
    KeyRange::below(&Key::from_strings(["accounts", "sessions", user]))
}

/// The hexadecimal SHA-256 of a secret, under which it is stored.
pub(super) fn digest(secret: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(secret.as_bytes()))
}

fn taken() -> ApiError {
    ApiError::new(
        http::StatusCode::CONFLICT,
        "user_exists",
        "User already exists",
    )
}

fn busy() -> ApiError {
    ApiError::new(
        http::StatusCode::CONFLICT,
        "conflict",
        "the account is being changed by another request, try again",
    )
}

fn unknown_user() -> ApiError {
    ApiError::not_found("no such user")
}

/// Turns a failure of password work into an answer.
fn password_error(error: PasswordError) -> ApiError {
    match error {
        PasswordError::Busy => ApiError::too_many_requests(1),
        PasswordError::TooLong { .. } => ApiError::bad_request(error.to_string()),
        other => ApiError::internal(other),
    }
}

impl Users {
    /// The users of a database. Their secrets lie in the same store, so that one commit reaches both.
    pub fn new(database: Keyspace, clock: Arc<dyn Clock>, passwords: Passwords) -> Users {
        Users(Arc::new(Inner {
            system: Keyspace::new(Arc::clone(database.store()), KeyspaceName::system()),
            data: database,
            clock,
            passwords,
            decoy: OnceCell::new(),
        }))
    }

    pub(super) fn data(&self) -> &Keyspace {
        &self.0.data
    }

    pub(super) fn system(&self) -> &Keyspace {
        &self.0.system
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Commits changes of both keyspaces as one write.
    pub(super) async fn commit(
        &self,
        data: AtomicWrite,
        system: AtomicWrite,
    ) -> Result<Outcome, ApiError> {
        let write = self
            .0
            .data
            .stored_write(data)?
            .and(self.0.system.stored_write(system)?);
        Ok(self.0.data.store().commit(write).await?)
    }

    /// Makes a user. Of many simultaneous calls with one email exactly one succeeds.
    ///
    /// # Errors
    ///
    /// 400 for an email or password that is none, 409 if the email is taken, 429 while too many
    /// passwords are being hashed.
    pub async fn create(
        &self,
        email: &str,
        password: &str,
        name: Option<String>,
        role: Role,
    ) -> Result<User, ApiError> {
        let email =
            normalised_email(email).ok_or_else(|| ApiError::bad_request("not an email address"))?;
        check_password(password)?;
        // Cheaper than hashing first; the commit below decides.
        if self
            .0
            .data
            .get(&records::email_key(&email))
            .await?
            .is_some()
        {
            return Err(taken());
        }
        let hash = self
            .0
            .passwords
            .hash(password)
            .await
            .map_err(password_error)?;
        let user = User {
            id: uuid::Uuid::new_v4().to_string(),
            email,
            name,
            created_at: records::timestamp(self.0.clock.now()),
        };
        let email_key = records::email_key(&user.email);
        let data = AtomicWrite::new()
            .check_absent(email_key.clone())
            .check_absent(records::user_key(&user.id))
            .push(Mutation::set(
                records::user_key(&user.id),
                records::stored(&user),
            ))
            .push(Mutation::set(email_key, records::stored(&user.id)));
        let secrets = Secrets {
            hash,
            role,
            disabled: false,
        };
        let system = AtomicWrite::new().push(Mutation::set(
            secrets_key(&user.id),
            records::stored(&secrets),
        ));
        match self.commit(data, system).await? {
            Outcome::Committed(_) => Ok(user),
            Outcome::Conflict { .. } => Err(taken()),
        }
    }

    /// Both sides of a user, if both are there and of the right shape.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn get(&self, id: &str) -> Result<Option<Account>, ApiError> {
        let keys = [
            self.0.data.stored_key(&records::user_key(id)),
            self.0.system.stored_key(&secrets_key(id)),
        ];
        let snapshot = self.0.data.store().read(SnapshotRead::keys(keys)).await?;
        let mut entries = snapshot.into_firsts();
        let user = records::found(entries.next().flatten());
        let secrets = records::found(entries.next().flatten());
        Ok(user
            .zip(secrets)
            .map(|(user, secrets)| Account { user, secrets }))
    }

    /// The user behind an email.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn by_email(&self, email: &str) -> Result<Option<Account>, ApiError> {
        let Some(email) = normalised_email(email) else {
            return Ok(None);
        };
        let Some(entry) = self.0.data.get(&records::email_key(&email)).await? else {
            return Ok(None);
        };
        let Some(id) = records::read::<String>(&entry) else {
            return Ok(None);
        };
        self.get(&id).await
    }

    /// The user whose email and password these are; `None` for an unknown email, a wrong password
    /// and a disabled user alike, in the same time.
    ///
    /// # Errors
    ///
    /// 429 while too many passwords are being checked.
    pub async fn authenticate(
        &self,
        email: &str,
        password: &str,
    ) -> Result<Option<Account>, ApiError> {
        let account = self.by_email(email).await?;
        let decoy = self
            .0
            .decoy
            .get_or_try_init(|| self.0.passwords.hash("a password that nobody has"))
            .await
            .map_err(password_error)?;
        let hash = account
            .as_ref()
            .map_or(decoy, |account| &account.secrets.record.hash);
        let verdict = self
            .0
            .passwords
            .verify(hash, password)
            .await
            .map_err(password_error)?;
        let Some(account) =
            account.filter(|account| verdict.is_right() && !account.secrets.record.disabled)
        else {
            return Ok(None);
        };
        if verdict == Verdict::RightButWeak {
            self.strengthen(&account, password).await;
        }
        Ok(Some(account))
    }

    /// Stores a hash with today's parameters. A login does not fail because that failed.
    async fn strengthen(&self, account: &Account, password: &str) {
        let id = &account.user.record.id;
        let Ok(hash) = self.0.passwords.hash(password).await else {
            return;
        };
        let secrets = Secrets {
            hash,
            ..account.secrets.record.clone()
        };
        let write = AtomicWrite::new()
            .check(secrets_key(id), account.secrets.versionstamp)
            .push(Mutation::set(secrets_key(id), records::stored(&secrets)));
        if let Err(error) = self.0.system.commit(write).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "kept an old password hash"
            );
        }
    }

    /// Changes role or state. A disabled user's sessions end.
    ///
    /// # Errors
    ///
    /// 404 for an unknown user, 409 after too many concurrent changes.
    pub async fn change(
        &self,
        id: &str,
        change: impl Fn(&mut Secrets) + Send + Sync,
    ) -> Result<(), ApiError> {
        for _ in 0..TRIES_MAX {
            let account = self.get(id).await?.ok_or_else(unknown_user)?;
            let mut secrets = account.secrets.record.clone();
            change(&mut secrets);
            let system = AtomicWrite::new()
                .check(secrets_key(id), account.secrets.versionstamp)
                .push(Mutation::set(secrets_key(id), records::stored(&secrets)));
            let (data, system) = if secrets.disabled {
                self.without_sessions(id, None, AtomicWrite::new(), system)
                    .await?
            } else {
                (AtomicWrite::new(), system)
            };
            if let Outcome::Committed(_) = self.commit(data, system).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Sets a new password and ends all sessions but `keep`, a digest.
    ///
    /// # Errors
    ///
    /// 400 for a bad password, 404 for an unknown user, 409 after too many concurrent changes.
    pub async fn set_password(
        &self,
        id: &str,
        password: &str,
        keep: Option<&str>,
    ) -> Result<(), ApiError> {
        let used_reset = AtomicWrite::new();
        self.set_password_with(id, password, keep, used_reset).await
    }

    async fn set_password_with(
        &self,
        id: &str,
        password: &str,
        keep: Option<&str>,
        also: AtomicWrite,
    ) -> Result<(), ApiError> {
        check_password(password)?;
        let hash = self
            .0
            .passwords
            .hash(password)
            .await
            .map_err(password_error)?;
        let (secrets, data, system) = match self.get(id).await? {
            Some(account) => {
                let stamp = account.secrets.versionstamp;
                let system = also.check(secrets_key(id), stamp);
                (account.secrets.record, AtomicWrite::new(), system)
            }
            None => self.taking_in(id, also).await?,
        };
        let secrets = Secrets { hash, ..secrets };
        let system = system.push(Mutation::set(secrets_key(id), records::stored(&secrets)));
        let (data, system) = self.without_sessions(id, keep, data, system).await?;
        match self.commit(data, system).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict { .. } => Err(busy()),
        }
    }

    /// The first secrets of a user that another program wrote, with what has to be written beside
    /// them: that program may have filed the email as it was typed.
    async fn taking_in(
        &self,
        id: &str,
        system: AtomicWrite,
    ) -> Result<(Secrets, AtomicWrite, AtomicWrite), ApiError> {
        let user = self.record(id).await?.ok_or_else(unknown_user)?;
        let email = normalised_email(&user.record.email)
            .ok_or_else(|| ApiError::bad_request("the user's email is none"))?;
        let email_key = records::email_key(&email);
        let mut data = AtomicWrite::new().check(records::user_key(id), user.versionstamp);
        match self.0.data.get(&email_key).await? {
            None => {
                data = data
                    .check_absent(email_key.clone())
                    .push(Mutation::set(email_key, records::stored(&user.record.id)));
            }
            Some(entry) if records::read::<String>(&entry).as_deref() == Some(id) => {}
            Some(_) => return Err(taken()),
        }
        let secrets = Secrets {
            hash: String::new(),
            role: Role::User,
            disabled: false,
        };
        Ok((secrets, data, system.check_absent(secrets_key(id))))
    }

    /// The record of a user under its own id, whether or not it has a password here.
    async fn record(&self, id: &str) -> Result<Option<Found<User>>, ApiError> {
        let entry = self.0.data.get(&records::user_key(id)).await?;
        Ok(records::found::<User>(entry).filter(|user| user.record.id == id))
    }

    /// The id of the user with this id or email, also of one that another program wrote and that has
    /// no password here yet.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn id_of(&self, user: &str) -> Result<Option<String>, ApiError> {
        let mut id = Some(user.to_owned());
        if user.contains('@') {
            let normalised = normalised_email(user);
            id = None;
            for email in normalised.as_deref().into_iter().chain([user]) {
                let entry = self.0.data.get(&records::email_key(email)).await?;
                id = id.or_else(|| records::read(&entry?));
            }
        }
        let Some(id) = id else {
            return Ok(None);
        };
        Ok(self.record(&id).await?.map(|_| id))
    }

    /// Adds the removal of a user's sessions, except the one with the digest `keep`.
    async fn without_sessions(
        &self,
        id: &str,
        keep: Option<&str>,
        mut data: AtomicWrite,
        mut system: AtomicWrite,
    ) -> Result<(AtomicWrite, AtomicWrite), ApiError> {
        let read = SnapshotRead::range(RangeRead::new(session_index(id), LEAVING_MAX));
        for entry in self
            .0
            .system
            .read(read)
            .await?
            .ranges
            .into_iter()
            .flat_map(|range| range.entries)
        {
            let Some(digest) = records::last_string(&entry.key, 4) else {
                continue;
            };
            if keep != Some(digest.as_str()) {
                data = data.push(Mutation::delete(records::session_key(&digest)));
                system = system.push(Mutation::delete(entry.key));
            }
        }
        Ok((data, system))
    }

    /// Changes name and email of a user.
    ///
    /// # Errors
    ///
    /// 409 if the email is taken or after too many concurrent changes, 404 for an unknown user.
    pub async fn rename(
        &self,
        id: &str,
        email: Option<&str>,
        name: Option<String>,
    ) -> Result<User, ApiError> {
        for _ in 0..TRIES_MAX {
            let entry = self.0.data.get(&records::user_key(id)).await?;
            let entry = entry.ok_or_else(unknown_user)?;
            let mut user = records::read::<User>(&entry).ok_or_else(unknown_user)?;
            let mut data = AtomicWrite::new().check(records::user_key(id), entry.versionstamp);
            if let Some(email) = email.and_then(normalised_email)
                && email != user.email
            {
                let new_key = records::email_key(&email);
                if self.0.data.get(&new_key).await?.is_some() {
                    return Err(taken());
                }
                data = data
                    .check_absent(new_key.clone())
                    .push(Mutation::delete(records::email_key(&user.email)))
                    .push(Mutation::set(new_key, records::stored(&user.id)));
                user.email = email;
            }
            if name.is_some() {
                user.name.clone_from(&name);
            }
            let changed = records::changed(&entry, &user);
            data = data.push(Mutation::set(records::user_key(id), changed));
            if let Outcome::Committed(_) = self.commit(data, AtomicWrite::new()).await? {
                return Ok(user);
            }
        }
        Err(busy())
    }

    /// Removes a user with sessions, email and list of orders in one commit. The orders themselves
    /// stay: they are the shop's records.
    ///
    /// # Errors
    ///
    /// 404 for an unknown user, 409 after too many concurrent changes.
    pub async fn delete(&self, id: &str) -> Result<(), ApiError> {
        for _ in 0..TRIES_MAX {
            let account = self.get(id).await?.ok_or_else(unknown_user)?;
            let mut data = AtomicWrite::new()
                .check(records::user_key(id), account.user.versionstamp)
                .push(Mutation::delete(records::user_key(id)))
                .push(Mutation::delete(records::email_key(
                    &account.user.record.email,
                )));
            let orders = SnapshotRead::range(RangeRead::new(records::user_orders(id), LEAVING_MAX));
            for entry in self
                .0
                .data
                .read(orders)
                .await?
                .ranges
                .into_iter()
                .flat_map(|range| range.entries)
            {
                data = data.push(Mutation::delete(entry.key));
            }
            let system = AtomicWrite::new()
                .check(secrets_key(id), account.secrets.versionstamp)
                .push(Mutation::delete(secrets_key(id)));
            let (data, system) = self.without_sessions(id, None, data, system).await?;
            if let Outcome::Committed(_) = self.commit(data, system).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Makes a one-time token with which a user sets a new password within [`RESET_MS`]. Shown
    /// once; only its digest is stored.
    ///
    /// # Errors
    ///
    /// 404 for an unknown user.
    pub async fn begin_reset(&self, id: &str) -> Result<String, ApiError> {
        self.record(id).await?.ok_or_else(unknown_user)?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(ApiError::internal)?;
        let token = data_encoding::BASE64URL_NOPAD.encode(&secret);
        let until = self.0.clock.now().checked_add_ms(RESET_MS);
        let reset = Mutation::set_expiring(reset_key(&digest(&token)), records::stored(&id), until);
        self.0.system.commit(AtomicWrite::new().push(reset)).await?;
        Ok(token)
    }

    /// Sets a new password with such a token, once. All sessions end.
    ///
    /// # Errors
    ///
    /// 400 for a token that is unknown, used or too old, and for a bad password.
    pub async fn finish_reset(&self, token: &str, password: &str) -> Result<(), ApiError> {
        let refused = || ApiError::bad_request("the reset token is not valid any more");
        let key = reset_key(&digest(token));
        let entry = self.0.system.get(&key).await?.ok_or_else(refused)?;
        let id: String = records::read(&entry).ok_or_else(refused)?;
        let used = AtomicWrite::new()
            .check(key.clone(), entry.versionstamp)
            .push(Mutation::delete(key));
        self.set_password_with(&id, password, None, used).await
    }

    /// One page of users in order of their ids, behind `after`, and the last id if there are more.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Account>, Option<String>), ApiError> {
        let mut range = KeyRange::below(&Key::from_strings(["users"]));
        if let Some(after) = after {
            range.start = secrets_key(after).successor();
        }
        let read = SnapshotRead::range(RangeRead::new(range, limit));
        let found = self.0.system.read(read).await?;
        let entries = found.ranges.into_iter().flat_map(|range| range.entries);
        let ids: Vec<String> = entries
            .filter_map(|entry| records::last_string(&entry.key, 2))
            .collect();
        let mut accounts = Vec::with_capacity(ids.len());
        for id in &ids {
            accounts.extend(self.get(id).await?);
        }
        let is_full = ids.len() == limit;
        let last = ids.into_iter().next_back().filter(|_| is_full);
        Ok((accounts, last))
    }

    /// The state that a session needs: its row, the user and the secrets, from one snapshot.
    pub(super) async fn session(
        &self,
        session_digest: &str,
        user: &str,
    ) -> Result<Option<(Found<records::Session>, Account, Option<UnixMillis>)>, ApiError> {
        let keys = [
            self.0
                .data
                .stored_key(&records::session_key(session_digest)),
            self.0.data.stored_key(&records::user_key(user)),
            self.0.system.stored_key(&secrets_key(user)),
        ];
        let snapshot = self.0.data.store().read(SnapshotRead::keys(keys)).await?;
        let mut entries = snapshot.into_firsts();
        let row = entries.next().flatten();
        let expires_at = row.as_ref().and_then(|row| row.expires_at);
        let row = records::found::<records::Session>(row);
        let user = records::found(entries.next().flatten());
        let secrets = records::found(entries.next().flatten());
        let account = user
            .zip(secrets)
            .map(|(user, secrets)| Account { user, secrets });
        Ok(row
            .zip(account)
            .map(|(row, account)| (row, account, expires_at)))
    }

    /// The versionstamp of a user's record, for orders that check it.
    pub(super) async fn versionstamp(&self, id: &str) -> Result<Option<Versionstamp>, ApiError> {
        let entry = self.0.data.get(&records::user_key(id)).await?;
        Ok(entry.map(|entry| entry.versionstamp))
    }
}

fn check_password(password: &str) -> Result<(), ApiError> {
    match password.chars().count() {
        PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX => Ok(()),
        _ => Err(ApiError::bad_request(format!(
            "a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"
        ))),
    }
}
