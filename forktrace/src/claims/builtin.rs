//! The claims that forktrace brings along: one file each in `claims/`, and the
//! Python workloads that they run.

use super::file::{Claim, ClaimError, Origin};

/// A claim file: a line here for each.
const CLAIMS: &[(&str, &str)] = &[
    (
        "all-blocked-only-idle.toml",
        include_str!("../../claims/all-blocked-only-idle.toml"),
    ),
    (
        "enough-work.toml",
        include_str!("../../claims/enough-work.toml"),
    ),
    (
        "gil-serialises.toml",
        include_str!("../../claims/gil-serialises.toml"),
    ),
    (
        "pool-amortises.toml",
        include_str!("../../claims/pool-amortises.toml"),
    ),
    (
        "process-creation-expensive.toml",
        include_str!("../../claims/process-creation-expensive.toml"),
    ),
    (
        "thread-per-fd.toml",
        include_str!("../../claims/thread-per-fd.toml"),
    ),
];

/// Files of `examples/workloads/`, which are laid out in `{workloads}`.
pub(super) const WORKLOADS: &[(&str, &str)] =
    &[("compute.py", include_str!("../../workloads/compute.py"))];

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
