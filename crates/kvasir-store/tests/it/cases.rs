//! The list of cases in the kit's macro is complete.

use std::fs;
use std::path::Path;

use crate::conformance::CASES;

#[test]
fn every_case_of_the_kit_is_in_the_list() {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kvasir-testkit/src/conformance");
    let mut written = Vec::new();
    for file in fs::read_dir(kit).unwrap() {
        let path = file.unwrap().path();
        let area = path.file_stem().unwrap().to_string_lossy().into_owned();
        for line in fs::read_to_string(&path).unwrap().lines() {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                let name = rest.split('(').next().unwrap();
                written.push((area.clone(), name.to_owned()));
            }
        }
    }
    written.sort();
    let mut listed: Vec<_> = CASES
        .iter()
        .map(|(area, name)| ((*area).to_owned(), (*name).to_owned()))
        .collect();
    listed.sort();
    assert_eq!(written, listed);
}
