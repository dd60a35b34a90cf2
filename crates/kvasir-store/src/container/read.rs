//! Reading a backup. Nothing that is read is believed before its checksum was looked at.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use kvasir_kv::{Entry, Key, Versionstamp};
use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use super::{
    CHECKSUM_BYTES, CHUNK, CHUNK_BYTES_MAX, ContainerError, FORMAT, FRAME_HEAD_BYTES,
    HEADER_BYTES_MAX, Header, MAGIC, STORED_BYTES_MAX, Summary, TRAILER, TRAILER_BYTES, short,
};
use crate::content::ContentHash;
use crate::record;

/// Reads a backup from its beginning to its end.
pub struct Reader<R> {
    input: R,
    offset: u64,
    /// Over everything read so far.
    hasher: Sha256,
    header: Header,
    frames: u64,
    last_key: Option<Key>,
    found: Summary,
    /// Kept from frame to frame: what is as large as a chunk is asked for once.
    stored: Vec<u8>,
    decompressor: Decompressor<'static>,
    /// What the trailer says, once it was read and fits what was found.
    trailer: Option<Summary>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If this is no backup, or of a newer version, or damaged already there.
    pub fn new(input: R) -> Result<Reader<R>, ContainerError> {
        let mut reader = Reader {
            input,
            offset: 0,
            hasher: Sha256::new(),
            header: Header::default(),
            frames: 0,
            last_key: None,
            found: Summary::default(),
            stored: Vec::new(),
            decompressor: Decompressor::new()?,
            trailer: None,
        };
        let mut fixed = [0; 14];
        match reader.fill(&mut fixed) {
            Ok(()) if fixed[..8] == MAGIC => {}
            Err(ContainerError::Io(error)) => return Err(error.into()),
            _ => return Err(ContainerError::NotABackup),
        }
        let format = u16::from_be_bytes([fixed[8], fixed[9]]);
        let bytes = u32::from_be_bytes([fixed[10], fixed[11], fixed[12], fixed[13]]) as usize;
        if bytes > HEADER_BYTES_MAX {
            return Err(reader.damaged("the header is too long"));
        }
        let mut header = vec![0; bytes];
        reader.fill(&mut header)?;
        let mut hasher = Sha256::new_with_prefix(fixed);
        hasher.update(&header);
        reader.expect_checksum(short(hasher))?;
        // Looked at here, so that a flipped bit is damage and not another format.
        if format > FORMAT {
            return Err(ContainerError::NewerFormat(format));
        }
        reader.header = match serde_json::from_slice(&header) {
            Ok(header) if format == FORMAT => header,
            _ => return Err(reader.damaged("the header cannot be read")),
        };
        Ok(reader)
    }

    /// What wrote the backup.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub fn so_far(&self) -> &Summary {
        &self.found
    }

    /// The entries of the next chunk; `None` behind the last one, and then the whole file was found to
    /// be as it was written.
    ///
    /// # Errors
    ///
    /// If the file is damaged or ends too early.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<Entry>>, ContainerError> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        let file_hash = self.hasher.clone();
        let mut head = [0; FRAME_HEAD_BYTES];
        self.fill(&mut head)?;
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (plain_bytes, stored_bytes) = (number(9) as usize, number(13) as usize);
        if plain_bytes > CHUNK_BYTES_MAX || stored_bytes > STORED_BYTES_MAX {
            return Err(self.damaged("a frame is too long"));
        }
        let mut stored = std::mem::take(&mut self.stored);
        stored.clear();
        self.fill_vec(&mut stored, stored_bytes)?;
        let mut hasher = Sha256::new_with_prefix(head);
        hasher.update(&stored);
        self.expect_checksum(short(hasher))?;
        if head[1..9] != self.frames.to_be_bytes() {
            return Err(self.damaged("a frame is not in its place"));
        }
        self.frames += 1;
        let read = match head[0] {
            CHUNK => self.chunk(plain_bytes, &stored).map(Some),
            TRAILER => self.end(&stored, file_hash).map(|()| None),
            _ => Err(self.damaged("a frame is of an unknown kind")),
        };
        self.stored = stored;
        read
    }

    /// What the whole backup holds, once [`Reader::next_chunk`] has said that there is no more.
    ///
    /// # Errors
    ///
    /// If it was not read to its end.
    pub fn finish(self) -> Result<Summary, ContainerError> {
        match self.trailer {
            Some(summary) => Ok(summary),
            None => Err(self.damaged("it was not read to its end")),
        }
    }

    fn chunk(&mut self, plain_bytes: usize, stored: &[u8]) -> Result<Vec<Entry>, ContainerError> {
        let plain = self.decompressor.decompress(stored, plain_bytes);
        let mut plain = match plain {
            Ok(plain) if plain.len() == plain_bytes => Bytes::from(plain),
            _ => return Err(self.damaged("a chunk cannot be decompressed")),
        };
        let mut entries = Vec::new();
        while !plain.is_empty() {
            let Some((key, record)) = field(&mut plain).zip(field(&mut plain)) else {
                return Err(self.damaged("a chunk ends in an entry"));
            };
            self.found.bytes += (key.len() + record.len()) as u64;
            let key = Key::new(key);
            if self.last_key.as_ref().is_some_and(|last| *last >= key) {
                return Err(self.damaged("keys do not rise"));
            }
            let entry = record::decode_shared(&key, &record)
                .map_err(|error| self.damaged(error.to_string()))?;
            self.found.content.add(&entry);
            self.last_key = Some(key);
            entries.push(entry);
        }
        Ok(entries)
    }

    fn end(&mut self, stored: &[u8], file_hash: Sha256) -> Result<(), ContainerError> {
        if stored.len() != TRAILER_BYTES {
            return Err(self.damaged("the trailer has another length"));
        }
        let mut rest = stored;
        let mut stamp = [0; 10];
        rest.copy_to_slice(&mut stamp);
        let summary = Summary {
            versionstamp: Versionstamp::from_bytes(stamp),
            content: ContentHash {
                lasting: rest.get_u64(),
                expiring: rest.get_u64(),
                sum: 0,
            },
            bytes: rest.get_u64(),
        };
        let summary = Summary {
            content: ContentHash {
                sum: rest.get_u128(),
                ..summary.content
            },
            ..summary
        };
        self.found.versionstamp = summary.versionstamp;
        if rest != &file_hash.finalize()[..] || summary != self.found {
            return Err(self.damaged("the trailer does not fit what is before it"));
        }
        let mut behind = [0; 1];
        match read_some(&mut self.input, &mut behind)? {
            0 => {}
            _ => return Err(self.damaged("something follows the trailer")),
        }
        self.trailer = Some(summary);
        Ok(())
    }

    fn expect_checksum(&mut self, expected: [u8; CHECKSUM_BYTES]) -> Result<(), ContainerError> {
        let mut found = [0; CHECKSUM_BYTES];
        self.fill(&mut found)?;
        if found == expected {
            Ok(())
        } else {
            Err(self.damaged("a checksum does not fit"))
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ContainerError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match read_some(&mut self.input, &mut buffer[filled..])? {
                0 => return Err(self.damaged("it ends too early")),
                read => filled += read,
            }
        }
        self.hasher.update(&*buffer);
        self.offset += buffer.len() as u64;
        Ok(())
    }

    /// Takes memory as bytes come, not as a length promises.
    fn fill_vec(&mut self, buffer: &mut Vec<u8>, bytes: usize) -> Result<(), ContainerError> {
        let limited = Read::take(&mut self.input, bytes as u64).read_to_end(buffer);
        limited.map_err(no_stranger)?;
        if buffer.len() < bytes {
            return Err(self.damaged("it ends too early"));
        }
        self.hasher.update(&*buffer);
        self.offset += bytes as u64;
        Ok(())
    }

    fn damaged(&self, what: impl Into<String>) -> ContainerError {
        ContainerError::Damaged {
            offset: self.offset,
            what: what.into(),
        }
    }
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ContainerError> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(no_stranger),
        }
    }
}

/// Layers below, such as decryption, say that what they read is damaged by these kinds.
fn no_stranger(error: io::Error) -> ContainerError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ContainerError::Damaged {
            offset: 0,
            what: format!("it cannot be decrypted: {error}"),
        },
        _ => ContainerError::Io(error),
    }
}

/// Bytes with their length in front.
fn field(rest: &mut Bytes) -> Option<Bytes> {
    let bytes = rest.try_get_u32().ok()? as usize;
    (rest.len() >= bytes).then(|| rest.split_to(bytes))
}
