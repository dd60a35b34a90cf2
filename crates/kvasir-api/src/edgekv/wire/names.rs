//! Names in paths and bodies: networks, namespaces, groups, items, tokens, sandboxes.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use kvasir_kv::Key;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Query;
use crate::edgekv::error;
use crate::error::ApiError;

/// Longest name of a namespace. The vendor's limit, as the others here.
pub(in crate::edgekv) const NAMESPACE_BYTES_MAX: usize = 32;
/// Longest name of a group.
pub(in crate::edgekv) const GROUP_BYTES_MAX: usize = 128;
/// Longest key of an item.
pub(in crate::edgekv) const ITEM_BYTES_MAX: usize = 512;
/// Longest name of an access token.
pub(in crate::edgekv) const TOKEN_BYTES_MAX: usize = 32;
/// Longest id of a sandbox. Real ones are UUIDs.
pub(in crate::edgekv) const SANDBOX_BYTES_MAX: usize = 128;

/// First part of the keys of sandbox items; no network is called so.
const SANDBOX: &str = "sandbox";

/// One of the two data sets of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// For tests.
    Staging,
    /// For the public.
    Production,
}

impl Network {
    /// Both.
    pub const ALL: [Network; 2] = [Network::Staging, Network::Production];

    /// The name in paths and keys.
    pub fn name(self) -> &'static str {
        match self {
            Network::Staging => "staging",
            Network::Production => "production",
        }
    }

    /// The network of a name, in any case: some clients send capitals.
    pub fn from_name(name: &str) -> Option<Network> {
        Network::ALL
            .into_iter()
            .find(|network| network.name().eq_ignore_ascii_case(name))
    }

    pub(in crate::edgekv) fn parse(name: &str) -> Result<Network, ApiError> {
        Network::from_name(name)
            .ok_or_else(|| error::invalid("The network must be staging or production."))
    }
}

/// Whether a name has 1 to `bytes_max` characters of `A-Z a-z 0-9 _ -`.
pub(in crate::edgekv) fn is_name(name: &str, bytes_max: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=bytes_max).contains(&name.len()) && name.bytes().all(plain)
}

/// Whether a namespace may be created under this name.
pub(in crate::edgekv) fn is_namespace(name: &str) -> bool {
    is_name(name, NAMESPACE_BYTES_MAX) && !name.starts_with('-')
}

fn check(what: &str, name: &str, bytes_max: usize) -> Result<(), ApiError> {
    if is_name(name, bytes_max) {
        Ok(())
    } else if (1..=bytes_max).contains(&name.len()) {
        Err(error::refused(format!(
            "{what} must only use a string that matches A-Z a-z 0-9 _ or -."
        )))
    } else {
        Err(error::refused(format!(
            "{what} must have 1 to {bytes_max} characters."
        )))
    }
}

/// The parameters of a route, percent-decoded once.
pub(in crate::edgekv) struct Named<T>(pub(in crate::edgekv) T);

impl<S, T> FromRequestParts<S> for Named<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Named(names)),
            // All parameters are strings, so the only way to fail is their encoding.
            Err(_) => Err(error::refused("Names in the path must be valid UTF-8.")),
        }
    }
}

/// `.../namespaces/{namespace}` and everything below, as the path has it.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::edgekv) struct NamedPath {
    /// Only the data plane has paths without one.
    #[serde(default)]
    pub(in crate::edgekv) network: Option<String>,
    pub(in crate::edgekv) namespace: String,
    #[serde(default)]
    pub(in crate::edgekv) group: String,
    #[serde(default)]
    pub(in crate::edgekv) item: String,
}

impl NamedPath {
    /// The network that the path names.
    pub(in crate::edgekv) fn network(&self) -> Result<Network, ApiError> {
        Network::parse(self.network.as_deref().unwrap_or_default())
    }

    /// The data set that a request is about.
    pub(in crate::edgekv) fn realm(
        &self,
        network: Network,
        query: &Query<'_>,
    ) -> Result<Realm, ApiError> {
        let sandbox = query.first("sandboxId").filter(|id| !id.is_empty());
        if let Some(id) = &sandbox {
            if network != Network::Staging {
                return Err(error::invalid(
                    "Sandboxes exist on the staging network only.",
                ));
            }
            if !is_name(id, SANDBOX_BYTES_MAX) {
                return Err(error::invalid("sandboxId is not the id of a sandbox."));
            }
        }
        Ok(Realm {
            network,
            namespace: self.namespace.clone(),
            sandbox,
        })
    }

    /// Checks the group's name.
    pub(in crate::edgekv) fn check_group(&self) -> Result<(), ApiError> {
        check("Group", &self.group, GROUP_BYTES_MAX)
    }

    /// Checks the item's key and the group's name.
    pub(in crate::edgekv) fn check_item(&self) -> Result<(), ApiError> {
        check("Key", &self.item, ITEM_BYTES_MAX)?;
        self.check_group()
    }
}

/// Where items lie: a namespace on a network, or one sandbox of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::edgekv) struct Realm {
    pub(in crate::edgekv) network: Network,
    pub(in crate::edgekv) namespace: String,
    pub(in crate::edgekv) sandbox: Option<String>,
}

impl Realm {
    /// A namespace on a network, outside of sandboxes.
    pub(in crate::edgekv) fn plain(network: Network, namespace: &str) -> Realm {
        Realm {
            network,
            namespace: namespace.to_owned(),
            sandbox: None,
        }
    }

    /// What the keys of all groups begin with.
    pub(in crate::edgekv) fn prefix(&self) -> Key {
        match &self.sandbox {
            None => Key::from_strings([self.network.name(), &self.namespace]),
            Some(id) => Realm::sandboxes(&self.namespace).with_string(id),
        }
    }

    /// What the keys of all items of a group begin with.
    pub(in crate::edgekv) fn group(&self, group: &str) -> Key {
        self.prefix().with_string(group)
    }

    /// The key of an item.
    pub(in crate::edgekv) fn item(&self, group: &str, item: &str) -> Key {
        match &self.sandbox {
            None => Key::from_strings([self.network.name(), &self.namespace, group, item]),
            Some(_) => self.group(group).with_string(item),
        }
    }

    /// What the keys of all sandboxes of a namespace begin with.
    pub(in crate::edgekv) fn sandboxes(namespace: &str) -> Key {
        Key::from_strings([SANDBOX, namespace])
    }

    /// The same without the sandbox.
    pub(in crate::edgekv) fn without_sandbox(&self) -> Realm {
        Realm::plain(self.network, &self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_characters_and_lengths() {
        for good in ["a", "A-z_0", "-a", &"a".repeat(32)] {
            assert!(is_name(good, 32), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a.b", "a%", &"a".repeat(33)] {
            assert!(!is_name(bad, 32), "{bad}");
        }
        assert!(is_namespace("a-"));
        assert!(!is_namespace("-a"));
    }

    #[test]
    fn networks_are_known_in_any_case() {
        assert_eq!(Network::from_name("STAGING"), Some(Network::Staging));
        assert_eq!(Network::from_name("Production"), Some(Network::Production));
        assert_eq!(Network::from_name("sandbox"), None);
    }

    /// The order of parts is on users' disks.
    #[test]
    fn items_lie_at_network_namespace_group_item() {
        let mut realm = Realm::plain(Network::Staging, "marketing");
        assert_eq!(
            realm.item("countries", "DE"),
            Key::from_strings(["staging", "marketing", "countries", "DE"])
        );
        realm.sandbox = Some("s1".to_owned());
        assert_eq!(
            realm.item("countries", "DE"),
            Key::from_strings(["sandbox", "marketing", "s1", "countries", "DE"])
        );
    }
}
