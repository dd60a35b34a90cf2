//! Small files that are put in place whole.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// Replaces `file`, or makes it, with `bytes` and the rights `mode`. A process that is cut short leaves
/// the old file or the new one, and nobody ever sees a half of it or wider rights.
///
/// # Errors
///
/// If it cannot be written; the old one is then as it was.
pub fn replace(file: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".new");
    let write = || {
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut new = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&aside)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&aside, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_rights_even_where_an_interrupted_start_left_its_half() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "old").unwrap();
        fs::write(folder.path().join("secret.new"), "half").unwrap();
        replace(&file, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
