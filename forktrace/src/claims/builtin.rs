//! The claims that forktrace brings along: one file each in `claims/`, and the
//! Python workloads that they run.

use super::file::{Claim, ClaimError, Origin};

/// A claim file: a line here for each.
const CLAIMS: &[(&str, &str)] = &[
    (
        "any-syscall-blocks-siblings.toml",
        include_str!("../../claims/any-syscall-blocks-siblings.toml"),
    ),
    (
        "clone-is-clone.toml",
        include_str!("../../claims/clone-is-clone.toml"),
    ),
    (
        "contention-only.toml",
        include_str!("../../claims/contention-only.toml"),
    ),
    (
        "fork-cost.toml",
        include_str!("../../claims/fork-cost.toml"),
    ),
    (
        "gil-serialises.toml",
        include_str!("../../claims/gil-serialises.toml"),
    ),
    (
        "kernel-copy-parallel.toml",
        include_str!("../../claims/kernel-copy-parallel.toml"),
    ),
    (
        "memory-shared.toml",
        include_str!("../../claims/memory-shared.toml"),
    ),
    (
        "multiprocessing-scales.toml",
        include_str!("../../claims/multiprocessing-scales.toml"),
    ),
    (
        "no-magic-lock.toml",
        include_str!("../../claims/no-magic-lock.toml"),
    ),
    (
        "only-group-ops-stop-all.toml",
        include_str!("../../claims/only-group-ops-stop-all.toml"),
    ),
    (
        "other-designs-free.toml",
        include_str!("../../claims/other-designs-free.toml"),
    ),
    (
        "processes-for-io.toml",
        include_str!("../../claims/processes-for-io.toml"),
    ),
    (
        "python-io-overlaps.toml",
        include_str!("../../claims/python-io-overlaps.toml"),
    ),
    (
        "select-blocks-siblings.toml",
        include_str!("../../claims/select-blocks-siblings.toml"),
    ),
    (
        "shared-counter.toml",
        include_str!("../../claims/shared-counter.toml"),
    ),
    (
        "shared-waitset.toml",
        include_str!("../../claims/shared-waitset.toml"),
    ),
    (
        "sync-cheaper.toml",
        include_str!("../../claims/sync-cheaper.toml"),
    ),
    (
        "thread-memory.toml",
        include_str!("../../claims/thread-memory.toml"),
    ),
    (
        "waitset-processes.toml",
        include_str!("../../claims/waitset-processes.toml"),
    ),
];

/// Files of `examples/workloads/`, which are laid out in `{workloads}`.
pub(super) const WORKLOADS: &[(&str, &str)] = &[
    ("compute.py", include_str!("../../workloads/compute.py")),
    ("fork_cost.py", include_str!("../../workloads/fork_cost.py")),
    (
        "io_overlap.py",
        include_str!("../../workloads/io_overlap.py"),
    ),
    ("locks.py", include_str!("../../workloads/locks.py")),
    ("marks.py", include_str!("../../workloads/marks.py")),
    ("server.py", include_str!("../../workloads/server.py")),
    (
        "shared_counter.py",
        include_str!("../../workloads/shared_counter.py"),
    ),
    ("workers.py", include_str!("../../workloads/workers.py")),
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
