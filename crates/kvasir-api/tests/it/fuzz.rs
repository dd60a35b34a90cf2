//! Every fuzz target on its seeds and on mangled ones.
//!
//! The targets are those of the `fuzz` folder; they also cover the crates below this one, which
//! is the highest library that reads bytes from outside.

#[allow(unreachable_pub, reason = "the same file is a library for libFuzzer")]
#[path = "../../../../fuzz/src/targets.rs"]
mod targets;

use kvasir_testkit::fuzz::short_form;
use targets::ALL;

#[track_caller]
fn check(name: &str) {
    let target = ALL.iter().find(|target| target.name == name);
    let target = target.expect("a target of this name");
    short_form(target.name, target.run, target.seeds);
}

macro_rules! short_forms {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn no_target_is_forgotten() {
            let here = [$(stringify!($name)),*];
            let all: Vec<&str> = ALL.iter().map(|target| target.name).collect();
            assert_eq!(all, here);
            for name in all {
                let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/fuzz_targets");
                let driver = std::path::Path::new(driver).join(format!("{name}.rs"));
                assert!(driver.exists(), "{}", driver.display());
            }
        }
    };
}

short_forms!(
    key_codec,
    record,
    backup,
    journal,
    rest_target,
    rest_body,
    kv_connect,
    v8_reader,
    json_v8_json,
    tagged_json,
    import_line,
    json_limits,
    key_json,
    edgegrid_header,
    edgegrid_canonical,
    tokens,
    small_texts,
    classworks_target,
    classworks_body,
    classworks_credential,
    kopano_target,
    kopano_batch,
    oidc_token,
);
