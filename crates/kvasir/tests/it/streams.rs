//! Lists longer than memory should hold.
//!
//! The plain form lists a hundred thousand entries; `KVASIR_TEST_EFFORT=10` a million.

use kvasir_testkit::effort::Effort;
use kvasir_testkit::raw::RawConnection;
use kvasir_testkit::server::http_client;
use kvasir_testkit::{DEADLINE, TestServer, within};

use crate::server;

/// Entries of a plain run.
const ENTRIES: u32 = 100_000;

/// Entries written by one request.
const BATCH: u32 = 1_000;

/// Most that the server may grow while a list is read, in bytes: far less than the list.
const GROWTH_MAX: u64 = 16 * 1024 * 1024;

/// The engine's cache of blocks, in bytes: `store.embedded.block_cache_bytes`.
const BLOCK_CACHE: u64 = 24 * 1024 * 1024;

/// Length of each value, in bytes.
const VALUE_BYTES: usize = 200;

async fn fill(server: &TestServer, entries: u32) {
    let value = "v".repeat(VALUE_BYTES - 2);
    for batch in (0..entries).step_by(BATCH as usize) {
        let mutations: Vec<_> = (batch..batch + BATCH)
            .map(|n| format!(r#"{{"type":"set","key":["many","{n:08}"],"value":"{value}"}}"#))
            .collect();
        let body = format!(r#"{{"mutations":[{}]}}"#, mutations.join(","));
        let put = http_client()
            .post(server.url("/kv/_atomic"))
            .header("Content-Type", "application/json")
            .body(body);
        assert_eq!(put.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_list_of_very_many_entries_needs_no_more_memory_than_a_short_one() {
    let entries = Effort::from_env().times(ENTRIES);
    let server = server().await;
    fill(&server, entries).await;
    let list = server.url("/kv/many?list=true");
    // Once before, so that buffers and caches have their size.
    let warm = http_client()
        .get(format!("{list}&limit=20000"))
        .send()
        .await;
    warm.unwrap().bytes().await.unwrap();
    let before = server.memory_bytes();

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(&list).header("Accept", "application/x-ndjson");
    let mut response = request.send().await.unwrap();
    let (mut lines, mut bytes, mut memory) = (0, 0, 0);
    while let Some(part) = within(DEADLINE, "the list goes on", response.chunk())
        .await
        .unwrap()
    {
        lines += part.iter().filter(|byte| **byte == b'\n').count();
        let before_part = bytes;
        bytes += part.len();
        if bytes / 1_000_000 > before_part / 1_000_000 {
            memory = memory.max(server.memory_bytes());
        }
    }
    let grown = memory.saturating_sub(before);
    println!("{lines} entries, {bytes} bytes, server grown by {grown} bytes");
    assert_eq!(lines, entries as usize);
    assert!(bytes > entries as usize * VALUE_BYTES);
    // More entries than a plain run has fill the engine's cache of blocks too.
    let cache = if entries > ENTRIES { BLOCK_CACHE } else { 0 };
    assert!(grown < GROWTH_MAX + cache, "{grown}");
}

#[tokio::test]
async fn readers_that_stand_still_cost_little_memory_and_hinder_nobody() {
    let server = server().await;
    fill(&server, ENTRIES / 2).await;
    let list = server.url("/kv/many?list=true");
    let warm = http_client()
        .get(format!("{list}&limit=20000"))
        .send()
        .await;
    warm.unwrap().bytes().await.unwrap();
    let before = server.memory_bytes();
    let mut stalled = Vec::new();
    for _ in 0..10 {
        let mut connection = RawConnection::open(server.addr()).await;
        connection
            .send("GET /kv/many?list=true HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await;
        stalled.push(connection);
    }
    for number in 0..200 {
        let url = server.url(&format!("/kv/many.{number:08}"));
        assert_eq!(http_client().get(url).send().await.unwrap().status(), 200);
    }
    let grown = server.memory_bytes().saturating_sub(before);
    println!("10 stalled readers: grown by {grown} bytes");
    // Some pages each, where the lists themselves are twice as much.
    assert!(grown < 4 * GROWTH_MAX, "{grown}");
    // What they wanted is still all there for them.
    let answer = stalled.pop().unwrap().response().await;
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(listed.len(), (ENTRIES / 2) as usize);
}
