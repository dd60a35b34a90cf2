//! Bytes that nobody sends by accident: good ones with some of them changed, a few thousand times.
//! The fuzz targets do the same for as long as they are let.

use kvasir_api::deno::fuzz_messages;
use kvasir_api::deno::messages as proto;
use kvasir_api::v8json::{fuzz_json, fuzz_payload};
use prost::Message;

use super::client::{check, key, put, range};

/// A small generator of numbers, the same ones in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    /// Some bytes changed, cut out, doubled or cut off.
    fn spoil(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 0xff, 0x80, b'^', b'o', b'A', b'{'][self.below(7)],
                2 => {
                    bytes.remove(at);
                }
                3 => bytes.truncate(at),
                4 => bytes.insert(at, u8::try_from(self.below(256)).unwrap()),
                _ => {
                    let end = at + self.below(bytes.len() - at) + 1;
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    }
}

#[test]
fn spoiled_payloads_become_json_and_stay_what_they_are() {
    let seeds = [
        "ff0f6f220161410349025f5a1001000000000000002400032201623b220178303a027b02",
        "ff0f6f2201614400000000000000002201625e017b02",
        "ff1041014202010056570002002400 01",
        "ff0f7254 6d220162 63 6f7b00 73220173 2e",
        "ff0f52220361e96201",
        "ff0f27490249045e002c03",
        "ff0f4102220161 0063027e01 240002",
        "ff0f4102410130240001 5e01 240002",
    ];
    let mut numbers = Numbers(1);
    for seed in seeds {
        let hex: String = seed.split_whitespace().collect();
        let good = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        fuzz_payload(&good);
        for _ in 0..1_000 {
            fuzz_payload(&numbers.spoil(&good));
        }
    }
}

#[test]
fn spoiled_json_is_refused_or_taken() {
    let seeds = [
        r#"{"a":[1,-2.5e3,"é漢\u0041",null,true],"7":{}}"#,
        r#"{"type":"bigint","value":"-12","$kvasir":1}"#,
        r#"[{"type":"Map","value":[[1,{"type":"Date","value":null,"$kvasir":1}]],"$kvasir":1}]"#,
        r#"{"type":"json_object","value":{"a":{"type":"RegExp","value":"/a/g"}}}"#,
        r#"{"type":"Error","value":{"name":"TypeError","message":"m","cause":[]},"$kvasir":1}"#,
    ];
    let mut numbers = Numbers(2);
    for seed in seeds {
        fuzz_json(seed.as_bytes());
        for _ in 0..1_000 {
            fuzz_json(&numbers.spoil(seed.as_bytes()));
        }
    }
}

#[test]
fn spoiled_messages_are_refused_or_taken() {
    let write = proto::AtomicWrite {
        checks: vec![check(&key(&["a"]), vec![0; 10])],
        mutations: vec![put(&key(&["a", "b"]), "value")],
        enqueues: vec![proto::Enqueue {
            payload: vec![0xff, 15, b'0'].into(),
            deadline_ms: 1,
            keys_if_undelivered: vec![key(&["dead"])],
            backoff_schedule: vec![1, 2, 3],
        }],
    };
    let read = proto::SnapshotRead {
        ranges: vec![range(&key(&["a"]), &[0xff], 10)],
    };
    let mut numbers = Numbers(3);
    for good in [write.encode_to_vec(), read.encode_to_vec()] {
        fuzz_messages(&good);
        for _ in 0..3_000 {
            fuzz_messages(&numbers.spoil(&good));
        }
    }
}
