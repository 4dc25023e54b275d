//! What the fuzz targets hold holds for the inputs that are kept with them: `fuzz/` says what each covers.

#![cfg(all(feature = "benchmark", feature = "embedded-model", feature = "outbound"))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

/// Bytes of all seeds.
const SEEDS_BYTES_MAX: u64 = 2 << 20;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn seeds(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(fuzz().join("seeds").join(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_seed_passes() {
    for (name, _) in targets::ALL {
        for seed in seeds(name) {
            println!("{}", seed.display());
            targets::run(name, &fs::read(&seed).unwrap());
        }
    }
}

#[test]
fn every_target_is_built_and_has_seeds_and_they_are_small() {
    let names: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let manifest: toml::Table = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().unwrap();
    let built = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
    assert_eq!(built.collect::<BTreeSet<_>>(), names);
    let folders = fs::read_dir(fuzz().join("seeds")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(folders.collect::<BTreeSet<_>>(), names);
    let mut bytes = 0;
    for name in &names {
        let main = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(main.contains(&format!("targets::run(\"{name}\", data)")), "{name}");
        let sizes: Vec<u64> = seeds(name).iter().map(|seed| fs::metadata(seed).unwrap().len()).collect();
        assert!(!sizes.is_empty(), "{name} has no seed");
        bytes += sizes.iter().sum::<u64>();
    }
    assert!(bytes <= SEEDS_BYTES_MAX, "{bytes} bytes of seeds, the limit is {SEEDS_BYTES_MAX}; hint: cargo fuzz cmin");
}
