//! Principals, grants and verbs.

use std::fmt;
use std::sync::{Arc, LazyLock};

use kvasir_kv::{Key, KeyspaceName, UnixMillis};

/// What a request wants to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// See entries.
    Read,
    /// Create and replace entries.
    Write,
    /// Remove entries.
    Delete,
    /// Manage tokens, users, databases and the server. In a grant for every keyspace and every key it
    /// reaches everything; in a narrower one it reaches what the grant names.
    Admin,
}

impl Verb {
    /// All verbs, in the order in which they are shown.
    pub const ALL: [Verb; 4] = [Verb::Read, Verb::Write, Verb::Delete, Verb::Admin];

    /// The name on the wire and in the console.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Delete => "delete",
            Verb::Admin => "admin",
        }
    }

    /// The verb of a name.
    pub fn from_name(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

/// A set of verbs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Verbs(u8);

impl Verbs {
    /// Every verb.
    pub const ALL: Verbs = Verbs(0b1111);
    /// Read, write and delete, but no administration.
    pub const DATA: Verbs = Verbs(0b0111);
    /// Read only.
    pub const READ: Verbs = Verbs(0b0001);

    /// Whether `verb` is in the set.
    pub fn contains(self, verb: Verb) -> bool {
        self.0 & (1 << verb as u8) != 0
    }

    /// The verbs in the set.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL
            .into_iter()
            .filter(move |verb| self.contains(*verb))
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Verbs(verbs.into_iter().fold(0, |set, verb| set | 1 << verb as u8))
    }
}

impl fmt::Debug for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// One permission: verbs on the keys below a prefix of a keyspace, through some dialects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Names of the dialects it holds for; empty for all.
    pub dialects: Vec<String>,
    /// The keyspace; `None` for all. The system keyspace is among them for [`Verb::Admin`] only.
    pub keyspace: Option<KeyspaceName>,
    /// Keys must be this one or continue it by further parts; the empty key covers all.
    pub prefix: Key,
    /// What is allowed.
    pub verbs: Verbs,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMillis>,
}

impl Grant {
    /// Everything, for ever, administration included.
    pub fn everything() -> Grant {
        Grant {
            dialects: Vec::new(),
            keyspace: None,
            prefix: Key::default(),
            verbs: Verbs::ALL,
            expires_at: None,
        }
    }

    /// Why this grant does not cover what is asked; `None` if it does.
    pub fn mismatch(&self, ask: &Ask<'_>) -> Option<Mismatch> {
        let dialect = self.dialects.is_empty() || self.dialects.iter().any(|d| d == ask.dialect);
        if self.expires_at.is_some_and(|at| at <= ask.now) {
            Some(Mismatch::Expired)
        } else if !self.verbs.contains(ask.verb) {
            Some(Mismatch::Verb)
        } else if !dialect {
            Some(Mismatch::Dialect)
        } else if !self.covers_keyspace(ask) {
            Some(Mismatch::Keyspace)
        } else if !is_at_or_below(ask.key, &self.prefix) {
            Some(Mismatch::Prefix)
        } else {
            None
        }
    }

    /// The system keyspace is reached by administrators of everything only.
    fn covers_keyspace(&self, ask: &Ask<'_>) -> bool {
        match &self.keyspace {
            Some(name) => name == ask.keyspace && !ask.is_system(),
            None => !ask.is_system() || ask.verb == Verb::Admin,
        }
    }
}

/// Whether `key` is `prefix` or a tuple that continues it. A zero byte inside a string part is
/// escaped by 0xff, so `["users\0x"]` begins with the bytes of `["users"]` and is not below it.
fn is_at_or_below(key: &Key, prefix: &Key) -> bool {
    match key.as_bytes().strip_prefix(prefix.as_bytes()) {
        Some(rest) => prefix.is_empty() || rest.first() != Some(&0xff),
        None => false,
    }
}

/// What about a grant does not fit a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It has ended.
    Expired,
    /// It does not hold the verb.
    Verb,
    /// It is for other dialects.
    Dialect,
    /// It is for another keyspace.
    Keyspace,
    /// It is for keys below another prefix.
    Prefix,
}

impl Mismatch {
    /// One sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Mismatch::Expired => "the grant has ended",
            Mismatch::Verb => "the grant does not hold this verb",
            Mismatch::Dialect => "the grant is for other dialects",
            Mismatch::Keyspace => "the grant is for another keyspace",
            Mismatch::Prefix => "the grant is for keys below another prefix",
        }
    }
}

/// What a request wants, for [`Principal::allows`].
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Name of the dialect it came through.
    pub dialect: &'a str,
    /// The keyspace it touches.
    pub keyspace: &'a KeyspaceName,
    /// The key, or the common prefix of all keys it touches.
    pub key: &'a Key,
    /// What it wants to do.
    pub verb: Verb,
    /// The present time.
    pub now: UnixMillis,
}

impl Ask<'_> {
    fn is_system(&self) -> bool {
        *self.keyspace == KeyspaceName::system()
    }
}

/// Who is asking. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Principal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    grants: Vec<Grant>,
}

impl Principal {
    /// A principal with these grants. The id is shown in logs and never a secret.
    pub fn new(id: impl Into<String>, grants: Vec<Grant>) -> Principal {
        Principal(Arc::new(Inner {
            id: id.into(),
            grants,
        }))
    }

    /// Whoever asks on a loopback address while no token is configured.
    pub fn local() -> Principal {
        static LOCAL: LazyLock<Principal> =
            LazyLock::new(|| Principal::new("local", vec![Grant::everything()]));
        LOCAL.clone()
    }

    /// Whoever asks over the network while the operator serves it openly: data, but no
    /// administration.
    pub fn anyone() -> Principal {
        static ANYONE: LazyLock<Principal> = LazyLock::new(|| {
            let data = Grant {
                verbs: Verbs::DATA,
                ..Grant::everything()
            };
            Principal::new("anyone", vec![data])
        });
        ANYONE.clone()
    }

    /// Whether this principal showed no credential, because none was needed.
    pub fn is_without_credential(&self) -> bool {
        matches!(self.id(), "local" | "anyone")
    }

    /// What logs call this principal.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The grants.
    pub fn grants(&self) -> &[Grant] {
        &self.0.grants
    }

    /// Whether one of the grants covers what is asked.
    pub fn allows(&self, ask: &Ask<'_>) -> bool {
        let mut grants = self.0.grants.iter();
        grants.any(|grant| grant.mismatch(ask).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn ask<'a>(keyspace: &'a KeyspaceName, key: &'a Key, verb: Verb) -> Ask<'a> {
        Ask {
            dialect: "rest",
            keyspace,
            key,
            verb,
            now: NOW,
        }
    }

    #[test]
    fn a_grant_covers_what_it_names_and_says_what_it_misses() {
        let default = KeyspaceName::default_database();
        let other = KeyspaceName::from_static("other");
        let users = Key::from_strings(["users"]);
        let john = users.with_string("john");
        let grant = Grant {
            dialects: vec!["rest".into()],
            keyspace: Some(default.clone()),
            prefix: users.clone(),
            verbs: Verbs::READ,
            expires_at: Some(UnixMillis(1_001)),
        };
        fn why(grant: &Grant, keyspace: &KeyspaceName, key: &Key, verb: Verb) -> Option<Mismatch> {
            grant.mismatch(&ask(keyspace, key, verb))
        }

        assert_eq!(why(&grant, &default, &john, Verb::Read), None);
        assert_eq!(why(&grant, &default, &users, Verb::Read), None);
        assert_eq!(
            why(&grant, &default, &john, Verb::Write),
            Some(Mismatch::Verb)
        );
        assert_eq!(
            why(&grant, &other, &john, Verb::Read),
            Some(Mismatch::Keyspace)
        );
        for near in [
            Key::from_strings(["users2"]),
            Key::from_strings(["user"]),
            Key::from_strings(["users\0"]),
            Key::default(),
        ] {
            let missed = why(&grant, &default, &near, Verb::Read);
            assert_eq!(missed, Some(Mismatch::Prefix), "{near:?}");
        }
        let ended = Grant {
            expires_at: Some(NOW),
            ..grant.clone()
        };
        assert_eq!(
            why(&ended, &default, &john, Verb::Read),
            Some(Mismatch::Expired)
        );
        let deno = Grant {
            dialects: vec!["deno".into()],
            ..grant
        };
        assert_eq!(
            why(&deno, &default, &john, Verb::Read),
            Some(Mismatch::Dialect)
        );
    }

    #[test]
    fn data_verbs_never_reach_the_system_keyspace() {
        let system = KeyspaceName::system();
        let key = Key::from_strings(["tokens"]);
        let everything = Grant::everything();
        for verb in [Verb::Read, Verb::Write, Verb::Delete] {
            let missed = everything.mismatch(&ask(&system, &key, verb));
            assert_eq!(missed, Some(Mismatch::Keyspace));
        }
        assert_eq!(everything.mismatch(&ask(&system, &key, Verb::Admin)), None);
    }
}
