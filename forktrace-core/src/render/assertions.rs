//! What `--assert` says.

use super::text::figures::clean;

/// A condition and whether it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion<'a> {
    /// As it was given.
    pub source: &'a str,
    /// Whether it is true.
    pub holds: bool,
    /// The figures that it uses, as `name = value`.
    pub used: Vec<String>,
}

/// The assertions that are false, each with its figures. Nothing when all hold,
/// unless the report is incomplete, in a sentence without its full stop: then they might not.
pub fn assertions(assertions: &[Assertion<'_>], incomplete: Option<&str>) -> String {
    let mut out = String::new();
    for assertion in assertions.iter().filter(|assertion| !assertion.holds) {
        out.push_str(&format!(
            "forktrace: this assertion is false: {}\n",
            clean(assertion.source.trim())
        ));
        for figure in &assertion.used {
            out.push_str(&format!("  {}\n", clean(figure)));
        }
    }
    if let Some(weakness) = incomplete {
        let others = match assertions.iter().filter(|a| a.holds).count() {
            0 => "",
            1 => " One assertion holds, but on an incomplete trace that is weaker evidence.",
            _ => " The other assertions hold, but on an incomplete trace that is weaker evidence.",
        };
        out.push_str(&format!(
            "forktrace: the report is incomplete: {}.{others}\n",
            clean(weakness)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assertion(holds: bool) -> Assertion<'static> {
        Assertion {
            source: "groups[0].all_blocked.longest_ns < 5",
            holds,
            used: vec!["groups[0].all_blocked.longest_ns = 7".to_owned()],
        }
    }

    #[test]
    fn what_is_false_is_shown_with_its_figures() {
        assert_eq!(assertions(&[assertion(true)], None), "");
        assert_eq!(
            assertions(&[assertion(true), assertion(false)], None),
            "forktrace: this assertion is false: groups[0].all_blocked.longest_ns < 5\n  \
             groups[0].all_blocked.longest_ns = 7\n"
        );
    }

    #[test]
    fn an_incomplete_report_weakens_what_holds() {
        let incomplete = Some("2 records found a ring full");
        let said = assertions(&[assertion(true)], incomplete);
        assert!(said.contains("the report is incomplete: "), "{said}");
        assert!(said.contains("weaker evidence"), "{said}");
        let said = assertions(&[assertion(false)], incomplete);
        assert!(!said.contains("weaker evidence"), "{said}");
    }
}
