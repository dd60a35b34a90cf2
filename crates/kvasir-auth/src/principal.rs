//! Principals, grants and verbs.

use std::fmt;
use std::sync::Arc;

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
    /// Manage tokens, users, databases and the server.
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
    /// The keyspace; `None` for all but the system keyspace.
    pub keyspace: Option<KeyspaceName>,
    /// Keys must begin with these bytes; the empty key covers all.
    pub prefix: Key,
    /// What is allowed.
    pub verbs: Verbs,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMillis>,
}

impl Grant {
    /// Everything, for ever.
    pub fn everything() -> Grant {
        Grant {
            dialects: Vec::new(),
            keyspace: None,
            prefix: Key::default(),
            verbs: Verbs::ALL,
            expires_at: None,
        }
    }

    fn allows(&self, ask: &Ask<'_>) -> bool {
        self.verbs.contains(ask.verb)
            && (self.dialects.is_empty() || self.dialects.iter().any(|name| name == ask.dialect))
            && self
                .keyspace
                .as_ref()
                .is_none_or(|name| name == ask.keyspace)
            && ask.key.as_bytes().starts_with(self.prefix.as_bytes())
            && self.expires_at.is_none_or(|at| ask.now < at)
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
        Principal::new("local", vec![Grant::everything()])
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
        self.0.grants.iter().any(|grant| grant.allows(ask))
    }
}
