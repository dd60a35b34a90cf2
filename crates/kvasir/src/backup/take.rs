//! Takes a backup: a scan of one snapshot, written as it comes.

use std::io::{self, Write};
use std::sync::Arc;

use age::x25519;
use anyhow::{Context, ensure};
use futures_util::StreamExt;
use kvasir_kv::{Clock, Key, KeyRange, Store};
use kvasir_store::container::{Header, Summary, Writer};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::Control;
use super::name::Name;
use super::target::{Found, Sink, Target};

/// What is backed up, and how.
pub struct Take<'a> {
    /// The store.
    pub store: &'a Arc<dyn Store>,
    /// Where the file goes.
    pub target: &'a Target,
    /// Who may read it; nobody means everybody.
    pub recipients: &'a [x25519::Recipient],
    /// What is written beside it.
    pub comment: String,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Where the store's futures run.
    pub runtime: Handle,
}

/// A backup that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Name and size of the file.
    pub found: Found,
    /// What is in it.
    pub summary: Summary,
    /// SHA-256 of the file as it lies at the target, in hexadecimal.
    pub file_hash: String,
}

/// Keys of age that these texts are.
///
/// # Errors
///
/// Names the text that is none.
pub fn recipients(texts: &[String]) -> anyhow::Result<Vec<x25519::Recipient>> {
    let read = |text: &String| {
        text.trim()
            .parse::<x25519::Recipient>()
            .map_err(|error| anyhow::anyhow!("{text:?} is no public key of age: {error}"))
    };
    texts.iter().map(read).collect()
}

impl Take<'_> {
    /// Takes the backup. Not on a thread of the runtime. A failure leaves nothing at the target.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, the target cannot be written, or `control` says stop.
    pub fn run(self, control: &Control) -> anyhow::Result<Taken> {
        let everything = KeyRange::starting_with(&Key::default());
        let mut pages = self.store.scan_snapshot(everything, false);
        let mut next = || {
            let page = self.runtime.block_on(pages.next());
            page.transpose().context("cannot read the store")
        };
        let first = next()?.context("the store ended its scan before it began")?;
        let versionstamp = first.versionstamp;
        let now = self.clock.now();
        let name = Name::new(now, versionstamp, !self.recipients.is_empty());
        let header = Header {
            program: concat!("kvasir ", env!("CARGO_PKG_VERSION")).to_owned(),
            backend: self.store.capabilities().backend.to_owned(),
            created_at_ms: now.0,
            comment: self.comment,
        };
        let sink = Counted::new(self.target.create(&name, &self.runtime)?);
        let envelope = Envelope::new(sink, self.recipients)?;
        let mut writer = Writer::new(envelope, &header)?;
        let mut page = Some(first);
        while let Some(some) = page {
            ensure!(
                some.versionstamp == versionstamp,
                "the store did not keep its snapshot"
            );
            for entry in &some.entries {
                writer.push(entry)?;
            }
            let so_far = writer.so_far();
            control.tell(so_far.content.entries(), so_far.bytes)?;
            page = next()?;
        }
        let (envelope, summary) = writer.finish(versionstamp)?;
        let sink = envelope.finish().context("cannot finish the file")?;
        let (bytes, file_hash) = (sink.bytes, sink.hasher.finalize());
        sink.sink.commit()?;
        Ok(Taken {
            found: Found { name, bytes },
            summary,
            file_hash: data_encoding::HEXLOWER.encode(&file_hash),
        })
    }
}

/// What is written, counted and hashed on its way.
struct Counted {
    sink: Sink,
    bytes: u64,
    hasher: Sha256,
}

impl Counted {
    fn new(sink: Sink) -> Counted {
        Counted {
            sink,
            bytes: 0,
            hasher: Sha256::new(),
        }
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.bytes += written as u64;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// The file, in the clear or encrypted.
enum Envelope {
    Clear(Box<Counted>),
    Encrypted(Box<age::stream::StreamWriter<Counted>>),
}

impl Envelope {
    fn new(sink: Counted, recipients: &[x25519::Recipient]) -> anyhow::Result<Envelope> {
        if recipients.is_empty() {
            return Ok(Envelope::Clear(Box::new(sink)));
        }
        let recipients = recipients.iter().map(|one| one as &dyn age::Recipient);
        let encryptor =
            age::Encryptor::with_recipients(recipients).context("cannot encrypt the backup")?;
        let writer = encryptor
            .wrap_output(sink)
            .context("cannot encrypt the backup")?;
        Ok(Envelope::Encrypted(Box::new(writer)))
    }

    fn finish(self) -> io::Result<Counted> {
        match self {
            Envelope::Clear(sink) => Ok(*sink),
            Envelope::Encrypted(writer) => writer.finish(),
        }
    }
}

impl Write for Envelope {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Envelope::Clear(sink) => sink.write(bytes),
            Envelope::Encrypted(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Envelope::Clear(sink) => sink.flush(),
            Envelope::Encrypted(writer) => writer.flush(),
        }
    }
}
