//! Writing a backup.

use std::io::{self, Write};

use kvasir_kv::{Entry, Versionstamp};
use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;

use super::{
    CHUNK, CHUNK_BYTES, ContainerError, FORMAT, FRAME_HEAD_BYTES, HEADER_BYTES_MAX, Header, LEVEL,
    MAGIC, Summary, TRAILER, short,
};
use crate::record;

/// Writes entries, which come in the order of their keys.
pub struct Writer<W> {
    out: W,
    /// Over everything written so far.
    hasher: Sha256,
    chunk: Vec<u8>,
    frames: u64,
    last_key: Option<Vec<u8>>,
    summary: Summary,
    /// Kept from chunk to chunk.
    compressor: Compressor<'static>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or the header is too long.
    pub fn new(mut out: W, header: &Header) -> Result<Writer<W>, ContainerError> {
        let header = serde_json::to_vec(header).map_err(io::Error::other)?;
        if header.len() > HEADER_BYTES_MAX {
            return Err(io::Error::other("the comment is too long").into());
        }
        let mut head = Vec::with_capacity(header.len() + 32);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&FORMAT.to_be_bytes());
        head.extend_from_slice(&length(header.len()));
        head.extend_from_slice(&header);
        let checksum = short(Sha256::new_with_prefix(&head));
        head.extend_from_slice(&checksum);
        out.write_all(&head)?;
        Ok(Writer {
            out,
            hasher: Sha256::new_with_prefix(&head),
            chunk: Vec::new(),
            frames: 0,
            last_key: None,
            summary: Summary::default(),
            compressor: Compressor::new(LEVEL)?,
        })
    }

    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or the key does not lie behind the one before.
    pub fn push(&mut self, entry: &Entry) -> Result<(), ContainerError> {
        let key = entry.key.as_bytes();
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(ContainerError::Order);
        }
        let record = record::encode(entry);
        self.chunk.extend_from_slice(&length(key.len()));
        self.chunk.extend_from_slice(key);
        self.chunk.extend_from_slice(&length(record.len()));
        self.chunk.extend_from_slice(&record);
        self.summary.bytes += (key.len() + record.len()) as u64;
        self.summary.content.add(entry);
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        if self.chunk.len() >= CHUNK_BYTES {
            self.send_chunk()?;
        }
        Ok(())
    }

    /// What was added so far.
    pub fn so_far(&self) -> &Summary {
        &self.summary
    }

    fn send_chunk(&mut self) -> Result<(), ContainerError> {
        let stored = self.compressor.compress(&self.chunk)?;
        let plain_bytes = self.chunk.len();
        self.frame(CHUNK, plain_bytes, &stored)?;
        self.chunk.clear();
        Ok(())
    }

    fn frame(&mut self, kind: u8, plain_bytes: usize, stored: &[u8]) -> io::Result<()> {
        let mut head = Vec::with_capacity(FRAME_HEAD_BYTES);
        head.push(kind);
        head.extend_from_slice(&self.frames.to_be_bytes());
        head.extend_from_slice(&length(plain_bytes));
        head.extend_from_slice(&length(stored.len()));
        let mut hasher = Sha256::new_with_prefix(&head);
        hasher.update(stored);
        let checksum = short(hasher);
        for part in [&head[..], stored, &checksum] {
            self.hasher.update(part);
            self.out.write_all(part)?;
        }
        self.frames += 1;
        Ok(())
    }

    /// Ends the file. `versionstamp` is that of the snapshot.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn finish(mut self, versionstamp: Versionstamp) -> Result<(W, Summary), ContainerError> {
        if !self.chunk.is_empty() {
            self.send_chunk()?;
        }
        self.summary.versionstamp = versionstamp;
        let content = &self.summary.content;
        let mut trailer = Vec::with_capacity(super::TRAILER_BYTES);
        trailer.extend_from_slice(versionstamp.as_bytes());
        trailer.extend_from_slice(&content.lasting.to_be_bytes());
        trailer.extend_from_slice(&content.expiring.to_be_bytes());
        trailer.extend_from_slice(&self.summary.bytes.to_be_bytes());
        trailer.extend_from_slice(&content.sum.to_be_bytes());
        let whole = self.hasher.clone().finalize();
        trailer.extend_from_slice(&whole);
        self.frame(TRAILER, trailer.len(), &trailer)?;
        self.out.flush()?;
        Ok((self.out, self.summary))
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes)
        .expect("keys, records and chunks are far below 4 GiB")
        .to_be_bytes()
}
