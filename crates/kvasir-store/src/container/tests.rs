//! Containers that come back whole, and damaged ones that are found out.

use kvasir_kv::{Entry, Key, Meta, UnixMillis, Value, Versionstamp};

use super::*;

fn entries(count: u64) -> Vec<Entry> {
    let entry = |n: u64| Entry {
        key: Key::from_strings([format!("{n:06}")]),
        value: match n % 3 {
            0 => Value::u64(n),
            1 => Value::bytes(vec![n as u8; (n % 5000) as usize]),
            _ => Value::json(format!("[{n}]")),
        },
        versionstamp: Versionstamp::new(1_000 + n, 1),
        expires_at: n.is_multiple_of(7).then_some(UnixMillis(4_000_000_000_000)),
        meta: n.is_multiple_of(5).then(|| {
            std::sync::Arc::new(Meta {
                content_type: Some("text/plain".into()),
                ..Meta::default()
            })
        }),
    };
    (0..count).map(entry).collect()
}

fn written(entries: &[Entry]) -> (Vec<u8>, Summary) {
    let header = Header {
        comment: "before the move".into(),
        ..Header::default()
    };
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    for entry in entries {
        writer.push(entry).unwrap();
    }
    writer.finish(Versionstamp::new(9_999, 0)).unwrap()
}

fn read(bytes: &[u8]) -> Result<(Vec<Entry>, Summary), ContainerError> {
    let mut reader = Reader::new(bytes)?;
    let mut entries = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        entries.extend(chunk);
    }
    Ok((entries, reader.finish()?))
}

#[test]
fn what_was_written_is_read_chunk_by_chunk() {
    for count in [0, 1, 3_000] {
        let entries = entries(count);
        let (bytes, summary) = written(&entries);
        assert_eq!(summary.content.entries(), count);
        assert_eq!(read(&bytes).unwrap(), (entries, summary));
        assert_eq!(
            Reader::new(&*bytes).unwrap().header().comment,
            "before the move"
        );
    }
    let (bytes, summary) = written(&entries(3_000));
    let mut reader = Reader::new(&*bytes).unwrap();
    let first = reader.next_chunk().unwrap().unwrap();
    assert!(
        (first.len() as u64) < summary.content.entries(),
        "several chunks"
    );
    assert!(bytes.len() < summary.bytes as usize / 2, "compressed");
    assert!(reader.finish().is_err(), "not read to its end");
}

#[test]
fn the_largest_entry_fits() {
    let mut entry = entries(1).remove(0);
    let mut noise = 1u32;
    let bytes = (0..kvasir_kv::limits::VALUE_BYTES_CEILING).map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    });
    entry.value = Value::bytes(bytes.collect::<Vec<_>>());
    let (bytes, summary) = written(std::slice::from_ref(&entry));
    assert_eq!(read(&bytes).unwrap(), (vec![entry], summary));
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (bytes, _) = written(&entries(40));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_file_that_was_cut_off_or_goes_on_is_no_backup() {
    let (bytes, _) = written(&entries(40));
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "{len} bytes");
    }
    assert!(read(&[&bytes[..], b"x"].concat()).is_err());
    assert!(read(&[&bytes[..], &bytes[..]].concat()).is_err());
}

#[test]
fn chunks_that_are_left_out_or_moved_are_found() {
    let (bytes, _) = written(&entries(6_000));
    // Frames, by their heads.
    let header = u32::from_be_bytes(bytes[10..14].try_into().unwrap()) as usize;
    let mut at = 14 + header + CHECKSUM_BYTES;
    let mut frames = Vec::new();
    while at < bytes.len() {
        let stored = u32::from_be_bytes(bytes[at + 13..at + 17].try_into().unwrap()) as usize;
        let end = at + FRAME_HEAD_BYTES + stored + CHECKSUM_BYTES;
        frames.push(&bytes[at..end]);
        at = end;
    }
    assert!(frames.len() >= 4, "{} frames", frames.len());
    let head = &bytes[..14 + header + CHECKSUM_BYTES];
    let of = |order: &[usize]| {
        let frames = order.iter().map(|frame| frames[*frame]);
        [head]
            .into_iter()
            .chain(frames)
            .collect::<Vec<_>>()
            .concat()
    };
    let last = frames.len() - 1;
    let all: Vec<usize> = (0..=last).collect();
    assert!(read(&of(&all)).is_ok());
    assert!(read(&of(&all[1..])).is_err(), "the first is missing");
    assert!(read(&of(&[0, last])).is_err(), "only the first");
    let mut swapped = all.clone();
    swapped.swap(0, 1);
    assert!(read(&of(&swapped)).is_err());
    assert!(read(&of(&all[..last])).is_err(), "no trailer");
}

#[test]
fn other_files_and_newer_formats_are_told_apart_from_damage() {
    assert!(matches!(
        read(b"PK\x03\x04"),
        Err(ContainerError::NotABackup)
    ));
    assert!(matches!(read(b""), Err(ContainerError::NotABackup)));
    let (mut bytes, _) = written(&[]);
    bytes[9] = 2;
    let header = u32::from_be_bytes(bytes[10..14].try_into().unwrap()) as usize;
    let end = 14 + header;
    let checksum = short(Sha256::new_with_prefix(&bytes[..end]));
    bytes[end..end + CHECKSUM_BYTES].copy_from_slice(&checksum);
    assert!(matches!(read(&bytes), Err(ContainerError::NewerFormat(2))));
}

#[test]
fn lengths_that_lie_take_no_memory() {
    let (bytes, _) = written(&[]);
    for at in [10, bytes.len() - TRAILER_BYTES - CHECKSUM_BYTES - 8] {
        let mut lying = bytes.clone();
        lying[at..at + 4].copy_from_slice(&[0xff; 4]);
        assert!(read(&lying).is_err());
    }
}

#[test]
fn keys_have_to_rise() {
    let entries = entries(2);
    let mut writer = Writer::new(Vec::new(), &Header::default()).unwrap();
    writer.push(&entries[1]).unwrap();
    assert!(matches!(
        writer.push(&entries[1]),
        Err(ContainerError::Order)
    ));
    assert!(matches!(
        writer.push(&entries[0]),
        Err(ContainerError::Order)
    ));
}
