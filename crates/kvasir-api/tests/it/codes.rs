//! Every error code that the sources name has its text (OBS-8).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kvasir_api::codes;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a call, from behind its opening bracket, split at the commas of its own level.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    let mut in_text = false;
    let mut before = ' ';
    for (at, char) in text.char_indices() {
        match char {
            '"' if before != '\\' => in_text = !in_text,
            _ if in_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push(text[start..at].trim());
                return found;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        before = char;
    }
    found
}

/// How many folders and names two paths have in common from their beginning on.
fn common(one: &Path, other: &Path) -> usize {
    let both = one.components().zip(other.components());
    both.take_while(|(one, other)| one == other).count()
}

#[test]
fn every_code_in_the_sources_has_its_text() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for name in ["kvasir-api/src", "kvasir/src"] {
        sources(&crates.join(name), &mut files);
    }
    let texts: Vec<_> = files
        .iter()
        .map(|path| (path, std::fs::read_to_string(path).unwrap()))
        .collect();
    let mut used = BTreeSet::new();
    let mut unclear = Vec::new();
    for (path, text) in &texts {
        let text = text.split("#[cfg(test)]").next().unwrap();
        for (call, place) in [("ApiError::new(", 1), (".with_code(", 0)] {
            for (at, _) in text.match_indices(call) {
                let arguments = arguments(&text[at + call.len()..]);
                let Some(argument) = arguments.get(place) else {
                    continue;
                };
                if let Some(literal) = argument.strip_prefix('"') {
                    used.insert(literal.trim_end_matches('"').to_owned());
                    continue;
                }
                let name = argument.rsplit("::").next().unwrap();
                let constant = format!("const {name}: &str = \"");
                let found = texts.iter().filter_map(|(place, text)| {
                    let (_, rest) = text.split_once(&constant)?;
                    Some((common(place, path), rest.split('"').next()?))
                });
                // Several dialects have constants of one name: the nearest is meant.
                let value = found.max_by_key(|(near, _)| *near).map(|(_, value)| value);
                match value {
                    Some(value) => drop(used.insert(value.to_owned())),
                    None => unclear.push(format!("{}: {argument}", path.display())),
                }
            }
        }
    }
    assert!(used.len() > 35, "{used:?}");
    let unknown: Vec<_> = used
        .iter()
        .filter(|code| codes::find(code).is_none())
        .collect();
    assert!(
        unknown.is_empty(),
        "codes without a text in `codes.rs`: {unknown:?}"
    );
    // Two names in `error.rs` itself: the parameters.
    unclear.retain(|place| !place.contains("/error.rs: "));
    assert!(
        unclear.is_empty(),
        "codes that are no constants: {unclear:?}"
    );
    // The EdgeKV codes that errors of the kit get by their status are named in its `error_code`.
    let unused: Vec<_> = codes::ALL
        .iter()
        .filter(|code| !used.contains(code.name) && !code.name.starts_with("EKV_"))
        .collect();
    assert!(
        unused.is_empty(),
        "texts of codes that are not used: {unused:?}"
    );
}
