//! The claims that forktrace brings along: one file each in `claims/`, and the
//! Python workloads that they run.

use super::file::{Claim, ClaimError, Origin};

/// A file's name and what is in it.
macro_rules! file {
    ($folder:literal, $name:literal) => {
        ($name, include_str!(concat!("../", $folder, "/", $name)))
    };
}

/// The claim files of `claims/`: a line for each, sorted.
const CLAIMS: &[(&str, &str)] = &[
    file!("claims", "all-blocked-only-idle.toml"),
    file!("claims", "any-syscall-blocks-siblings.toml"),
    file!("claims", "clone-is-clone.toml"),
    file!("claims", "contention-only.toml"),
    file!("claims", "enough-work.toml"),
    file!("claims", "fork-cost.toml"),
    file!("claims", "gil-serialises.toml"),
    file!("claims", "kernel-copy-parallel.toml"),
    file!("claims", "memory-shared.toml"),
    file!("claims", "multiprocessing-scales.toml"),
    file!("claims", "no-magic-lock.toml"),
    file!("claims", "only-group-ops-stop-all.toml"),
    file!("claims", "other-designs-free.toml"),
    file!("claims", "pool-amortises.toml"),
    file!("claims", "process-creation-expensive.toml"),
    file!("claims", "processes-for-io.toml"),
    file!("claims", "python-io-overlaps.toml"),
    file!("claims", "select-blocks-siblings.toml"),
    file!("claims", "shared-counter.toml"),
    file!("claims", "shared-waitset.toml"),
    file!("claims", "sync-cheaper.toml"),
    file!("claims", "thread-memory.toml"),
    file!("claims", "thread-per-fd.toml"),
    file!("claims", "waitset-processes.toml"),
];

/// The files of `examples/workloads/`, which are laid out in `{workloads}`.
pub(super) const WORKLOADS: &[(&str, &str)] = &[
    file!("workloads", "compute.py"),
    file!("workloads", "fork_cost.py"),
    file!("workloads", "io_overlap.py"),
    file!("workloads", "locks.py"),
    file!("workloads", "marks.py"),
    file!("workloads", "server.py"),
    file!("workloads", "shared_counter.py"),
    file!("workloads", "workers.py"),
];

/// All built-in claims, in the order of their names.
pub fn claims() -> Vec<Result<Claim, ClaimError>> {
    CLAIMS
        .iter()
        .map(|(name, text)| {
            let origin = Origin {
                name: (*name).to_owned(),
                folder: None,
            };
            Claim::parse(text, origin)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_claim_is_sound() {
        let claims: Vec<Claim> = claims()
            .into_iter()
            .map(|claim| claim.unwrap_or_else(|error| panic!("{error}")))
            .collect();
        for (claim, (name, _)) in claims.iter().zip(CLAIMS) {
            assert_eq!(format!("{}.toml", claim.id), *name);
            assert!(!claim.said_by.is_empty(), "{name}: who says so?");
            assert!(claim.picture.is_some(), "{name}: what does it look like?");
        }
        assert!(claims.is_sorted_by(|a, b| a.id < b.id), "keep them sorted");
    }

    #[test]
    fn every_file_is_listed() {
        for (folder, listed) in [("claims", CLAIMS), ("workloads", WORKLOADS)] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for entry in std::fs::read_dir(path).expect("the folder") {
                let name = entry.expect("an entry").file_name();
                let name = name.to_string_lossy();
                assert!(
                    listed.iter().any(|(known, _)| *known == name),
                    "{folder}/{name} is not listed in claims/builtin.rs"
                );
            }
        }
    }
}
