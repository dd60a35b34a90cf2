//! Rules of the workspace that neither the compiler nor clippy can check.
//!
//! Who may import whom (`ARCHITECTURE.md` draws it), that dialects and backends do not know
//! their siblings, that nothing unfinished or bound to one machine is committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Which crates of ours each crate may depend on. Development dependencies are free.
const LAYERS: &[(&str, &[&str])] = &[
    ("kvasir-kv", &[]),
    ("kvasir-store", &["kvasir-kv"]),
    ("kvasir-auth", &["kvasir-kv"]),
    ("kvasir-api", &["kvasir-auth", "kvasir-kv"]),
    (
        "kvasir",
        &["kvasir-kv", "kvasir-store", "kvasir-auth", "kvasir-api"],
    ),
    (
        "kvasir-testkit",
        &["kvasir-kv", "kvasir-store", "kvasir-auth", "kvasir-api"],
    ),
];

/// Modules of one crate that must not import each other.
const SIBLINGS: &[(&str, &[&str])] = &[
    (
        "crates/kvasir-api/src",
        &["accounts", "classworks", "deno", "edgekv", "kopano", "rest"],
    ),
    (
        "crates/kvasir-store/src",
        &["memory", "embedded", "sqlite", "sql"],
    ),
];

/// Text that says a thing is not finished.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "FIXME", "XXX:"];

/// Checks every rule and names each breach.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut breaches = Vec::new();
    layers(root, &mut breaches)?;
    let files = tracked_files(root)?;
    for file in &files {
        let path = root.join(file);
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        if file.extension().is_some_and(|end| end == "rs") {
            source(file, &text, &mut breaches);
        }
        lines(file, &text, &mut breaches);
    }
    decisions(&files, &mut breaches);
    if breaches.is_empty() {
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("{breach}");
    }
    bail!("{} breaches of the workspace's rules", breaches.len())
}

fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output();
    let listed = listed.context("cannot ask git for its files")?;
    let listed = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    Ok(listed.split_terminator('\0').map(PathBuf::from).collect())
}

fn layers(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    for (name, allowed) in LAYERS {
        let manifest = root.join("crates").join(name).join("Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let mut in_dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.starts_with("[dependencies");
            }
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let ours = LAYERS.iter().any(|(known, _)| *known == dependency);
            if in_dependencies && ours && !allowed.contains(&dependency) {
                breaches.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    Ok(())
}

fn source(file: &Path, text: &str, breaches: &mut Vec<String>) {
    if file.file_name().is_some_and(|name| name == "mod.rs") {
        breaches.push(format!(
            "{}: use `foo.rs` beside `foo/`, not mod.rs",
            file.display()
        ));
    }
    let is_library_source = file.components().any(|part| part.as_os_str() == "src");
    if is_library_source && !text.trim_start().starts_with("//!") {
        breaches.push(format!(
            "{}: begins without a module header",
            file.display()
        ));
    }
    for (folder, modules) in SIBLINGS {
        let Ok(inner) = file.strip_prefix(folder) else {
            continue;
        };
        let first = inner
            .components()
            .next()
            .map(|part| part.as_os_str().to_string_lossy());
        let own = first.as_deref().unwrap_or_default().trim_end_matches(".rs");
        if !modules.contains(&own) {
            continue;
        }
        for sibling in modules.iter().filter(|sibling| **sibling != own) {
            let import = format!("crate::{sibling}::");
            if text.contains(&import) {
                breaches.push(format!(
                    "{}: {own} imports its sibling {sibling}",
                    file.display()
                ));
            }
        }
    }
    if file.starts_with("xtask") {
        return;
    }
    for word in UNFINISHED {
        for (number, line) in (1..).zip(text.lines()) {
            if line.contains(word) {
                breaches.push(format!(
                    "{}:{number}: {word} is unfinished work",
                    file.display()
                ));
            }
        }
    }
}

fn lines(file: &Path, text: &str, breaches: &mut Vec<String>) {
    let vendored = file.components().any(|part| part.as_os_str() == "vendor");
    if vendored {
        return;
    }
    if text.contains("\r\n") {
        breaches.push(format!("{}: lines end in CR LF", file.display()));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
            breaches.push(format!("{}:{number}: a merge conflict", file.display()));
        }
    }
}

/// Decisions are numbered once each.
fn decisions(files: &[PathBuf], breaches: &mut Vec<String>) {
    let mut numbers: Vec<&str> = files
        .iter()
        .filter(|file| file.starts_with("docs/decisions"))
        .filter_map(|file| file.file_name()?.to_str()?.split('-').next())
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[0] == pair[1] {
            breaches.push(format!("docs/decisions: number {} is used twice", pair[0]));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_keeps_its_rules() {
        super::check(&crate::root()).expect("every breach is printed");
    }
}
