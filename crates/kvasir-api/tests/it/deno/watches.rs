//! Watches: checklist 51 to 55.

use bytes::{Buf, Bytes, BytesMut};
use kvasir_api::deno::messages::{self as proto, WatchOutput};
use kvasir_testkit::{DEADLINE, within};
use prost::Message;

use super::client::{Client, LE64, delete, key, mutation, put, set};
use crate::support::{START, Streamed};

/// Reads frames from a watch.
struct Watching {
    answer: Streamed,
    buffer: BytesMut,
}

impl Watching {
    async fn of(client: &Client, keys: &[Bytes]) -> Watching {
        let answer = client.open_raw("watch", request(keys)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/octet-stream");
        Watching {
            answer,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame; `None` for a ping.
    async fn frame(&mut self) -> Option<WatchOutput> {
        while self.buffer.len() < 4 {
            self.more().await;
        }
        let len = self.buffer.get_u32_le() as usize;
        while self.buffer.len() < len {
            self.more().await;
        }
        let frame = self.buffer.split_to(len).freeze();
        (len > 0).then(|| WatchOutput::decode(frame).unwrap())
    }

    async fn more(&mut self) {
        let bytes = self.answer.next().await.expect("the watch goes on");
        self.buffer.extend_from_slice(&bytes);
    }

    /// The next data frame as text: `=` for an unchanged key, `-` for an absent one.
    async fn seen(&mut self) -> Vec<String> {
        let frame = loop {
            if let Some(frame) = self.frame().await {
                break frame;
            }
        };
        assert_eq!(frame.status, proto::SR_SUCCESS);
        let shown = frame.keys.into_iter().map(|key| match key {
            proto::WatchKeyOutput {
                changed: false,
                entry_if_changed: None,
            } => "=".to_owned(),
            proto::WatchKeyOutput {
                changed: true,
                entry_if_changed: None,
            } => "-".to_owned(),
            proto::WatchKeyOutput {
                changed: true,
                entry_if_changed: Some(entry),
            } => String::from_utf8(entry.value.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        });
        shown.collect()
    }
}

fn request(keys: &[Bytes]) -> Vec<u8> {
    let keys = keys.iter().map(|key| proto::WatchKey { key: key.clone() });
    proto::Watch {
        keys: keys.collect(),
    }
    .encode_to_vec()
}

#[tokio::test]
async fn the_first_frame_holds_every_key_and_later_ones_what_changed() {
    let client = Client::new().await;
    let (a, b) = (key(&["a"]), key(&["b"]));
    client.apply(vec![put(&a, "1")]).await;
    let mut watch = Watching::of(&client, &[a.clone(), b.clone()]).await;

    assert_eq!(watch.seen().await, ["1", "-"]);
    client.apply(vec![put(&b, "2")]).await;
    assert_eq!(watch.seen().await, ["=", "2"]);
    client.apply(vec![put(&b, "2")]).await;
    assert_eq!(
        watch.seen().await,
        ["=", "2"],
        "an overwrite by the same value"
    );
    client.apply(vec![delete(&a), put(&b, "3")]).await;
    assert_eq!(
        watch.seen().await,
        ["-", "3"],
        "both keys of a commit at once"
    );
    client.apply(vec![put(&key(&["c"]), "x")]).await;
    client
        .apply(vec![mutation(proto::M_SUM, &a, LE64, b"12345678".to_vec())])
        .await;
    assert_eq!(watch.seen().await, ["12345678", "="]);
}

/// Deno 2.9.6 shows a key as absent that is marked as unchanged.
#[tokio::test]
async fn deno_itself_gets_every_entry_in_every_frame() {
    let client = Client {
        agent: "Deno/2.9.6",
        ..Client::new().await
    };
    let (a, b) = (key(&["a"]), key(&["b"]));
    client.apply(vec![put(&a, "1")]).await;
    let mut watch = Watching::of(&client, &[a.clone(), b.clone()]).await;
    assert_eq!(watch.seen().await, ["1", "-"]);
    client.apply(vec![put(&b, "2")]).await;
    assert_eq!(watch.seen().await, ["1", "2"]);
    client.apply(vec![delete(&a)]).await;
    assert_eq!(watch.seen().await, ["-", "2"]);
}

#[tokio::test]
async fn expiry_is_a_change() {
    let client = Client::new().await;
    let a = key(&["a"]);
    let expiring = proto::Mutation {
        expire_at_ms: START.0 + 1000,
        ..put(&a, "1")
    };
    client.apply(vec![expiring]).await;
    let mut watch = Watching::of(&client, &[a]).await;
    assert_eq!(watch.seen().await, ["1"]);
    client.world().clock.advance_ms(1000);
    assert_eq!(watch.seen().await, ["-"]);
}

/// denokv tells watchers of suffix keys under the wrong key.
#[tokio::test]
async fn a_suffix_key_can_be_watched() {
    let client = Client::new().await;
    let prefix = key(&["log"]);
    let suffixed = mutation(proto::M_SET_SUFFIX_VERSIONSTAMPED_KEY, &prefix, 3, "x");
    let stamp = client.apply(vec![suffixed]).await;
    let whole = key(&["log", &data_encoding::HEXLOWER.encode(&stamp)]);
    let mut watch = Watching::of(&client, std::slice::from_ref(&whole)).await;
    assert_eq!(watch.seen().await, ["x"]);
    client.apply(vec![delete(&whole)]).await;
    assert_eq!(watch.seen().await, ["-"]);
}

#[tokio::test]
async fn an_idle_watch_is_pinged_every_five_seconds() {
    let client = Client::new().await;
    let mut watch = Watching::of(&client, &[key(&["a"])]).await;
    assert_eq!(watch.seen().await, ["-"]);
    for _ in 0..3 {
        client.world().clock.advance_ms(5_000);
        assert_eq!(watch.frame().await, None);
    }
}

#[tokio::test]
async fn a_watch_of_nothing_is_one_frame_and_pings() {
    let client = Client::new().await;
    let mut watch = Watching::of(&client, &[]).await;
    assert_eq!(watch.seen().await, [""; 0]);
    client.world().clock.advance_ms(5_000);
    assert_eq!(watch.frame().await, None);
}

#[tokio::test]
async fn the_last_state_always_arrives() {
    let client = Client::new().await;
    let a = key(&["a"]);
    let mut watch = Watching::of(&client, std::slice::from_ref(&a)).await;
    assert_eq!(watch.seen().await, ["-"]);
    let writer = {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..100 {
                client.apply(vec![set(&a, 3, n.to_string())]).await;
            }
        })
    };
    let last = async { while watch.seen().await != ["99"] {} };
    within(DEADLINE, "the last state", last).await;
    writer.await.unwrap();
}

#[tokio::test]
async fn limits_of_a_watch_hold_at_their_boundary() {
    let client = Client::new().await;
    let long = |len: usize| Bytes::from(vec![3; len]);
    let ten = vec![long(2048); 10];
    assert_eq!(client.open_raw("watch", request(&ten)).await.status, 200);
    let eleven = vec![key(&["a"]); 11];
    assert_eq!(client.raw("watch", request(&eleven)).await.status, 400);
    assert_eq!(
        client.raw("watch", request(&[long(2049)])).await.status,
        400
    );
    let two = Client {
        version: "2",
        ..client
    };
    assert_eq!(two.raw("watch", request(&[key(&["a"])])).await.status, 400);
}

#[tokio::test]
async fn a_watch_ends_cleanly_with_the_server_and_with_its_token() {
    let client = Client::new().await;
    let mut watch = Watching::of(&client, &[key(&["a"])]).await;
    assert_eq!(watch.seen().await, ["-"]);
    client.world().clock.advance_ms(25 * 3_600_000);
    while let Some(bytes) = watch.answer.next().await {
        assert_eq!(bytes, [0; 4].as_slice(), "nothing but pings");
    }

    let again = Client::of(&client.app).await;
    let mut watch = Watching::of(&again, &[key(&["a"])]).await;
    assert_eq!(watch.seen().await, ["-"]);
    client.world().shutdown.cancel();
    assert_eq!(watch.answer.next().await, None);
}
