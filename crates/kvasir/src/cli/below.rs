//! `tree` and `count`: what lies below a prefix.

use std::collections::BTreeMap;

use clap::Args;
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::json;

use super::client::{Client, block_on};
use super::data::{kv_path, listed_path, split_path};
use super::frame::KeyFrame;
use super::output::Printer;
use super::progress::{Progress, ProgressForm};
use crate::exit::Failure;

/// Nodes that are kept and shown. What lies below further ones is counted as theirs is not.
const NODES_MAX: usize = 10_000;

/// Show what lies below a prefix as a tree, with the number of keys.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir tree
  kvasir tree users --depth 2

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Tree {
    /// Prefix, its parts separated by dots [default: everything]
    prefix: Option<String>,
    /// Levels below the prefix
    #[arg(long, value_name = "LEVELS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    depth: u8,
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    frame: KeyFrame,
}

/// Count the keys below a prefix.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir count
  kvasir count users --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
pub(super) struct Count {
    /// Prefix, its parts separated by dots [default: everything]
    prefix: Option<String>,
    #[command(flatten)]
    progress: ProgressForm,
    #[command(flatten)]
    frame: KeyFrame,
}

/// Calls `each` with every key below a prefix, as it would be typed.
pub(super) async fn each_key(
    client: &Client,
    prefix: Option<&str>,
    progress: ProgressForm,
    mut each: impl FnMut(&str),
) -> Result<u64, Failure> {
    let path = match prefix {
        None => "/kv?list=true&values=false".to_owned(),
        Some(prefix) => format!("{}?list=true&values=false", kv_path(prefix)),
    };
    let request = client
        .request(Method::GET, &path)
        .header("accept", "application/x-ndjson");
    let mut lines = client.lines(client.send(request).await?);
    let mut progress = Progress::begin(progress, "keys", 0, None);
    let mut count = 0;
    while let Some(line) = lines.next().await {
        each(&listed_path(&line?)?);
        count += 1;
        progress.set(count);
    }
    progress.end();
    Ok(count)
}

impl Count {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.client()?;
            let prefix = self.prefix.as_deref();
            let count = each_key(&client, prefix, self.progress, |_| {}).await?;
            let answer = json!({"prefix": prefix, "keys": count, "server": client.base()});
            Printer::new(&self.frame.form).one(&answer, || count.to_string())
        })
    }
}

impl Tree {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            let client = self.frame.client()?;
            let prefix = self.prefix.as_deref();
            let above = prefix.map_or(0, |prefix| split_path(prefix).len());
            let mut nodes: BTreeMap<Vec<String>, u64> = BTreeMap::new();
            let mut is_cut = false;
            each_key(&client, prefix, self.progress, |key| {
                let parts = split_path(key);
                let below = &parts[above.min(parts.len())..];
                for level in 1..=usize::from(self.depth).min(below.len()) {
                    let node = below[..level].to_vec();
                    if let Some(count) = nodes.get_mut(&node) {
                        *count += 1;
                    } else if nodes.len() < NODES_MAX {
                        nodes.insert(node, 1);
                    } else {
                        is_cut = true;
                    }
                }
            })
            .await?;
            let mut printer = Printer::new(&self.frame.form);
            printer.begin(&["node", "keys"])?;
            for (node, count) in &nodes {
                let (name, above) = node.split_last().expect("a node has a name");
                let shown = format!("{}{name}", "  ".repeat(above.len()));
                let json = json!({"node": node.join("."), "depth": node.len(), "keys": count});
                printer.row(&json, &[shown, count.to_string()])?;
            }
            printer.end()?;
            if is_cut {
                notice(&format!("only the first {NODES_MAX} nodes are shown"));
            }
            Ok(())
        })
    }
}

#[expect(clippy::print_stderr, reason = "a notice beside the answer")]
fn notice(text: &str) {
    eprintln!("{text}");
}
