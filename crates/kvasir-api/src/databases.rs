//! Which databases there are: a name, and the id that KV Connect clients know a database by.
//!
//! A database is a keyspace that somebody named. Its data needs no record; the record is what keeps
//! the id stable and what `db ls` shows. `default` gets its record at its first use, others are
//! created.

use kvasir_kv::keyspace::{Cursor, List};
use kvasir_kv::{
    AtomicWrite, Error, Key, KeyRange, Keyspace, KeyspaceName, Mutation, Outcome, Result,
    UnixMillis, Value,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// First part of every record's key in the system keyspace.
const KIND: &str = "databases";

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The name, which is that of its keyspace.
    pub name: KeyspaceName,
    /// The id, for as long as the database exists.
    pub id: Uuid,
    /// When its record was made.
    pub created_at: UnixMillis,
}

#[derive(Serialize, Deserialize)]
struct Record {
    id: Uuid,
}

/// The records of all databases. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Databases {
    system: Keyspace,
}

impl Databases {
    /// The records in `system`.
    pub fn new(system: Keyspace) -> Databases {
        Databases { system }
    }

    fn key(name: &KeyspaceName) -> Key {
        Key::from_strings([KIND, name.as_str()])
    }

    /// The database of that name. `default` always exists.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::get`], and `Corrupt` for a record that does not decode.
    pub async fn find(&self, name: &KeyspaceName) -> Result<Option<Database>> {
        match self.system.get(&Databases::key(name)).await? {
            Some(entry) => read(name.clone(), &entry).map(Some),
            None if *name == KeyspaceName::default_database() => {
                self.create(name).await.map(|made| Some(made.0))
            }
            None => Ok(None),
        }
    }

    /// Makes a database, or finds the one that has the name already; says whether it was made.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn create(&self, name: &KeyspaceName) -> Result<(Database, bool)> {
        let key = Databases::key(name);
        let id = Uuid::new_v4();
        let record = serde_json::to_vec(&Record { id }).expect("an id is JSON");
        let write = AtomicWrite::new()
            .check_absent(key.clone())
            .push(Mutation::set(key.clone(), Value::json(record)));
        match self.system.commit(write).await? {
            Outcome::Committed(done) => {
                let database = Database {
                    name: name.clone(),
                    id,
                    created_at: done.versionstamp.time(),
                };
                Ok((database, true))
            }
            Outcome::Conflict { .. } => match self.system.get(&key).await? {
                Some(entry) => Ok((read(name.clone(), &entry)?, false)),
                None => Err(Error::unavailable(
                    "the database is being removed by somebody else",
                )),
            },
        }
    }

    /// Some databases in the order of their names.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::read`].
    pub async fn list(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<Database>, Option<Cursor>)> {
        let list = List {
            range: KeyRange::below(&Key::from_strings([KIND])),
            limit,
            reverse: false,
            cursor,
        };
        let page = self.system.list(list).await?;
        let mut databases = Vec::with_capacity(page.entries.len());
        for entry in &page.entries {
            let parts = entry.key.parts().ok();
            let name = match parts.as_deref() {
                Some([_, kvasir_kv::Part::String(name)]) => name.parse().ok(),
                _ => None,
            };
            let Some(name) = name else {
                return Err(Error::Corrupt(format!("key of a database {:?}", entry.key)));
            };
            databases.push(read(name, entry)?);
        }
        Ok((databases, page.cursor))
    }

    /// Removes the record, and says whether there was one. The data is not touched.
    ///
    /// # Errors
    ///
    /// As [`kvasir_kv::Store::commit`].
    pub async fn forget(&self, name: &KeyspaceName) -> Result<bool> {
        let write = AtomicWrite::new()
            .push(Mutation::delete(Databases::key(name)))
            .reporting_existed();
        let outcome = self.system.commit(write).await?;
        Ok(outcome
            .committed()
            .is_some_and(|done| done.existed == [true]))
    }
}

fn read(name: KeyspaceName, entry: &kvasir_kv::Entry) -> Result<Database> {
    let record: Record = serde_json::from_slice(&entry.value.bytes)
        .map_err(|error| Error::Corrupt(format!("record of the database {name}: {error}")))?;
    Ok(Database {
        name,
        id: record.id,
        created_at: entry.versionstamp.time(),
    })
}
