//! What happens once, when a store is opened: the server is judged and the tables are made.

use std::path::PathBuf;

use kvasir_kv::Limits;

use super::address::{Address, Protocol};
use super::fault::{Class, Fault};
use super::pool::{Purpose, connect_any};
use super::schema::{self, SCHEMA_VERSION};
use super::session::{Probe, Session};
use crate::open::OpenError;

/// Bytes of a statement beside its largest value: the rows before it, its key, and the words.
const STATEMENT_SLACK: u64 = 5 * 1024 * 1024;

/// How often the tables are looked for again when another process makes them at the same time.
const CREATE_ATTEMPTS: u32 = 5;

/// Makes sure that the database can be used, and returns the present sequence of the space.
pub(super) async fn prepare(address: &Address, limits: &Limits) -> Result<u64, OpenError> {
    check_authorities(address)?;
    let explain = |fault: Fault| explain(address, &fault);
    let (mut session, place) = connect_any(address, &address.servers, 0, Purpose::Write)
        .await
        .map_err(explain)?;
    let probe = session.probe().await.map_err(explain)?;
    judge(address, &probe, limits)?;
    make_tables(&mut *session, address).await?;
    check_columns(&mut *session, address).await?;
    let (sequence, _) = session.position().await.map_err(explain)?;
    tracing::info!(
        server = %address.servers[place],
        version = %probe.version,
        "using {} as {}", probe.version, address
    );
    session.close().await;
    Ok(sequence)
}

/// The file of authorities is looked at once at start; the driver would blame the server for it.
fn check_authorities(address: &Address) -> Result<(), OpenError> {
    let Some(path) = &address.tls_ca else {
        return Ok(());
    };
    match std::fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(OpenError::Unusable {
            what: format!("{} cannot be read: {error}", path.display()),
            remedy: "correct tls_ca= in the URL".into(),
        }),
    }
}

fn judge(address: &Address, probe: &Probe, limits: &Limits) -> Result<(), OpenError> {
    if !probe.is_supported {
        let oldest = match address.protocol {
            Protocol::MySql => "MariaDB 10.6 or MySQL 8.0",
            Protocol::Postgres => "PostgreSQL 11",
        };
        return Err(OpenError::Unusable {
            what: format!("{} at {address} is too old", probe.version),
            remedy: format!("upgrade the server to {oldest} or later"),
        });
    }
    let needed = 2 * limits.value_bytes_max as u64 + STATEMENT_SLACK;
    if let Some(most) = probe.statement_bytes_max.filter(|most| *most < needed) {
        return Err(OpenError::Unusable {
            what: format!(
                "the server's max_allowed_packet of {most} bytes is too small for values of {} bytes",
                limits.value_bytes_max
            ),
            remedy: format!(
                "set max_allowed_packet to at least {needed}, or lower the limit of values"
            ),
        });
    }
    if let Some(gap) = probe.durability_gap {
        tracing::warn!("{gap} on the database server: acknowledged writes can be lost in a crash");
    }
    Ok(())
}

async fn make_tables(session: &mut dyn Session, address: &Address) -> Result<(), OpenError> {
    let explain = |fault: Fault| explain(address, &fault);
    let mut attempt = 0;
    loop {
        match session.schema_version().await.map_err(explain)? {
            // Data definition stops a Galera cluster for a moment, hence only where it is needed.
            Some(found) if found <= SCHEMA_VERSION => {
                // The usual case needs no right to insert into another's space.
                if session.position().await.is_ok() {
                    return Ok(());
                }
                return session.create_space().await.map_err(explain);
            }
            Some(found) => {
                return Err(OpenError::NewerFormat {
                    path: PathBuf::from(address.to_string()),
                    found,
                    known: SCHEMA_VERSION,
                });
            }
            None => refuse_foreign(session, address).await?,
        }
        attempt += 1;
        match session.create_schema().await {
            Ok(()) => return Ok(()),
            // PostgreSQL refuses one of two processes that make a table at once.
            Err(fault) if attempt < CREATE_ATTEMPTS && fault.class != Class::Denied => {
                tracing::debug!(error = %fault, "the tables are made by another process");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Err(fault) => return Err(explain(fault)),
        }
    }
}

/// Before anything is made: tables of our names have to be ours.
async fn refuse_foreign(session: &mut dyn Session, address: &Address) -> Result<(), OpenError> {
    for statement in schema::COLUMNS {
        match session.check(statement).await {
            Err(fault) if !fault.is_missing_table() => return Err(foreign(address, &fault)),
            // Or begun by another process, which makes them at this moment.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

async fn check_columns(session: &mut dyn Session, address: &Address) -> Result<(), OpenError> {
    for statement in schema::COLUMNS {
        if let Err(fault) = session.check(statement).await {
            return Err(foreign(address, &fault));
        }
    }
    Ok(())
}

/// Our columns could not be asked for.
fn foreign(address: &Address, fault: &Fault) -> OpenError {
    if !matches!(fault.class, Class::Other | Class::Damaged) {
        return explain(address, fault);
    }
    OpenError::Unusable {
        what: format!("{address} holds foreign tables: {fault}"),
        remedy: "give Kvasir a database of its own".into(),
    }
}

/// What an operator is told.
fn explain(address: &Address, fault: &Fault) -> OpenError {
    let is = |code: &str| fault.code.as_deref() == Some(code);
    // ER_BAD_DB_ERROR, invalid_catalog_name.
    if is("1049") || is("3D000") {
        return OpenError::Unusable {
            what: format!("the server of {address} has no database of that name"),
            remedy: format!("create it with CREATE DATABASE {}", address.database),
        };
    }
    if fault.is_tls {
        return OpenError::Unusable {
            what: format!("the connection to {address} cannot be protected: {fault}"),
            remedy: "check tls= and tls_ca= in the URL against the server's certificate".into(),
        };
    }
    match fault.class {
        Class::Lost | Class::RolledBack => {
            OpenError::Unreachable(std::sync::Arc::new(Unreachable {
                address: address.to_string(),
                cause: fault.to_string(),
            }))
        }
        Class::Denied => OpenError::Denied {
            what: format!("the database at {address} refuses: {fault}"),
            remedy: match address.protocol {
                _ if is("1045") || is("28P01") || is("28000") || is("1698") => {
                    "check user name and password in the URL".into()
                }
                Protocol::MySql => format!(
                    "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX ON {}.* TO the user",
                    address.database
                ),
                Protocol::Postgres => {
                    format!(
                        "GRANT ALL ON SCHEMA public TO {}, or make it the owner",
                        address.user
                    )
                }
            },
        },
        Class::ReadOnly => OpenError::Unusable {
            what: format!("every server of {address} is read-only"),
            remedy: "name the primary server, or switch read_only off".into(),
        },
        Class::NoSpace => OpenError::Unusable {
            what: format!("no space is left on the server of {address}: {fault}"),
            remedy: "free some, then start again".into(),
        },
        Class::Damaged | Class::Other => OpenError::Unusable {
            what: format!("the database at {address} does not do what is needed: {fault}"),
            remedy: "give Kvasir a database of its own and rights on it".into(),
        },
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "no server of {address} answers ({cause}); check that it runs and that the address is right"
)]
struct Unreachable {
    address: String,
    cause: String,
}
