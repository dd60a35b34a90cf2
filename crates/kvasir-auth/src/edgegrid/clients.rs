//! EdgeGrid credentials in the system keyspace.
//!
//! A secret is stored as it is: HMAC needs the text itself, not a hash of it. Why it is not
//! encrypted stands in decision 0070. Every look-up reads the store, so revoking takes effect with
//! the next request, on all nodes.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE32_NOPAD, BASE64};
use kvasir_kv::keyspace::List;
use kvasir_kv::{
    AtomicWrite, Clock, Error, Key, KeyRange, Keyspace, Mutation, Outcome, Result, UnixMillis,
    Value,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Most credentials, revoked ones included.
pub const CLIENTS_MAX: usize = 256;

/// Longest name of a credential, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// How long a revoked credential is kept, so that its owner is told "inactive" and not "unknown".
pub const REVOKED_KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

/// Longest client token that is looked up, in bytes. Ours have 37.
const CLIENT_TOKEN_BYTES_MAX: usize = 256;

/// How often a write is tried again because another one was faster.
const TRIES: usize = 16;

/// A credential.
#[derive(Clone)]
pub struct Client {
    /// Names the credential in requests.
    pub client_token: String,
    /// Sent beside it.
    pub access_token: String,
    /// What requests are signed with; `None` once it is revoked.
    pub secret: Option<SecretString>,
    /// What the operator calls it.
    pub name: String,
    /// When it was made.
    pub created_at: UnixMillis,
}

impl Client {
    /// Whether this is the client's access token. Takes the same time for every wrong one.
    pub fn has_access_token(&self, access_token: &str) -> bool {
        self.access_token
            .as_bytes()
            .ct_eq(access_token.as_bytes())
            .into()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client_token", &self.client_token)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A credential as lists show it: without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSummary {
    /// Names the credential in requests.
    pub client_token: String,
    /// What the operator calls it.
    pub name: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A credential on disk, under `("edgekv", "clients", client_token)`.
#[derive(Serialize, Deserialize)]
struct Record {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    name: String,
    created_at_ms: i64,
}

/// The credentials of a server.
#[derive(Clone, Debug)]
pub struct Clients {
    system: Keyspace,
    clock: Arc<dyn Clock>,
}

impl Clients {
    /// Keeps credentials in the system keyspace.
    pub fn new(system: Keyspace, clock: Arc<dyn Clock>) -> Clients {
        Clients { system, clock }
    }

    /// The credential of a client token, revoked or not.
    ///
    /// # Errors
    ///
    /// The store's, and `Corrupt` for a record that does not decode.
    pub async fn get(&self, client_token: &str) -> Result<Option<Client>> {
        if client_token.len() > CLIENT_TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let entry = self.system.get(&key(client_token)).await?;
        entry
            .map(|entry| client(client_token, &entry.value))
            .transpose()
    }

    /// Makes a credential.
    ///
    /// # Errors
    ///
    /// `Invalid` for a name that is empty, over [`NAME_BYTES_MAX`] or has control characters,
    /// `TooMany` at [`CLIENTS_MAX`], else the store's.
    pub async fn create(&self, name: &str) -> Result<Client> {
        let client = Client {
            client_token: format!("akab-{}", random_word()),
            access_token: format!("akab-{}", random_word()),
            secret: Some(SecretString::from(BASE64.encode(&random::<32>()))),
            name: name.to_owned(),
            created_at: self.clock.now(),
        };
        self.add(&client).await?;
        Ok(client)
    }

    /// Takes in a credential that exists already, such as one from another server.
    ///
    /// # Errors
    ///
    /// As [`Clients::create`], and `Invalid` if its client token is in use.
    pub async fn add(&self, client: &Client) -> Result<()> {
        if client.name.is_empty()
            || client.name.len() > NAME_BYTES_MAX
            || client.name.chars().any(char::is_control)
        {
            return Err(Error::Invalid(format!(
                "a name has 1 to {NAME_BYTES_MAX} bytes and no control characters"
            )));
        }
        let count = self.list().await?.len();
        if count >= CLIENTS_MAX {
            return Err(Error::TooMany {
                what: "EdgeGrid clients",
                actual: count + 1,
                limit: CLIENTS_MAX,
            });
        }
        let key = key(&client.client_token);
        let write = AtomicWrite::new()
            .check_absent(key.clone())
            .push(Mutation::set(key, value(client)));
        match self.system.commit(write).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict { .. } => Err(Error::Invalid("the client token is in use".into())),
        }
    }

    /// All credentials, by client token.
    ///
    /// # Errors
    ///
    /// As [`Clients::get`].
    pub async fn list(&self) -> Result<Vec<ClientSummary>> {
        let range = KeyRange::below(&prefix());
        let list = List {
            range,
            limit: CLIENTS_MAX + 1,
            reverse: false,
            cursor: None,
        };
        let page = self.system.list(list).await?;
        let mut clients = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            let client_token = match entry.key.parts().as_deref() {
                Ok([_, _, kvasir_kv::Part::String(token)]) => token.clone(),
                _ => return Err(Error::Corrupt("a key of an EdgeGrid client".into())),
            };
            let client = client(&client_token, &entry.value)?;
            clients.push(ClientSummary {
                revoked: client.secret.is_none(),
                client_token,
                name: client.name,
                created_at_ms: client.created_at.0,
            });
        }
        Ok(clients)
    }

    /// Ends a credential for ever and removes its secret. Whether there was one that was valid.
    ///
    /// # Errors
    ///
    /// As [`Clients::get`].
    pub async fn revoke(&self, client_token: &str) -> Result<bool> {
        if client_token.len() > CLIENT_TOKEN_BYTES_MAX {
            return Ok(false);
        }
        let key = key(client_token);
        for _ in 0..TRIES {
            let Some(entry) = self.system.get(&key).await? else {
                return Ok(false);
            };
            let mut client = client(client_token, &entry.value)?;
            if client.secret.take().is_none() {
                return Ok(false);
            }
            let until = self.clock.now().checked_add_ms(REVOKED_KEPT_MS);
            let write = AtomicWrite::new()
                .check(key.clone(), entry.versionstamp)
                .push(Mutation::set_expiring(key.clone(), value(&client), until));
            if let Outcome::Committed(_) = self.system.commit(write).await? {
                return Ok(true);
            }
        }
        Err(Error::unavailable("other writes were always faster"))
    }
}

fn prefix() -> Key {
    Key::from_strings(["edgekv", "clients"])
}

fn key(client_token: &str) -> Key {
    prefix().with_string(client_token)
}

fn value(client: &Client) -> Value {
    let record = Record {
        access_token: client.access_token.clone(),
        client_secret: client
            .secret
            .as_ref()
            .map(|secret| secret.expose_secret().to_owned()),
        name: client.name.clone(),
        created_at_ms: client.created_at.0,
    };
    Value::json(serde_json::to_vec(&record).expect("strings and numbers are JSON"))
}

fn client(client_token: &str, value: &Value) -> Result<Client> {
    let record: Record = serde_json::from_slice(&value.bytes)
        .map_err(|error| Error::Corrupt(format!("the record of an EdgeGrid client: {error}")))?;
    Ok(Client {
        client_token: client_token.to_owned(),
        access_token: record.access_token,
        secret: record.client_secret.map(SecretString::from),
        name: record.name,
        created_at: UnixMillis(record.created_at_ms),
    })
}

/// 160 random bits as 32 letters and digits.
fn random_word() -> String {
    BASE32_NOPAD.encode(&random::<20>()).to_ascii_lowercase()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}
