//! The end of a session in a sentence.

use xol::session::Summary;

use super::number::{counted, microseconds, thousands};

/// What was counted, what it cost the target, and whether it is as before.
pub(crate) fn sentence(summary: &Summary) -> String {
    let sites = [("jump", summary.jump), ("pun", summary.pun), ("trap", summary.trap)];
    let how: Vec<String> = sites
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{} {name}", thousands(*count)))
        .collect();
    let armed = summary.jump + summary.pun + summary.trap;
    let mut text = format!("{} at {}", counted(summary.hits, "hit"), counted(armed, "site"));
    if !how.is_empty() {
        text.push_str(&format!(" ({})", how.join(", ")));
    }
    for (count, what) in [
        (summary.refused, "refused"),
        (summary.waiting, "waiting"),
        (summary.sampled, "sampled"),
        (summary.lost, "hits lost"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", thousands(count)));
        }
    }
    text.push_str(&format!(
        "; {}, stopped {} in all, {} at most",
        counted(summary.threads, "thread"),
        microseconds(summary.stopped_us),
        microseconds(summary.longest_stop_us),
    ));
    if let Some(cost) = summary.hit_cost_ns {
        text.push_str(&format!("; a hit cost its thread {}", microseconds(cost.div_ceil(1000))));
    }
    if summary.text_restored {
        text.push_str("; text restored");
    }
    text
}

/// A warning's line.
pub(crate) fn warning(text: &str) -> String {
    format!("warning: {text}")
}

/// What remains in the process, if anything does.
pub(crate) fn remains(summary: &Summary) -> Option<String> {
    (summary.left_mapped > 0).then(|| {
        warning(&format!(
            "{} of stubs left behind, since a thread or a stack may still reach them",
            counted(summary.left_mapped, "mapping")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence() {
        let summary = Summary {
            jump: 3,
            trap: 1,
            refused: 2,
            hits: 1_000,
            threads: 1,
            stopped_us: 1_500,
            longest_stop_us: 400,
            text_restored: true,
            ..Summary::default()
        };
        assert_eq!(
            sentence(&summary),
            "1,000 hits at 4 sites (3 jump, 1 trap), 2 refused; 1 thread, stopped 1.5 ms in all, 400 us at most; \
             text restored"
        );
    }

    #[test]
    fn what_remains_is_named() {
        let summary = Summary { left_mapped: 2, ..Summary::default() };
        assert!(remains(&summary).unwrap().starts_with("warning: 2 mappings of stubs left behind"));
        assert_eq!(remains(&Summary::default()), None);
    }
}
