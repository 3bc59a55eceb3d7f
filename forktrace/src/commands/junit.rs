//! The outcome of assertions for CI systems: JUnit's XML, as Jenkins, GitLab and GitHub's
//! actions read it (a suite, a case an assertion, `failure` or `error` in it).

use std::path::Path;

use anyhow::Result;
use forktrace_core::render::{Assertion, text::figures::clean};
use forktrace_process::launch::Accounts;

use super::files::{Target, Use};

/// The file.
pub(super) struct Junit {
    target: Target,
    suite: String,
}

impl Junit {
    /// Opens it, for a suite of this name.
    ///
    /// # Errors
    /// As [`Target::open`].
    pub(super) fn open(path: &Path, suite: &str, accounts: &Accounts, force: bool) -> Result<Self> {
        Ok(Self {
            target: Target::open(path, Use::Report, accounts, force)?,
            suite: suite.to_owned(),
        })
    }

    /// Another process has written it.
    pub(super) fn done(&mut self) {
        self.target.done();
    }

    /// Writes it: what was checked, what has no value and why, and what makes all that weaker.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn write(
        &mut self,
        checked: &[Assertion<'_>],
        failed: &[(&str, String)],
        incomplete: Option<&str>,
    ) -> Result<()> {
        let text = xml(&self.suite, checked, failed, incomplete);
        self.target.write(|to| to.write_all(text.as_bytes()))
    }
}

fn xml(
    suite: &str,
    checked: &[Assertion<'_>],
    failed: &[(&str, String)],
    incomplete: Option<&str>,
) -> String {
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\"",
        checked.len() + failed.len(),
        checked.iter().filter(|it| !it.holds).count(),
        failed.len()
    );
    let suite = escaped(suite);
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  \
         <testsuite name=\"{suite}\" {counts} skipped=\"0\" time=\"0\">\n"
    );
    let case = |source: &str| {
        let name = escaped(source.trim());
        format!("    <testcase classname=\"forktrace\" name=\"{name}\" time=\"0\"")
    };
    for assertion in checked {
        out += &case(assertion.source);
        if assertion.holds {
            out += "/>\n";
            continue;
        }
        let used = assertion.used.iter().map(|figure| escaped(figure));
        let used = used.collect::<Vec<_>>().join("\n");
        out += &format!(
            ">\n      <failure type=\"assertion\" message=\"it is false\">{used}</failure>\n    \
             </testcase>\n"
        );
    }
    for (source, why) in failed {
        let why = escaped(why);
        out += &case(source);
        out += &format!(">\n      <error type=\"no value\" message=\"{why}\"/>\n    </testcase>\n");
    }
    if let Some(weakness) = incomplete {
        let weakness = escaped(weakness);
        out += &format!("    <system-out>The report is incomplete: {weakness}.</system-out>\n");
    }
    out + "  </testsuite>\n</testsuites>\n"
}

/// Fit for text and attributes; XML has no way to write most control characters.
fn escaped(text: &str) -> String {
    clean(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_assertion_is_a_case() {
        let assertion = |source, holds| Assertion {
            source,
            holds,
            used: vec!["a = 7".to_owned(), "b = \"\u{1b}]]>\"".to_owned()],
        };
        let checked = [assertion("a > 5", true), assertion("a < b && true", false)];
        let failed = [("c > 0", "c is null".to_owned())];
        assert_eq!(
            xml(
                "forktrace run <make>",
                &checked,
                &failed,
                Some("a ring was full")
            ),
            r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" failures="1" errors="1">
  <testsuite name="forktrace run &lt;make&gt;" tests="3" failures="1" errors="1" skipped="0" time="0">
    <testcase classname="forktrace" name="a &gt; 5" time="0"/>
    <testcase classname="forktrace" name="a &lt; b &amp;&amp; true" time="0">
      <failure type="assertion" message="it is false">a = 7
b = &quot;\x1b]]&gt;&quot;</failure>
    </testcase>
    <testcase classname="forktrace" name="c &gt; 0" time="0">
      <error type="no value" message="c is null"/>
    </testcase>
    <system-out>The report is incomplete: a ring was full.</system-out>
  </testsuite>
</testsuites>
"#
        );
    }
}
