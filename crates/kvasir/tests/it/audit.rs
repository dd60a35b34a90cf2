//! The audit list and tokens bound to networks, with the real binary: behind proxies, over restarts,
//! and after somebody has tampered with the store.

use kvasir_kv::{AtomicWrite, Key, Keyspace, KeyspaceName, Mutation, Value};
use kvasir_store::{OpenOptions, open};
use kvasir_testkit::server::http_client;
use serde_json::Value as Json;

use crate::{options, run, server};

async fn json(args: &[&str]) -> Json {
    let (code, out, err) = run(args, &[]).await;
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test]
async fn what_the_command_line_administers_is_told_with_and_without_a_server_and_over_restarts() {
    let mut server = server().await;
    let data = server.data().to_string_lossy().into_owned();
    let (code, _, err) = run(&["db", "create", "shop", "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    server.terminate().await;
    // On the folder itself.
    let (code, _, err) = run(&["db", "create", "stock", "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    server.restart().await;
    let lines = json(&["audit", "ls", "--data", &data, "--json"]).await;
    let told: Vec<_> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| ["number", "action", "on", "by"].map(|member| line[member].to_string()))
        .collect();
    let line = |number: &str, on: &str| {
        [number, "\"database.create\"", on, "\"process\""].map(str::to_owned)
    };
    assert_eq!(told, [line("2", "\"stock\""), line("1", "\"shop\"")]);
    let (code, out, err) = run(&["audit", "verify", "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    let mut printed = out.lines();
    assert_eq!(printed.next(), Some("all 2 lines are whole"));
    let noted = printed.next().unwrap();
    let (code, _, err) = run(&["audit", "verify", "--known", noted, "--data", &data], &[]).await;
    assert_eq!(code, 0, "{err}");
    let forged = format!("2:{}", "0".repeat(64));
    let (code, _, err) = run(
        &["audit", "verify", "--known", &forged, "--data", &data],
        &[],
    )
    .await;
    assert_eq!(code, 8, "{err}");

    // A line is changed in the store, past the server.
    server.terminate().await;
    let store = open(&format!("embedded:{data}"), OpenOptions::default())
        .await
        .unwrap();
    let system = Keyspace::new(store.clone(), KeyspaceName::system());
    let key = Key::from_strings(["audit", "line", "00000000000000000001"]);
    let stored = system.get(&key).await.unwrap().unwrap();
    let text = String::from_utf8(stored.value.bytes.to_vec()).unwrap();
    let forged = Value::bytes(text.replace("shop", "ship").into_bytes());
    let write = AtomicWrite::new().push(Mutation::set(key, forged));
    system.commit(write).await.unwrap();
    store.close().await.unwrap();
    let (code, _, err) = run(&["audit", "verify", "--data", &data], &[]).await;
    assert_eq!(code, 8, "{err}");
    assert!(err.contains("line 1: the line was changed"), "{err}");
    let (code, out, _) = run(&["audit", "ls", "--data", &data], &[]).await;
    assert_eq!((code, out.contains("stock")), (0, true), "{out}");
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_clients_own_address_counts() {
    let server = options()
        .set("server.trusted_proxies", "127.0.0.1")
        .start()
        .await;
    let data = server.data().to_string_lossy().into_owned();
    let create = [
        "token",
        "create",
        "--db",
        "default",
        "--source",
        "203.0.113.0/24",
        "--data",
        &data,
    ];
    let (code, token, err) = run(&create, &[]).await;
    assert_eq!(code, 0, "{err}");
    let token = token.trim().to_owned();
    let get = async |forwarded: Option<&str>| {
        let mut request = http_client().get(server.url("/kv/a")).bearer_auth(&token);
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        request.send().await.unwrap().status().as_u16()
    };
    for (forwarded, status) in [
        (Some("203.0.113.9"), 404),
        (Some("::ffff:203.0.113.9"), 404),
        (Some("198.51.100.9"), 401),
        // What stands left of the proxy's own word was written by the client.
        (Some("203.0.113.9, 198.51.100.9"), 401),
        (Some("198.51.100.9, 203.0.113.10"), 404),
        (None, 401),
    ] {
        assert_eq!(get(forwarded).await, status, "{forwarded:?}");
    }
    let tokens = json(&["token", "ls", "--data", &data, "--json"]).await;
    let one = &tokens[0];
    assert_eq!(one["sources"], serde_json::json!(["203.0.113.0/24"]));
    // Uses of one second are told as one.
    let from = one["lastUsedFrom"].as_str().unwrap();
    assert!(["203.0.113.9", "203.0.113.10"].contains(&from), "{from}");
    let id = one["id"].as_str().unwrap();
    let explain = [
        "token",
        "explain",
        id,
        "--from",
        "198.51.100.9",
        "--data",
        &data,
    ];
    let (code, out, err) = run(&explain, &[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("refused: the token may be used from 203.0.113.0/24 only"),
        "{out}"
    );
    let wrong = [
        "token", "create", "--db", "default", "--source", "office", "--data", &data,
    ];
    let (code, _, err) = run(&wrong, &[]).await;
    assert_ne!(code, 0);
    assert!(
        err.contains("write an address or a network such as"),
        "{err}"
    );

    // Nobody else's word about the client counts.
    let alone = options().start().await;
    let data = alone.data().to_string_lossy().into_owned();
    let create = [
        "token",
        "create",
        "--db",
        "default",
        "--source",
        "203.0.113.0/24",
        "--data",
        &data,
    ];
    let (_, token, _) = run(&create, &[]).await;
    let request = http_client()
        .get(alone.url("/kv/a"))
        .bearer_auth(token.trim());
    let answer = request
        .header("x-forwarded-for", "203.0.113.9")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 401);
}
