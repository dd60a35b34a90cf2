//! Reads a backup: decrypts it if need be, and checks all of it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use age::x25519;
use anyhow::{Context, bail};
use kvasir_store::container::{ContainerError, Reader, Summary};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::Control;
use super::target::{Found, Target};

/// How a file that age encrypted begins.
const AGE: &[u8] = b"age-encryption.org/";

/// Largest file that private keys are read from, in bytes.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// A backup, decrypted.
pub type Source = Reader<Box<dyn Read + Send>>;

/// A backup is encrypted, and no private key was given.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the backup is encrypted: name the file with the private key (backup.identity_file, --identity)"
)]
pub struct NoIdentity;

/// The private keys in a file: one a line, lines with # are comments.
///
/// # Errors
///
/// If it cannot be read or holds none.
pub fn identities(file: &Path) -> anyhow::Result<Vec<x25519::Identity>> {
    let shown = file.display();
    let mut text = String::new();
    let opened = File::open(file).with_context(|| format!("cannot open {shown}"))?;
    let read = opened.take(IDENTITY_BYTES_MAX).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {shown}"))?;
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let key = line.parse::<x25519::Identity>();
        // The text is a secret.
        key.map_err(|error| anyhow::anyhow!("a line of {shown} is no private key of age: {error}"))
    };
    let keys: Vec<_> = keys.map(parse).collect::<anyhow::Result<_>>()?;
    if keys.is_empty() {
        bail!("{shown} holds no private key of age");
    }
    Ok(keys)
}

/// Opens a file, in the clear or encrypted.
///
/// # Errors
///
/// If it is no backup or the keys do not open it.
pub fn open(input: Box<dyn Read + Send>, keys: &[x25519::Identity]) -> anyhow::Result<Source> {
    let mut input = input;
    let mut begin = Vec::with_capacity(AGE.len());
    Read::take(&mut input, AGE.len() as u64)
        .read_to_end(&mut begin)
        .context("cannot read the backup")?;
    let is_encrypted = begin == AGE;
    let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(begin).chain(input));
    if !is_encrypted {
        return Ok(Reader::new(whole)?);
    }
    if keys.is_empty() {
        return Err(NoIdentity.into());
    }
    let decryptor = age::Decryptor::new_buffered(BufReader::new(whole)).map_err(header_failed)?;
    let keys = keys.iter().map(|key| key as &dyn age::Identity);
    let clear = decryptor.decrypt(keys).map_err(header_failed)?;
    Ok(Reader::new(Box::new(clear) as Box<dyn Read + Send>)?)
}

fn header_failed(error: age::DecryptError) -> anyhow::Error {
    match error {
        age::DecryptError::NoMatchingKeys => {
            anyhow::anyhow!("none of the private keys opens this backup")
        }
        age::DecryptError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            anyhow::Error::new(error).context("cannot read the backup")
        }
        error => ContainerError::Damaged {
            offset: 0,
            what: format!("it cannot be decrypted: {error}"),
        }
        .into(),
    }
}

/// Reads everything.
///
/// # Errors
///
/// If it is damaged, cannot be read, or `control` says stop.
pub fn verify(mut source: Source, control: &Control) -> anyhow::Result<Summary> {
    while source.next_chunk()?.is_some() {
        let so_far = source.so_far();
        control.tell(so_far.content.entries(), so_far.bytes)?;
    }
    Ok(source.finish()?)
}

/// SHA-256 of a file as it lies there, in hexadecimal.
///
/// # Errors
///
/// If it cannot be read, or `control` says stop.
pub fn file_hash(
    target: &Target,
    found: &Found,
    control: &Control,
    runtime: &Handle,
) -> anyhow::Result<String> {
    let mut input = target.open(found, runtime)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let read = input.read(&mut buffer).context("cannot read the backup")?;
        if read == 0 {
            return Ok(data_encoding::HEXLOWER.encode(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        control.tell(0, bytes)?;
    }
}

/// Whether this failure says that a backup is damaged, and not that something stands in the way of
/// reading it.
pub fn is_damage(error: &anyhow::Error) -> bool {
    let found = error.chain().find_map(|cause| cause.downcast_ref());
    matches!(
        found,
        Some(ContainerError::Damaged { .. } | ContainerError::NotABackup)
    )
}
