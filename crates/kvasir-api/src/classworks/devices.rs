//! The settings of namespaces, read on every request and changed rarely.
//!
//! Records are kept in a bounded cache that hears of changes by [`Keyspace::changes`]. The stream is
//! emptied at every look-up: a backend of one process tells of a change before it acknowledges the
//! commit, so what is answered from here is never older than an acknowledged change. On a backend
//! that several processes share nothing is kept.

use std::sync::{Arc, Mutex};

use futures_util::{FutureExt, StreamExt};
use kvasir_kv::{
    AtomicWrite, ChangeStream, Changes, Error, Key, KeyRange, Keyspace, Mutation, Outcome, Result,
    Versionstamp,
};
use quick_cache::unsync::Cache;

use super::layout::{self, Device};

/// Most namespaces whose settings are kept in memory, those without a record included.
const CACHED_DEVICES_MAX: usize = 16_384;

/// How often a change of settings is tried again when somebody else changes them meanwhile.
const CHANGE_TRIES: usize = 16;

/// What has been heard on a stream of changes so far, without waiting. `None` at its end.
pub(super) fn heard(changes: &mut ChangeStream) -> Option<Changes> {
    let mut all = Changes::default();
    // Without the budget of the task: a stream that yields for fairness has not been emptied.
    while let Some(next) = tokio::task::unconstrained(changes.next()).now_or_never() {
        let next = next?;
        all.versionstamp = next.versionstamp;
        all.missed |= next.missed;
        all.keys.extend(next.keys);
    }
    Some(all)
}

/// See the module.
pub(super) struct Devices {
    system: Keyspace,
    known: Option<Mutex<Known>>,
}

struct Known {
    changes: ChangeStream,
    devices: Cache<Key, Arc<Device>>,
    /// Counts what was heard, so that a record read before a change is not kept after it.
    generation: u64,
    is_over: bool,
}

impl Known {
    /// Drops what has changed.
    fn catch_up(&mut self) {
        let heard = if self.is_over {
            None
        } else {
            heard(&mut self.changes)
        };
        match heard {
            Some(heard) if heard.missed => {
                self.generation += 1;
                self.devices.clear();
            }
            Some(heard) => {
                self.generation += heard.keys.len() as u64;
                for (key, _) in &heard.keys {
                    self.devices.remove(key);
                }
            }
            None => {
                self.is_over = true;
                self.devices.clear();
            }
        }
    }
}

impl Devices {
    pub(super) fn new(system: Keyspace) -> Devices {
        let is_shared = system.store().capabilities().shared;
        let known = (!is_shared).then(|| {
            let mut changes = system.changes(&KeyRange::below(&layout::devices_prefix()));
            // From the first look on, nothing is missed.
            let is_over = heard(&mut changes).is_none();
            Mutex::new(Known {
                changes,
                devices: Cache::new(CACHED_DEVICES_MAX),
                generation: 0,
                is_over,
            })
        });
        Devices { system, known }
    }

    /// The settings of a namespace; the default ones if nobody made any.
    pub(super) async fn get(&self, namespace: &str) -> Result<Arc<Device>> {
        let key = layout::device_key(namespace);
        let Some(known) = &self.known else {
            let (device, _) = self.read(&key).await?;
            return Ok(Arc::new(device));
        };
        let before = {
            let mut known = known.lock().expect("no panic while held");
            known.catch_up();
            if let Some(device) = known.devices.get(&key) {
                return Ok(Arc::clone(device));
            }
            known.generation
        };
        let (device, _) = self.read(&key).await?;
        let device = Arc::new(device);
        let mut known = known.lock().expect("no panic while held");
        known.catch_up();
        if known.generation == before && !known.is_over {
            known.devices.insert(key, Arc::clone(&device));
        }
        Ok(device)
    }

    async fn read(&self, key: &Key) -> Result<(Device, Option<Versionstamp>)> {
        match self.system.get(key).await? {
            None => Ok((Device::default(), None)),
            Some(entry) => Ok((Device::read(&entry.value)?, Some(entry.versionstamp))),
        }
    }

    /// Changes settings: `change` gets the present ones and adds to the write what else belongs to
    /// it, or gives up with `E`. It is called again when somebody else was quicker.
    pub(super) async fn change<E: From<Error>>(
        &self,
        namespace: &str,
        mut change: impl FnMut(&mut Device, &mut AtomicWrite) -> std::result::Result<(), E>,
    ) -> std::result::Result<Device, E> {
        let key = layout::device_key(namespace);
        for _ in 0..CHANGE_TRIES {
            let (mut device, stamp) = self.read(&key).await?;
            let mut write = match stamp {
                Some(stamp) => AtomicWrite::new().check(key.clone(), stamp),
                None => AtomicWrite::new().check_absent(key.clone()),
            };
            change(&mut device, &mut write)?;
            let write = write.push(Mutation::set(key.clone(), device.to_value()));
            match self.system.commit(write).await? {
                Outcome::Committed(_) => return Ok(device),
                Outcome::Conflict { .. } => {}
            }
        }
        Err(Error::unavailable("the settings of a namespace kept changing").into())
    }
}
