//! Whether the licences and the sources of all dependencies are among those that
//! `deny.toml` allows. `cargo deny` checks more, and takes minutes to build; this is what
//! a test can check in a second.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use spdx::{Expression, LicenseItem, ParseMode};

use crate::util::{metadata, root};

/// The part of `deny.toml` that is read here.
#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// A dependency, as `cargo metadata` describes it.
#[derive(Deserialize)]
struct Dependency {
    name: String,
    version: String,
    license: Option<String>,
    /// Nothing for those of this project.
    source: Option<String>,
}

/// A sentence for each dependency that is not allowed.
fn refused() -> Result<Vec<String>> {
    let text = fs::read_to_string(root()?.join("deny.toml")).context("could not read deny.toml")?;
    let deny: Deny = toml::from_str(&text).context("could not make sense of deny.toml")?;
    let mut refused = Vec::new();
    let built: Vec<Dependency> = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"])?;
    for package in built {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.unwrap_or_default();
        if !is_allowed(&licence, &deny.licenses.allow) {
            refused.push(format!("{name} has the licence `{licence}`"));
        }
        let source = package.source.as_deref();
        let known = |source: &str| {
            let address = source.strip_prefix("registry+").unwrap_or(source);
            deny.sources.allow_registry.iter().any(|it| it == address)
        };
        if source.is_some_and(|source| !known(source)) {
            refused.push(format!("{name} comes from {}", source.unwrap_or_default()));
        }
    }
    Ok(refused)
}

/// Whether the allowed licences are enough for an SPDX expression; also for the older
/// form with `/` for `OR`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|expression| {
        expression.evaluate(|wanted| match &wanted.license {
            LicenseItem::Spdx { id, .. } => allowed.iter().any(|it| it == id.name),
            LicenseItem::Other { .. } => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_dependencies_are_allowed() {
        let refused = refused().expect("the dependencies can be read");
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    }

    #[test]
    fn one_of_the_licences_has_to_be_allowed_or_each() {
        let allowed = ["MIT".to_owned(), "Zlib".to_owned()];
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("Apache-2.0/MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("(MIT OR Apache-2.0) AND Zlib", true),
            ("", false),
            ("as you like", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }
}
