//! Which resource a path names.
//!
//! The router of axum is not asked here, because it decodes and normalises differently: a key may
//! hold an encoded slash or dots, one trailing slash is ignored, two slashes in a row are a path
//! that does not exist, and words are recognised after decoding. Everything is a pure function of
//! the path as the client sent it.

use std::borrow::Cow;

use crate::error::ApiError;

use super::error;

/// Longest namespace, in bytes after decoding: the width of the original's MySQL column.
pub const NAMESPACE_BYTES_MAX: usize = 191;

/// Longest key, in bytes after decoding. With the namespace it stays under the store's limit.
pub const KEY_BYTES_MAX: usize = 1024;

/// The namespace of the site's own configuration, closed to everybody but administrators.
pub const RESERVED_NAMESPACE: &str = "00000000-0000-4000-8000-000000000000";

/// Second segments that are routes of their own and therefore no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Info,
    Check,
    Hint,
    Keys,
    Password,
    CheckPassword,
    BatchImport,
}

impl Word {
    pub(super) const ALL: [Word; 7] = [
        Word::Info,
        Word::Check,
        Word::Hint,
        Word::Keys,
        Word::Password,
        Word::CheckPassword,
        Word::BatchImport,
    ];

    fn of(segment: &str) -> Option<Word> {
        let mut all = Word::ALL.into_iter();
        all.find(|word| word.name() == segment)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Word::Info => "_info",
            Word::Check => "_check",
            Word::Hint => "_hint",
            Word::Keys => "_keys",
            Word::Password => "_password",
            Word::CheckPassword => "_checkpassword",
            Word::BatchImport => "_batchimport",
        }
    }
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The page for people.
    Home,
    /// The connection test.
    Check,
    /// A new namespace's name.
    NewNamespace,
    /// All keys of the namespace.
    Namespace,
    /// One key.
    Value(String),
    /// What is known about one key.
    Metadata(String),
    /// A route of the namespace.
    Word(Word),
}

/// A path taken apart. A broken one still tells its namespace where it can, because the reserved
/// one is refused before anything else is said.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) namespace: Option<String>,
    pub(super) place: Result<Place, ApiError>,
}

impl Target {
    /// Takes apart what follows the mount's prefix. `path` is the whole path, for messages.
    pub(super) fn parse(rest: &str, path: &str) -> Target {
        let nowhere = |namespace| Target {
            namespace,
            place: Err(error::no_such_path(path)),
        };
        if rest.is_empty() || rest == "/" {
            return Target::of(Place::Home);
        }
        let Some(rest) = rest.strip_prefix('/') else {
            return nowhere(None);
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut segments = rest.split('/');
        let first = segments.next().unwrap_or_default();
        let (second, third, more) = (segments.next(), segments.next(), segments.next());
        let namespace = match decoded(first) {
            Ok(namespace) => namespace,
            Err(broken) => {
                return Target {
                    namespace: None,
                    place: Err(broken),
                };
            }
        };
        match (&*namespace, second) {
            ("", _) => return nowhere(None),
            ("check", None) => return Target::of(Place::Check),
            ("uuid", None) => return Target::of(Place::NewNamespace),
            ("check" | "uuid" | "favicon.ico", _) => return nowhere(None),
            _ => {}
        }
        let place =
            check_namespace(&namespace).and_then(|()| Target::below(second, third, more, path));
        Target {
            namespace: Some(namespace.into_owned()),
            place,
        }
    }

    fn of(place: Place) -> Target {
        Target {
            namespace: None,
            place: Ok(place),
        }
    }

    /// What the segments after the namespace name.
    fn below(
        second: Option<&str>,
        third: Option<&str>,
        more: Option<&str>,
        path: &str,
    ) -> Result<Place, ApiError> {
        let Some(second) = second else {
            return Ok(Place::Namespace);
        };
        if second.is_empty() || third.is_some_and(str::is_empty) || more.is_some() {
            return Err(error::no_such_path(path));
        }
        let key = decoded(second)?;
        match third.map(decoded).transpose()?.as_deref() {
            Some("metadata") => {}
            Some(_) => return Err(error::no_such_path(path)),
            None => {
                if let Some(word) = Word::of(&key) {
                    return Ok(Place::Word(word));
                }
            }
        }
        check_key(&key)?;
        let key = key.into_owned();
        Ok(match third {
            None => Place::Value(key),
            Some(_) => Place::Metadata(key),
        })
    }
}

/// Refuses names that no namespace can have.
pub(super) fn check_namespace(namespace: &str) -> Result<(), ApiError> {
    match namespace.len() {
        0 => Err(error::bad("命名空间不能为空")),
        1..=NAMESPACE_BYTES_MAX if namespace.contains('\0') => {
            Err(error::bad("命名空间不能包含 NUL 字符"))
        }
        1..=NAMESPACE_BYTES_MAX => Ok(()),
        _ => Err(error::bad(format!(
            "命名空间过长（最多 {NAMESPACE_BYTES_MAX} 字节）"
        ))),
    }
}

/// Refuses names that no key can have, whatever route they came by.
pub(super) fn check_key(key: &str) -> Result<(), ApiError> {
    match key.len() {
        0 => Err(error::bad("键名不能为空")),
        1..=KEY_BYTES_MAX if key.contains('\0') => Err(error::bad("键名不能包含 NUL 字符")),
        1..=KEY_BYTES_MAX => Ok(()),
        _ => Err(error::bad(format!("键名过长（最多 {KEY_BYTES_MAX} 字节）"))),
    }
}

/// Refuses names that are not to be written as keys.
pub(super) fn check_written_key(key: &str) -> Result<(), ApiError> {
    match Word::of(key) {
        Some(_) => Err(error::reserved_key(key)),
        None => check_key(key),
    }
}

/// Whether a text is 8-4-4-4-12 hexadecimal digits, of any version and case.
pub(super) fn is_uuid_shaped(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether the first segment of a path is UUID-shaped, after decoding.
pub(super) fn begins_with_uuid(path: &str) -> bool {
    let first = path
        .strip_prefix('/')
        .and_then(|rest| rest.split('/').next());
    // Every byte of a UUID may be escaped, which makes it three times as long.
    first
        .filter(|first| (36..=3 * 36).contains(&first.len()))
        .and_then(|first| decoded(first).ok())
        .is_some_and(|first| is_uuid_shaped(&first))
}

/// Undoes percent-escapes, once. A plus sign is a plus sign.
fn decoded(segment: &str) -> Result<Cow<'_, str>, ApiError> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let broken = || error::bad(format!("路径中的转义无效: {segment}"));
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(broken());
        };
        out.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Result<Place, u16> {
        let target = Target::parse(path, path);
        target.place.map_err(|error| error.status().as_u16())
    }

    #[test]
    fn paths_name_namespaces_keys_and_words() {
        let value = |key: &str| Ok(Place::Value(key.to_owned()));
        assert_eq!(place(""), Ok(Place::Home));
        assert_eq!(place("/"), Ok(Place::Home));
        assert_eq!(place("/check"), Ok(Place::Check));
        assert_eq!(place("/uuid/"), Ok(Place::NewNamespace));
        assert_eq!(place("/ns"), Ok(Place::Namespace));
        assert_eq!(place("/ns/"), Ok(Place::Namespace));
        assert_eq!(place("/ns/k/"), value("k"));
        assert_eq!(place("/ns/a+b%20c%2Fd"), value("a+b c/d"));
        assert_eq!(place("/ns/metadata"), value("metadata"));
        assert_eq!(
            place("/ns/metadata/metadata"),
            Ok(Place::Metadata("metadata".into()))
        );
        assert_eq!(place("/ns/_keys"), Ok(Place::Word(Word::Keys)));
        assert_eq!(place("/ns/%5Fkeys"), Ok(Place::Word(Word::Keys)));
        assert_eq!(place("/ns/_KEYS"), value("_KEYS"));
        assert_eq!(place("/ns/_other"), value("_other"));
        assert_eq!(place("/ns/%2e%2e"), value(".."));
    }

    #[test]
    fn other_paths_do_not_exist_and_broken_ones_are_refused() {
        for path in [
            "//",
            "//k",
            "/ns//k",
            "/ns/k//",
            "/ns/k/x",
            "/ns/k/metadata/x",
            "/favicon.ico",
            "/check/k",
            "/uuid/k",
            "x",
        ] {
            assert_eq!(place(path), Err(404), "{path}");
        }
        for path in [
            "/ns/a%", "/ns/%zz", "/ns/%ff", "/ns/a%00", "/%ff/k", "/a%00/k",
        ] {
            assert_eq!(place(path), Err(400), "{path}");
        }
    }

    #[test]
    fn names_at_their_limits_pass_and_longer_ones_do_not() {
        let namespace = "n".repeat(NAMESPACE_BYTES_MAX);
        let key = "k".repeat(KEY_BYTES_MAX);
        assert!(place(&format!("/{namespace}/{key}")).is_ok());
        assert_eq!(place(&format!("/{namespace}n/{key}")), Err(400));
        assert_eq!(place(&format!("/{namespace}/{key}k")), Err(400));
    }

    #[test]
    fn a_broken_path_still_tells_its_namespace() {
        for path in ["/ns/a%", "/ns//k", "/n%73/a/b/c"] {
            let target = Target::parse(path, path);
            assert_eq!(target.namespace.as_deref(), Some("ns"), "{path}");
        }
    }

    #[test]
    fn uuids_are_known_by_their_shape_also_behind_escapes() {
        for good in [
            "/00000000-0000-4000-8000-000000000000",
            "/ABCDEF01-2345-6789-abcd-ef0123456789/key",
            "/%300000000-0000-4000-8000%2D000000000000/",
        ] {
            assert!(begins_with_uuid(good), "{good}");
        }
        for bad in [
            "/",
            "/kv",
            "/users",
            "/00000000-0000-4000-8000-00000000000",
            "/00000000-0000-4000-8000-00000000000g",
            "/00000000x0000-4000-8000-000000000000",
            "//00000000-0000-4000-8000-000000000000",
        ] {
            assert!(!begins_with_uuid(bad), "{bad}");
        }
    }
}
