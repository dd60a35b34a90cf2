//! The changed keys of a batch, as column `ks` of `kv_log` holds them.
//!
//! Per key two bytes and the key itself: the lower 15 bits of the (big-endian) number are the length,
//! the highest says whether an entry is there afterwards. The two bytes `ff ff` alone stand for a
//! list that was too long; readers then count every key as changed.

use kvasir_kv::Key;

/// Bytes of a list above which only the mark is stored. Keeps log rows small beside their batch.
const LIST_BYTES_MAX: usize = 1024 * 1024;

const PRESENT: u16 = 0x8000;
const TOO_LONG: [u8; 2] = [0xff, 0xff];

/// What a log row says about keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// These, each with whether an entry is there afterwards.
    Keys(Vec<(Key, bool)>),
    /// More than the log keeps.
    Anything,
}

pub(super) fn encode<'a>(changes: impl Iterator<Item = (&'a Key, bool)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, present) in changes {
        let length = u16::try_from(key.len())
            .ok()
            .filter(|length| *length < PRESENT - 1);
        let Some(length) = length.filter(|_| out.len() + key.len() + 2 <= LIST_BYTES_MAX) else {
            return TOO_LONG.to_vec();
        };
        let head = if present { length | PRESENT } else { length };
        out.extend_from_slice(&head.to_be_bytes());
        out.extend_from_slice(key.as_bytes());
    }
    out
}

/// Reads a list. Damage counts as "anything": watchers then look for themselves.
pub(super) fn decode(list: &[u8]) -> Changed {
    if list == TOO_LONG {
        return Changed::Anything;
    }
    let mut keys = Vec::new();
    let mut rest = list;
    while let [first, second, tail @ ..] = rest {
        let head = u16::from_be_bytes([*first, *second]);
        let length = usize::from(head & !PRESENT);
        let Some((key, tail)) = tail.split_at_checked(length) else {
            return Changed::Anything;
        };
        keys.push((Key::new(key.to_vec()), head & PRESENT != 0));
        rest = tail;
    }
    if rest.is_empty() {
        Changed::Keys(keys)
    } else {
        Changed::Anything
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(keys: &[(Key, bool)]) -> Vec<u8> {
        encode(keys.iter().map(|(key, present)| (key, *present)))
    }

    #[test]
    fn keys_and_their_presence_come_back() {
        let keys = [
            (Key::new(vec![]), true),
            (Key::new(vec![0; 2600]), false),
            (Key::from_strings(["a"]), true),
        ];
        assert_eq!(decode(&list(&keys)), Changed::Keys(keys.to_vec()));
        assert_eq!(decode(&[]), Changed::Keys(Vec::new()));
    }

    #[test]
    fn a_list_at_its_bound_is_kept_and_a_longer_one_becomes_a_mark() {
        let key = |bytes| (Key::new(vec![7; bytes]), true);
        let mut keys = vec![key(1022); 1024];
        assert_eq!(list(&keys).len(), LIST_BYTES_MAX);
        assert_eq!(decode(&list(&keys)), Changed::Keys(keys.clone()));
        keys.push(key(0));
        assert_eq!(decode(&list(&keys)), Changed::Anything);
    }

    #[test]
    fn damage_counts_as_any_change() {
        assert_eq!(decode(&[0x80]), Changed::Anything);
        assert_eq!(decode(&[0x80, 5, 1]), Changed::Anything);
    }
}
