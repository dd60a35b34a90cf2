//! Which settings are secrets, and how they may come from files.
//!
//! A secret setting `a.b` can also be given as `a.b_file` in every form (so also
//! `KVASIR_A__B_FILE`), or as a file named `a.b` in the service manager's credentials folder.
//! Giving it twice is an error.

use std::path::Path;

use super::ConfigError;

/// Paths of secret settings. A `*` stands for one name.
const SECRETS: &[&str] = &[
    "accounts.jwt_secret",
    "backup.s3.secret_key",
    "classworks.site_key",
    "kopano_db.datasource",
    "store.url",
    "mount.*.store",
];

/// Largest file that a secret is read from, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Whether a setting's value must never be shown.
pub fn is_secret(path: &str) -> bool {
    SECRETS.iter().any(|secret| matches(secret, path))
}

/// What `Debug` shows of a secret.
pub(super) fn shown(secret: &str) -> &'static str {
    match secret {
        "" => "",
        _ => "<set>",
    }
}

/// The setting that names a file which holds this secret.
pub fn file_of(path: &str) -> String {
    format!("{path}_file")
}

/// Whether `path` is `pattern`, in which `*` stands for one name.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('.'), path.split('.'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(name)) if wanted == name => {}
            _ => return false,
        }
    }
}

/// Reads a secret from a file; one line feed at its end does not belong to it.
pub(super) fn read(place: &str, file: &Path) -> Result<String, ConfigError> {
    let wrong = |what: String| ConfigError::new(place, format!("{}: {what}", file.display()));
    let metadata = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?;
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(wrong(format!("over the limit of {SECRET_BYTES_MAX} bytes")));
    }
    let mut text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
