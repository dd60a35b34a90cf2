//! Which dialects are mounted where, by default and by configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use kvasir_api::mount::Place;
use kvasir_api::{Ctx, Dialect, accounts, admin, classworks, deno, edgekv, kopano, rest};
use kvasir_kv::KeyspaceName;

use super::{Shared, kopano_db};
use crate::config::Config;
use crate::config::mounts::MountSettings;
use crate::console::Console;
use crate::exit::Failure;

/// A mount that exists without being configured.
struct Usual {
    dialect: &'static str,
    path: &'static str,
    keyspace: &'static str,
}

/// The dialects in the order in which they are asked. Those that know their paths stand before
/// those that share the root.
const USUAL: &[Usual] = &[
    // Claims the pages below the admin API's path, and leaves it the rest.
    usual("console", "/_", "default"),
    usual("admin", "/_", "default"),
    usual("rest", "/kv", "default"),
    usual("edgekv", "", "edgekv"),
    usual("kopano", "/api/kvs/v1", "kopano"),
    usual("deno", "", "default"),
    // Claims only UUIDs and one word outside of its prefix.
    usual("classworks", "/classworks", "classworks"),
    usual("accounts", "", "default"),
];

const fn usual(dialect: &'static str, path: &'static str, keyspace: &'static str) -> Usual {
    Usual {
        dialect,
        path,
        keyspace,
    }
}

/// A dialect with the addresses that serve it and nothing else; none for those of `[server]`.
#[derive(Clone)]
pub(super) struct Mounted {
    pub(super) name: String,
    pub(super) dialect: Arc<dyn Dialect>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) hosts: Vec<String>,
}

impl From<Mounted> for Place {
    fn from(mounted: Mounted) -> Place {
        Place {
            dialect: mounted.dialect,
            hosts: mounted.hosts,
        }
    }
}

/// All mounts that are switched on.
pub(super) async fn mounts(config: &Config, shared: &Shared) -> Result<Vec<Mounted>, Failure> {
    let mut stores = super::stores::Stores::new(shared);
    let mut mounts = Vec::new();
    for (name, mut settings) in in_order(&config.mount) {
        let usual = usual_of(&name, &settings)?;
        if !settings.enabled {
            continue;
        }
        // The original's settings are about the mount of the original's name.
        let place = match name.as_str() {
            "kopano" if settings.store.is_none() => kopano_db::place(&config.kopano_db)?,
            _ => None,
        };
        if let Some(place) = &place {
            settings.store = Some(place.store_url.clone());
        }
        let path = match &settings.path {
            Some(path) => checked_path(&name, path)?,
            None if usual.dialect == "classworks" => {
                checked_path(&name, &config.classworks.prefix)?
            }
            None => usual.path,
        };
        let keyspace = match &settings.keyspace {
            Some(keyspace) => keyspace.parse(),
            None => usual.keyspace.parse(),
        };
        let keyspace: KeyspaceName = keyspace.with_context(|| format!("mount.{name}.keyspace"))?;
        let store = stores.of(&name, &settings).await?;
        if let Some(place) = place {
            place
                .take_over(shared, store.clone(), keyspace.clone())
                .await?;
        }
        let ctx = shared.ctx(usual.dialect, path, store, keyspace);
        let is_apart = !settings.listen.is_empty() || !settings.host.is_empty();
        let (dialect, own_face) = match usual.dialect {
            "classworks" => classworks(ctx, config, shared, is_apart),
            name => (dialect(name, ctx, config, shared)?, None),
        };
        // The port of the original's name is about the mount of the original's name, too.
        if let Some(own_face) = own_face.filter(|_| name == "classworks")
            && let Some(addr) = config.classworks_listener()
        {
            mounts.push(Mounted {
                name: name.clone(),
                dialect: own_face,
                listen: vec![addr],
                hosts: Vec::new(),
            });
        }
        mounts.push(Mounted {
            name,
            dialect,
            listen: settings.listen,
            hosts: settings.host,
        });
    }
    let apart = std::mem::take(&mut *shared.apart.lock().expect("no panic while held"));
    shared.backups.leave_out(apart);
    // Who has a host name of its own is asked before those that take all.
    mounts.sort_by_key(|mount| mount.hosts.is_empty());
    Ok(mounts)
}

/// The Classworks dialect, and its face for a listener of its own if it is not that already.
/// `is_apart` says that addresses or host names lead to it alone.
fn classworks(
    ctx: Ctx,
    config: &Config,
    shared: &Shared,
    is_apart: bool,
) -> (Arc<dyn Dialect>, Option<Arc<dyn Dialect>>) {
    let (settings, passwords) = (config.classworks.clone(), shared.passwords.clone());
    let classworks = classworks::Classworks::new(ctx, settings, passwords);
    let own_face = Arc::new(classworks.on_its_own());
    match is_apart {
        true => (own_face, None),
        false => (Arc::new(classworks), Some(own_face)),
    }
}

/// One dialect on its context. Every dialect has its line here, but [`classworks`].
fn dialect(
    name: &str,
    ctx: Ctx,
    config: &Config,
    shared: &Shared,
) -> Result<Arc<dyn Dialect>, Failure> {
    Ok(match name {
        "accounts" => Arc::new(accounts::Accounts::new(
            ctx,
            config.accounts.clone(),
            shared.passwords.clone(),
        )),
        "admin" => {
            let admin = admin::Admin::new(ctx, shared.passwords.clone());
            let admin = admin.with_backups(Arc::new(shared.backups.clone()));
            let admin = admin.serving(shared.document.clone());
            let admin = admin.with_audit(shared.audit.clone());
            let admin = match config.metrics.enabled {
                true => admin.with_series(shared.series.clone()),
                false => admin,
            };
            match &shared.live {
                Some(live) => Arc::new(admin.of(live.clone())),
                None => Arc::new(admin),
            }
        }
        "console" => Arc::new(Console::new(ctx)),
        "deno" => Arc::new(deno::Deno::new(ctx, config.deno.clone())),
        "rest" => Arc::new(rest::Rest::new(ctx, config.rest.clone())),
        "edgekv" => {
            let edgekv = edgekv::EdgeKv::new(ctx, config.edgekv.clone());
            Arc::new(edgekv.with_audit(shared.audit.clone()))
        }
        "kopano" => Arc::new(
            kopano::Kopano::new(ctx, config.kopano.clone())
                .map_err(|error| Failure::usage(format!("kopano.issuer: {error}")))?,
        ),
        other => return Err(Failure::usage(format!("there is no dialect {other}"))),
    })
}

/// Mounts of the operator's making come first, because their paths are chosen to differ.
fn in_order(configured: &BTreeMap<String, MountSettings>) -> Vec<(String, MountSettings)> {
    let is_usual = |name: &str| USUAL.iter().any(|usual| usual.dialect == name);
    let own = configured
        .iter()
        .filter(|(name, _)| !is_usual(name))
        .map(|(name, settings)| (name.clone(), settings.clone()));
    let usual = USUAL.iter().map(|usual| {
        let settings = configured.get(usual.dialect).cloned();
        (usual.dialect.to_owned(), settings.unwrap_or_default())
    });
    own.chain(usual).collect()
}

fn usual_of(name: &str, settings: &MountSettings) -> Result<&'static Usual, Failure> {
    let dialect = match settings.dialect.as_str() {
        "" => name,
        dialect => dialect,
    };
    USUAL
        .iter()
        .find(|usual| usual.dialect == dialect)
        .ok_or_else(|| {
            let known: Vec<_> = USUAL.iter().map(|usual| usual.dialect).collect();
            Failure::usage(format!(
                "mount.{name}.dialect: {dialect:?} is none of {}",
                known.join(", ")
            ))
        })
}

/// The path, which begins with a slash and does not end with one, or is empty.
fn checked_path<'a>(name: &str, path: &'a str) -> Result<&'a str, Failure> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let is_path =
        path.is_empty() || (path.starts_with('/') && !path.contains("//") && !path.ends_with('/'));
    if is_path && path.bytes().all(is_plain) {
        Ok(path)
    } else {
        Err(Failure::usage(format!(
            "mount.{name}.path: {path:?} is no path such as /kv"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mounts_are_checked() {
        for (given, path) in [("", ""), ("/", ""), ("/a", "/a"), ("/a/b/", "/a/b")] {
            assert_eq!(checked_path("x", given).unwrap(), path);
        }
        for bad in ["a", "//", "/a//b", "/{a}", "/a b"] {
            assert!(checked_path("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn own_mounts_are_asked_before_the_usual_ones() {
        let own = MountSettings {
            dialect: "kopano".into(),
            ..MountSettings::default()
        };
        let configured = BTreeMap::from([("second".to_owned(), own)]);
        let names: Vec<_> = in_order(&configured)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names[0], "second");
        assert_eq!(names.len(), USUAL.len() + 1);
    }
}
