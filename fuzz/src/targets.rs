//! What is fuzzed: every parser of bytes that come from outside.
//!
//! A target takes any bytes and must neither panic nor hang. Where a parser has a writer, the
//! target also checks that they agree. libFuzzer drives them through `fuzz_targets/`; the tests of
//! `kvasir-api` run each on its seeds and on mangled ones with every change.

use bytes::Bytes;
use kvasir_api::deno::wire as deno;
use kvasir_api::dump::{Line, MessageLine};
use kvasir_api::v8json::{self, Form};
use kvasir_api::{classworks, json, key_json, kopano, rest};
use kvasir_auth::edgegrid::{header, signature};
use kvasir_auth::jwt::Hs256;
use kvasir_auth::token::Token;
use kvasir_kv::keyspace::Cursor;
use kvasir_kv::{Key, KeyspaceName, Limits, UnixMillis, Value, Versionstamp, tuple};
use kvasir_store::record;
use serde_json::value::RawValue;

/// A target, its name and some inputs that it takes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Name of the fuzz target and of its corpus.
    pub name: &'static str,
    /// Must take any bytes.
    pub run: fn(&[u8]),
    /// Inputs that reach far.
    pub seeds: &'static [&'static [u8]],
}

/// All targets.
pub const ALL: &[Target] = &[
    Target { name: "key_codec", run: key_codec, seeds: &[
        b"", b"\x02users\0\x02john\0", b"\x01\0\xff\x01\0", b"\x14", b"\x15\x01", b"\x13\xfe",
        b"\x1d\x09\x01\0\0\0\0\0\0\0\0", b"\x0b\xf6\xfe\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x21\x80\0\0\0\0\0\0\0", b"\x26\x27",
    ] },
    Target { name: "record", run: record, seeds: &[
        b"\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\x04{}",
    ] },
    Target { name: "backup", run: backup, seeds: &[b"", b"\x89KVB\r\n\x1a\n\0\x01\0\0\0\x02{}"] },
    Target { name: "journal", run: journal, seeds: &[b"", b"\x01\0\0\0\x01\0\0\0\0\0\0\0\x01"] },
    Target { name: "rest_target", run: rest_target, seeds: &[
        b"users.john.settings?list=true&limit=10&reverse=true", b"a%5C.b.c?meta=true",
        b"%C3%A4?cursor=AmEA&start=a&end=b&values=false", b"?key=[1,{\"bigint\":\"2\"}]",
    ] },
    Target { name: "rest_body", run: rest_body, seeds: &[
        br#"{"value": {"token": "abc123"}, "ttl": 3600000}"#,
        br#"{"value": null}"#,
        br#"{"checks":[{"key":["a",1,true,{"bigint":"12"},{"bytes":"AA=="}],"versionstamp":null}],"mutations":[{"type":"set","key":["a"],"value":1,"ttl":5},{"type":"sum","key":["n"],"value":2}]}"#,
    ] },
    Target { name: "kv_connect", run: kv_connect, seeds: &[
        b"\x0a\x0a\x0a\x02\x02a\x12\x02\x02b\x18\x0a",
        b"\x0a\x06\x0a\x04\x02a\0\0\x12\x12\x0a\x03\x02a\0\x12\x07\x0a\x03\xff\x0fT\x10\x01\x18\x01",
        b"\x0a\x05\x0a\x03\x02a\0",
    ] },
    Target { name: "v8_reader", run: v8_reader, seeds: &[
        b"\xff\x0fI\x02", b"\xff\x0fN\0\0\0\0\0\0\xf0?", b"\xff\x0f\"\x03abc", b"\xff\x0fc\x04a\0b\0",
        b"\xff\x0fo\"\x01aI\x02{\x01", b"\xff\x0fA\x02I\x02I\x04$\0\x02", b"\xff\x0fa\x03I\0I\x02@\0\x03",
        b"\xff\x0f;\"\x01aI\x02:\x02", b"\xff\x0f'I\x02,\x01", b"\xff\x0fZ\x10\x01\0\0\0\0\0\0\0",
        b"\xff\x0fD\0\0\0\0\0\0\xf0?", b"\xff\x0fB\x02\x01\x02VB\0\x02\0", b"\xff\x0fR\"\x01a\0",
        b"\xff\x0fo\"\x04self^\0{\x01", b"\xff\x0e_", b"\xff\x0dT",
    ] },
    Target { name: "json_v8_json", run: json_v8_json, seeds: &[
        br#"{"a":[1,-2.5e3,"\u00e9\ud83d\ude00",true,null,{"b":{}}],"1":"x"}"#,
        b"[[[[[]]]]]", b"\"\\u0000\"", b"-0", b"1e308",
    ] },
    Target { name: "tagged_json", run: tagged_json, seeds: &[
        br#"{"type":"Map","value":[["a",1]]}"#, br#"{"$type":"u64","value":"1"}"#,
        br#"{"type":"Uint8Array","value":"AAEC"}"#, br#"{"type":"array","value":[{"type":"bigint","value":"9"}]}"#,
    ] },
    Target { name: "import_line", run: import_line, seeds: &[
        br#"{"key":[{"type":"string","value":"a"}],"value":{"type":"number","value":1},"versionstamp":"00060a24181e40000003"}"#,
        br#"{"key":[{"type":"raw","value":"AmEA"}],"encoding":"v8","raw":"/w9JAg==","expiresAt":5,"meta":{"contentType":"a/b"}}"#,
        br#"{"key":[{"type":"bigint","value":"1"}],"encoding":"json","value":{"type":"object","value":{"a":{"type":"null","value":null}}}}"#,
        br#"{"message":{"id":"0123456789abcdef0123456789abcdef","payload":"/w9JAg==","encoding":"v8","dueMs":5,"backoffMs":[1],"undelivered":["AmEA"],"attempts":1}}"#,
    ] },
    Target { name: "json_limits", run: json_limits, seeds: &[b"[[1]]", br#"{"a":{"b":[]}}"#, b" \"x\" "] },
    Target { name: "key_json", run: key_json, seeds: &[
        br#"["a",1,-0.5,true,{"bigint":"-12345678901234567890"},{"bytes":"AAH/"}]"#, b"[]",
    ] },
    Target { name: "edgegrid_header", run: edgegrid_header, seeds: &[
        b"EG1-HMAC-SHA256 client_token=akab-c;access_token=akab-a;timestamp=20240229T23:59:59+0000;nonce=n-1;signature=c2lnbmF0dXJl",
    ] },
    Target { name: "edgegrid_canonical", run: edgegrid_canonical, seeds: &[
        b"POST\nhost.example\n/edgekv/v1/a?b=c\nEG1-HMAC-SHA256 x;\nbody",
    ] },
    Target { name: "tokens", run: tokens, seeds: &[
        b"eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIiwiZXhwIjo5OTk5OTk5OTk5fQ.c2ln",
        b"kvs_aaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb_cccccc",
    ] },
    Target { name: "small_texts", run: small_texts, seeds: &[
        b"AmEA", b"00060a24181e404a0005", b"default", b"20240101T00:00:00+0000",
    ] },
    Target { name: "classworks_target", run: classworks_target, seeds: &[
        b"/7b1c2a58-9a4e-4c6d-8f00-0123456789ab/a%2Fb/metadata",
        b"/example-uuid?sortBy=updatedAt&sortDir=DESC&limit=1000&skip=18446744073709551615",
        b"/ns/_keys/?limit=&sitekey=%E7%8F%AD&password=YmJi", b"/%5fns/a%zz", b"/ns/%ff//",
    ] },
    Target { name: "classworks_body", run: classworks_body, seeds: &[
        br#"{"k":{"z":1,"__proto__":[1.50,12345678901234567890]},"a":"\ud83d\ude00"}"#,
        b"\xef\xbb\xbf[null]", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabVJT\xb22\xac\x05\0\x88\x9e\x1c\xf8\x07\0\0\0",
        b"\x0b\x03\x80{\"a\":1}\x03", b"x\x9c\xabVJT\xb22\xac\x05\0\x08\xa6\x02+",
    ] },
    Target { name: "classworks_credential", run: classworks_credential, seeds: &[
        b"geheim", b"JUU3JThGJUFEIGdlaGVpbQ==", b"54-tIGdlaGVpbQ", b" %E7%8F%AD geheim ",
    ] },
    Target { name: "kopano_target", run: kopano_target, seeds: &[
        b"recents/a%2Fb%20c?raw=1&recurse=1", b"c/..%2Fx?batch=1", b"c//x", b"%ff?raw=true&raw=1",
    ] },
    Target { name: "kopano_batch", run: kopano_batch, seeds: &[
        br#"[{"key":"a/b","value":{"n":1.0},"content_type":"application/json"},{"key":"c","value":"aGVsbG8=","content_type":"text/plain"}]"#,
        br#"[{"key":"d","value":"aGk\/"},{"key":"e","value":null,"content_type":"application/json"}]"#, b"null", b"[]",
    ] },
    Target { name: "oidc_token", run: oidc_token, seeds: &[
        b"eyJhbGciOiJQUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJleHAiOjk5OTksImtjLmlzQWNjZXNzVG9rZW4iOnRydWUsImtjLmF1dGhvcml6ZWRTY29wZXMiOlsia29wYW5vL2t2cyJdLCJrYy5pZGVudGl0eSI6eyJrYy5pLmlkIjoiYSJ9LCJhdWQiOiJiIn0.c2ln",
        b"eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJleHAiOjk5OTksInNjb3BlIjoia29wYW5vL2t2cyIsImF1ZCI6WyJrdmFzaXIiXSwic3ViIjoiYSIsImF6cCI6ImIifQ.c2ln",
    ] },
];

/// Bytes that read as a key write back as that key.
pub fn key_codec(bytes: &[u8]) {
    if let Ok(parts) = tuple::decode(bytes) {
        let written = tuple::encode(&parts).expect("what was read can be written");
        assert_eq!(tuple::decode(&written), Ok(parts));
    }
    // Shown in logs and in the console.
    let _ = format!("{:?}", Key::new(bytes.to_vec()));
}

/// A record that passes its checksum is an entry that writes back. The input stands for the record
/// alone and for key and record.
pub fn record(bytes: &[u8]) {
    let (key, rest) = bytes.split_at(bytes.len().min(4));
    for (key, bytes) in [(&b"key"[..], bytes), (key, rest)] {
        let key = Key::new(key.to_vec());
        if let Ok(entry) = record::decode(&key, bytes) {
            assert_eq!(
                record::decode(&key, &record::encode(&entry)).ok(),
                Some(entry)
            );
        }
    }
    // Without knowing the checksum no input gets past it, so entries made of the input go around.
    let entry = kvasir_kv::Entry {
        key: Key::new(bytes.to_vec()),
        value: Value::bytes(bytes.to_vec()),
        versionstamp: Versionstamp::new(bytes.len() as u64, 7),
        expires_at: bytes.first().map(|byte| UnixMillis(i64::from(*byte))),
        meta: std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.len() < 100)
            .map(|text| {
                kvasir_kv::Meta {
                    content_type: Some(text.to_owned()),
                    ..Default::default()
                }
                .into()
            }),
    };
    let mut written = record::encode(&entry);
    assert_eq!(
        record::decode(&entry.key, &written).ok(),
        Some(entry.clone())
    );
    // One wrong bit is never another entry.
    let mixed = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add(usize::from(*byte));
    let place = bytes.iter().fold(bytes.len(), mixed) % written.len();
    written[place] ^= 1 << (bytes.len() % 8);
    assert!(record::decode(&entry.key, &written).is_err());
}

/// Bytes as a journal of the embedded engine.
pub fn journal(bytes: &[u8]) {
    kvasir_store::embedded::fuzz_journal(bytes);
}

/// Bytes as a backup, and as the entries of one that is damaged.
pub fn backup(bytes: &[u8]) {
    use kvasir_store::container::{Header, Reader, Writer, fuzz};
    fuzz(bytes);
    // No input gets past the checksums, so a whole file is made and a part of it replaced.
    let mut writer = Writer::new(Vec::new(), &Header::default()).expect("memory");
    for n in 0..3u8 {
        let entry = kvasir_kv::Entry {
            key: Key::new(vec![n]),
            value: Value::bytes(bytes.to_vec()),
            versionstamp: Versionstamp::new(1, u16::from(n)),
            expires_at: None,
            meta: None,
        };
        writer.push(&entry).expect("keys rise");
    }
    let (mut whole, summary) = writer.finish(Versionstamp::new(2, 0)).expect("memory");
    let read = |whole: &[u8]| {
        let mut reader = Reader::new(whole).ok()?;
        while reader.next_chunk().ok()?.is_some() {}
        reader.finish().ok()
    };
    assert_eq!(read(&whole), Some(summary));
    let mixed = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add(usize::from(*byte));
    let place = bytes.iter().fold(bytes.len(), mixed) % whole.len();
    whole[place] ^= 1 << (bytes.len() % 8);
    assert_eq!(read(&whole), None);
}

/// Path and query of a REST request, split at the first question mark.
pub fn rest_target(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        rest::fuzz_target(path, query);
    }
}

/// Body of a REST request.
pub fn rest_body(bytes: &[u8]) {
    rest::fuzz_body(bytes);
}

/// The three requests of KV Connect.
pub fn kv_connect(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let _ = deno::snapshot_read(body.clone());
    for v8_compat in [false, true] {
        if let Ok(write) = deno::atomic_write(body.clone(), v8_compat, UnixMillis(0)) {
            let _ = format!("{write:?}");
        }
    }
    let _ = deno::watch(body);
}

/// A V8 value becomes JSON in both forms, whatever its bytes.
pub fn v8_reader(bytes: &[u8]) {
    let value = Value::v8(bytes.to_vec());
    for form in [Form::Mixed, Form::Typed] {
        let rendered = v8json::render_as(&value, form);
        let read = serde_json::from_slice::<&RawValue>(&rendered.text);
        assert!(read.is_ok(), "not JSON: {:?}", rendered.text);
    }
    let _ = v8json::for_deno(&value);
}

/// JSON turned into V8 and back is JSON that says the same when it goes round again.
pub fn json_v8_json(bytes: &[u8]) {
    let Ok(payload) = v8json::to_v8(bytes) else {
        return;
    };
    let once = v8json::render(&Value::v8(payload));
    if !once.tagged {
        let again = v8json::to_v8(&once.text).expect("what was rendered is JSON");
        assert_eq!(v8json::render(&Value::v8(again)), once);
    }
}

/// Tagged forms.
pub fn tagged_json(bytes: &[u8]) {
    let text = Bytes::copy_from_slice(bytes);
    let is_json = serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    if let Ok(value) = v8json::parse(&text) {
        let rendered = v8json::render(&value).text;
        assert!(!is_json || serde_json::from_slice::<&RawValue>(&rendered).is_ok());
    }
    let _ = v8json::parse_typed(bytes);
}

/// A line of an export that reads as an entry or a message writes back as the same.
pub fn import_line(bytes: &[u8]) {
    if let Ok(line) = serde_json::from_slice::<Line>(bytes)
        && let Ok(entry) = line.into_entry()
    {
        let written = serde_json::to_vec(&Line::of(&entry)).expect("lines are JSON");
        let again: Line = serde_json::from_slice(&written).expect("what was written is a line");
        assert_eq!(again.into_entry(), Ok(entry), "{written:?}");
    }
    let line: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let message = line.and_then(|line| line.get("message").cloned());
    if let Some(Ok(line)) = message.map(serde_json::from_value::<MessageLine>) {
        let _ = line.into_message();
    }
}

/// Depth and form of JSON bodies.
pub fn json_limits(bytes: &[u8]) {
    let is_shallow = json::check_depth(bytes).is_ok();
    if let Ok(raw) = json::check(bytes) {
        assert!(is_shallow, "too deep and yet taken");
        let mut line = raw.get().as_bytes().to_vec();
        json::put_on_one_line(&mut line);
        assert!(!line.contains(&b'\n'));
    }
}

/// A key written as JSON reads back as the same key.
pub fn key_json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(key) = key_json::parse(text) {
        let mut written = Vec::new();
        key_json::write(&key.parts().expect("made of parts"), &mut written);
        let written = String::from_utf8(written).expect("JSON is text");
        assert_eq!(key_json::parse(&written), Ok(key), "{written}");
    }
}

/// The `Authorization` header of EdgeGrid.
pub fn edgegrid_header(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(read) = header::Authorization::parse(text) {
        assert!(text.starts_with(read.signed));
        let _ = header::timestamp(read.timestamp);
    }
    let _ = header::timestamp(text);
}

/// What EdgeGrid signs of a request, given in lines: method, host, target, header, body.
pub fn edgegrid_canonical(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(5, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, host, target, signed, body) = (line(), line(), line(), line(), line());
    let hash = signature::content_hash(method, body.as_bytes());
    let scheme = signature::Scheme::Https;
    let data = signature::data_to_sign(method, scheme, host, target, &hash, signed);
    assert_eq!(
        data.split('\t').count(),
        7 + [method, host, target, signed]
            .iter()
            .map(|part| part.matches('\t').count())
            .sum::<usize>()
    );
    let _ = signature::sign(&signature::signing_key(host, target), &data);
}

/// Bearer texts: JSON web tokens and our own.
pub fn tokens(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let key = Hs256::new(b"secret");
        let forged: Option<serde_json::Value> = key.verify(text, UnixMillis(0));
        assert_eq!(forged, None, "nobody guesses a signature");
        let _ = Token::parse(text);
    }
}

/// Cursors, versionstamps, names of keyspaces.
pub fn small_texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
    if let Ok(stamp) = text.parse::<Versionstamp>() {
        assert_eq!(stamp.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(name) = text.parse::<KeyspaceName>() {
        assert_eq!(name.as_str(), text);
        assert_ne!(name, KeyspaceName::system());
    }
    let write = kvasir_kv::AtomicWrite::new().check_absent(Key::new(bytes.to_vec()));
    let _ = write.validate(&Limits::default());
}

/// Path and query of a Classworks request, split at the first question mark.
pub fn classworks_target(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        classworks::fuzz_target(path, query);
    }
}

/// A body of the Classworks dialect.
pub fn classworks_body(bytes: &[u8]) {
    classworks::fuzz_body(bytes);
}

/// Site keys and passwords, plain or in Base64.
pub fn classworks_credential(bytes: &[u8]) {
    classworks::fuzz_credential(bytes);
}

/// Key and query of a Kopano request, split at the first question mark.
pub fn kopano_target(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        kopano::fuzz_target(path, query);
    }
}

/// A batch of the Kopano dialect.
pub fn kopano_batch(bytes: &[u8]) {
    kopano::fuzz_batch(bytes);
}

/// An access token of an OpenID provider.
pub fn oidc_token(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        kvasir_auth::oidc::fuzz_token(text);
    }
}
