//! The findings of `doctor` for people.

use console::style;
use xol::doctor::Finding;

/// A line per finding, with the fix below those that need one.
pub(crate) fn lines(findings: &[Finding], colours: bool) -> Vec<String> {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.ok {
            true => style("ok").green(),
            false => style("no").yellow().bold(),
        };
        lines.push(format!("{} {:width$}  {}", mark.force_styling(colours), finding.check, finding.detail));
        lines.extend(finding.fix.iter().map(|fix| format!("   {:width$}  fix: {fix}", "")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_with_their_fixes() {
        let findings = [
            Finding { check: "kernel", ok: true, detail: "6.1".into(), fix: None },
            Finding { check: "yama", ok: false, detail: "scope 1".into(), fix: Some("use -- CMD".into()) },
        ];
        assert_eq!(
            lines(&findings, false),
            ["ok kernel  6.1", "no yama    scope 1", "           fix: use -- CMD"]
        );
    }
}
