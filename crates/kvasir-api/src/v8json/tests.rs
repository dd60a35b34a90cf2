//! Payloads here were written by V8 itself (Deno 2.9, Node 20) unless a test says otherwise.

use super::*;

fn payload(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn shown(hex: &str) -> String {
    let rendered = render(&Value::v8(payload(hex)));
    String::from_utf8(rendered.text.to_vec()).unwrap()
}

fn parsed(text: &str) -> Value {
    parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

#[test]
fn json_becomes_the_payload_that_v8_itself_writes() {
    for (json, hex) in [
        ("null", "ff0f30"),
        ("true", "ff0f54"),
        ("-1", "ff0f4901"),
        ("2147483647", "ff0f49feffffff0f"),
        ("2147483648", "ff0f4e000000000000e041"),
        ("0.5", "ff0f4e000000000000e03f"),
        ("-0.0", "ff0f4e0000000000000080"),
        (r#""hé""#, "ff0f220268e9"),
        (r#""ž""#, "ff0f63027e01"),
        (r#"[1,"ž"]"#, "ff0f41024902 63027e01 240002"),
        (r#"["a","ž"]"#, "ff0f4102220161 0063027e01 240002"),
        (
            r#"{"a":1,"7":[]}"#,
            "ff0f6f 220161 4902 490e 4100240000 7b02",
        ),
    ] {
        assert_eq!(to_v8(json.as_bytes()).unwrap(), payload(hex), "{json}");
    }
}

#[test]
fn a_member_named_twice_keeps_its_place_and_takes_the_later_value() {
    assert_eq!(
        to_v8(br#"{"a":1,"b":2,"a":3}"#).unwrap(),
        to_v8(br#"{"a":3,"b":2}"#).unwrap()
    );
    let many: Vec<String> = (0..40).map(|n| format!("\"k{}\":{n}", n % 20)).collect();
    let once: Vec<String> = (20..40).map(|n| format!("\"k{}\":{n}", n % 20)).collect();
    assert_eq!(
        to_v8(format!("{{{}}}", many.join(",")).as_bytes()).unwrap(),
        to_v8(format!("{{{}}}", once.join(",")).as_bytes()).unwrap()
    );
}

#[test]
fn what_json_can_say_reads_back_as_that_json() {
    for json in [
        "null",
        "[true,false,null]",
        "-2147483648",
        "9007199254740992",
        "0.1",
        "1e300",
        "5e-324",
        r#""a\"\\\u0001é漢😀""#,
        r#"{"b":[{},[]],"a":{"x":"ž"},"4294967294":0}"#,
    ] {
        let rendered = render(&Value::v8(to_v8(json.as_bytes()).unwrap()));
        assert!(!rendered.tagged, "{json}");
        assert_eq!(rendered.text, json);
    }
}

#[test]
fn what_json_cannot_say_is_tagged_and_comes_back() {
    for (hex, json) in [
        ("ff0f5f", r#"{"type":"undefined","$kvasir":1}"#),
        ("ff0f5a00", r#"{"type":"bigint","value":"0","$kvasir":1}"#),
        (
            "ff0f5a110500000000000000",
            r#"{"type":"bigint","value":"-5","$kvasir":1}"#,
        ),
        (
            "ff0f4e000000000000f87f",
            r#"{"type":"number","value":"NaN","$kvasir":1}"#,
        ),
        (
            "ff0f4e0000000000000080",
            r#"{"type":"number","value":"-0","$kvasir":1}"#,
        ),
        (
            "ff0f44 0000401f25cc7842",
            r#"{"type":"Date","value":"2024-01-01T00:00:00.000Z","$kvasir":1}"#,
        ),
        (
            "ff0f44 000000000000f87f",
            r#"{"type":"Date","value":null,"$kvasir":1}"#,
        ),
        (
            "ff0f3b 220161 4902 3a02",
            r#"{"type":"Map","value":[["a",1]],"$kvasir":1}"#,
        ),
        (
            "ff0f27 4902 4904 2c02",
            r#"{"type":"Set","value":[1,2],"$kvasir":1}"#,
        ),
        (
            "ff0f52 220361e962 01",
            r#"{"type":"RegExp","value":{"source":"aéb","flags":"g"},"$kvasir":1}"#,
        ),
        (
            "ff0f72 54 6d220162 73220173 2e",
            r#"{"type":"Error","value":{"name":"TypeError","message":"b","stack":"s"},"$kvasir":1}"#,
        ),
        (
            "ff0f42 03010203",
            r#"{"type":"ArrayBuffer","value":"AQID","$kvasir":1}"#,
        ),
        (
            "ff0f41 01 4202 0100 5657 00 02 00 24 00 01",
            r#"[{"type":"Uint16Array","value":"AQA=","$kvasir":1}]"#,
        ),
        (
            "ff0f6f 220161 5a1001000000000000 00 7b01",
            r#"{"a":{"type":"bigint","value":"1","$kvasir":1}}"#,
        ),
    ] {
        assert_eq!(shown(hex), json);
        assert_eq!(parsed(json), Value::v8(payload(hex)), "{json}");
    }
}

#[test]
fn stored_numbers_and_bytes_come_back_in_their_own_encoding() {
    for value in [
        Value::u64(u64::MAX),
        Value::bytes(vec![]),
        Value::bytes(vec![0, 255]),
    ] {
        let rendered = render(&value);
        assert!(rendered.tagged);
        assert_eq!(parse(&rendered.text), Ok(value.clone()));
        assert_eq!(parse_typed(&render_as(&value, Form::Typed).text), Ok(value));
    }
}

#[test]
fn json_without_the_marker_is_never_interpreted() {
    for text in [
        r#"{"type":"bigint","value":"5"}"#,
        r#" {"type" : "Date", "value": null} "#,
        r#"{"a":"$kvasir"}"#,
        r#"{"a":"\"$kvasir\""}"#,
    ] {
        assert_eq!(parsed(text), Value::json(text.to_owned()), "{text}");
    }
}

#[test]
fn an_object_with_the_marker_that_is_no_tagged_form_is_refused() {
    for text in [
        r#"{"$kvasir":1}"#,
        r#"{"type":"bigint","value":"5","$kvasir":2}"#,
        r#"{"type":"bigint","value":"5","$kvasir":1,"more":0}"#,
        r#"{"type":"bigint","value":"+5","$kvasir":1}"#,
        r#"{"type":"bigint","value":"","$kvasir":1}"#,
        r#"{"type":"bigint","value":5,"$kvasir":1}"#,
        r#"{"type":"string","value":"5","$kvasir":1}"#,
        r#"{"type":"u64","value":"18446744073709551616","$kvasir":1}"#,
        r#"[{"type":"u64","value":"1","$kvasir":1}]"#,
        r#"{"type":"v8","value":"AAAA","$kvasir":1}"#,
        r#"{"type":"Uint16Array","value":"AQ==","$kvasir":1}"#,
        r#"{"type":"Date","value":"yesterday","$kvasir":1}"#,
        r#"{"type":"Map","value":[[1]],"$kvasir":1}"#,
        r#"{"type":"RegExp","value":{"source":"a","flags":"gg"},"$kvasir":1}"#,
        r#"{"type":"Error","value":{"name":"MyError"},"$kvasir":1}"#,
    ] {
        let text = Bytes::copy_from_slice(text.as_bytes());
        assert!(parse(&text).is_err(), "{text:?}");
    }
}

#[test]
fn undefined_members_are_left_out_and_undefined_elements_are_not() {
    assert_eq!(shown("ff0f6f 220161 5f 220162 4902 7b02"), r#"{"b":1}"#);
    assert_eq!(
        shown("ff0f4101 5f 240001"),
        r#"[{"type":"undefined","$kvasir":1}]"#
    );
}

#[test]
fn an_object_referred_to_twice_is_shown_twice() {
    // const d = new Date(0); ({a: d, b: d})
    let hex = "ff0f6f 220161 44 0000000000000000 220162 5e01 7b02";
    let date = r#"{"type":"Date","value":"1970-01-01T00:00:00.000Z","$kvasir":1}"#;
    assert_eq!(shown(hex), format!(r#"{{"a":{date},"b":{date}}}"#));
}

#[test]
fn an_array_that_a_program_read_and_stored_again_is_an_array() {
    // Recorded from Deno 2.9.6: {...(await kv.get(key)).value, status: "shipped"} of a value with
    // {items: [{productId: "x", quantity: 2}]}. V8 writes an array that it has read as a sparse one.
    let hex = "ff0f6f 22056974656d73 6101 4900 6f 220970726f647563744964 220178 22087175616e74697479 \
               4904 7b02 400101 2206737461747573 220773686970706564 7b02";
    let json = r#"{"items":[{"productId":"x","quantity":2}],"status":"shipped"}"#;
    assert_eq!(shown(hex), json);
    assert_eq!(shown("ff0f6100 400000"), "[]");
    // An object that stands in it twice.
    let twice = "ff0f6102 4900 6f7b00 4902 5e01 400202";
    assert_eq!(shown(twice), "[{},{}]");
}

#[test]
fn whatever_json_cannot_give_back_is_shown_whole_and_comes_back_unchanged() {
    for hex in [
        // A cycle: const a = []; a.push(a)
        "ff0f4101 5e00 240001",
        // A hole, a sparse array, an array with a property of its own.
        "ff0f4101 2d 240001",
        "ff0f6105 4902 4904 400105",
        "ff0f6102 4900 30 4904 30 400202",
        "ff0f61ffffffff0f 400000",
        "ff0f6101 4900 30 400102",
        "ff0f6101 4900 30 220161 30 400201",
        "ff0f4100 220161 4902 240100",
        // A host object, a boxed boolean, half a surrogate pair.
        "ff0f5c 00",
        "ff0f79",
        "ff0f63023dd8",
        // A view on a part of its buffer, a buffer that its view shares with the object.
        "ff0f4204 01020304 5642 01 02 00",
        "ff0f4102 4201 01 5642 00 01 00 5e01 240002",
        // A plain Uint8Array, which as such would come back as stored bytes.
        "ff0f4203 010203 5642 00 03 00",
        // A member called like the marker.
        "ff0f6f 2207246b766173 6972 4902 7b01",
        // Damage: cut short, bytes behind the value, an unknown tag, lying lengths and counts.
        "ff0f",
        "ff0f22",
        "ff0f3030",
        "ff0f99",
        "ff0f22ffffffffffffffffff01",
        "ff0f41ffffffff0f",
        "ff0f6f 220161 4902 7b05",
        // Formats of the past and the future.
        "ff0c30",
        "ff1130",
        "",
    ] {
        let bytes = payload(hex);
        let json = shown(hex);
        let text = data_encoding::BASE64.encode(&bytes);
        assert_eq!(
            json,
            format!(r#"{{"type":"v8","value":"{text}","$kvasir":1}}"#)
        );
        if matches!(bytes.as_slice(), [0xff, 13..=16, ..]) {
            assert_eq!(parsed(&json), Value::v8(bytes));
        }
    }
}

#[test]
fn deep_nesting_is_shown_whole() {
    let nested = |levels: usize| {
        let mut bytes = vec![0xff, 15];
        bytes.extend([0x41, 1].repeat(levels));
        bytes.push(b'0');
        bytes.extend([0x24, 0, 1].repeat(levels));
        Value::v8(bytes)
    };
    assert!(!render(&nested(JSON_DEPTH_MAX - 4)).tagged);
    assert!(render(&nested(JSON_DEPTH_MAX)).tagged);
    assert!(render(&nested(1_000_000)).tagged);
}

#[test]
fn references_cannot_blow_up_the_answer() {
    // Thirty lists, each holding the one before twice: 2^30 values if shown in full.
    let mut bytes = vec![0xff, 15, 0x41, 30];
    bytes.extend([0x41, 1, b'0', 0x24, 0, 1]);
    for before in 1..30u8 {
        bytes.extend([0x41, 2, b'^', before, b'^', before, 0x24, 0, 2]);
    }
    bytes.extend([0x24, 0, 30]);
    let rendered = render(&Value::v8(bytes.clone()));
    assert!(rendered.text.len() < 1024, "{}", rendered.text.len());
    assert_eq!(parse(&rendered.text), Ok(Value::v8(bytes)));
}

#[test]
fn tags_cannot_blow_up_the_answer() {
    let len = 100_000;
    let mut bytes = vec![0xff, 15, 0x41, 0xa0, 0x8d, 0x06];
    bytes.extend(b"_".repeat(len));
    bytes.extend([0x24, 0, 0xa0, 0x8d, 0x06]);
    assert!(render(&Value::v8(bytes.clone())).text.len() < 2 * bytes.len());
}

#[test]
fn json_without_a_v8_form_reaches_deno_as_bytes_of_its_text() {
    for text in ["1e999", r#""\ud800""#, &"[".repeat(200)] {
        let value = Value::json(text.to_owned());
        assert_eq!(for_deno(&value), Value::bytes(text.to_owned()));
    }
    assert_eq!(for_deno(&Value::json("1")), Value::v8(payload("ff0f4902")));
    assert_eq!(for_deno(&Value::u64(1)), Value::u64(1));
}

#[test]
fn typed_json_is_what_kv_utils_writes_and_reads() {
    let value = Value::v8(payload(
        "ff0f6f 220161 4103 4902 5f 5a1001000000000000 00 240003 220162 3b 220178 30 3a02 7b02",
    ));
    let typed = render_as(&value, Form::Typed);
    assert_eq!(
        typed.text,
        r#"{"type":"json_object","value":{"a":{"type":"json_array","value":[{"type":"number","value":1},{"type":"undefined"},{"type":"bigint","value":"1"}]},"b":{"type":"json_map","value":[[{"type":"string","value":"x"},{"type":"null","value":null}]]}}}"#
    );
    assert_eq!(parse_typed(&typed.text), Ok(value));

    // The older form keeps plain JSON inside.
    assert_eq!(
        parse_typed(br#"{"type":"object","value":{"a":[1]}}"#),
        Ok(Value::v8(to_v8(br#"{"a":[1]}"#).unwrap()))
    );
    assert_eq!(
        parse_typed(br#"{"type":"RegExp","value":"/a\\/b/gi"}"#),
        Ok(Value::v8(payload("ff0f52 2204615c2f62 03")))
    );
    assert!(parse_typed(b"1").is_err());
}
